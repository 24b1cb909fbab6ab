"""What tests of the server's state share: a server over one model, what is asked of it, and its page on loopback."""

import asyncio
import socket
from contextlib import contextmanager

import pytest
from view_events import WINDOW

from wanda_core.errors import ModelError
from wanda_core.progress import finish
from wanda_core.recipe import PruneSpec
from wanda_ui.app_state import AppState
from wanda_ui.engine import fetching, work
from wanda_ui.engine.loaded import Loaded
from wanda_ui.engine.recipe import Asked, Reading, Recipe
from wanda_ui.page import build, launch_settings

READING = Reading(samples=2, seq_len=64)
ASKED = Asked("The sky is", max_new_tokens=6, chat=False)
CHANGED = Recipe(PruneSpec("wanda", 0.5, update="least-squares"), READING)


@contextmanager
def without_other_models():
    """There is no model but those that a server holds already, and perplexity reads short windows. -> to patch more"""

    def nothing(name, **_):
        raise ModelError(f"{str(name)[:40]!r} is not here; choose another")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fetching, "locate", nothing)
        patch.setattr(work, "EVAL_SEQ_LEN", WINDOW)
        yield patch


def server(lm, settings=None):
    state = AppState(settings)
    state.models[lm.name] = Loaded(lm)
    return state


def recipe(**spec):
    """-> a recipe on two short windows."""
    return Recipe(PruneSpec(**spec), READING)


def pruned(state, **spec):
    return finish(state.prune_steps(next(iter(state.models)), recipe(**spec)))


def looked(state, wanted=None, asked=ASKED):
    """Look at the server's model, or at a variant of it. -> all that was yielded, and the whole look."""
    return spoken(state.look_steps(next(iter(state.models)), wanted, asked))


def spoken(steps):
    """-> all that was yielded, and the result."""
    said = []
    try:
        while True:
            said.append(next(steps))
    except StopIteration as stop:
        return said, stop.value


def stages(said):
    """-> the stages of the progress in what was yielded."""
    return {step.stage for step in said if hasattr(step, "stage")}


@contextmanager
def serving(state):
    """Serve the page over a state. -> (the page, its address)"""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]

    async def launched():
        """Gradio would make event loops of its own where none runs, and leave them open."""
        page = build(state)
        where = {"server_name": "127.0.0.1", "server_port": port}
        page.launch(prevent_thread_lock=True, quiet=True, **where, **launch_settings(state.settings))
        return page

    page = asyncio.run(launched())
    try:
        yield page, f"http://127.0.0.1:{port}"
    finally:
        page.close()
