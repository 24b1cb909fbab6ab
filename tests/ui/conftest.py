"""What tests of the page share: the view's events without a page, and, over HTTP, a server whose log is kept."""

import shutil

import pytest
from engine_room import server, serving, without_other_models
from raw_requests import Raw, kept_log
from take_away import RECIPE
from view_alone import whole_view
from view_events import WINDOW, Held, until, view_over

from wanda_core.model import builtin
from wanda_core.model.loading import load_model
from wanda_core.progress import finish
from wanda_ui import app_state
from wanda_ui.app_state import AppState
from wanda_ui.engine import look as looks
from wanda_ui.engine import work
from wanda_ui.engine.loaded import Loaded
from wanda_ui.engine.look import Wanted
from wanda_ui.engine.looked import only_progress
from wanda_ui.settings import Settings

UPLOAD_BYTES = 300_000
FEW_WINDOWS = 2  # of perplexity: what most tests in a browser ask needs no more
SHORT_WINDOW = 64
FEW_TOKENS = 12  # of an answer


@pytest.fixture(scope="module")
def few_windows():
    """Perplexities of two short windows instead of four, and short answers."""
    generate = looks.generate

    def briefly(lm, prompt, *, max_new_tokens, **settings):
        return generate(lm, prompt, max_new_tokens=min(max_new_tokens, FEW_TOKENS), **settings)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(looks, "generate", briefly)
        patch.setattr(work, "EVAL_WINDOWS", FEW_WINDOWS)
        patch.setattr(work, "EVAL_SEQ_LEN", SHORT_WINDOW)
        yield


@pytest.fixture(scope="module")
def three_blocks(builtin_head, tmp_path_factory):
    """A server whose built-in model has three blocks of thirty: what is asked of the page needs no more, and waits."""
    kept = tmp_path_factory.mktemp("kept") / "analysis.safetensors"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(app_state, "load_located", lambda located, **more: builtin_head)
        patch.setattr(builtin, "analysis_file", lambda: kept)
        yield


@pytest.fixture
def view(tiny_llama, monkeypatch):
    """The view's events, over a server of its own whose one model is tiny and was not read yet."""
    monkeypatch.setattr(work, "EVAL_SEQ_LEN", WINDOW)
    state = server(tiny_llama)
    yield view_over(state)
    assert state.engine.settle()


@pytest.fixture
def held(monkeypatch):
    """All prunings of the view, which a test can hold up."""
    held = Held(looks._prune)
    monkeypatch.setattr(looks, "_prune", held)
    return held


@pytest.fixture(scope="module")
def server_log():
    """What the server logged so far."""
    with kept_log() as read:
        yield read


@pytest.fixture(scope="module")
def tiny_state(tiny_llama):
    """A state whose built-in model is tiny and analysed; there is no other model."""

    with without_other_models():
        state = AppState(Settings(upload_bytes=UPLOAD_BYTES))
        state.models["builtin"] = Loaded(tiny_llama, "builtin")
        finish(state.open_steps("builtin"))
        yield state


@pytest.fixture(scope="module")
def served(tiny_state, server_log, tmp_path_factory):
    """-> (the page, its address)"""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(tmp_path_factory.mktemp("uploads")))
        with serving(tiny_state) as page_and_address:
            yield page_and_address


@pytest.fixture
def raw(served, server_log, capfd):
    """A client; whatever it does, the server writes no traceback and no fault meanwhile."""
    client, before = Raw(served[1]), len(server_log())
    yield client
    client.close()
    written = server_log()[before:] + "".join(capfd.readouterr())
    assert "Traceback" not in written, written[-3000:]
    assert "failed:" not in written, written[-3000:]


@pytest.fixture(scope="module")
def model(dense):
    """A tiny model that was read from its folder."""
    return load_model(dense, device="cpu")


@pytest.fixture(scope="module")
def pruned_state(model):
    """A server's state with that model, of which one variant is made."""
    state = AppState()
    state.models["tiny"] = Loaded(model, "tiny")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(work, "EVAL_SEQ_LEN", WINDOW)
        patch.setattr(AppState, "normal", lambda self, name: name)  # "tiny" is no hub id
        finish(state.prune_steps("tiny", RECIPE))
        yield state


@pytest.fixture(scope="module")
def taken(pruned_state, server_log, tmp_path_factory):
    """-> (that state, its page, its address)"""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(tmp_path_factory.mktemp("uploads")))
        with serving(pruned_state) as (page, address):
            yield pruned_state, page, address


@pytest.fixture
def web(taken, server_log, capfd):
    """A client of it; whatever it does, the server writes no traceback meanwhile, and nothing is left under way."""
    state, _, address = taken
    client, before = Raw(address), len(server_log())
    yield client
    client.close()
    until(lambda: not any(ticket.readers for ticket in state.tickets._tickets.values()), 10)
    state.tickets._tickets.clear()
    state.models["tiny"].claims = 0
    written = server_log()[before:] + "".join(capfd.readouterr())
    assert "Traceback" not in written, written[-3000:]


@pytest.fixture
def other(taken, dense, tmp_path):
    """-> function that adds a model to that server, with a variant. change: of the folder, before it is loaded"""
    state, added = taken[0], []

    def add(name, change=lambda folder: None, lm=None):
        folder = shutil.copytree(dense, tmp_path / name)
        change(folder)
        state.models[name] = Loaded(lm or load_model(str(folder), device="cpu"), name)
        added.append(name)
        finish(only_progress(state.look_steps(name, RECIPE, None, Wanted(False, False))))
        return folder

    yield add
    for name in added:
        del state.models[name]


@pytest.fixture
def whole(browser):
    """The view in a browser without a server; no script of it fails."""
    view = whole_view(browser)
    yield view
    view.close()
    assert view.complaints == []
