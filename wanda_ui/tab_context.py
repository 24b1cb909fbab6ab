"""Between the page and its tabs: what a tab is given, and what it may show of the model and when."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import gradio as gr
from gradio.components import Component
from gradio.i18n import I18nData

from wanda_ui.app_state import AppState
from wanda_ui.engine.loaded import Loaded, Result
from wanda_ui.gate.guarded import GuardedPage
from wanda_ui.jobs import LIGHT, Update
from wanda_ui.language import Say

RESIZE = "() => requestAnimationFrame(() => window.dispatchEvent(new Event('resize')))"


@dataclass(frozen=True)
class TabContext:
    """The parts of the page and the server that every tab works with.

    model: name of the model that this visitor looks at; key: of the variant that this visitor made last, empty before;
    page: all of it, for a tab that reads the address.
    """

    state: AppState
    model: gr.State
    key: gr.State
    page: GuardedPage

    @property
    def choice(self) -> list[Component]:
        """List the inputs of an event that looks at this visitor's model and variant."""
        return [self.model, self.key]

    def current(self, name: str, key: str) -> tuple[Loaded | None, Result | None]:
        """Return the model if it is ready and analysed, and the variant if it was made from that model."""
        loaded = self.state.loaded(name)
        if loaded is None or loaded.analysis is None:
            return None, None
        result = self.state.variants.get(key)
        return loaded, result if result is not None and result.is_of(loaded) else None

    def was_let_go(self, key: str) -> bool:
        """Whether this visitor's variant made room for others."""
        return self.state.variants.was_let_go(key)


class Tab:
    """A tab as the page sees it. One that only answers its own controls takes everything here as it is.

    Each method returns new values for some of `outputs`. The page calls them when the tab is opened.
    """

    shows_variant: ClassVar[bool] = False  # whether another variant of the same model changes what is shown

    @property
    def outputs(self) -> list[Component]:
        """List the components that the methods fill."""
        return []

    @property
    def choices(self) -> list[Component]:
        """List the controls whose values `analysed` needs."""
        return []

    def welcome(self, say: Say) -> Update:
        """Greet a visitor; no model is known yet."""
        return {}

    def waiting(self, html: str) -> Update:
        """Show how far the reading of the model's activations is. html: a progress bar or a message."""
        return {}

    def analysed(self, loaded: Loaded, result: Result | None, say: Say, chosen: Mapping[Component, Any]) -> Update:
        """Show a model whose activations have been read. result: the variant that the visitor may have made of it;
        chosen: the values of `choices`."""
        return {}


def resizing_tab(label: I18nData, name: str, element: str) -> gr.Tab:
    """Open a tab's side, to lay out inside. A figure that was drawn while hidden takes its width when it is shown."""
    side = gr.Tab(label, id=name, elem_id=element)
    side.select(None, js=RESIZE, **LIGHT)
    return side
