"""Bars with their words beside them, which need no room of their own on a phone."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from wanda_ui.lesson.wording import number


@dataclass(frozen=True)
class Bar:
    """kind: dense (blue), wanda (orange) or other (grey); gone: hatched, for what is removed; shown: the number as a
    text, by default the value."""

    words: str
    value: float
    kind: str
    gone: bool = False
    shown: str = ""


def bars(entries: Sequence[Bar], caption: str, log: bool = False) -> str:
    """Draw bars. caption: what they are, with their unit; log: whether they are measured by powers of ten, from the
    power below the smallest."""
    values = [bar.value for bar in entries if bar.value > 0] or [1.0]
    least = 10.0 ** math.floor(math.log10(min(values)) - 0.05) if log else 0.0
    most = max(values)

    def share(value: float) -> float:
        if not log:
            return value / most
        span = math.log10(most / least) or 1.0
        return math.log10(max(value, least) / least) / span

    rows = "".join(
        f"<div class='wl-hbar'><span>{escape(bar.words)}</span>"
        f"<i class='wl-fill-{bar.kind}{' wl-gone' if bar.gone else ''}'"
        f" style='--share:{share(bar.value):.3f}'></i><b>{escape(bar.shown or number(bar.value))}</b></div>"
        for bar in entries
    )
    return f"<figure class='wl-hbars'>{rows}<figcaption>{escape(caption)}</figcaption></figure>"
