"""Scores: every block at once for one kind of linear, and one linear in detail."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import gradio as gr
from gradio.components import Component
from torch import Tensor

from wanda_core.explain.histograms import Grid, disagreement, histogram, score_grid, score_of
from wanda_core.maths.masks import lowest_per_row
from wanda_core.maths.scores import magnitude
from wanda_ui import markup
from wanda_ui.engine.loaded import Loaded, Result
from wanda_ui.jobs import LIGHT, Update, no_change
from wanda_ui.language import Say, label, speaker
from wanda_ui.picture import figure_place
from wanda_ui.replay import replay
from wanda_ui.scores import figures, words
from wanda_ui.scores.stored import stored_grid
from wanda_ui.tab_context import Tab, TabContext

MAX_GRIDS = 40  # kept with a model, a few kilobytes each


@dataclass(frozen=True)
class ScoresTab(Tab):
    """The two choices, the picture of all blocks, and the two of one linear with their common sentence."""

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
    shows_variant: ClassVar[bool] = True

    @property
    def outputs(self) -> list[Component]:
        """List everything that a model changes."""
        return [self.kind, self.block, *self.grid_outputs, *self.linear_outputs]

    @property
    def choices(self) -> list[Component]:
        """List the kind and the block that are looked at."""
        return [self.kind, self.block]

    @property
    def grid_outputs(self) -> list[Component]:
        """List what `show_grid` fills."""
        return [self.grid_title, self.grid, self.grid_text]

    @property
    def linear_outputs(self) -> list[Component]:
        """List what `show_linear` fills."""
        return [self.score_title, self.score, self.weight_title, self.weight, self.text]

    def welcome(self, say: Say) -> Update:
        """Show the stored run's picture of all blocks."""
        grid, kind = stored_grid(), replay()["scores"]["kind"]
        title, text = words.grid_words(grid, kind, say)
        return {
            self.grid_title: markup.figure_title(title),
            self.grid: figures.score_heatmap(grid, say),
            self.grid_text: markup.sentence(f"{text} {say('scores.stored', model=replay()['made']['model'])}"),
        }

    def waiting(self, html: str) -> Update:
        """Show progress where the first title will be."""
        return {self.grid_title: html}

    def analysed(self, loaded: Loaded, result: Result | None, say: Say, chosen: Mapping[Component, Any]) -> Update:
        """Fill the tab, for the kind and block chosen before where the model has them."""
        kind, block = loaded.linear_to_show(chosen[self.kind], chosen[self.block])
        return {
            self.kind: gr.Dropdown(loaded.lm.kinds, value=kind),
            self.block: gr.Dropdown(loaded.blocks_with(kind), value=block),
            **self.show_grid(loaded, result, kind, say),
            **self.show_linear(loaded, result, kind, block, say),
        }

    def show_grid(self, loaded: Loaded, result: Result | None, kind: str, say: Say) -> Update:
        """Draw the block × score picture of a kind, of the dense weights, with its words."""
        grid = _grid(loaded, result, kind)
        title, text = words.grid_words(grid, kind, say)
        return {
            self.grid_title: markup.figure_title(title),
            self.grid: figures.score_heatmap(grid, say),
            self.grid_text: markup.sentence(text),
        }

    def show_linear(self, loaded: Loaded, result: Result | None, kind: str, block: int, say: Say) -> Update:
        """Draw one linear: its scores, kept and pruned apart, and beside them the same weights by magnitude."""
        linear = next(linear for linear in loaded.lm.of_kind(kind) if linear.block == block)
        norms = _norms(loaded, result)
        S = score_of(linear, norms)
        cut, parting = None, None
        if result is not None:
            cut = result.variant.pruned_weight(loaded.lm, linear.name) == 0
            rows_cut = int(cut.sum()) // cut.shape[0]
            other = lowest_per_row(magnitude(linear.weight), rows_cut)
            parting = disagreement(cut, other, norms[linear.name]) if result.variant.profile is not None else None
        by_score, by_weight = histogram(S, cut), histogram(linear.weight.abs(), cut)
        where = say("scores.where", kind=kind, block=block)
        title, beside, text = words.histogram_words(by_score, by_weight, where, parting, say)
        return {
            self.score_title: markup.figure_title(title),
            self.score: figures.score_histogram(by_score, say("scores.score_axis"), say),
            self.weight_title: markup.figure_title(beside),
            self.weight: figures.score_histogram(by_weight, say("scores.weight_axis"), say),
            self.text: markup.sentence(text),
        }


