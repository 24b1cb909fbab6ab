"""The lesson's figures: plainer than the lab's, one thing to see in each. Pure functions; words are passed in."""

import math
from collections.abc import Mapping, Sequence
from html import escape

import plotly.graph_objects as go
import torch
from plotly.subplots import make_subplots
from torch import Tensor

from wanda_core.explain.mask_comparison import Protection
from wanda_core.explain.toy_example import Choice, TwoWeights
from wanda_core.outliers.ablation import AblationReport
from wanda_core.outliers.sinks import Sinks
from wanda_ui.language import Say
from wanda_ui.markup import number
from wanda_ui.plot_style import DENSE, GREY, LEGEND_ABOVE, PRUNED, VERMILLION, decades, rounded, styled

MOST_POINTS = 1200  # of a line over channels; above that each point is the largest of a few neighbours
HATCH = {"shape": "/", "size": 6, "solidity": 0.25, "fillmode": "overlay", "fgcolor": "#8a5a00"}
LABELS = {"size": 14, "color": GREY}


def two_weights(weights: Sequence[float], example: TwoWeights, say: Say) -> go.Figure:
    """Draw both scores of both weights: blue stays, orange and hatched is cut."""
    titles = [say("lesson.two.by_size"), say("lesson.two.by_score")]
    figure = make_subplots(rows=1, cols=2, subplot_titles=titles, horizontal_spacing=0.16)
    panels = [([abs(w) for w in weights], example.magnitude), (list(example.errors), example.wanda)]
    for place, (values, cut) in enumerate(panels, 1):
        gone = [cut == index for index in (0, 1)]
        figure.add_bar(
            x=["w₁", "w₂"],
            y=[round(value, 3) for value in values],
            text=[f"{value:.1f}<br>{say('lesson.cut') if index == cut else ''}" for index, value in enumerate(values)],
            textposition="outside",
            cliponaxis=False,
            marker={
                "color": [PRUNED if out else DENSE for out in gone],
                "line": {"width": 0},
                "pattern": {**HATCH, "shape": ["/" if out else "" for out in gone]},
            },
            hoverinfo="skip",
            row=1,
            col=place,
        )
        figure.update_yaxes(range=[0, 1.3 * max(*values, 0.1)], row=1, col=place)
    figure = styled(figure, 300).update_layout(showlegend=False, margin={"t": 48, "b": 36})
    return figure.update_annotations(font=LABELS).update_xaxes(tickfont={"size": 16})


def matrices(W: Tensor, X_norm: Tensor, choices: Mapping[str, Choice], best: str, say: Say) -> str:
    """Write four small tables as HTML, a table a choice: weights kept and cut, and what each output loses."""
    head = "".join(f"<th scope='col'>x{_low(j + 1)}<i>{norm:g}</i></th>" for j, norm in enumerate(rounded(X_norm, 1)))
    parts = []
    for name, choice in choices.items():
        rows = []
        for i, row in enumerate(W.tolist()):
            cells = "".join(
                f"<td class='wl-{'cut' if cut else 'kept'}'>{f'<s>{value:.2g}</s>' if cut else f'{value:.2g}'}</td>"
                for value, cut in zip(row, choice.cut[i].tolist(), strict=True)
            )
            lost = float(choice.shares[i])
            rows.append(f"<tr><th scope='row'>y{_low(i + 1)}</th>{cells}<td class='wl-lost'>{lost:.0%}</td></tr>")
        title = escape(say(f"lesson.matrix.guess.{name}"))
        mean = escape(say("lesson.matrix.loses", cost=choice.mean_share))
        parts.append(
            f"<figure class='wl-matrix{' wl-best' if name == best else ''}'>"
            f"<figcaption><b>{title}</b> <span>{mean}</span></figcaption>"
            f"<table><thead><tr><td></td>{head}<th scope='col'>{escape(say('lesson.matrix.lost'))}</th></tr></thead>"
            f"<tbody>{''.join(rows)}</tbody></table></figure>"
        )
    return f"<div class='wl-matrices'>{''.join(parts)}</div>"


