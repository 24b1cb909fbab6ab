"""Figures of what a mask protects: columns by their norm, one column's weights, all linears of a model."""

import plotly.graph_objects as go

from wanda_core.explain.mask_comparison import ColumnDetail, ModelProtection, Protection
from wanda_ui.language import Say
from wanda_ui.outliers.words import on_log_scale
from wanda_ui.plot_style import DENSE, GREY, LEGEND_ABOVE, MAGNITUDE, WANDA, bar, decades, rounded, styled


def protection_curve(protection: Protection, say: Say) -> go.Figure:
    """Draw the share of a column's weights that each mask cuts, in percent, over the column's norm (log axis).

    Lines through all columns in runs by norm, and the columns with the largest norms as marks of their own.
    """
    figure = go.Figure()
    sides = (("magnitude", MAGNITUDE, protection.bins.magnitude), ("wanda", WANDA, protection.bins.wanda))
    for name, (colour, dash, symbol), cut in sides:
        figure.add_scatter(
            name=say(f"outliers.protection.{name}"),
            x=_significant(protection.bins.norm.tolist()),
            y=rounded(100 * cut, 2),
            mode="lines",
            line={"color": colour, "width": 3, "dash": dash},
            hovertemplate="‖X‖ %{x:.3g}<br>%{y:.1f}%<extra></extra>",
        )
        figure.add_scatter(
            name=say(f"outliers.protection.{name}_top"),
            x=_significant([column.norm for column in protection.top]),
            y=[round(100 * (column.wanda if name == "wanda" else column.magnitude), 2) for column in protection.top],
            text=[str(column.index) for column in protection.top],
            customdata=[column.index for column in protection.top],
            mode="markers",
            marker={"color": colour, "symbol": symbol, "size": 9, "line": {"width": 2, "color": colour}},
            hovertemplate=f"{say('outliers.axis.column')} %{{text}}<br>‖X‖ %{{x:.3g}}<br>%{{y:.1f}}%<extra></extra>",
        )
    figure.add_hline(y=100 * protection.sparsity, line={"color": GREY, "width": 1, "dash": "longdash"})
    figure.update_layout(legend=LEGEND_ABOVE)
    norms = [*protection.bins.norm.clamp_min(1e-6).tolist(), max(column.norm for column in protection.top)]
    figure.update_xaxes(title_text=on_log_scale("norm", say), **decades(min(norms), max(norms)))
    figure.update_yaxes(title_text=say("outliers.axis.cut"), range=[-3, 103])
    return styled(figure, 420)


def column_weights(detail: ColumnDetail, say: Say) -> go.Figure:
    """Draw |W| of one column from the largest to the smallest, marked by which mask keeps it, in its colour."""
    both = detail.magnitude_cuts & detail.wanda_cuts
    kinds = (
        ("kept_by_both", DENSE, "circle", ~detail.magnitude_cuts & ~detail.wanda_cuts),
        ("cut_by_magnitude", WANDA[0], "diamond", detail.magnitude_cuts & ~both),
        ("cut_by_wanda", MAGNITUDE[0], "square", detail.wanda_cuts & ~both),
        ("cut_by_both", GREY, "x-thin-open", both),
    )
    figure = go.Figure()
    for name, colour, symbol, chosen in kinds:
        places = chosen.nonzero().flatten()
        figure.add_scatter(
            name=say(f"outliers.protection.{name}", count=getattr(detail, name)),
            x=places.tolist(),
            y=_significant(detail.weights[places].abs().tolist()),
            text=[str(row) for row in detail.rows[places].tolist()],
            mode="markers",
            marker={"color": colour, "symbol": symbol, "size": 6, "line": {"width": 1, "color": colour}},
            hovertemplate=f"{say('outliers.axis.row')} %{{text}}<br>|W| %{{y:.3g}}<extra></extra>",
        )
    figure.update_layout(legend=LEGEND_ABOVE)
    figure.update_xaxes(title_text=say("outliers.axis.rank"))
    figure.update_yaxes(title_text="|W|", rangemode="tozero")
    return styled(figure, 360)


def parting_heatmap(model: ModelProtection, say: Say) -> go.Figure:
    """Draw kind of linear × block: share of weights on which the masks differ, in the 1% of columns with the largest
    norms; the share in all columns is shown on hovering."""
    hover = f"%{{y}}, {say('outliers.axis.block')} %{{x}}<br>{say('outliers.axis.differ_top')} %{{z:.1f}}%"
    overall = rounded(100 * model.overall.double(), 2)
    figure = go.Figure(
        go.Heatmap(
            z=rounded(100 * model.top.double(), 2),
            customdata=overall,
            x=list(range(model.top.shape[1])),
            y=list(model.kinds),
            zmin=0,
            colorscale="Viridis",
            colorbar=bar("%"),
            hovertemplate=hover + f"<br>{say('outliers.axis.differ')} %{{customdata:.1f}}%<extra></extra>",
        )
    )
    figure.update_xaxes(title_text=say("outliers.axis.block"), showgrid=False)
    figure.update_yaxes(autorange="reversed", showgrid=False)
    return styled(figure, 130 + 34 * len(model.kinds))


def _significant(values: list[float]) -> list[float]:
    """Round to four digits: weights and norms differ by orders of magnitude."""
    return [float(f"{value:.4g}") for value in values]
