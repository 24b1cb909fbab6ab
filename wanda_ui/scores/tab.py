"""Scores: every block at once for one kind of linear, and one linear in detail."""

from dataclasses import dataclass

import gradio as gr

from wanda_core.explain.histograms import disagreement, histogram, score_grid, score_of
from wanda_core.maths.masks import lowest_per_row
from wanda_core.maths.scores import magnitude
from wanda_ui import markup
from wanda_ui.app_state import Loaded, Result
from wanda_ui.jobs import LIGHT
from wanda_ui.language import Say, label, speaker
from wanda_ui.scores import figures
from wanda_ui.tab_context import TabContext


@dataclass(frozen=True)
class ScoresTab:
    """The components other files listen to."""

    kind: gr.Dropdown
    block: gr.Dropdown
    grid_title: gr.HTML
    grid: gr.Plot
    grid_text: gr.HTML
    score_title: gr.HTML
    score: gr.Plot
    weight_title: gr.HTML
    weight: gr.Plot
    text: gr.HTML

    @property
    def outputs(self) -> list[gr.components.Component]:
        """What `show` returns."""
        return [self.kind, self.block, *self.grid_outputs, *self.linear_outputs]

    @property
    def grid_outputs(self) -> list[gr.components.Component]:
        """What `show_grid` returns."""
        return [self.grid_title, self.grid, self.grid_text]

    @property
    def linear_outputs(self) -> list[gr.components.Component]:
        """What `show_linear` returns."""
        return [self.score_title, self.score, self.weight_title, self.weight, self.text]


def build(context: TabContext) -> ScoresTab:
    """All blocks above, one linear below, and what happens when another is chosen."""
    with gr.Row():
        kind = gr.Dropdown([], label=label("scores.kind"), elem_id="scores-kind", min_width=160)
        block = gr.Dropdown([], label=label("scores.block"), elem_id="scores-block", min_width=100)
    grid_title = gr.HTML("")
    grid = gr.Plot(show_label=False, elem_id="scores-heatmap")
    grid_text = gr.HTML("", elem_id="scores-heatmap-text")
    with gr.Row(elem_classes="wl-columns"):
        with gr.Column(min_width=300):
            score_title = gr.HTML("")
            score = gr.Plot(show_label=False, elem_id="scores-histogram")
        with gr.Column(min_width=300):
            weight_title = gr.HTML("")
            weight = gr.Plot(show_label=False, elem_id="magnitude-histogram")
    text = gr.HTML("", elem_id="scores-histogram-text")
    tab = ScoresTab(kind, block, grid_title, grid, grid_text, score_title, score, weight_title, weight, text)

    def choose_kind(request: gr.Request, name: str, held: str, kind: str, block: int) -> list:
        loaded, result = context.current(name, held)
        if loaded is None or kind not in loaded.lm.kinds:
            return [gr.skip()] * len(tab.outputs[2:])
        kind, block = choices(loaded, kind, block)
        say = speaker(request)
        return [*show_grid(loaded, result, kind, say), *show_linear(loaded, result, kind, block, say)]

    def choose_block(request: gr.Request, name: str, held: str, kind: str, block: int) -> list:
        loaded, result = context.current(name, held)
        if loaded is None or choices(loaded, kind, block) != (kind, block):
            return [gr.skip()] * len(tab.linear_outputs)
        return list(show_linear(loaded, result, kind, block, speaker(request)))

    seen = [*context.choice, kind, block]
    kind.input(choose_kind, seen, tab.outputs[2:], **LIGHT)
    block.input(choose_block, seen, tab.linear_outputs, **LIGHT)
    return tab


def show(loaded: Loaded, result: Result | None, kind: str | None, block: int | None, say: Say) -> list:
    """The whole tab, for the kind and block chosen before where the model has them."""
    kind, block = choices(loaded, kind, block)
    blocks = [linear.block for linear in loaded.lm.of_kind(kind)]
    return [
        gr.Dropdown(loaded.lm.kinds, value=kind),
        gr.Dropdown(blocks, value=block),
        *show_grid(loaded, result, kind, say),
        *show_linear(loaded, result, kind, block, say),
    ]


def choices(loaded: Loaded, kind: str | None, block: int | None) -> tuple[str, int]:
    """The chosen kind and block where the model has them, else its first kind and middle block."""
    kinds = loaded.lm.kinds
    chosen = kind if kind in kinds else kinds[0]
    blocks = [linear.block for linear in loaded.lm.of_kind(chosen)]
    return chosen, block if block in blocks else blocks[len(blocks) // 2]


def show_grid(loaded: Loaded, result: Result | None, kind: str, say: Say) -> tuple[str, object, str]:
    """The block × score picture of a kind, of the dense weights, with its words."""
    grid = score_grid(loaded.lm.of_kind(kind), _norms(loaded, result))
    title, text = markup.grid_words(grid, kind, say)
    return markup.figure_title(title), figures.score_heatmap(grid, say), markup.sentence(text)


def show_linear(
    loaded: Loaded, result: Result | None, kind: str, block: int, say: Say
) -> tuple[str, object, str, object, str]:
    """One linear: its scores, kept and pruned apart, and beside them the same weights by magnitude."""
    linear = next(x for x in loaded.lm.of_kind(kind) if x.block == block)
    norms = _norms(loaded, result)
    S = score_of(linear, norms)
    cut, parting = None, None
    if result is not None:
        cut = result.variant.pruned_weight(linear.name) == 0
        rows_cut = int(cut.sum()) // cut.shape[0]
        other = lowest_per_row(magnitude(linear.weight), rows_cut)
        parting = disagreement(cut, other, norms[linear.name]) if result.variant.profile is not None else None
    by_score, by_weight = histogram(S, cut), histogram(linear.weight.abs(), cut)
    where = say("scores.where", kind=kind, block=block)
    title, beside, text = markup.histogram_words(by_score, by_weight, where, parting, say)
    return (
        markup.figure_title(title),
        figures.score_histogram(by_score, say("scores.score_axis"), say),
        markup.figure_title(beside),
        figures.score_histogram(by_weight, say("scores.weight_axis"), say),
        markup.sentence(text),
    )


def _norms(loaded: Loaded, result: Result | None):
    """The norms that decided, where there are any, else those of the dense model."""
    if result is not None and result.variant.profile is not None:
        return result.variant.profile.norms
    assert loaded.analysis is not None  # the page asks only after it is made
    return loaded.analysis.profile.norms
