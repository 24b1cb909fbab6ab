"""Figures of one sentence: token × channel of a block, flat or as a surface."""

import math
from collections.abc import Sequence
from html import escape

import plotly.graph_objects as go

from wanda_core.outliers.massive import MASSIVE_MAGNITUDE, MASSIVE_RATIO, massive_mask, top_channels
from wanda_core.outliers.sentence import Sentence
from wanda_ui.language import Say
from wanda_ui.outliers.words import on_log_scale
from wanda_ui.plot_style import GREY, LEGEND_ABOVE, VERMILLION, bar, powers, rounded, styled

TOKEN_CHANNELS = 24  # rows of the token × channel picture; what lies below the strongest two dozen is even
SURFACE_TOKENS = 64  # a surface of more is slow to turn without a graphics card
TICKS = 32  # token texts that can be read side by side
MOST_RINGS = 200  # under a loose criterion every cell would have one
FLOOR = 1e-3  # |x| below this looks like this on a log axis


def token_channels(
    sentence: Sentence,
    block: int,
    say: Say,
    magnitude: float = MASSIVE_MAGNITUDE,
    ratio: float = MASSIVE_RATIO,
) -> go.Figure:
    """Draw token × channel of one block's output, colour log10 |x|; massive activations are ringed.

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
            colorbar=bar(on_log_scale("absolute", say), **powers(size)),
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
    """Draw the first tokens as a small surface, height |x|. It is a WebGL plot, drawn only when asked for."""
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
    """Put token texts at their places, of a long sentence every so many; escaped, since Plotly reads tags in texts."""
    step = math.ceil(len(tokens) / most)
    places = list(range(0, len(tokens), step))
    return {"tickmode": "array", "tickvals": places, "ticktext": [escape(tokens[place]) for place in places]}
