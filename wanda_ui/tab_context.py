"""What every tab works with."""

from dataclasses import dataclass

import gradio as gr

from wanda_ui.app_state import AppState, Loaded, Result


@dataclass(frozen=True)
class TabContext:
    """What every tab works with. model: the name of the chosen one; key: of the variant this visitor made."""

    state: AppState
    model: gr.Dropdown
    key: gr.State

    @property
    def choice(self) -> list[gr.components.Component]:
        """The inputs of an event that looks at this visitor's model and variant."""
        return [self.model, self.key]

    def current(self, name: str, key: str) -> tuple[Loaded | None, Result | None]:
        """What a visitor looks at: the model if it is ready and analysed, the variant if it belongs to that model."""
        loaded = self.state.models.get(name)
        result = self.state.results.get(key)
        if loaded is None or loaded.analysis is None:
            return None, None
        return loaded, result if result is not None and result.loaded is loaded else None
