"""Figure of the outlier features: every channel by its share of blocks and of positions."""

import plotly.graph_objects as go

from wanda_core.outliers.features import FeatureCounts, FeatureReport, outlier_features
from wanda_ui.language import Say
from wanda_ui.outliers.words import on_log_scale
from wanda_ui.plot_style import DENSE, GREY, LEGEND_ABOVE, VERMILLION, styled

MOST_DOTS = 2000  # channels of the plane; a dot each
MOST_NAMES = 24  # channels whose numbers can be read beside their dots


def feature_plane(counts: FeatureCounts, report: FeatureReport, say: Say) -> go.Figure:
    """Draw every channel that ever reaches the magnitude: share of blocks against share of positions, in percent.

    Those right of one threshold and above the other are the outlier features of the report.
    """
    outliers = {feature.channel for feature in report.features}
    every = outlier_features(counts, 0.0, 0.0).features[:MOST_DOTS]  # most positions first
    figure = go.Figure()
    name, other = ("channel", "others") if report.one_stream else ("column", "other_columns")
    column = say(f"outliers.axis.{name}")
    passing = [feature for feature in every if feature.channel in outliers]
    others = [feature for feature in every if feature.channel not in outliers]
    sides = [
        (f"outliers.features.{other}", GREY, 7, others, False),
        ("outliers.features.found", VERMILLION, 11, passing, len(passing) <= MOST_NAMES),
    ]
    for key, colour, size, features, named in sides:
        figure.add_scatter(
            name=say(key),
            x=[round(100 * f.layer_share, 2) for f in features],
            y=[round(100 * f.position_share, 4) for f in features],
            text=[str(f.channel) for f in features],
            mode="markers+text" if named else "markers",
            textposition="middle left",
            marker={"color": colour, "size": size, "opacity": 0.75, "line": {"width": 0}},
            hovertemplate=f"{column} %{{text}}<br>%{{x:.1f}}% · %{{y:.3g}}%<extra></extra>",
        )
    edge = {"color": DENSE, "width": 1.5, "dash": "dash"}
    figure.add_vline(x=100 * report.layer_share, line=edge)
    if report.position_share > 0:
        figure.add_hline(y=100 * report.position_share, line=edge)
    figure.update_xaxes(title_text=say("outliers.axis.blocks_share"), range=[-3, 106])
    title = on_log_scale("positions_share", say)
    figure.update_yaxes(title_text=title, type="log", exponentformat="power", dtick=1)
    figure.update_layout(legend=LEGEND_ABOVE)
    return styled(figure, 420)
