"""Outliers: how large the residual stream grows, and which input columns carry it."""

from dataclasses import dataclass

import gradio as gr
import pandas as pd
import torch
from torch import Tensor

from wanda_core.outliers.activations import Analysis, standing_out
from wanda_ui import figures, texts
from wanda_ui.events import LIGHT, Room
from wanda_ui.scores_tab import kinds_of, of_kind
from wanda_ui.studio import Loaded

STREAM = "residual stream"
COLUMNS = ["channel", "blocks ≥ 100 × median", "massive in", "largest |x|", "× median", "at block"]


@dataclass(frozen=True)
class OutliersTab:
    """The components other files listen to."""

    lines_title: gr.HTML
    lines: gr.Plot
    lines_text: gr.HTML
    where: gr.Dropdown
    norms_title: gr.HTML
    norms: gr.Plot
    norms_text: gr.HTML
    table: gr.HTML

    @property
    def outputs(self) -> list[gr.components.Component]:
        """What `show` returns."""
        return [self.where, *self.norm_outputs, self.lines_title, self.lines, self.lines_text, self.table]

    @property
    def norm_outputs(self) -> list[gr.components.Component]:
        """What `show_norms` returns."""
        return [self.norms_title, self.norms, self.norms_text]


def build(room: Room) -> OutliersTab:
    """The lines, the heatmap, the table."""
    lines_title = gr.HTML(texts.empty("The outliers appear here as soon as the model is ready."))
    lines = gr.Plot(show_label=False, elem_id="outliers-lines")
    lines_text = gr.HTML("", elem_id="outliers-lines-text")
    where = gr.Dropdown([STREAM], value=STREAM, label="Norms of the columns of", elem_id="outliers-where")
    norms_title = gr.HTML("")
    norms = gr.Plot(show_label=False, elem_id="outliers-heatmap")
    norms_text = gr.HTML("", elem_id="outliers-heatmap-text")
    table = gr.HTML("", elem_id="outliers-table")
    tab = OutliersTab(lines_title, lines, lines_text, where, norms_title, norms, norms_text, table)

    def choose_place(name: str, where: str) -> list:
        loaded, _ = room.current(name, "")
        if loaded is None or where not in places(loaded):
            return [gr.skip()] * len(tab.norm_outputs)
        return list(show_norms(loaded, where))

    where.input(choose_place, [room.model, where], tab.norm_outputs, **LIGHT)
    return tab


def places(loaded: Loaded) -> list[str]:
    """What the heatmap can show: the residual stream, or the inputs of any kind of linear."""
    return [STREAM, *(f"inputs of {kind}" for kind in kinds_of(loaded))]


def show(loaded: Loaded) -> list:
    """The whole tab, with the norms of the residual stream."""
    assert loaded.analysis is not None  # made by open_steps
    where = gr.Dropdown(places(loaded), value=STREAM)
    return [where, *show_norms(loaded, STREAM), *show_lines(loaded.analysis)]


def show_lines(analysis: Analysis) -> tuple[str, object, str, str]:
    """The magnitudes per block and the table of channels that stand out."""
    found = standing_out(analysis)
    title, text = texts.lines_words(analysis, found)
    rows = [
        [f.channel, _span(f.blocks), _span(f.massive), texts.number(f.largest), texts.number(f.ratio), f.block]
        for f in found
    ]
    return (
        texts.figure_title(title),
        figures.magnitude_lines(analysis),
        texts.sentence(text),
        texts.table("Channels of the residual stream that stand out", pd.DataFrame(rows, columns=COLUMNS)),
    )


def show_norms(loaded: Loaded, where: str) -> tuple[str, object, str]:
    """The block × channel picture of norms, with its words."""
    norms, what = _norms(loaded, where)
    ratio = norms / norms.median(dim=1, keepdim=True).values.clamp_min(1e-12)
    block, channel = divmod(int(ratio.argmax()), ratio.shape[1])
    leaders = ratio.argmax(dim=1)
    leads = int((leaders == channel).sum())
    title = f"Channel {channel} reaches {texts.number(float(ratio[block, channel]))} × the median norm in {what}"
    low, high = float(ratio.quantile(0.25)), float(ratio.quantile(0.75))
    text = (
        "Each cell is a column's L2 norm over the calibration text as a multiple of its block's median. "
        f"Channel {channel} is the largest in {leads} of {len(norms)} blocks and peaks in block {block}; half of all "
        f"cells lie within {low:.2f} to {high:.2f} × the median. "
        "In Wanda's score the norm of an input multiplies every weight of its column."
    )
    return texts.figure_title(title), figures.norm_heatmap(norms), texts.sentence(text)


def _span(blocks: tuple[int, ...]) -> str:
    return f"{len(blocks)} ({blocks[0]} – {blocks[-1]})" if blocks else "none"


def _norms(loaded: Loaded, where: str) -> tuple[Tensor, str]:
    analysis = loaded.analysis
    assert analysis is not None  # the page asks only after it is made
    kind = where.removeprefix("inputs of ")
    linears = of_kind(loaded, kind)
    if not linears:
        return analysis.stream_norms, "the residual stream"
    return torch.stack([analysis.profile.norms[linear.name] for linear in linears]), f"the inputs of {kind}"
