"""Figures of the whole calibration text: how large the residual stream grows, and which columns carry it."""

import plotly.graph_objects as go
import torch
from torch import Tensor

from wanda_core.outliers.massive import MASSIVE_RATIO
from wanda_ui.language import Say
from wanda_ui.outliers.words import on_log_scale
from wanda_ui.plot_style import DENSE, GREEN, GREY, LEGEND_ABOVE, PURPLE, VERMILLION, bar, powers, rounded, styled

TOP_CHANNELS = 64  # columns a screen can hold; the others are shown as bands
BANDS = (0.99, 0.9, 0.5, 0.1)  # quantiles of the channels that have no column of their own


def magnitude_lines(top: Tensor, median: Tensor, say: Say) -> go.Figure:
    """Draw per block the largest |x| of the residual stream against the median; log axis.

    top: (B, K), the largest first, K at most three; median: (B,).
    """
    blocks = list(range(len(median)))
    shades = [(VERMILLION, "solid", 3), (PURPLE, "dash", 2), (GREEN, "dot", 2)]
    figure = go.Figure()
    for place, (colour, dash, width) in enumerate(shades[: top.shape[1]]):
        figure.add_scatter(
            name=say("outliers.stream.top", place=place + 1),
            x=blocks,
            y=rounded(top[:, place], 3),
            mode="lines+markers",
            line={"color": colour, "dash": dash, "width": width},
            marker={"size": 5},
        )
    figure.add_scatter(
        name=say("outliers.stream.median"),
        x=blocks,
        y=rounded(median, 4),
        mode="lines",
        line={"color": DENSE, "width": 3},
    )
    figure.add_scatter(
        name=say("outliers.stream.times", ratio=MASSIVE_RATIO),
        x=blocks,
        y=rounded(median * MASSIVE_RATIO, 1),
        mode="lines",
        line={"color": GREY, "width": 1, "dash": "longdash"},
    )
    figure.update_layout(legend=LEGEND_ABOVE, hovermode="x unified")
    figure.update_yaxes(type="log", title_text=on_log_scale("size", say), dtick=1, exponentformat="power")
    figure.update_xaxes(title_text=say("outliers.axis.block"))
    return styled(figure, 380)


def norm_heatmap(norms: Tensor, say: Say) -> go.Figure:
    """Draw block × channel: input norms as multiples of the block's median, log colour.

    norms: (B, C). The 64 channels that rise highest have a column each, strongest first; the rest are
    four quantile bands. At most 68 × B cells.
    """
    ratio = norms / norms.median(dim=1, keepdim=True).values.clamp_min(1e-12)
    strongest = ratio.amax(dim=0).argsort(descending=True)
    first, rest = strongest[:TOP_CHANNELS], strongest[TOP_CHANNELS:]
    columns = [ratio[:, first]]
    names = [str(channel) for channel in first.tolist()]
    if len(rest):
        columns.append(torch.quantile(ratio[:, rest], torch.tensor(BANDS, dtype=ratio.dtype), dim=1).T)
        names += [say("outliers.stream.rest", share=band) for band in BANDS]
    z = torch.log10(torch.cat(columns, dim=1).clamp_min(1e-3))
    block, channel = say("outliers.axis.block"), say("outliers.axis.channel")
    figure = go.Figure(
        go.Heatmap(
            z=rounded(z, 2),
            x=names,
            y=list(range(len(norms))),
            colorscale="Viridis",
            colorbar=bar(on_log_scale("times_median", say), **powers(z)),
            hovertemplate=f"{block} %{{y}}, {channel} %{{x}}<br>10^%{{z:.2f}} {say('outliers.axis.times_median')}"
            "<extra></extra>",
        )
    )
    figure.update_xaxes(title_text=say("outliers.axis.strongest"), type="category", tickangle=-60, nticks=24)
    figure.update_yaxes(title_text=block, autorange="reversed")
    return styled(figure, 460)
