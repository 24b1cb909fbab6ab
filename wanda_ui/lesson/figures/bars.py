"""Bars with their words beside them, which need no room of their own on a phone."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from wanda_ui.lesson.figures.svg import MOST_POWER
from wanda_ui.lesson.wording import number

TICKS = 4  # of an axis below bars, at most; a phone has no room for more


@dataclass(frozen=True)
class Bar:
    """kind: dense (blue), wanda (orange) or other (grey); gone: hatched, for what is removed; shown: the number as a
    text, by default the value."""

    words: str
    value: float
    kind: str
    gone: bool = False
    shown: str = ""


def bars(entries: Sequence[Bar], caption: str, log: bool = False, beside: Sequence[Bar] = ()) -> str:
    """Draw bars. caption: what they are, with their unit; log: whether they are measured by powers of ten, from the
    power below the smallest, with an axis; beside: bars of another drawing that has the same scale."""
    values = [bar.value for bar in (*entries, *beside) if bar.value > 0] or [1.0]
    least = 10.0 ** math.floor(math.log10(min(values)) - 0.05) if log else 0.0
    most = min(max(values), 10.0**MOST_POWER) if log else max(values)

    def share(value: float) -> float:
        if not log:
            return value / most
        span = math.log10(most / least) or 1.0
        return math.log10(min(max(value, least), most) / least) / span

    rows = "".join(
        f"<div class='wl-hbar'><span>{escape(bar.words)}</span>"
        f"<i class='wl-fill-{bar.kind}{' wl-gone' if bar.gone else ''}'"
        f" style='--share:{share(bar.value):.3f}'></i><b>{escape(bar.shown or number(bar.value))}</b></div>"
        for bar in entries
    )
    if log:
        ticks = "".join(f"<span style='--share:{share(tick):.3f}'>{tick:,.0f}</span>" for tick in _ticks(least, most))
        rows += f"<div class='wl-hbar wl-haxis' aria-hidden='true'><span></span><div>{ticks}</div><b></b></div>"
    return f"<figure class='wl-hbars'>{rows}<figcaption>{escape(caption)}</figcaption></figure>"


def _ticks(least: float, most: float) -> list[float]:
    """List powers of ten from the least on, so few that their numbers do not touch."""
    low, high = round(math.log10(least)), math.floor(math.log10(most))
    return [10.0**power for power in range(low, high + 1, max(1, math.ceil((high - low + 1) / TICKS)))]
