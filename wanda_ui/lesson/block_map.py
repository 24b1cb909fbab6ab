"""The map beside every step: one block of the model, and where in it one is."""

from html import escape

from wanda_ui.language import Say

# Parts by name: x, y, width, height, what stands in it.
BOXES = {
    "norm1": (54, 44, 86, 24, "RMSNorm"),
    "q": (54, 84, 26, 24, "q"),
    "k": (84, 84, 26, 24, "k"),
    "v": (114, 84, 26, 24, "v"),
    "attention": (54, 124, 86, 24, "attention"),
    "o": (54, 160, 86, 24, "o_proj"),
    "norm2": (54, 214, 86, 24, "RMSNorm"),
    "gate": (54, 254, 41, 24, "gate"),
    "up": (99, 254, 41, 24, "up"),
    "down": (54, 290, 86, 24, "down_proj"),
}
LINEARS = ("q", "k", "v", "o", "gate", "up", "down")
# Where each step is; `stream` is the line that all blocks add to.
HERE: dict[str, tuple[str, ...]] = {
    "two": ("up",),
    "matrix": ("up",),
    "meet": ("stream",),
    "change": ("stream",),
    "sinks": ("q", "k", "attention"),
    "ablate": ("stream", "norm1", "norm2"),
    "masks": ("norm1", "q"),
    "cost": LINEARS,
}
FOUND: dict[str, tuple[str, ...]] = {"meet": ("stream",), "change": ("down", "stream")}  # and once it is answered
SPIKE = "meet"  # the step in which the spike is met; it is marked from its answer on
STREAM = 26  # x of the line of the hidden state


def block_map(step: str, say: Say, found: bool = False, channel: int | None = None) -> str:
    """Draw the map, which gives no answer away. step: of the lesson; found: whether it is answered; channel: number of
    the spike's, None where it is not known yet."""
    here = FOUND.get(step, HERE[step]) if found else HERE[step]
    words = say(f"lesson.map.{step}_found" if found and step in FOUND else f"lesson.map.{step}")
    met = list(HERE).index(step) >= list(HERE).index(SPIKE) + (not found)
    lines = "".join(
        f"<path d='{path}'/>"
        for path in (
            f"M{STREAM} 30H97V44M97 68V76M67 76H127M67 76V84M97 76V84M127 76V84",
            "M67 108V116M97 108V116M127 108V116M67 116H127M97 116V124",
            f"M97 148V160M54 172H{STREAM}",
            f"M{STREAM} 200H97V214M97 238V246M74 246H119M74 246V254M119 246V254",
            "M74 278V284M119 278V284M74 284H119M97 284V290",
            f"M54 302H{STREAM}",
        )
    )
    boxes = "".join(
        f"<g class='{'wl-here' if name in here else ''}'>"
        f"<rect x='{x}' y='{y}' width='{width}' height='{height}' rx='6'/>"
        f"<text x='{x + width / 2}' y='{y + 16}' text-anchor='middle'>{escape(text)}</text></g>"
        for name, (x, y, width, height, text) in BOXES.items()
    )
    plus = "".join(
        f"<circle cx='{STREAM}' cy='{y}' r='6.5'/><text x='{STREAM}' y='{y + 4}' text-anchor='middle'>+</text>"
        for y in (172, 302)
    )
    named = ""
    if met and channel is not None:
        named = (
            f"<text class='wl-named' x='{STREAM + 9}' y='336'>{escape(say('lesson.channel', channel=channel))}</text>"
        )
    stream = "wl-stream" + (" wl-here" if "stream" in here else "") + (" wl-met" if met else "")
    return (
        f"<figure class='wl-map'><svg viewBox='0 0 150 340' role='img' aria-label='{escape(words)}'>"
        f"<g class='{stream}'><path d='M{STREAM} 6V334'/></g><g class='wl-wires'>{lines}</g>{boxes}"
        f"<g class='wl-plus'>{plus}</g>{named}</svg><figcaption>{escape(words)}</figcaption></figure>"
    )