def build(context: TabContext) -> ScoresTab:
    """Lay out all blocks above and one linear below, and what happens when another is chosen."""
    with gr.Row():
        kind = gr.Dropdown([], label=label("scores.kind"), elem_id="scores-kind", min_width=160)
        block = gr.Dropdown([], label=label("scores.block"), elem_id="scores-block", min_width=100)
    grid_title = gr.HTML("")
    grid = figure_place("scores-heatmap", grid_title)
    grid_text = gr.HTML("", elem_id="scores-heatmap-text")
    with gr.Row(elem_classes="wl-columns"):
        with gr.Column(min_width=300):
            score_title = gr.HTML("")
            score = figure_place("scores-histogram", score_title)
        with gr.Column(min_width=300):
            weight_title = gr.HTML("")
            weight = figure_place("magnitude-histogram", weight_title)
    text = gr.HTML("", elem_id="scores-histogram-text")
    tab = ScoresTab(kind, block, grid_title, grid, grid_text, score_title, score, weight_title, weight, text)

    def told(key: str, say: Say, update: Update) -> Update:
        """Say why the variant is missing where it made room for others."""
        if context.was_let_go(key):
            update[tab.text] = markup.sentence(say("scores.let_go")) + update[tab.text]
        return update

    def choose_kind(request: gr.Request, name: str, key: str, kind: str, block: int) -> Update:
        loaded, result = context.current(name, key)
        if loaded is None or kind not in loaded.lm.kinds:
            return no_change()
        kind, block = loaded.linear_to_show(kind, block)
        say = speaker(request)
        linear = told(key, say, tab.show_linear(loaded, result, kind, block, say))
        return {**tab.show_grid(loaded, result, kind, say), **linear}

    def choose_block(request: gr.Request, name: str, key: str, kind: str, block: int) -> Update:
        loaded, result = context.current(name, key)
        if loaded is None or loaded.linear_to_show(kind, block) != (kind, block):
            return no_change()
        say = speaker(request)
        return told(key, say, tab.show_linear(loaded, result, kind, block, say))

    seen = [*context.choice, *tab.choices]
    kind.input(choose_kind, seen, [*tab.grid_outputs, *tab.linear_outputs], **LIGHT)
    block.input(choose_block, seen, tab.linear_outputs, **LIGHT)
    return tab


def _grid(loaded: Loaded, result: Result | None, kind: str) -> Grid:
    """Return the picture of a kind, kept once it was made: it goes through every weight."""
    decided = result is not None and result.variant.profile is not None
    key = (kind, result.key if result is not None and decided else "")
    with loaded.lock:
        kept = loaded.grids.get(key)
    if kept is None:
        kept = score_grid(loaded.lm.of_kind(kind), _norms(loaded, result))
    with loaded.lock:
        loaded.grids[key] = kept
        loaded.grids.move_to_end(key)
        while len(loaded.grids) > MAX_GRIDS:
            loaded.grids.popitem(last=False)
    return kept


def _norms(loaded: Loaded, result: Result | None) -> Mapping[str, Tensor]:
    """Return the norms that decided the mask, where there are any, else those of the dense model."""
    if result is not None and result.variant.profile is not None:
        return result.variant.profile.norms
    assert loaded.analysis is not None  # the page asks only after it is made
    return loaded.analysis.profile.norms
