"""The picture that others show of a static page beside a link to it: the curve of its run, 1200 × 630 pixels."""

import io
import math
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from wanda_core.report.keys import Key
from wanda_core.report.run import Run
from wanda_ui.language import ENGLISH

SIZE = (1200, 630)  # pixels: what sites that show links ask for
TWICE = 2  # drawn larger and made smaller, so that slanted lines are smooth
LEFT, RIGHT, TOP, BOTTOM = 110, 60, 210, 560  # the ends of the plot
INK, DIM, LINE, PAPER = "#1c2430", "#5b6673", "#dfe3e8", "#ffffff"
BLUE, GOLD, ORANGE, GREY = "#0072b2", "#e69f00", "#9a5b00", "#6b7480"
CEILING = 1.2e5  # perplexity: what is above is drawn at the edge
MOST_NAME, MOST_WORDS = 46, 92  # characters on a line of the title, and below it

Points = list[tuple[float, float]]


def preview(run: Run) -> bytes:
    """Draw the curve of a run as PNG: the dense model and the first two lines, at the place it is looked at."""
    image = Image.new("RGB", (SIZE[0] * TWICE, SIZE[1] * TWICE), PAPER)
    _Picture(ImageDraw.Draw(image), run).draw()
    out = io.BytesIO()
    image.resize(SIZE, Image.Resampling.BOX).save(out, "PNG", optimize=True)
    return out.getvalue()


class _Picture:
    """One drawing. Lengths are in pixels of the finished picture."""

    def __init__(self, canvas: ImageDraw.ImageDraw, run: Run) -> None:
        self.canvas, self.run = canvas, run
        by_key = {line["key"]: line for line in run["lines"]}
        self.lines = [by_key[key] for key in run["shown"]["keys"] if key in by_key][:2]
        self.dense = run["dense"]["perplexity"]
        values = [self.dense, *(value for line in self.lines for value in line["perplexity"])]
        self.low = math.log(min(values) * 0.82)
        self.high = math.log(min(CEILING, max(10 * self.dense, *values)) * 1.2)
        self.most = max([50, *(at for line in self.lines for at in line["at"])])

    def draw(self) -> None:
        """Draw all of it."""
        self._text(LEFT - 50, 42, "Wanda Lab", 26, DIM)
        self._text(LEFT - 50, 80, _latin(self.run["made"]["model"], MOST_NAME), 46, INK, bold=True)
        self._text(LEFT - 50, 144, _latin(self._finding(), MOST_WORDS), 28, DIM)
        self._axes()
        self._path([(0, self.dense), (self.most, self.dense)], BLUE, 4)
        self._name(self.most, self.dense, ENGLISH("view.dense_label", perplexity=f"{self.dense:.3g}"), BLUE, -34)
        for line, colour, words, dashed in zip(self.lines, (GOLD, GREY), (ORANGE, DIM), (False, True), strict=False):
            points = list(zip(line["at"], line["perplexity"], strict=True))
            self._path(points, colour, 4.5 if dashed else 6, dashed)
            for at, value in points if len(points) == 1 else ():
                self._dot(at, value, colour)
            self._name(*points[-1], _method(line), words, -40)
        at = self.run["shown"]["at"]
        self._line([self._at(at, math.exp(self.low)), self._at(at, math.exp(self.high))], INK, 2)
        for line, colour in zip(self.lines, (GOLD, GREY), strict=False):
            for place, value in zip(line["at"], line["perplexity"], strict=True):
                if place == at:
                    self._dot(place, value, colour)

    def _finding(self) -> str:
        """Say what the first lines cost at the place that is looked at."""
        at, costs = self.run["shown"]["at"], []
        for line in self.lines:
            found = dict(zip(line["at"], line["perplexity"], strict=True)).get(at)
            if found is not None:
                costs.append(f"{_method(line)} {_perplexity(found)}")
        costs.append(f"{ENGLISH('view.dense').lower()} {_perplexity(self.dense)}")
        return ENGLISH("leaf.site.preview_finding", at=f"{at:g}%", costs=", ".join(costs))

    def _axes(self) -> None:
        for power in range(6):
            if self.low <= math.log(10**power) <= self.high:
                y = self._at(0, 10**power)[1]
                self._line([(LEFT, y), (SIZE[0] - RIGHT, y)], LINE, 1.5)
                self._text(LEFT - 14, y - 15, f"{10**power:,}", 22, DIM, "ra")
        for at in range(0, int(self.most) + 1, 10):
            self._text(self._at(at, 1)[0], BOTTOM + 14, f"{at}%", 22, DIM, "ma")

    def _at(self, at: float, perplexity: float) -> tuple[float, float]:
        """Return the place of a point."""
        share = (math.log(min(max(perplexity, 1e-9), CEILING)) - self.low) / (self.high - self.low)
        return LEFT + (SIZE[0] - RIGHT - LEFT) * at / self.most, BOTTOM - (BOTTOM - TOP) * max(0.0, min(1.0, share))

    def _path(self, points: Points, colour: str, width: float, dashed: bool = False) -> None:
        places = [self._at(*point) for point in points]
        for piece in _dashes(places) if dashed else [places]:
            self._line(piece, colour, width)

    def _line(self, places: Points, colour: str, width: float) -> None:
        drawn = [(x * TWICE, y * TWICE) for x, y in places]
        self.canvas.line(drawn, colour, round(width * TWICE), joint="curve")

    def _dot(self, at: float, perplexity: float, colour: str) -> None:
        x, y = (value * TWICE for value in self._at(at, perplexity))
        radius = 10 * TWICE
        self.canvas.ellipse((x - radius, y - radius, x + radius, y + radius), colour, PAPER, 2 * TWICE)

    def _name(self, at: float, perplexity: float, words: str, colour: str, above: float) -> None:
        x, y = self._at(at, perplexity)
        self._text(x - 6, max(TOP - 30, y + above), words, 26, colour, "ra", bold=True)

    def _text(
        self, x: float, y: float, words: str, size: float, colour: str, anchor: str = "la", bold: bool = False
    ) -> None:
        font = ImageFont.load_default(size * TWICE)
        self.canvas.text((x * TWICE, y * TWICE), words, colour, font, anchor, stroke_width=TWICE // 2 if bold else 0)


def _dashes(places: Points, dash: float = 14, gap: float = 9) -> Iterator[Points]:
    """Cut a path into dashes."""
    left, drawn = dash, True
    piece = [places[0]]
    for start, end in pairwise(places):
        at, length = 0.0, math.dist(start, end)
        while length - at > left:
            at += left
            share = at / length
            place = (start[0] + (end[0] - start[0]) * share, start[1] + (end[1] - start[1]) * share)
            if drawn:
                yield [*piece, place]
            piece, drawn = [place], not drawn
            left = dash if drawn else gap
        left -= length - at
        piece.append(end)
    if drawn and len(piece) > 1:
        yield piece


def _method(line: dict[str, Any]) -> str:
    """Return the name of a line's method, of a preset its own."""
    return ENGLISH(f"view.method.{Key.parse(line['key']).method}")


def _perplexity(value: float) -> str:
    return f"{value:.1f}" if value < 100 else f"{value:,.0f}" if value < CEILING else f"{value:.1e}"


def _latin(text: str, most: int) -> str:
    """Return a text in letters that the font has, cut to a line."""
    shown = "".join(sign if sign.isprintable() and ord(sign) < 0x250 else "?" for sign in text)
    return shown if len(shown) <= most else f"{shown[: most - 3]}..."
