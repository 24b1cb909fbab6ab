"""Plotly figures from bounded summaries. Transparent, in mid-grey type, so that they serve light and dark."""

import math

import plotly.graph_objects as go
import torch
from torch import Tensor

from wanda_core.outliers.activations import MASSIVE_RATIO, Analysis
from wanda_core.summaries import Grid, Histogram
from wanda_ui.language import Say

DENSE, PRUNED, GREY = "#0072B2", "#E69F00", "#808790"  # Okabe–Ito blue and orange
TOP_CHANNELS = 64  # columns a screen can hold; the others are shown as bands
BANDS = (0.99, 0.9, 0.5, 0.1)  # quantiles of the channels that have no column of their own
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif"


def score_heatmap(grid: Grid, say: Say) -> go.Figure:
    """Block × log10 score; colour is the share of a block's weights."""
    centres = (grid.edges[:-1] + grid.edges[1:]) / 2
    figure = go.Figure(
        go.Heatmap(
            z=_rounded(100 * grid.share, 3),
            x=_rounded(centres, 3),
            y=list(grid.blocks),
            colorscale="Viridis",
            colorbar=_bar(say("scores.grid_bar")),
            hovertemplate=say("scores.grid_hover") + "<extra></extra>",
        )
    )
    figure.update_xaxes(title_text=say("scores.grid_axis"), **_powers(grid.edges))
    figure.update_yaxes(title_text=say("scores.block_axis"), autorange="reversed")
    return _styled(figure, 440)


def score_histogram(summary: Histogram, axis: str, say: Say) -> go.Figure:
    """Kept (blue) and pruned (orange, hatched) weights over log10 score, exact zeros apart on the left."""
    centres = (summary.edges[:-1] + summary.edges[1:]) / 2
    width = float(summary.edges[1] - summary.edges[0])
    hatch = {"shape": "/", "size": 6, "solidity": 0.2, "fillmode": "overlay", "fgcolor": "#8a5a00"}
    pruned = {"color": PRUNED, "pattern": hatch, "line": {"width": 0}}
    figure = go.Figure(
        [
            go.Bar(
                name=say("scores.pruned"),
                x=_rounded(centres, 3),
                y=_whole(summary.cut),
                width=width,
                marker=pruned,
                hovertemplate=say("scores.bar_hover"),
            ),
            go.Bar(
                name=say("scores.kept"),
                x=_rounded(centres, 3),
                y=_whole(summary.kept),
                width=width,
                marker={"color": DENSE, "line": {"width": 0}},
                hovertemplate=say("scores.bar_hover"),
            ),
            go.Bar(
                name=say("scores.zero"),
                x=[round(float(summary.edges[0]) - 4 * width, 3)],
                y=[summary.zeros],
                width=3 * width,
                marker={"color": GREY, "line": {"width": 0}},
                hovertemplate=say("scores.zero_hover") + "<extra></extra>",
            ),
        ]
    )
    figure.update_layout(barmode="stack", bargap=0, legend={"orientation": "h", "y": 1.12, "x": 0})
    figure.update_xaxes(title_text=axis, **_powers(summary.edges))
    figure.update_yaxes(title_text=say("scores.count_axis"))
    return _styled(figure, 340)


def magnitude_lines(analysis: Analysis) -> go.Figure:
    """Per block the three largest |x| of the residual stream against the median, log axis."""
    blocks = list(range(len(analysis.median)))
    shades = [(PRUNED, "solid", 3), ("#D55E00", "dash", 2), ("#CC79A7", "dot", 2)]
    figure = go.Figure()
    for place, (colour, dash, width) in enumerate(shades):
        figure.add_scatter(
            name=f"top {place + 1}",
            x=blocks,
            y=_rounded(analysis.top[:, place], 3),
            mode="lines+markers",
            line={"color": colour, "dash": dash, "width": width},
            marker={"size": 5},
        )
    figure.add_scatter(
        name="median",
        x=blocks,
        y=_rounded(analysis.median, 4),
        mode="lines",
        line={"color": DENSE, "width": 3},
    )
    figure.add_scatter(
        name=f"{MASSIVE_RATIO:,.0f} × median",
        x=blocks,
        y=_rounded(analysis.median * MASSIVE_RATIO, 1),
        mode="lines",
        line={"color": GREY, "width": 1, "dash": "longdash"},
    )
    figure.update_layout(legend={"orientation": "h", "y": 1.14, "x": 0}, hovermode="x unified")
    figure.update_yaxes(type="log", title_text="|x| at the block's output", dtick=1, exponentformat="power")
    figure.update_xaxes(title_text="block")
    return _styled(figure, 380)


def norm_heatmap(norms: Tensor) -> go.Figure:
    """Block × channel: input norms as multiples of the block's median, log colour.

    norms: (B, C). The 64 channels that rise highest have a column each, strongest first; the rest are
    four quantile bands. At most 68 × B cells.
    """
    ratio = norms / norms.median(dim=1, keepdim=True).values.clamp_min(1e-12)
    strongest = ratio.amax(dim=0).argsort(descending=True)
    top, rest = strongest[:TOP_CHANNELS], strongest[TOP_CHANNELS:]
    columns = [ratio[:, top]]
    names = [str(channel) for channel in top.tolist()]
    if len(rest):
        columns.append(torch.quantile(ratio[:, rest], torch.tensor(BANDS), dim=1).T)
        names += [f"rest {band:.0%}" for band in BANDS]
    z = torch.log10(torch.cat(columns, dim=1).clamp_min(1e-3))
    figure = go.Figure(
        go.Heatmap(
            z=_rounded(z, 2),
            x=names,
            y=list(range(len(norms))),
            colorscale="Viridis",
            colorbar=_bar("× median", **_powers(z)),
            hovertemplate="block %{y}, channel %{x}<br>10^%{z:.2f} × the median<extra></extra>",
        )
    )
    figure.update_xaxes(title_text="channel, strongest first", type="category", tickangle=-60, nticks=24)
    figure.update_yaxes(title_text="block", autorange="reversed")
    return _styled(figure, 460)


def _bar(title: str, **more: object) -> dict[str, object]:
    return {"title": {"text": title, "side": "top"}, "thickness": 12, "outlinewidth": 0, **more}


def _powers(logs: Tensor) -> dict[str, object]:
    """Tick marks at whole powers of ten for an axis that carries log10 values."""
    whole = range(math.floor(float(logs.min())), math.ceil(float(logs.max())) + 1)
    names = ["1" if p == 0 else "10" if p == 1 else f"10<sup>{p}</sup>" for p in whole]
    return {"tickmode": "array", "tickvals": list(whole), "ticktext": names}


def _styled(figure: go.Figure, height: int) -> go.Figure:
    """One look for all. Everything is said outright: the page's plotly.js is older than plotly.py."""
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


def _rounded(values: Tensor, digits: int) -> list:
    if values.dim() > 1:
        return [_rounded(row, digits) for row in values]
    return [round(value, digits) for value in values.tolist()]


def _whole(values: Tensor) -> list[int]:
    return [int(value) for value in values.tolist()]
