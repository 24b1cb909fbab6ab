"""Words that a learner meets here: a picture and a sentence at the first mention, a hover word after."""

import re
from collections.abc import Iterable
from html import escape

from wanda_ui.language import Say

# Of each step, the words that it is the first to use.
FIRST: dict[str, tuple[str, ...]] = {
    "matrix": ("norm",),
    "meet": ("token", "channel", "block", "median"),
    "change": ("perplexity", "mlp"),
    "sinks": ("head", "softmax"),
    "ablate": ("window", "rmsnorm"),
}
ORDER = ("token", "channel", "block", "median", "rmsnorm", "norm", "head", "perplexity", "mlp", "softmax", "window")
# A small picture of each, 64 × 34 units: filled parts are what the word names.


def _rects(places: Iterable[tuple[float, float, float, float]], style: str = "") -> str:
    """Write rectangles of x, y, width and height."""
    named = f" class='{style}'" if style else ""
    return "".join(f"<rect{named} x='{x}' y='{y}' width='{w}' height='{h}'/>" for x, y, w, h in places)


def _dots(places: Iterable[tuple[float, float]], style: str = "") -> str:
    """Write points."""
    named = f" class='{style}'" if style else ""
    return "".join(f"<circle{named} cx='{x}' cy='{y}' r='3.2'/>" for x, y in places)


_CELLS = [(2 + 10 * i, 2 + 8 * j, 8, 6) for i in range(6) for j in range(4)]
_SORTED = [(3 + 9 * i, 30 - h, 6, h) for i, h in enumerate((4, 6, 8, 10, 12, 15, 28))]
PICTURES = {
    "token": _rects(_CELLS) + _rects([cell for cell in _CELLS if cell[1] == 10], "wl-on"),
    "channel": _rects(_CELLS) + _rects([cell for cell in _CELLS if cell[0] == 32], "wl-on"),
    "block": "<path d='M4 17H60'/>" + _rects([(10, 7, 11, 20), (42, 7, 11, 20)]) + _rects([(26, 7, 11, 20)], "wl-on"),
    "median": _rects(_SORTED) + _rects([_SORTED[3]], "wl-on"),
    "norm": _rects((4 + 10 * i, 17 - h / 2, 7, h) for i, h in enumerate((8, 18, 5, 12)))
    + "<path d='M46 17H51'/>"
    + _rects([(53, 4, 8, 26)], "wl-on"),
    "head": "<path d='M54 28C44 4 24 4 12 26M54 28C50 16 40 16 32 26'/>"
    + _dots([(32, 29), (54, 29)])
    + _dots([(12, 29)], "wl-on"),
    "perplexity": "<path d='M6 17H18M18 17L34 5M18 17L34 12M18 17L34 22M18 17L34 30'/>"
    + _dots([(38, 5), (38, 22), (38, 30)])
    + _dots([(38, 12)], "wl-on"),
    "mlp": "<path d='M11 17H53'/>" + _rects([(4, 10, 7, 14), (53, 10, 7, 14)]) + _rects([(28, 3, 8, 28)], "wl-on"),
    "softmax": _rects([(3, 12, 12, 10), (49, 12, 5, 10), (56, 12, 5, 10)]) + _rects([(17, 12, 30, 10)], "wl-on"),
    "window": _rects((2 + 10 * i, 13, 8, 8) for i in range(6))
    + _rects([(22 + 10 * i, 13, 8, 8) for i in range(3)], "wl-on"),
    "rmsnorm": _rects((3 + 7 * i, 30 - h, 5, h) for i, h in enumerate((3, 26, 5)))
    + "<path d='M28 17H36M33 13L37 17L33 21'/>"
    + _rects(((41 + 7 * i, 30 - h, 5, h) for i, h in enumerate((6, 14, 8))), "wl-on"),
}


def cards(step: str, say: Say) -> str:
    """Write the words that a step is the first to use, with their pictures; nothing where there are none."""
    parts = "".join(
        f"<div class='wl-card'><svg viewBox='0 0 64 34' aria-hidden='true'>{PICTURES[name]}</svg>"
        f"<p><b>{escape(say(f'lesson.term.{name}.word'))}</b> {escape(say(f'lesson.term.{name}.means'))}</p></div>"
        for name in FIRST.get(step, ())
    )
    return f"<div class='wl-cards'>{parts}</div>" if parts else ""


def marked(paragraphs: tuple[str, ...], step: str, say: Say) -> str:
    """Write paragraphs, and give the words of earlier steps and of this one their meaning at their first mention.

    Texts are escaped before; so are the meanings.
    """
    known = _known(step)
    html = "".join(f"<p>{escape(text)}</p>" for text in paragraphs)
    for name in known:
        word, means = say(f"lesson.term.{name}.word"), escape(say(f"lesson.term.{name}.means"))
        pattern = re.escape(escape(word))
        if word.isascii():  # no part of a longer word, of a tag or of a matrix's name
            pattern = rf"(?<![\w>.]){pattern}(?:s\b)?(?!\.?\w)"
        html = _outside_tags(pattern, html, f"<abbr class='wl-term' tabindex='0' title='{means}'>", "</abbr>")
    return html


def _known(step: str) -> tuple[str, ...]:
    """List the words met up to a step; before the first of them there are none."""
    met: set[str] = set()
    for name in ("two", "matrix", "meet", "change", "sinks", "ablate", "masks", "cost"):
        met |= set(FIRST.get(name, ()))
        if name == step:
            break
    return tuple(name for name in ORDER if name in met)


def _outside_tags(pattern: str, html: str, before: str, after: str) -> str:
    """Wrap the first match that lies in no tag and in no meaning that was put there already."""
    pieces = re.split(r"(<abbr.*?</abbr>|<[^>]*>)", html)
    for place, piece in enumerate(pieces):
        found = None if piece.startswith("<") else re.search(pattern, piece, re.IGNORECASE)
        if found:
            pieces[place] = f"{piece[: found.start()]}{before}{found.group()}{after}{piece[found.end() :]}"
            break
    return "".join(pieces)