def _low(number: int) -> str:
    """Write a digit as a subscript."""
    return chr(ord("₀") + number)


def spikes(peaks: Tensor, channel: int, say: Say) -> go.Figure:
    """Draw every channel's largest |x| in one block, on a plain axis: what is large stands alone. peaks: (D,)."""
    figure = go.Figure(_line(peaks, DENSE, 1, say("lesson.your_sentence")))
    figure.add_annotation(
        x=channel, y=float(peaks[channel]), text=f"<b>{channel}</b>", yshift=12, showarrow=False, font={"color": GREY}
    )
    figure.update_xaxes(title_text=say("lesson.axis.channel"))
    figure.update_yaxes(title_text=say("lesson.axis.largest"), rangemode="tozero")
    return styled(figure, 320)


def two_spikes(first: Tensor, second: Tensor, named: Sequence[int], say: Say) -> go.Figure:
    """Draw the first sentence's channels upwards, the other's downwards, on one scale. first, second: (D,)."""
    top = 1.25 * float(torch.maximum(first.max(), second.max()))
    figure = go.Figure([_line(first, DENSE, 1, say("lesson.first_sentence"))])
    figure.add_trace(_line(second, VERMILLION, -1, say("lesson.your_sentence")))
    for sign, peaks in ((1, first), (-1, second)):
        for channel in named:
            if float(peaks[channel]) > 0.05 * top:
                value, shift = sign * float(peaks[channel]), 10 * sign
                figure.add_annotation(x=channel, y=value, text=f"<b>{channel}</b>", yshift=shift, showarrow=False)
    tick = float(f"{top / 1.25:.0e}")  # one digit of the largest value
    ticks = [-tick, 0, tick]
    names = [f"{abs(place):,.0f}" for place in ticks]
    figure.update_xaxes(title_text=say("lesson.axis.channel"))
    figure.update_yaxes(title_text=say("lesson.axis.largest"), range=[-top, top], tickvals=ticks, ticktext=names)
    return styled(figure, 380).update_layout(legend=LEGEND_ABOVE)


def _line(peaks: Tensor, colour: str, sign: int, name: str) -> go.Scatter:
    """Draw a line over the channels, upwards or downwards. peaks: (D,); sign: 1 or -1."""
    run = math.ceil(len(peaks) / MOST_POINTS)
    places = torch.stack([part.argmax() + start * run for start, part in enumerate(torch.split(peaks, run))])
    return go.Scatter(
        x=places.tolist(),
        y=rounded(sign * peaks[places], 1),
        name=name,
        mode="lines",
        line={"color": colour, "width": 2, "dash": "solid" if sign > 0 else "dot"},
        hovertemplate="%{x}: %{y:,.1f}<extra></extra>",
    )


def sink_lines(sinks: Sinks, even: float, say: Say) -> go.Figure:
    """Draw block by block: attention to the first token, what an even share would be, and how large that token is."""
    blocks = list(range(len(sinks.per_block)))
    figure = make_subplots(specs=[[{"secondary_y": True}]])
    figure.add_scatter(
        name=say("lesson.sinks.attention"),
        x=blocks,
        y=rounded(100 * sinks.per_block, 3),
        mode="lines+markers",
        line={"color": DENSE, "width": 3},
    )
    figure.add_scatter(
        name=say("lesson.sinks.even"),
        x=blocks,
        y=[round(100 * even, 2)] * len(blocks),
        mode="lines",
        line={"color": GREY, "width": 2, "dash": "longdash"},
    )
    figure.add_scatter(
        name=say("lesson.sinks.size"),
        x=blocks,
        y=rounded(sinks.entering, 3),
        mode="lines+markers",
        line={"color": VERMILLION, "width": 3, "dash": "dot"},
        marker={"symbol": "diamond"},
        secondary_y=True,
    )
    figure = styled(figure, 380).update_layout(legend=LEGEND_ABOVE, margin={"r": 60})
    figure.update_xaxes(title_text=say("lesson.axis.block"))
    figure.update_yaxes(title_text="%", range=[0, 100], secondary_y=False)
    return figure.update_yaxes(
        title_text="|x|", type="log", dtick=1, exponentformat="power", showgrid=False, secondary_y=True
    )


