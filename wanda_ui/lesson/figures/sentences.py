"""Steps 3 to 5: the spike among tokens and channels, the same channels in two sentences, and the sink by blocks."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from wanda_ui.language import Say
from wanda_ui.lesson.figures.bars import Bar, bars
from wanda_ui.lesson.figures.svg import WIDTH, Drawing, Scale, legend, log_scale, powers
from wanda_ui.lesson.wording import number

Json = Mapping[str, Any]
LEFT, RIGHT = 74, 434  # of the cells, in units
FAINTEST = 0.03  # of a cell's colour
MOST_LETTERS = 10  # of a token beside its row


def token_heatmap(data: Json, say: Say) -> str:
    """Draw tokens by channels: the darker, the larger |x|, by powers of ten; the spike is named."""
    rows, starts, at = (data["map"][name] for name in ("rows", "starts", "at"))
    step = 15
    drawing = Drawing(30 + step * len(rows) + 34, say("lesson.meet.picture", channel=data["channel"]))
    span = (RIGHT - LEFT) / (len(starts) - 1)
    low, high = min(min(row) for row in rows), max(max(row) for row in rows)
    for place, row in enumerate(rows):
        y = 30 + step * place
        drawing.text(LEFT - 6, y + 11, _cut(data["tokens"][place]), "wl-small", "end")
        for run, value in enumerate(row):
            shade = FAINTEST + (1 - FAINTEST) * ((value - low) / (high - low) if high > low else 0) ** 1.5
            title = f"{data['tokens'][place]} · {starts[run]}–{starts[run + 1] - 1}: {number(10.0**value)}"
            style = "wl-cell wl-spike" if run == at and place == data["token"] else "wl-cell"
            box = (LEFT + span * run, y, span - 1, step - 1)
            drawing.rect(*box, style, title, f"fill-opacity='{shade:.2f}'")
    if data["token"] < len(rows):
        x = LEFT + span * (at + 0.5)
        anchor = "start" if x < WIDTH / 2 else "end"
        words = f"{say('lesson.channel', channel=data['channel'])}: {number(abs(data['value']))}"
        drawing.text(x, 20, words, "wl-strong", anchor)
    bottom = 30 + step * len(rows)
    _channel_axis(drawing, bottom, starts[-1], say)
    caption = escape(say("lesson.meet.caption", block=data["block"], run=starts[1] - starts[0]))
    return f"<figure>{drawing.html()}<figcaption>{caption}</figcaption></figure>"


def two_rows(first: Json, second: Json, say: Say) -> str:
    """Draw both sentences' channels, each on a plain scale of its own: the first upwards, the other downwards."""
    drawing = Drawing(242, say("lesson.change.picture"))
    middle, tall = 102, 80
    for data, sign, style in ((first, -1, "wl-fill-dense"), (second, 1, "wl-fill-wanda")):
        (row,) = data["map"]["rows"]
        starts = data["map"]["starts"]
        span = (RIGHT - 20) / (len(starts) - 1)
        top = max(10.0**value for value in row)
        for run, value in enumerate(row):
            height = max(tall * 10.0**value / top, 0.6)
            title = f"{starts[run]}–{starts[run + 1] - 1}: {number(10.0**value)}"
            drawing.rect(20 + span * run, middle - height if sign < 0 else middle, span - 1.5, height, style, title)
        named: list[float] = []
        for channel, peak in data["peaks"]:
            run = next(run for run in range(len(row)) if starts[run] <= channel < starts[run + 1])
            x, height = 20 + span * (run + 0.5), tall * min(1.0, peak / top)
            if all(abs(x - other) > 26 for other in named):
                named.append(x)
                y = middle - height - 4 if sign < 0 else middle + height + 13
                drawing.text(x, y, str(channel), "wl-strong", "middle")
    drawing.line([(20, middle), (RIGHT, middle)], "wl-axis")
    drawing.text(20, 14, say("lesson.first_sentence"), "wl-small")
    drawing.text(20, 202, say("lesson.your_sentence"), "wl-small")
    _channel_axis(drawing, 206, second["width"], say, 20)
    caption = escape(say("lesson.change.caption", block=first["block"]))
    return f"<figure>{drawing.html()}<figcaption>{caption}</figcaption></figure>"


