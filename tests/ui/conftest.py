"""What tests of the page share: the view's events without a page, and, over HTTP, a server whose log is kept."""

import pytest
from engine_room import server, serving
from raw_requests import Raw, kept_log
from view_events import WINDOW, Held, built_page, view_of

from wanda_core.errors import ModelError
from wanda_core.model import builtin
from wanda_core.progress import finish
from wanda_ui import app_state
from wanda_ui.app_state import AppState
from wanda_ui.engine import look as looks
from wanda_ui.engine import work
from wanda_ui.engine.loaded import Loaded
from wanda_ui.settings import Settings

UPLOAD_BYTES = 300_000
FEW_WINDOWS = 2  # of perplexity: what most tests in a browser ask needs no more
SHORT_WINDOW = 128


@pytest.fixture(scope="module")
def few_windows():
    """Perplexities of two short windows instead of four."""
    with pytest.MonkeyPatch.context() as patch:
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
    yield view_of(built_page(state))
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

    def nothing(name, **_):
        raise ModelError(f"{str(name)[:40]!r} is not here; choose another")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(app_state, "locate", nothing)
        patch.setattr(work, "EVAL_SEQ_LEN", WINDOW)
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
