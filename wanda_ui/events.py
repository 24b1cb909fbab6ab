"""What the tabs' events have in common: how they are queued, and how a long job is shown while it runs."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr

from wanda_core.errors import WandaError
from wanda_core.progress import Progress, Steps
from wanda_ui import texts
from wanda_ui.language import Say
from wanda_ui.studio import Loaded, Result, Studio

# Jobs wait for the studio's own lock, where they can say so; more than these wait in Gradio's queue.
ENGINE: dict[str, Any] = {
    "concurrency_id": "engine",
    "concurrency_limit": 8,
    "show_progress": "hidden",
    "api_visibility": "undocumented",
}
LIGHT: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
RESIZE = (
    "() => requestAnimationFrame(() => window.dispatchEvent(new Event('resize')))"  # for a figure drawn while hidden
)
TICK = 0.15  # seconds between updates of the progress bar


@dataclass(frozen=True)
class Room:
    """What every tab works with. model: the name of the chosen one; key: of the variant this visitor made."""

    studio: Studio
    model: gr.Dropdown
    key: gr.State

    @property
    def choice(self) -> list[gr.components.Component]:
        """The inputs of an event that looks at this visitor's model and variant."""
        return [self.model, self.key]

    def current(self, name: str, key: str) -> tuple[Loaded | None, Result | None]:
        """What a visitor looks at: the model if it is ready and analysed, the variant if it belongs to that model."""
        loaded = self.studio.models.get(name)
        result = self.studio.results.get(key)
        if loaded is None or loaded.analysis is None:
            return None, None
        return loaded, result if result is not None and result.loaded is loaded else None


def watched(steps: Steps, keep: list, say: Say) -> Iterator[str]:
    """Yield the progress bar as HTML, not more often than a person can see; the result goes into `keep`.

    Raises nothing for a WandaError: it is yielded as a message and `keep` stays empty.
    """
    last = 0.0
    try:
        while True:
            step: Progress = next(steps)
            if time.monotonic() - last >= TICK:
                last = time.monotonic()
                yield texts.progress(step, say)
    except StopIteration as stop:
        keep.append(stop.value)
    except WandaError as error:
        yield texts.problem(str(error))
    finally:
        steps.close()
