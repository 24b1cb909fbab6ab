"""Drawing in SVG, with classes for colours, so that light and dark have their own. Every text is escaped."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape

WIDTH = 440  # units of every drawing; on a phone one is 0.8 px, beside a text 1.2 px
MOST_POWER = 9  # of ten on a log axis: what is beyond, an infinite perplexity too, stands at its end


@dataclass
class Drawing:
    """A drawing that grows. height: units; label: what a screen reader says of it."""

    height: float
    label: str
    parts: list[str] = field(default_factory=list)

    def rect(
        self, x: float, y: float, width: float, height: float, style: str, title: str = "", more: str = ""
    ) -> None:
        """Add a rectangle. style: its class; title: shown on hovering; more: further attributes."""
        inside = f"<title>{escape(title)}</title>" if title else ""
        place = f"x='{_short(x)}' y='{_short(y)}' width='{_short(width)}' height='{_short(height)}'"
        self.parts.append(f"<rect class='{style}' {place}{' ' + more if more else ''}>{inside}</rect>")

    def text(self, x: float, y: float, words: str, style: str = "", anchor: str = "start") -> None:
        """Add a text. anchor: start, middle or end."""
        named = f" class='{style}'" if style else ""
        self.parts.append(f"<text{named} x='{_short(x)}' y='{_short(y)}' text-anchor='{anchor}'>{escape(words)}</text>")

    def line(self, points: Iterable[tuple[float, float] | None], style: str, title: str = "") -> None:
        """Add a line through points; None is a gap."""
        path, pen = "", "M"
        for point in points:
            if point is None:
                pen = "M"
                continue
            path += f"{pen}{_short(point[0])} {_short(point[1])}"
            pen = "L"
        inside = f"<title>{escape(title)}</title>" if title else ""
        self.parts.append(f"<path class='{style}' d='{path}'>{inside}</path>")

    def dot(self, x: float, y: float, style: str, title: str = "", radius: float = 3.2) -> None:
        """Add a point."""
        inside = f"<title>{escape(title)}</title>" if title else ""
        self.parts.append(f"<circle class='{style}' cx='{_short(x)}' cy='{_short(y)}' r='{radius}'>{inside}</circle>")

    def html(self) -> str:
        """Write the drawing."""
        return (
            f"<svg class='wl-drawing' viewBox='0 0 {WIDTH} {_short(self.height)}' role='img' "
            f"aria-label='{escape(self.label)}'>{''.join(self.parts)}</svg>"
        )


def _short(value: float) -> str:
    return f"{value:.1f}".rstrip("0").rstrip(".")


@dataclass(frozen=True)
class Scale:
    """From values to places of a drawing. low, high: values; start, end: their places; log: whether by powers."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """Return the place of a value; one beyond the ends stands at the end."""
        low, high, at = (math.log10(v) if self.log else v for v in (self.low, self.high, max(value, 1e-12)))
        share = (at - low) / (high - low) if high > low else 0.0
        return self.start + min(max(share, 0.0), 1.0) * (self.end - self.start)


def log_scale(values: Sequence[float], start: float, end: float) -> Scale:
    """Make a scale of whole powers of ten that holds all values above zero, up to MOST_POWER."""
    known = [value for value in values if value > 0] or [1.0]
    low, high = math.floor(math.log10(min(known))), min(math.ceil(math.log10(max(known))), MOST_POWER)
    return Scale(10.0**low, 10.0 ** max(high, low + 1), start, end, log=True)


def powers(scale: Scale) -> list[float]:
    """List the powers of ten on a scale, six at most."""
    low, high = round(math.log10(scale.low)), round(math.log10(scale.high))
    return [10.0**power for power in range(low, high + 1, max(1, math.ceil((high - low) / 6)))]


def legend(entries: Sequence[tuple[str, str]]) -> str:
    """Write what the lines of a drawing are. entries: class and words of each."""
    items = "".join(
        f"<li><svg viewBox='0 0 26 8' aria-hidden='true'><path class='{style}' d='M0 4H26'/></svg>{escape(words)}</li>"
        for style, words in entries
    )
    return f"<ul class='wl-legend'>{items}</ul>"
