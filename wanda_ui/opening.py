"""What happens when a tab is opened: it shows the visitor's model and variant, once for each."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.components import Component

from wanda_ui.gate.arrivals import arrival_of
from wanda_ui.jobs import ENGINE, Update, watched
from wanda_ui.language import speaker
from wanda_ui.tab_context import Tab, TabContext


@dataclass(frozen=True)
class Opening:
    """A tab's side with what is shown there. shown: names the model and the variant that its figures are of."""

    context: TabContext
    tab: Tab
    shown: gr.State

    def wire(self, side: gr.Tab) -> None:
        """Connect the event."""
        chosen: set[Any] = {self.context.model, self.context.key, self.shown, *self.tab.choices}
        side.select(self.open, chosen, [*self.tab.outputs, self.shown], **ENGINE)

    def open(self, request: gr.Request, values: dict[Component, Any]) -> Iterator[Update]:
        """Draw the tab, unless what it shows is right."""
        say, state = speaker(request), self.context.state
        name, key = values[self.context.model], values[self.context.key]
        loaded, result = self.context.current(name, key)
        if loaded is None:
            steps = state.open_steps(name)
            if (yield from watched(steps, self.tab.waiting, say, arrival=arrival_of(request))) is None:
                return
            loaded, result = self.context.current(name, key)
        if loaded is None:  # it made room for another model meanwhile
            return
        seen = result.key if result is not None and self.tab.shows_variant else ""
        shown = f"{loaded.name}|{loaded.state}|{seen}"
        if shown != values[self.shown]:
            yield {**self.tab.analysed(loaded, result, say, values), self.shown: shown}
