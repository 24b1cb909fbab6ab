"""Figure of analysed models, and of published ones: parameters against their largest value and outlier features."""

from collections.abc import Sequence
from html import escape

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from wanda_core.outliers.published import EMERGENCE, ROWS
from wanda_core.outliers.run_log import Run
from wanda_ui.language import Say
from wanda_ui.outliers.words import on_log_scale
from wanda_ui.plot_style import GREY, LEGEND_ABOVE, VERMILLION, decades, styled

MOST_NAMES = 12  # model names that can be read beside their points


def growth_scatter(rows: Sequence[Run], say: Say) -> go.Figure:
    """Draw over parameters: above, the largest |x| as a multiple of its block's median; below, the share of blocks with
    outlier features, beside what the paper that defined them counted, and where it sees them emerge."""
    sizes = [row.parameters / 1e6 for row in rows]
    figure = make_subplots(rows=2, shared_xaxes=True, vertical_spacing=0.16)
    sides = (
        (1, [round(row.ratio, 2) for row in rows]),
        (2, [round(100 * row.features_share, 2) for row in rows]),
    )
    for place, values in sides:
        figure.add_scatter(
            name=say("outliers.growth.measured"),
            showlegend=place == 2,
            x=sizes,
            y=values,
            text=[escape(row.model) for row in rows],
            mode="markers+text" if len(rows) <= MOST_NAMES else "markers",
            textposition="top center",
            marker={"color": VERMILLION, "symbol": "circle", "size": 12, "opacity": 0.85},
            hovertemplate="%{text}<br>%{x:,.0f} M<br>%{y:,.5g}<extra></extra>",
            row=place,
            col=1,
        )
    figure.add_scatter(
        name=say("outliers.growth.published"),
        x=[row.parameters / 1e6 for row in ROWS],
        y=[round(100 * row.layers) for row in ROWS],
        text=[row.model for row in ROWS],
        mode="markers",
        marker={"color": GREY, "symbol": "diamond-open", "size": 10, "line": {"width": 2}},
        hovertemplate="%{text}<br>%{x:,.0f} M<br>%{y:,.5g}%<extra></extra>",
        row=2,
        col=1,
    )
    low, high = (parameters / 1e6 for parameters in EMERGENCE)
    figure.add_vrect(low, high, fillcolor=GREY, opacity=0.25, line_width=0, row=2, col=1)
    ratios = [max(row.ratio, 1e-3) for row in rows]
    sizes += [row.parameters / 1e6 for row in ROWS]
    figure.update_layout(legend={**LEGEND_ABOVE, "y": 0.47, "yanchor": "middle"})
    figure.update_xaxes(**decades(min(sizes), max(sizes)))
    figure.update_xaxes(title_text=on_log_scale("parameters", say), row=2, col=1)
    figure.update_yaxes(title_text=on_log_scale("times_median", say), **decades(min(ratios), max(ratios)), row=1, col=1)
    figure.update_yaxes(title_text=say("outliers.axis.with_features"), range=[-5, 118], row=2, col=1)
    return styled(figure, 520)
