"""One look for every figure: transparent, in mid-grey type, so that it serves light and dark.

Everything is said outright: the page's plotly.js is older than plotly.py.
"""

import math
from typing import Any

import plotly.graph_objects as go
from torch import Tensor

# Okabe–Ito. Blue is dense and orange is pruned everywhere; the others stand for nothing but themselves.
DENSE, PRUNED, VERMILLION, PURPLE, GREEN = "#0072B2", "#E69F00", "#D55E00", "#CC79A7", "#009E73"
GREY = "#808790"
# (colour, dash, mark) of a method that is compared with others, the same in every figure.
WANDA, MAGNITUDE = (PRUNED, "solid", "circle-open"), (GREY, "dot", "x-thin-open")
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif"
MOST_DECADES = 3  # with ticks between the powers of ten
LEGEND_ABOVE = {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0}


def styled(figure: go.Figure, height: int) -> go.Figure:
    """Give a figure the house's margins, type and axes. height: in px; the width is the page's."""
    figure.update_layout(
        template="none",
        height=height,
        autosize=True,
        margin={"l": 60, "r": 16, "t": 28, "b": 56},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": FONT, "size": 13, "color": GREY},
        hoverlabel={"font": {"family": FONT, "size": 13}},
    )
    axis = {"gridcolor": "rgba(128,135,144,0.2)", "zeroline": False, "automargin": True, "linecolor": GREY}
    figure.update_xaxes(**axis)
    figure.update_yaxes(**axis)
    return figure


def bar(title: str, **more: object) -> dict[str, object]:
    """Describe a slim colour bar. more: further properties of Plotly's."""
    return {"title": {"text": title, "side": "top"}, "thickness": 12, "outlinewidth": 0, **more}


def powers(logs: Tensor) -> dict[str, object]:
    """Put tick marks at whole powers of ten for an axis that carries log10 values."""
    whole = range(math.floor(float(logs.min())), math.ceil(float(logs.max())) + 1)
    names = ["1" if p == 0 else "10" if p == 1 else f"10<sup>{p}</sup>" for p in whole]
    return {"tickmode": "array", "tickvals": list(whole), "ticktext": names}


def decades(low: float, high: float) -> dict[str, object]:
    """Describe a log axis a little wider than low to high and at least a factor of ten.

    Its ticks can be read: powers of ten, and 2 and 5 between them where they are few.
    """
    start, end = math.log10(low), math.log10(high)
    spare = max(0.06 * (end - start), (1 - (end - start)) / 2)
    start, end = start - spare, end + spare
    axis: dict[str, object] = {"type": "log", "range": [start, end]}
    if end - start > MOST_DECADES:
        return {**axis, "dtick": 1, "exponentformat": "power"}
    ticks = [digit * 10.0**power for power in range(math.floor(start), math.ceil(end) + 1) for digit in (1, 2, 5)]
    return {**axis, "tickmode": "array", "tickvals": ticks, "ticktext": [f"{tick:,.6g}" for tick in ticks]}


def rounded(values: Tensor, digits: int) -> list[Any]:
    """Return values as lists of floats with so many decimals, None for NaN and infinity: a figure travels as JSON."""
    if values.dim() > 1:
        return [rounded(row, digits) for row in values]
    return [round(value, digits) if math.isfinite(value) else None for value in values.tolist()]


def whole(values: Tensor) -> list[int]:
    """Return counts as a list of whole numbers."""
    return [int(value) for value in values.tolist()]
