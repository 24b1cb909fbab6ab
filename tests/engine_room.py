"""What tests of the server's state share: a server over one model, and what is asked of it."""

from wanda_core.progress import finish
from wanda_core.recipe import PruneSpec
from wanda_ui.app_state import AppState
from wanda_ui.engine.loaded import Loaded

DRAW = {"text": None, "source": None, "samples": 2, "seq_len": 64, "seed": 0}
ANSWER = {"max_new_tokens": 6, "temperature": 0.0, "seed": 0, "chat": False}
CHANGED = PruneSpec("wanda", 0.5, update="least-squares")


def server(lm, settings=None):
    state = AppState(settings)
    state.models[lm.name] = Loaded(lm)
    return state


def pruned(state, **spec):
    return finish(state.prune_steps(next(iter(state.models)), PruneSpec(**spec), DRAW))


def spoken(steps):
    """-> all that was yielded, and the result."""
    said = []
    try:
        while True:
            said.append(next(steps))
    except StopIteration as stop:
        return said, stop.value
