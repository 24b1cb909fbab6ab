"""Figures of what the detectors find: each a pure function of the engine's dataclasses, words passed in.

Bounded, whatever the model: at most 200 KB and 5,000 marks a figure.
"""

import math
import re
from collections.abc import Sequence
from html import escape

import plotly.graph_objects as go
from plotly.subplots import make_subplots
from torch import Tensor

from wanda_core.outliers.ablation import AblationReport, Measured
from wanda_core.outliers.analysis import MASSIVE_MAGNITUDE, MASSIVE_RATIO
from wanda_core.outliers.features import FeatureCounts, FeatureReport, outlier_features
from wanda_core.outliers.massive import massive_mask, top_channels
from wanda_core.outliers.sentence import Sentence
from wanda_core.outliers.sinks import Sinks
from wanda_core.outliers.super_weight import SuperWeightReport
from wanda_ui.language import Say
from wanda_ui.plot_style import DENSE, GREY, LEGEND_ABOVE, PURPLE, VERMILLION, bar, decades, powers, rounded, styled

TOKEN_CHANNELS = 24  # rows of the token × channel picture; what lies below the strongest two dozen is even
SURFACE_TOKENS = 64  # a surface of more is slow to turn without a graphics card
TICKS = 32  # token texts that can be read side by side
MOST_DOTS = 2000  # channels of the plane; a dot each
MOST_RINGS = 200  # under a loose criterion every cell would have one
FLOOR = 1e-3  # |x| below this looks like this on a log axis


def token_channels(
    sentence: Sentence,
    block: int,
    say: Say,
    magnitude: float = MASSIVE_MAGNITUDE,
    ratio: float = MASSIVE_RATIO,
) -> go.Figure:
    """Token × channel of one block's output, colour log10 |x|; massive activations are ringed.

    The channels that reach highest have a row each, strongest on top.
    """
    hidden = sentence.hidden[block]  # (L, D)
    channels = top_channels(hidden, TOKEN_CHANNELS)
    values = hidden[:, channels].T  # (k, L)
    size = values.abs().clamp_min(FLOOR).log10()
    passes = massive_mask(sentence.hidden[block : block + 1], magnitude, ratio)[0][:, channels].T  # (k, L)
    rings = passes.nonzero()[values[passes].abs().argsort(descending=True)[:MOST_RINGS]].tolist()
    figure = go.Figure(
        go.Heatmap(
            z=rounded(size, 2),
            customdata=rounded(values, 2),
            x=list(range(len(sentence.tokens))),
            y=[str(channel) for channel in channels],
            colorscale="Viridis",
            colorbar=bar("|x|", **powers(size)),
            hovertemplate=f"{say('outliers.axis.token')} %{{x}}<br>{say('outliers.axis.channel')} %{{y}}"
            "<br>%{customdata:,.2f}<extra></extra>",
        )
    )
    figure.add_scatter(
        x=[token for _, token in rings],
        y=[str(channels[row]) for row, _ in rings],
        mode="markers",
        name=say("outliers.massive_mark"),
        marker={"symbol": "square-open", "size": 11, "color": VERMILLION, "line": {"width": 2}},
        hoverinfo="skip",
        showlegend=bool(rings),
    )
    figure.update_layout(legend={**LEGEND_ABOVE, "x": 1, "xanchor": "right"})
    figure.update_xaxes(title_text=say("outliers.axis.token"), tickangle=-60, **token_ticks(sentence.tokens))
    figure.update_yaxes(title_text=say("outliers.axis.channel"), type="category", autorange="reversed", dtick=1)
    figure = styled(figure, 520)
    return figure.update_xaxes(showgrid=False, tickfont={"size": 11}).update_yaxes(
        showgrid=False, tickfont={"size": 11}
    )


