"""Between the page and its tabs: what a tab is given, and what it may show of the model and when."""

from dataclasses import dataclass

import gradio as gr
from gradio.components import Component
from gradio.i18n import I18nData

from wanda_ui.app_state import AppState
from wanda_ui.engine.loaded import Loaded
from wanda_ui.gate.guarded import GuardedPage
from wanda_ui.jobs import LIGHT, Update
from wanda_ui.language import Say

RESIZE = "() => requestAnimationFrame(() => window.dispatchEvent(new Event('resize')))"


@dataclass(frozen=True)
class TabContext:
    """The parts of the page and the server that every tab works with.

    model: name of the model that this visitor looks at, as the browser says it; page: all of it, for a tab that reads
    the address or answers questions of its own.
    """

    state: AppState
    model: gr.Textbox
    page: GuardedPage

    def ready(self, name: str) -> Loaded | None:
        """Return the model if it is in memory and analysed."""
        loaded = self.state.loaded(name)
        return loaded if loaded is not None and loaded.analysis is not None else None


class Tab:
    """A tab as the page sees it. One that only answers its own controls takes everything here as it is.

    Each method returns new values for some of `outputs`. The page calls them when the tab is opened.
    """

    @property
    def outputs(self) -> list[Component]:
        """List the components that the methods fill."""
        return []

    def welcome(self, say: Say) -> Update:
        """Greet a visitor; no model is known yet."""
        return {}

    def waiting(self, html: str) -> Update:
        """Show how far the reading of the model's activations is. html: a progress bar or a message."""
        return {}

    def analysed(self, loaded: Loaded, say: Say) -> Update:
        """Show a model whose activations have been read."""
        return {}


def resizing_tab(label: I18nData, name: str, element: str) -> gr.Tab:
    """Open a tab's side, to lay out inside. A figure that was drawn while hidden takes its width when it is shown."""
    side = gr.Tab(label, id=name, elem_id=element)
    side.select(None, js=RESIZE, **LIGHT)
    return side
