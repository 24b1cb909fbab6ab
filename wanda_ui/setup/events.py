"""Events of the set-up: a model is opened, analysed or pruned, and parts of the page show it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr
from gradio.components import Component

from wanda_core.errors import WandaError
from wanda_core.progress import Steps
from wanda_ui import markup
from wanda_ui.engine.loaded import Result
from wanda_ui.gate.arrivals import arrival_of
from wanda_ui.jobs import AT_ONCE, ENGINE, LIGHT, Stop, Update, no_change, watched
from wanda_ui.language import Say, speaker
from wanda_ui.setup import recipe, status
from wanda_ui.setup.panel import SetupPanel
from wanda_ui.tab_context import Tab, TabContext

Values = dict[Component, Any]  # of an event's inputs


@dataclass(frozen=True)
class SetupEvents:
    """The events of the set-up. head: the line at the top of the page; tabs: all that may show the model."""

    context: TabContext
    panel: SetupPanel
    head: gr.HTML
    tabs: Sequence[Tab]

    def wire(self) -> None:
        """Connect the events: what happens when, and in which order."""
        page, model, key = self.context.page, self.context.model, self.context.key
        own = [self.panel.status, key, self.head]
        shown = [output for tab in self.tabs for output in tab.outputs]
        chosen = {model, key, *(choice for tab in self.tabs for choice in tab.choices)}

        welcomed = page.load(self.welcome, None, [self.head, self.panel.status, *shown], **LIGHT)
        first = welcomed.then(self.open_first, model, own, **ENGINE)
        another = model.change(self.open_chosen, model, own, **ENGINE)
        for opened in (first, another):
            analysed = opened.then(self.analyse_for(self.tabs), model, shown, **ENGINE)
            analysed.then(self.show_in(self.tabs), chosen, shown, **LIGHT)

        asked: dict[str, Any] = {"inputs": {key, *self.panel.recipe.values()}, "outputs": [*own, *shown], **ENGINE}
        pruned = self.panel.prune.click(self.prune, **asked)
        slid = self.panel.sparsity.release(self.slide, trigger_mode="always_last", **asked)
        followers = [tab for tab in self.tabs if tab.shows_variant]
        theirs = [output for tab in followers for output in tab.outputs]
        for made in (pruned, slid):  # events of their own: until one has ended, its button does not answer
            analysed = made.success(self.analyse_for(followers), model, theirs, **ENGINE)
            analysed.success(self.show_in(followers), chosen, theirs, **LIGHT)
        asked_need: dict[str, Any] = {"inputs": {*self.panel.recipe.values()}, "outputs": self.panel.need, **LIGHT}
        for event in (first.then, another.then, *(control.input for control in self.panel.decides_need)):
            event(self.need, **asked_need)
        self.panel.cancel.click(self.context.cancel.press, None, None, **AT_ONCE)

    def welcome(self, request: gr.Request) -> Update:
        """Say what stands in the page before anything has happened."""
        say = speaker(request)
        update: Update = {self.head: status.header(None, say), **self._tell(markup.empty(say("setup.starting")))}
        for tab in self.tabs:
            update |= tab.welcome(say)
        return update

    def open_first(self, request: gr.Request, name: str) -> Iterator[Update]:
        """Load the model that a page begins with, and say that it is ready."""
        yield from self._open(request, name, None)

    def open_chosen(self, request: gr.Request, name: str) -> Iterator[Update]:
        """Load a model that was chosen; Cancel ends it."""
        stop = self.context.cancel.since(request, partial(self._cancelled, speaker(request), name, ""))
        yield from self._open(request, name, stop)

    def _open(self, request: gr.Request, name: str, stop: Stop | None) -> Iterator[Update]:
        """Load a model; the variant of the one before is let go."""
        say = speaker(request)
        loaded = yield from watched(self.context.state.model_steps(name), self._tell, say, stop, arrival_of(request))
        if loaded is not None:
            yield {
                self.panel.status: status.ready(loaded.about, say),
                self.context.key: "",
                self.head: status.header(loaded.about, say),
            }

    def analyse_for(self, tabs: Sequence[Tab]) -> Callable[..., Iterator[Update]]:
        """Make the event that reads the activations which the tabs show; meanwhile they say how far it is."""

        def waiting(html: str) -> Update:
            update: Update = {}
            for tab in tabs:
                update |= tab.waiting(html)
            return update

        def analyse(request: gr.Request, name: str) -> Iterator[Update]:
            if self.context.state.loaded(name) is not None:
                steps = self.context.state.open_steps(name, quiet=True)
                yield from watched(steps, waiting, speaker(request), arrival=arrival_of(request))

        return analyse

    def show_in(self, tabs: Sequence[Tab]) -> Callable[..., Update]:
        """Make the event that shows the analysis, and the variant that this visitor may have made meanwhile."""

        def show(request: gr.Request, values: Values) -> Update:
            loaded, result = self.context.current(values[self.context.model], values[self.context.key])
            if loaded is None:
                return no_change()
            update: Update = {}
            for tab in tabs:
                update |= tab.analysed(loaded, result, speaker(request), values)
            return update

        return show

    def need(self, request: gr.Request, values: Values) -> Update:
        """Say how much memory the variant that is described will take while it is kept."""
        chosen = {name: values[control] for name, control in self.panel.recipe.items()}
        needed = recipe.needed_bytes(self.context.state, **chosen)
        if needed is None:
            return {self.panel.need: ""}
        budget = self.context.state.variants.budget
        words = speaker(request)("setup.need", megabytes=needed / 1e6, budget=budget / 1e6)
        return {self.panel.need: markup.sentence(words)}

    def prune(self, request: gr.Request, values: Values) -> Iterator[Update]:
        """Prune and measure; a failed run keeps the variant that was there."""
        yield from self._prune_by(recipe.prune_job, request, values)

    def slide(self, request: gr.Request, values: Values) -> Iterator[Update]:
        """Prune at once, from norms that are already known, and measure."""
        yield from self._prune_by(recipe.slide_job, request, values)

    def _prune_by(
        self, job: Callable[..., Steps[Result] | None], request: gr.Request, values: Values
    ) -> Iterator[Update]:
        """Run a job that makes a variant, and tell every tab of it. job: returns None where there is nothing to do."""
        say = speaker(request)
        chosen = {name: values[control] for name, control in self.panel.recipe.items()}
        before = partial(self._cancelled, say, str(chosen["name"]), values[self.context.key])
        stop = self.context.cancel.since(request, before)
        try:
            steps = job(self.context.state, settings=self.context.page.settings, **chosen)
        except WandaError as error:
            yield self._tell(markup.problem(str(error)))
            return
        if steps is None:
            return
        result = yield from watched(steps, self._tell, say, stop, arrival_of(request))
        if result is not None:
            update: Update = {
                self.panel.status: status.done(result, say),
                self.context.key: result.key,
                self.head: status.header(result.about, say),
            }
            for tab in self.tabs:
                update |= tab.pruned(result, say)
            yield update

    def _tell(self, html: str) -> Update:
        """Put a progress bar or a message into the status."""
        return {self.panel.status: html}

    def _cancelled(self, say: Say, name: str, key: str) -> str:
        """Write the status after Cancel: what there is after all."""
        loaded = self.context.state.loaded(name)
        result = self.context.state.variants.get(key)
        if loaded is None:
            return markup.empty(say("status.cancelled"))
        return status.done(result, say) if result is not None else status.ready(loaded.about, say, "status.cancelled")
