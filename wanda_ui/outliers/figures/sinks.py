"""Figure of the attention sinks."""

import math

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from wanda_core.outliers.sinks import Sinks
from wanda_ui.language import Say
from wanda_ui.outliers.words import on_log_scale
from wanda_ui.plot_style import DENSE, LEGEND_ABOVE, VERMILLION, bar, rounded, styled


def sink_heatmap(sinks: Sinks, say: Say) -> go.Figure:
    """Draw above, head × block, the share of attention that goes to the first token; below, block by block, how large
    that token is when the block reads it, and the mean share of attention that it gets."""
    blocks = list(range(len(sinks.per_block)))
    figure = make_subplots(
        rows=2,
        shared_xaxes=True,
        row_heights=[0.5, 0.5],
        vertical_spacing=0.1,
        specs=[[{}], [{"secondary_y": True}]],
    )
    figure.add_heatmap(
        z=rounded(100 * sinks.to_first.T, 3),
        x=blocks,
        y=list(range(sinks.to_first.shape[1])),
        zmin=0,
        zmax=100,
        colorscale="Cividis",
        colorbar=bar("%", len=0.5, y=0.78),
        hovertemplate=f"{say('outliers.axis.block')} %{{x}}, {say('outliers.axis.head')} %{{y}}"
        f"<br>{say('outliers.axis.to_first')} %{{z:.1f}}%<extra></extra>",
        row=1,
        col=1,
    )
    figure.add_scatter(
        name=say("outliers.axis.entering"),
        x=blocks,
        y=rounded(sinks.entering, 3),
        mode="lines+markers",
        line={"color": VERMILLION, "width": 3, "dash": "dot"},
        marker={"symbol": "diamond"},
        row=2,
        col=1,
    )
    figure.add_scatter(
        name=say("outliers.axis.to_first"),
        x=blocks,
        y=rounded(100 * sinks.per_block, 3),
        mode="lines+markers",
        line={"color": DENSE, "width": 3},
        row=2,
        col=1,
        secondary_y=True,
    )
    figure = styled(figure, 560)
    figure.update_layout(legend={**LEGEND_ABOVE, "y": 0.45}, margin={"r": 70})
    figure.update_xaxes(showgrid=False, row=1, col=1)
    figure.update_xaxes(title_text=say("outliers.axis.block"), row=2, col=1)
    figure.update_yaxes(
        title_text=say("outliers.axis.head"), showgrid=False, dtick=_every(sinks.to_first.shape[1]), row=1, col=1
    )
    figure.update_yaxes(
        title_text=on_log_scale("absolute", say),
        type="log",
        dtick=1,
        exponentformat="power",
        row=2,
        col=1,
        secondary_y=False,
    )
    figure.update_yaxes(title_text="%", range=[0, 100], showgrid=False, row=2, col=1, secondary_y=True)
    return figure


def _every(count: int) -> int:
    """Return the step between ticks so that a dozen stand on the axis."""
    return max(1, math.ceil(count / 12))
