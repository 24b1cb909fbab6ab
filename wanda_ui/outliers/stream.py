"""Section: which channels stand out? How large the residual stream grows, and which input columns carry it."""

from dataclasses import dataclass

import gradio as gr
import torch
from gradio.components import Component
from torch import Tensor

from wanda_core.outliers.analysis import Analysis, StandOut, standing_out
from wanda_core.outliers.massive import MASSIVE_MAGNITUDE, MASSIVE_RATIO
from wanda_ui import markup
from wanda_ui.engine.loaded import Loaded
from wanda_ui.jobs import LIGHT, Update, no_change
from wanda_ui.language import Say, label, speaker
from wanda_ui.outliers.figures.stream import magnitude_lines, norm_heatmap
from wanda_ui.outliers.section import question, section_table
from wanda_ui.picture import Drawing, Picture, picture
from wanda_ui.replay import replay
from wanda_ui.tab_context import TabContext

STREAM = ""  # the value that stands for the residual stream; a kind of linear has a name
COLUMNS = ("channel", "high", "massive", "largest", "times_median", "at_block")


@dataclass(frozen=True)
class StreamSection:
    """The picture of magnitudes, the choice of what the heatmap shows, the heatmap, the table."""

    lines: Picture
    where: gr.Dropdown
    norms: Picture
    table: gr.HTML

    @property
    def outputs(self) -> list[Component]:
        """List what `show` fills."""
        return [*self.lines.outputs, self.where, *self.norms.outputs, self.table]

    def welcome(self, say: Say) -> Update:
        """Show the stored run's channel that towers."""
        return self.lines.show(draw_stored(say))

    def show(self, loaded: Loaded, say: Say) -> Update:
        """Show the whole section, with the norms of the residual stream."""
        assert loaded.analysis is not None  # made by open_steps
        channels = standing_out(loaded.analysis)
        return {
            **self.lines.show(draw_lines(loaded.analysis, channels, say)),
            self.where: gr.Dropdown(places(loaded, say), value=STREAM),
            **self.norms.show(draw_norms(loaded, STREAM, say)),
            self.table: channel_table(channels, say),
        }


def build(context: TabContext) -> StreamSection:
    """Lay out the lines, the heatmap and the table, and what happens when another place is chosen."""
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

    def choose_place(request: gr.Request, name: str, where: str) -> Update:
        loaded = context.ready(name)
        if loaded is None or where not in [value for _, value in places(loaded, speaker(request))]:
            return no_change()
        return norms.show(draw_norms(loaded, where, speaker(request)))

    where.input(choose_place, [context.model, where], norms.outputs, **LIGHT)
    return section


def places(loaded: Loaded, say: Say) -> list[tuple[str, str]]:
    """List what the heatmap can show: the residual stream, or the inputs of any kind of linear; (name, value) pairs."""
    kinds = [(say("outliers.stream.inputs_of", kind=kind), kind) for kind in loaded.lm.kinds]
    return [(say("outliers.stream.residual"), STREAM), *kinds]


def draw_lines(analysis: Analysis, channels: list[StandOut], say: Say) -> Drawing:
    """Draw the magnitudes per block. channels: those that stand out, the most first."""
    first = channels[0]
    values = {
        "channel": first.channel,
        "block": first.block,
        "ratio": markup.number(first.ratio),
        "largest": markup.number(first.largest),
        "magnitude": MASSIVE_MAGNITUDE,
        "times": MASSIVE_RATIO,
    }
    words = "none"
    if first.massive:
        words = "lines"
        values |= {"first": first.massive[0], "last": first.massive[-1], "count": len(first.massive)}
        values["blocks"] = len(analysis.median)
    return Drawing(
        say(f"outliers.stream.{words}_title", **values),
        magnitude_lines(analysis.top, analysis.median, say),
        say(f"outliers.stream.{words}_text", **values),
    )


def draw_stored(say: Say) -> Drawing:
    """Draw the magnitudes per block of the stored run."""
    stream, model = replay()["stream"], replay()["made"]["model"]
    largest, median = (torch.tensor(stream[name], dtype=torch.float32) for name in ("largest", "median"))
    values = {
        "channel": stream["channel"],
        "block": stream["block"],
        "ratio": markup.number(stream["ratio"]),
        "largest": markup.number(max(stream["largest"])),
        "magnitude": MASSIVE_MAGNITUDE,
        "times": MASSIVE_RATIO,
        "first": stream["massive"][0],
        "last": stream["massive"][1],
        "count": stream["massive"][1] - stream["massive"][0] + 1,
        "blocks": len(median),
    }
    text = say("outliers.stream.lines_text", **values) + " " + say("outliers.stream.stored", model=model)
    figure = magnitude_lines(largest[:, None], median, say)
    return Drawing(say("outliers.stream.lines_title", **values), figure, text)


def channel_table(channels: list[StandOut], say: Say) -> str:
    """Write a table with a row for each channel that stands out."""
    rows: list[list[object]] = [
        [
            channel.channel,
            _span(channel.blocks),
            _span(channel.massive),
            markup.number(channel.largest),
            markup.number(channel.ratio),
            channel.block,
        ]
        for channel in channels
    ]
    return section_table(say, "stream", COLUMNS, rows)


def draw_norms(loaded: Loaded, where: str, say: Say) -> Drawing:
    """Draw the block × channel picture of norms. where: a value of `places`."""
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
    return Drawing(
        say("outliers.stream.norms_title", **values),
        norm_heatmap(norms, say),
        say("outliers.stream.norms_text", **values),
    )


def _span(blocks: tuple[int, ...]) -> str:
    """Write how many blocks, and the first and last of them."""
    return f"{len(blocks)} ({blocks[0]} – {blocks[-1]})" if blocks else "–"


def _norms(loaded: Loaded, where: str, say: Say) -> tuple[Tensor, str]:
    """Return the norms of a place, (B, C), and its name."""
    analysis = loaded.analysis
    assert analysis is not None  # the page asks only after it is made
    linears = loaded.lm.of_kind(where)
    if not linears:
        return analysis.stream_norms, say("outliers.stream.residual")
    norms = torch.stack([analysis.profile.norms[linear.name] for linear in linears])
    return norms, say("outliers.stream.inputs_of", kind=where)