def ablation_bars(report: AblationReport, say: Say) -> go.Figure:
    """Draw the perplexity untouched, for every random channel and for the chosen channel, on a log axis."""
    (channel,) = report.chosen.channels
    rows = [(say("lesson.ablate.untouched"), report.untouched, DENSE)]
    rows += [(say("lesson.ablate.one_random", channel=run.channels[0]), run.perplexity, GREY) for run in report.random]
    rows += [(say("lesson.ablate.one_chosen", channel=channel), report.chosen.perplexity, VERMILLION)]
    shown = [value if math.isfinite(value) else 1e12 for _, value, _ in rows]
    figure = go.Figure(
        go.Bar(
            orientation="h",
            x=[round(value, 3) for value in shown],
            y=[name for name, _, _ in rows],
            text=[number(value) for _, value, _ in rows],
            textposition="outside",
            cliponaxis=False,
            marker={"color": [colour for *_, colour in rows], "line": {"width": 0}},
            hoverinfo="skip",
        )
    )
    most = math.log10(max(shown))
    figure.update_xaxes(title_text=say("lesson.axis.perplexity_log"), type="log", dtick=1, exponentformat="power")
    figure.update_xaxes(range=[0, most + 0.18 * most + 0.3])
    figure.update_yaxes(autorange="reversed")
    return styled(figure, 340).update_layout(margin={"l": 10})


def protection_lines(protection: Protection, say: Say) -> go.Figure:
    """Draw input columns from the quietest to the loudest: the share of their weights that either metric cuts."""
    bins = protection.bins
    ends = bins.starts.float() / float(bins.starts[-1])
    centres = 100 * (ends[:-1] + ends[1:]) / 2
    figure = go.Figure()
    for name, values, colour, dash in (
        ("magnitude", bins.magnitude, VERMILLION, "dot"),
        ("wanda", bins.wanda, DENSE, "solid"),
    ):
        figure.add_scatter(
            name=say(f"lesson.cost.{name}"),
            x=rounded(centres, 1),
            y=rounded(100 * values, 2),
            mode="lines+markers",
            line={"color": colour, "width": 3, "dash": dash},
            marker={"size": 5},
        )
    figure.update_xaxes(title_text=say("lesson.axis.loudness"), range=[0, 101])
    figure.update_yaxes(title_text=say("lesson.axis.share_cut"), range=[0, 103])
    return styled(figure, 360).update_layout(legend=LEGEND_ABOVE)


def cost_lines(perplexities: Mapping[tuple[str, float], float], say: Say) -> go.Figure:
    """Draw perplexity over sparsity on a log axis, from the dense model on. perplexities: by method and sparsity."""
    dense = perplexities["dense", 0.0]
    figure = go.Figure()
    for method, colour, dash, symbol in (
        ("magnitude", VERMILLION, "dot", "diamond"),
        ("wanda", DENSE, "solid", "circle"),
    ):
        points = [(0.0, dense), *((share, value) for (name, share), value in perplexities.items() if name == method)]
        figure.add_scatter(
            name=say(f"lesson.cost.{method}"),
            x=[round(100 * share) for share, _ in points],
            y=[round(min(value, 1e12), 2) for _, value in points],
            mode="lines+markers",
            line={"color": colour, "width": 3, "dash": dash},
            marker={"size": 9, "symbol": symbol},
            hovertemplate="%{x}%: %{y:,.1f}<extra></extra>",
        )
    figure.update_xaxes(title_text=say("lesson.axis.sparsity"), ticksuffix="%", dtick=10)
    finite = [value for value in perplexities.values() if math.isfinite(value)]
    figure.update_yaxes(title_text=say("lesson.axis.perplexity_log"), **decades(min(finite), max(finite)))
    return styled(figure, 340).update_layout(legend=LEGEND_ABOVE)
