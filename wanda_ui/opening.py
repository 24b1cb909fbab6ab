"""What happens when a tab is opened: it shows the visitor's model, once for each."""

from collections.abc import Iterator
from dataclasses import dataclass

import gradio as gr

from wanda_ui.gate.arrivals import arrival_of
from wanda_ui.jobs import ENGINE, LIGHT, Update, no_change, watched
from wanda_ui.language import speaker
from wanda_ui.tab_context import Tab, TabContext


@dataclass(frozen=True)
class Opening:
    """A tab's side with what is shown there. shown: names the model that its figures are of."""

    context: TabContext
    tab: Tab
    shown: gr.State

    def wire(self, side: gr.Tab) -> None:
        """Connect the event."""
        greeted = side.select(self.welcome, self.shown, self.tab.outputs, **LIGHT)
        greeted.then(self.open, [self.context.model, self.shown], [*self.tab.outputs, self.shown], **ENGINE)

    def welcome(self, request: gr.Request, shown: str) -> Update:
        """Show what is known without any model, in a tab that shows nothing yet.

        Not before the tab is opened: a figure brings Plotly along, whose script keeps the browser for seconds.
        """
        return no_change() if shown else self.tab.welcome(speaker(request))

    def open(self, request: gr.Request, name: str, shown: str) -> Iterator[Update]:
        """Draw the tab, unless what it shows is right."""
        say, state = speaker(request), self.context.state
        loaded = self.context.ready(name)
        if loaded is None:
            steps = state.open_steps(name)
            if (yield from watched(steps, self.tab.waiting, say, arrival=arrival_of(request))) is None:
                return
            loaded = self.context.ready(name)
        if loaded is None:  # it made room for another model meanwhile
            return
        now = f"{loaded.name}|{loaded.state}"
        if now != shown:
            yield {**self.tab.analysed(loaded, say), self.shown: now}
