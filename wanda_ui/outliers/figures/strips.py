"""Figures of perplexities in rows of dots: untouched, at random, and as chosen."""

import math
from collections.abc import Sequence

import plotly.graph_objects as go

from wanda_core.outliers.ablation import AblationReport, Measured
from wanda_core.outliers.super_weight import SuperWeightReport
from wanda_ui.language import Say
from wanda_ui.outliers.words import channel_list, on_log_scale, perplexity, weight_name
from wanda_ui.plot_style import DENSE, GREY, PURPLE, VERMILLION, decades, styled


def ablation_strip(report: AblationReport, say: Say) -> go.Figure:
    """Draw perplexities on a log axis: untouched, every random draw as a dot, the chosen channels ablated, and
    the same at zero where they were set to their mean."""
    rows = [
        ("outliers.ablation.untouched", DENSE, "circle", [Measured((), report.untouched)]),
        ("outliers.ablation.random", GREY, "circle", list(report.random)),
        ("outliers.ablation.chosen", VERMILLION, "diamond", [report.chosen]),
    ]
    if report.zeroed is not None:
        rows.append(("outliers.ablation.zeroed", PURPLE, "square", [report.zeroed]))
    return strip(
        [
            (say(key), colour, symbol, [(run.perplexity, channel_list(run.channels)) for run in runs])
            for key, colour, symbol, runs in rows
        ],
        say,
    )


def super_strip(report: SuperWeightReport, say: Say) -> go.Figure:
    """Draw perplexities on a log axis: untouched, single random weights at zero, the largest other, and the chosen."""
    rows = [
        ("outliers.super_weight.random", GREY, "circle", list(report.random)),
        ("outliers.super_weight.largest", PURPLE, "square", [report.largest]),
        ("outliers.super_weight.chosen", VERMILLION, "diamond", [report.chosen]),
    ]
    dots = [
        (say(key), colour, symbol, [(run.perplexity, weight_name(run.linear, run.row, run.column)) for run in runs])
        for key, colour, symbol, runs in rows
    ]
    return strip([(say("outliers.ablation.untouched"), DENSE, "circle", [(report.untouched, "")]), *dots], say)


def strip(rows: Sequence[tuple[str, str, str, list[tuple[float, str]]]], say: Say) -> go.Figure:
    """Draw a row of dots for each (name, colour, symbol, [(perplexity, what it is)]), with the values beside them."""
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
    figure.update_xaxes(title_text=on_log_scale("perplexity", say), **decades(10**low, 10**high))
    order = {"categoryorder": "array", "categoryarray": [name for name, *_ in rows]}
    figure.update_yaxes(type="category", autorange="reversed", **order)
    figure.update_layout(showlegend=False)
    return styled(figure, 110 + 50 * len(rows))