def source(base: Json, weight: Json, say: Say) -> str:
    """Draw what of the spike one weight carries, and what the model is without it."""
    share = min(max(abs(weight["share"]), 0.0), 1.0)
    words = say("lesson.change.carries", row=weight["row"], column=weight["column"], share=weight["share"])
    part = (
        f"<figure class='wl-part'><div class='wl-parts' role='img' aria-label='{escape(words)}'>"
        f"<i class='wl-fill-wanda' style='--share:{share:.3f}'></i></div>"
        f"<figcaption>{escape(words)}</figcaption></figure>"
    )
    if base["zeroed"] is None:
        return part
    entries = [Bar(say("lesson.untouched"), base["untouched"], "dense")]
    entries.append(Bar(say("lesson.change.without_random"), max(base["random"]), "other"))
    entries.append(Bar(say("lesson.change.without"), base["zeroed"], "wanda"))
    return part + bars(entries, say("lesson.axis.perplexity_log"), log=True)


def sink_lines(data: Json, say: Say) -> str:
    """Draw block by block the attention to the first token, with its spike and without, above the size of that token,
    whose axis is logarithmic."""
    blocks = len(data["shares"])
    x = Scale(0, max(blocks - 1, 1), 44, RIGHT)
    y, drawing = Scale(0, 1, 150, 12), Drawing(292, say("lesson.sinks.picture"))
    for share in (0, 0.25, 0.5, 0.75, 1):
        drawing.line([(44, y(share)), (RIGHT, y(share))], "wl-grid")
        drawing.text(38, y(share) + 4, f"{share:.0%}", "wl-small", "end")
    even = data["even"]
    drawing.line([(44, y(even)), (RIGHT, y(even))], "wl-line-even")
    drawing.line(_points(data["without"], x, y), "wl-line-other")
    drawing.line(_points(data["shares"], x, y), "wl-line-dense")
    for block, share in enumerate(data["shares"]):
        if share is not None:
            drawing.dot(x(block), y(share), "wl-dot-dense", f"{block}: {share:.0%}", 2.2)
    sizes = [size for size in data["sizes"] if size]
    lower = log_scale(sizes, 258, 180)
    for power in powers(lower):
        drawing.line([(44, lower(power)), (RIGHT, lower(power))], "wl-grid")
        drawing.text(38, lower(power) + 4, f"{power:,.0f}" if power >= 1 else f"{power:g}", "wl-small", "end")
    drawing.line(_points(data["sizes"], x, lower), "wl-line-wanda")
    drawing.text(44, 174, say("lesson.sinks.size"), "wl-small")
    for block in range(0, blocks, max(1, round(blocks / 10))):
        drawing.text(x(block), 273, str(block), "wl-small", "middle")
    drawing.text((44 + RIGHT) / 2, 288, say("lesson.axis.block"), "wl-small", "middle")
    entries = [("wl-line-dense", say("lesson.sinks.attention"))]
    entries += [("wl-line-other", say("lesson.sinks.without", channel=data["channel"]))]
    entries += [("wl-line-even", say("lesson.sinks.even")), ("wl-line-wanda", say("lesson.sinks.size"))]
    caption = escape(say("lesson.sinks.caption"))
    return f"<figure>{legend(entries)}{drawing.html()}<figcaption>{caption}</figcaption></figure>"


def _points(values: Sequence[float | None], x: Scale, y: Scale) -> list[tuple[float, float] | None]:
    return [None if value is None else (x(place), y(value)) for place, value in enumerate(values)]


def _channel_axis(drawing: Drawing, y: float, width: int, say: Say, left: float = LEFT) -> None:
    step = next(size for size in (10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10**6) if width / size <= 8)
    for channel in range(0, width, step):
        drawing.text(left + (RIGHT - left) * channel / width, y + 13, str(channel), "wl-small", "middle")
    drawing.text((left + RIGHT) / 2, y + 29, say("lesson.axis.channel"), "wl-small", "middle")


def _cut(token: str) -> str:
    return token if len(token) <= MOST_LETTERS else token[: MOST_LETTERS - 1] + "…"
