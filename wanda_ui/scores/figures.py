"""Figures of scores, from bounded summaries."""

import plotly.graph_objects as go

from wanda_core.explain.histograms import Grid, Histogram
from wanda_ui.language import Say
from wanda_ui.plot_style import DENSE, GREY, PRUNED, bar, powers, rounded, styled, whole


def score_heatmap(grid: Grid, say: Say) -> go.Figure:
    """Draw block × log10 score; colour is the share of a block's weights."""
    centres = (grid.edges[:-1] + grid.edges[1:]) / 2
    figure = go.Figure(
        go.Heatmap(
            z=rounded(100 * grid.share, 3),
            x=rounded(centres, 3),
            y=list(grid.blocks),
            colorscale="Viridis",
            colorbar=bar(say("scores.grid_bar")),
            hovertemplate=say("scores.grid_hover") + "<extra></extra>",
        )
    )
    figure.update_xaxes(title_text=say("scores.grid_axis"), **powers(grid.edges))
    figure.update_yaxes(title_text=say("scores.block_axis"), autorange="reversed")
    return styled(figure, 440)


def score_histogram(summary: Histogram, axis: str, say: Say) -> go.Figure:
    """Draw kept (blue) and pruned (orange, hatched) weights over log10 score, exact zeros apart on the left."""
    centres = (summary.edges[:-1] + summary.edges[1:]) / 2
    width = float(summary.edges[1] - summary.edges[0])
    hatch = {"shape": "/", "size": 6, "solidity": 0.2, "fillmode": "overlay", "fgcolor": "#8a5a00"}
    pruned = {"color": PRUNED, "pattern": hatch, "line": {"width": 0}}
    figure = go.Figure(
        [
            go.Bar(
                name=say("scores.pruned"),
                x=rounded(centres, 3),
                y=whole(summary.cut),
                width=width,
                marker=pruned,
                hovertemplate=say("scores.bar_hover"),
            ),
            go.Bar(
                name=say("scores.kept"),
                x=rounded(centres, 3),
                y=whole(summary.kept),
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
    figure.update_xaxes(title_text=axis, **powers(summary.edges))
    figure.update_yaxes(title_text=say("scores.count_axis"))
    return styled(figure, 340)
