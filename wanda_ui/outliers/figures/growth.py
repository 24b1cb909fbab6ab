"""Figure of the analysed models: parameters against how far their largest value and their outlier features reach."""

from collections.abc import Sequence
from html import escape

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from wanda_core.outliers.run_log import Run
from wanda_ui.language import Say
from wanda_ui.plot_style import GREEN, VERMILLION, decades, styled

MOST_NAMES = 12  # model names that can be read beside their points


def growth_scatter(rows: Sequence[Run], say: Say) -> go.Figure:
    """Draw over parameters: above, the largest |x| as a multiple of its block's median; below, the share of blocks with
    outlier features."""
    sizes = [row.parameters / 1e6 for row in rows]
    figure = make_subplots(rows=2, shared_xaxes=True, vertical_spacing=0.08)
    sides = (
        (1, VERMILLION, "circle", [round(row.ratio, 2) for row in rows]),
        (2, GREEN, "diamond", [round(100 * row.features_share, 2) for row in rows]),
    )
    for place, colour, symbol, values in sides:
        figure.add_scatter(
            x=sizes,
            y=values,
            text=[escape(row.model) for row in rows],
            mode="markers+text" if len(rows) <= MOST_NAMES else "markers",
            textposition="top center",
            marker={"color": colour, "symbol": symbol, "size": 12, "opacity": 0.85},
            hovertemplate="%{text}<br>%{x:,.0f} M<br>%{y:,.5g}<extra></extra>",
            row=place,
            col=1,
        )
    ratios = [max(row.ratio, 1e-3) for row in rows]
    figure.update_layout(showlegend=False)
    figure.update_xaxes(**decades(min(sizes), max(sizes)))
    figure.update_xaxes(title_text=say("outliers.axis.parameters"), row=2, col=1)
    figure.update_yaxes(title_text=say("outliers.axis.times_median"), **decades(min(ratios), max(ratios)), row=1, col=1)
    figure.update_yaxes(title_text=say("outliers.axis.with_features"), range=[-5, 118], row=2, col=1)
    return styled(figure, 460)