def token_surface(sentence: Sentence, block: int, say: Say) -> go.Figure:
    """The same as a small surface, height |x|, for the first tokens. One WebGL plot, drawn only when asked for."""
    hidden = sentence.hidden[block][:SURFACE_TOKENS]
    channels = sorted(top_channels(hidden, TOKEN_CHANNELS))
    values = hidden[:, channels].abs().T  # (k, L)
    figure = go.Figure(
        go.Surface(
            z=rounded(values, 1),
            colorscale="Viridis",
            showscale=False,
            hovertemplate=f"{say('outliers.axis.token')} %{{x}}<br>%{{z:,.1f}}<extra></extra>",
        )
    )
    axis = {"gridcolor": "rgba(128,135,144,0.35)", "color": GREY}
    every = max(1, len(channels) // 8)
    rows = list(range(0, len(channels), every))
    figure.update_scenes(
        xaxis={
            **axis,
            "title": {"text": say("outliers.axis.token")},
            **token_ticks(sentence.tokens[:SURFACE_TOKENS], 12),
        },
        yaxis={
            **axis,
            "title": {"text": say("outliers.axis.channel")},
            "tickmode": "array",
            "tickvals": rows,
            "ticktext": [str(channels[row]) for row in rows],
        },
        zaxis={**axis, "title": {"text": "|x|"}},
        aspectmode="manual",
        aspectratio={"x": 1.5, "y": 1.2, "z": 0.8},
        camera={"eye": {"x": 1.5, "y": -1.7, "z": 0.9}},
    )
    figure = styled(figure, 520)
    return figure.update_layout(margin={"l": 0, "r": 0, "t": 0, "b": 0})


def token_ticks(tokens: Sequence[str], most: int = TICKS) -> dict[str, object]:
    """Token texts at their places, of a long sentence every so many; escaped, since Plotly reads tags in texts."""
    step = math.ceil(len(tokens) / most)
    places = list(range(0, len(tokens), step))
    return {"tickmode": "array", "tickvals": places, "ticktext": [escape(tokens[place]) for place in places]}


def sink_heatmap(sinks: Sinks, say: Say) -> go.Figure:
    """Above, head × block: share of attention that goes to the first token. Below, block by block, how large that
    token is when the block reads it, and the mean share of attention that it gets."""
    blocks = list(range(len(sinks.per_block)))
    figure = make_subplots(
        rows=2,
        shared_xaxes=True,
        row_heights=[0.5, 0.5],
        vertical_spacing=0.1,
        specs=[[{}], [{"secondary_y": True}]],
    )
    figure.add_heatmap(
        z=_holes(100 * sinks.to_first.T),
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
        y=_holes(sinks.entering),
        mode="lines+markers",
        line={"color": VERMILLION, "width": 3},
        row=2,
        col=1,
    )
    figure.add_scatter(
        name=say("outliers.axis.to_first"),
        x=blocks,
        y=_holes(100 * sinks.per_block),
        mode="lines+markers",
        line={"color": DENSE, "width": 3, "dash": "dot"},
        marker={"symbol": "diamond"},
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
    figure.update_yaxes(title_text="|x|", type="log", dtick=1, exponentformat="power", row=2, col=1, secondary_y=False)
    figure.update_yaxes(title_text="%", range=[0, 100], showgrid=False, row=2, col=1, secondary_y=True)
    return figure


def feature_plane(counts: FeatureCounts, report: FeatureReport, say: Say) -> go.Figure:
    """Every channel that ever reaches the magnitude: share of blocks against share of positions, in percent.

    Those right of one threshold and above the other are the outlier features of the report.
    """
    found = {feature.channel for feature in report.features}
    every = outlier_features(counts, 0.0, 0.0).features[:MOST_DOTS]  # most positions first
    figure = go.Figure()
    sides = [
        ("outliers.features.others", GREY, 7, [f for f in every if f.channel not in found]),
        ("outliers.features.found", VERMILLION, 11, [f for f in every if f.channel in found]),
    ]
    for key, colour, size, features in sides:
        figure.add_scatter(
            name=say(key),
            x=[round(100 * f.layer_share, 2) for f in features],
            y=[round(100 * f.position_share, 4) for f in features],
            text=[str(f.channel) for f in features],
            mode="markers+text" if key.endswith("found") and len(features) <= TOKEN_CHANNELS else "markers",
            textposition="middle left",
            marker={"color": colour, "size": size, "opacity": 0.75, "line": {"width": 0}},
            hovertemplate=f"{say('outliers.axis.channel')} %{{text}}<br>%{{x:.1f}}% · %{{y:.3g}}%<extra></extra>",
        )
    edge = {"color": DENSE, "width": 1.5, "dash": "dash"}
    figure.add_vline(x=100 * report.layer_share, line=edge)
    if report.position_share > 0:
        figure.add_hline(y=100 * report.position_share, line=edge)
    figure.update_xaxes(title_text=say("outliers.axis.blocks_share"), range=[-3, 106])
    figure.update_yaxes(title_text=say("outliers.axis.positions_share"), type="log", exponentformat="power", dtick=1)
    figure.update_layout(legend=LEGEND_ABOVE)
    return styled(figure, 420)


def ablation_strip(report: AblationReport, say: Say) -> go.Figure:
    """Perplexity on a log axis: untouched, every random draw as a dot, and with the chosen channels ablated."""
    rows = [
        ("outliers.ablation.untouched", DENSE, "circle", [Measured((), report.untouched)]),
        ("outliers.ablation.random", GREY, "circle", list(report.random)),
        ("outliers.ablation.chosen", VERMILLION, "diamond", [report.chosen]),
    ]
    return strip(
        [
            (say(key), colour, symbol, [(one.perplexity, channel_list(one.channels)) for one in runs])
            for key, colour, symbol, runs in rows
        ],
        say,
    )


def super_strip(report: SuperWeightReport, say: Say) -> go.Figure:
    """Perplexity on a log axis: untouched, single random weights at zero, the largest other one, and the chosen one."""
    rows = [
        ("outliers.super_weight.random", GREY, "circle", list(report.random)),
        ("outliers.super_weight.largest", PURPLE, "square", [report.largest]),
        ("outliers.super_weight.chosen", VERMILLION, "diamond", [report.chosen]),
    ]
    dots = [
        (say(key), colour, symbol, [(one.perplexity, weight_name(one.linear, one.row, one.column)) for one in runs])
        for key, colour, symbol, runs in rows
    ]
    return strip([(say("outliers.ablation.untouched"), DENSE, "circle", [(report.untouched, "")]), *dots], say)


def strip(rows: Sequence[tuple[str, str, str, list[tuple[float, str]]]], say: Say) -> go.Figure:
    """A row of dots for each (name, colour, symbol, [(perplexity, what it is)]), the values written beside them."""
    finite = [value for *_, dots in rows for value, _ in dots if math.isfinite(value)]
    beyond = 10 * max(finite, default=1.0)  # where an infinite perplexity is drawn, and said to be one
    places = [[value if math.isfinite(value) else beyond for value, _ in dots] for *_, dots in rows]
    low, high = (math.log10(edge(map(edge, places))) for edge in (min, max))
    figure = go.Figure()
    for (name, colour, symbol, dots), xs in zip(rows, places, strict=True):
        if len(dots) > 1:
            figure.add_scatter(
                x=[min(xs), max(xs)],
                y=[name, name],
                mode="lines",
                line={"color": colour, "width": 8},
                opacity=0.35,
                hoverinfo="skip",
            )
        figure.add_scatter(
            name=name,
            x=xs,
            y=[name] * len(xs),
            text=[what for _, what in dots],
            customdata=[perplexity(value) for value, _ in dots],
            mode="markers",
            marker={"color": colour, "symbol": symbol, "size": 13, "opacity": 0.85, "line": {"width": 0}},
            hovertemplate="%{customdata}<br>%{text}<extra></extra>",
        )
        spread = sorted(value for value, _ in dots)
        left = math.log10(max(xs)) > (low + high) / 2 and high - low > 0.5
        figure.add_annotation(
            x=math.log10(min(xs) if left else max(xs)),
            y=name,
            text=" – ".join(dict.fromkeys(perplexity(value) for value in (spread[0], spread[-1]))),
            showarrow=False,
            xanchor="right" if left else "left",
            xshift=-12 if left else 12,
        )
    figure.update_xaxes(title_text=say("outliers.axis.perplexity"), **decades(10**low, 10**high))
    order = {"categoryorder": "array", "categoryarray": [name for name, *_ in rows]}
    figure.update_yaxes(type="category", autorange="reversed", **order)
    figure.update_layout(showlegend=False)
    return styled(figure, 110 + 50 * len(rows))


def perplexity(value: float) -> str:
    """A perplexity or a ratio of two: draws differ in the second decimal, ruined models by orders of magnitude."""
    if not math.isfinite(value):
        return "∞"
    return f"{value:.2f}" if value < 1000 else f"{value:,.0f}"


def weight_name(linear: str, row: int, column: int) -> str:
    """A weight by its block, its linear and its place: `11.mlp.down_proj[507, 1229]`."""
    inside = re.search(r"\d+\..*", linear)
    return f"{inside[0] if inside else linear}[{row}, {column}]"


def channel_list(channels: Sequence[int], most: int = 8) -> str:
    """Channels as text; of many the first few."""
    more = f" … ({len(channels)})" if len(channels) > most else ""
    return ", ".join(map(str, channels[:most])) + more


def _holes(values: Tensor) -> list:
    """Values rounded, None where there is none: NaN is no JSON."""
    if values.dim() > 1:
        return [_holes(row) for row in values]
    return [round(value, 3) if math.isfinite(value) else None for value in values.tolist()]


def _every(count: int) -> int:
    """Steps between ticks so that a dozen stand on the axis."""
    return max(1, math.ceil(count / 12))
