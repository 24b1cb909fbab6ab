"""Which channels stand out? How large the residual stream grows, and which input columns carry it."""

from dataclasses import dataclass

import gradio as gr
import torch
from torch import Tensor

from wanda_core.outliers.analysis import MASSIVE_MAGNITUDE, MASSIVE_RATIO, Analysis, StandOut, standing_out
from wanda_ui import markup
from wanda_ui.app_state import Loaded
from wanda_ui.jobs import LIGHT
from wanda_ui.language import Say, label, speaker
from wanda_ui.outliers.figures.stream import magnitude_lines, norm_heatmap
from wanda_ui.outliers.section import listed, question
from wanda_ui.picture import Picture, drawn, picture
from wanda_ui.tab_context import TabContext

STREAM = ""  # the value that stands for the residual stream; a kind of linear has a name
COLUMNS = "channel high massive largest times_median at_block"


@dataclass(frozen=True)
class StreamSection:
    """The components other files listen to."""

    lines: Picture
    where: gr.Dropdown
    norms: Picture
    table: gr.HTML

    @property
    def outputs(self) -> list[gr.components.Component]:
        """What `show` returns."""
        return [*self.lines.outputs, self.where, *self.norms.outputs, self.table]


def build(context: TabContext) -> StreamSection:
    """The lines, the heatmap, the table."""
    question("stream")
    lines = picture("outliers-lines")
    where = gr.Dropdown(
        [(label("outliers.stream.residual"), STREAM)],
        value=STREAM,
        label=label("outliers.stream.where"),
        elem_id="outliers-where",
    )
    norms = picture("outliers-heatmap")
    table = gr.HTML("", elem_id="outliers-table")
    section = StreamSection(lines, where, norms, table)

    def choose_place(request: gr.Request, name: str, where: str) -> list:
        loaded, _ = context.current(name, "")
        if loaded is None or where not in [value for _, value in places(loaded, speaker(request))]:
            return [gr.skip()] * len(norms.outputs)
        return show_norms(loaded, where, speaker(request))

    where.input(choose_place, [context.model, where], norms.outputs, **LIGHT)
    return section


def places(loaded: Loaded, say: Say) -> list[tuple[str, str]]:
    """What the heatmap can show: the residual stream, or the inputs of any kind of linear. (name, value) pairs."""
    kinds = [(say("outliers.stream.inputs_of", kind=kind), kind) for kind in loaded.lm.kinds]
    return [(say("outliers.stream.residual"), STREAM), *kinds]


def show(loaded: Loaded, say: Say) -> list:
    """The whole section, with the norms of the residual stream."""
    assert loaded.analysis is not None  # made by open_steps
    where = gr.Dropdown(places(loaded, say), value=STREAM)
    lines, table = show_lines(loaded.analysis, say)
    return [*lines, where, *show_norms(loaded, STREAM, say), table]


def show_lines(analysis: Analysis, say: Say) -> tuple[list, str]:
    """The magnitudes per block and the table of channels that stand out."""
    found = standing_out(analysis)
    title, text = lines_words(analysis, found, say)
    rows: list[list[object]] = [
        [f.channel, _span(f.blocks), _span(f.massive), markup.number(f.largest), markup.number(f.ratio), f.block]
        for f in found
    ]
    figure = magnitude_lines(analysis.top, analysis.median, say)
    return drawn(title, figure, text), listed(say, "stream", COLUMNS, rows)


def lines_words(analysis: Analysis, found: list[StandOut], say: Say) -> tuple[str, str]:
    """Title and sentence of the magnitudes per block."""
    first = found[0]
    values = {
        "channel": first.channel,
        "block": first.block,
        "ratio": markup.number(first.ratio),
        "largest": markup.number(first.largest),
        "magnitude": MASSIVE_MAGNITUDE,
        "times": MASSIVE_RATIO,
    }
    if not first.massive:
        return say("outliers.stream.none_title", **values), say("outliers.stream.none_text", **values)
    span = {"first": first.massive[0], "last": first.massive[-1], "count": len(first.massive)}
    text = say("outliers.stream.lines_text", **values, **span, blocks=len(analysis.median))
    return say("outliers.stream.lines_title", **values), text


def show_norms(loaded: Loaded, where: str, say: Say) -> list:
    """The block × channel picture of norms, with its words."""
    norms, what = _norms(loaded, where, say)
    ratio = norms / norms.median(dim=1, keepdim=True).values.clamp_min(1e-12)
    block, channel = divmod(int(ratio.argmax()), ratio.shape[1])
    values = {
        "channel": channel,
        "block": block,
        "ratio": markup.number(float(ratio[block, channel])),
        "what": what,
        "leads": int((ratio.argmax(dim=1) == channel).sum()),
        "blocks": len(norms),
        "low": float(ratio.quantile(0.25)),
        "high": float(ratio.quantile(0.75)),
    }
    return drawn(
        say("outliers.stream.norms_title", **values),
        norm_heatmap(norms, say),
        say("outliers.stream.norms_text", **values),
    )


def _span(blocks: tuple[int, ...]) -> str:
    return f"{len(blocks)} ({blocks[0]} – {blocks[-1]})" if blocks else "–"


def _norms(loaded: Loaded, where: str, say: Say) -> tuple[Tensor, str]:
    analysis = loaded.analysis
    assert analysis is not None  # the page asks only after it is made
    linears = loaded.lm.of_kind(where)
    if not linears:
        return analysis.stream_norms, say("outliers.stream.residual")
    norms = torch.stack([analysis.profile.norms[linear.name] for linear in linears])
    return norms, say("outliers.stream.inputs_of", kind=where)
