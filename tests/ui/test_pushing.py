"""Pushing from the page, and opening a gated model with a token that is typed: to and from a hub on loopback."""

import shutil
import tempfile
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
from fake_hub import MODEL, NEW, Hub, point_at, serving
from fake_room import OWNER, TOKEN, Repository, Room
from huggingface_hub import constants
from take_away import SENT
from view_events import Visit, built_page, event, until, view_of, visitor

from wanda_core.checkpoint.contents import Contents
from wanda_core.errors import shortened_path
from wanda_ui.settings import PUBLIC

# The hub's library sends files by an argument that its HTTP client deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

REPO = f"{OWNER}/tiny"
DATA = {"run": 3, "model": "tiny", "recipe": SENT, "dtype": None, "repository": REPO, "private": True, "token": TOKEN}


@pytest.fixture
def hub(monkeypatch, tmp_path, dense):
    """A hub that has a model, and takes what the token may write; no token is known on this machine."""
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    for name in ("HF_HUB_CACHE", "HF_TOKEN_PATH", "HF_STORED_TOKENS_PATH"):
        monkeypatch.setattr(constants, name, str(tmp_path / name))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    room, folder = Room(), shutil.copytree(dense, tmp_path / "commit")
    with serving(Hub({NEW: folder}, {"main": NEW}, room=room)) as server:
        room.address = server.address
        point_at(monkeypatch, server.address)
        yield server
    assert not list(tmp_path.glob("wanda-push-*"))


@pytest.fixture(scope="module")
def built(pruned_state):
    """A page over a server with a tiny model, of which one variant is made."""
    return built_page(pruned_state)


@pytest.fixture
def view(built, monkeypatch, caplog, capfd):
    """The component and the events of that page. state: of the server; settings: of the page, which a test may set"""
    monkeypatch.setattr(built, "settings", built.settings)
    looks = view_of(built)
    pushing = next(event.fn.__wrapped__.__self__ for event in built.fns.values() if event.name == "push")
    state = looks.context.state
    yield SimpleNamespace(view=looks.view, open=looks.open, pushing=pushing, state=state, page=built)
    assert state.engine.settle()
    assert state.models["tiny"].claims == 0
    written = caplog.text + "".join(capfd.readouterr())
    assert not [token for token in (TOKEN, "hf_wrong", "hf_right") if token in written]


def pushed(view, who="visitor", language="en", **changes):
    """Push to the end. -> the messages, none of which holds the token"""
    data = {name: value for name, value in {**DATA, **changes}.items() if value is not ...}
    visit = Visit(view, view.pushing.push(visitor(who, language), event_of(data)), "pushed")
    visit.ends()
    assert TOKEN not in str(visit.messages)
    return visit.messages


def event_of(data):
    made = event()
    made._data = data
    return made


def test_a_variant_arrives_as_it_would_be_saved_and_nothing_of_it_stays(view, hub):
    *on_the_way, last = pushed(view)
    repository = hub.room.repositories[REPO]
    assert repository.private
    assert {"model.safetensors", "wanda.json", "README.md", "config.json"} <= repository.files.keys()
    assert last == {
        "run": 3,
        "progress": None,
        "ended": True,
        "url": f"{hub.address}/{REPO}",
        "private": True,
        "done": f"Pushed to {REPO}, for you alone to see.",
    }
    assert on_the_way
    percents = [message["progress"]["percent"] for message in on_the_way]
    assert all(not message["ended"] for message in on_the_way)
    assert 0 <= min(percents) <= max(percents) <= 100


def test_in_another_format_and_for_everybody(view, hub):
    last = pushed(view, private=False, dtype="bfloat16")[-1]
    assert (last["private"], last["done"]) == (False, f"Pushed to {REPO}, for everybody to see.")
    assert b'"dtype": "bfloat16"' in hub.room.repositories[REPO].files["config.json"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"run": "x"}, "is not a whole number"),
        ({"model": "other"}, "The model is not in memory yet"),
        ({"recipe": {**SENT, "at": 70}}, "This variant is not made yet; press Prune first"),
        ({"recipe": None}, "is not what the page sends"),
        ({"dtype": "int4"}, "dtype 'int4' is not offered; choose one of"),
        ({"repository": "tiny"}, "give it as owner/name"),
        ({"repository": ...}, "give it as owner/name"),
        ({"private": "no"}, "is neither true nor false"),
        ({"private": ...}, "is neither true nor false"),
        ({"token": 7}, "was given as a token of the hub is none"),
        ({"token": ""}, "there is no token of the hub on this machine"),
        ({"token": "hf_wrong"}, "the hub does not accept the token"),
        ({"repository": "other/x"}, "may not write there"),
    ],
    ids=range(13),
)
def test_what_cannot_be_pushed_is_said_in_a_sentence(view, hub, changes, said):
    last = pushed(view, **changes)[-1]
    assert last["ended"]
    assert said in last["problem"]
    assert not hub.room.repositories


def test_what_lies_there_already_stays(view, hub):
    hub.room.repositories[REPO] = Repository(True, {"thesis.txt": b"mine"})
    assert "which no earlier push wrote" in pushed(view)[-1]["problem"]
    assert hub.room.repositories[REPO].files == {"thesis.txt": b"mine"}


def test_a_public_server_pushes_nothing(view, hub):
    view.page.settings = PUBLIC
    assert "is public and hands out no checkpoints" in pushed(view)[-1]["problem"]
    assert pushed(view, language="ko")[-1]["problem"].startswith("공개 서버에서는")
    assert hub.asked == []


def test_cancel_ends_it_and_nothing_is_to_be_seen(view, hub):
    hub.slow, hub.pause = "PUT", 0.2
    visit = Visit(view, view.pushing.push(visitor(), event_of(DATA)), "pushed")
    until(lambda: any("uploading" in message["progress"]["words"] for message in visit.messages if message["progress"]))
    view.pushing.cancel.press(visitor())
    said = f"Cancelled; {REPO} on the hub is as it was, or new and empty, unless the last byte had gone already."
    assert visit.ends(5) == {"run": 3, "progress": None, "ended": True, "done": said}
    hub.slow = None
    until(lambda: not any(thread.name == "apart" for thread in threading.enumerate()), 10)
    assert hub.room.repositories[REPO].commits == ["initial commit"]


def test_a_full_disk_is_said(view, hub, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 10}))
    assert "GB are free in" in pushed(view)[-1]["problem"]


def test_a_folder_for_temporary_files_that_has_gone_is_said_and_the_next_push_goes(view, hub, monkeypatch, tmp_path):
    with monkeypatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
        assert pushed(view)[-1]["problem"] == (
            f"the checkpoint could not be written to {shortened_path(tmp_path / 'gone')}, where it lies for a moment "
            "(No such file or directory); free some space there, or set TMPDIR to another folder and start again"
        )
        assert "체크포인트를 잠시 두는 폴더인데" in pushed(view, language="ko")[-1]["problem"]
    assert pushed(view)[-1]["url"]


def test_a_disk_that_becomes_full_as_it_is_saved_is_said(view, hub, monkeypatch):
    def full(self, folder):
        yield 1
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Contents, "write", full)
    last = pushed(view)[-1]
    assert "for a moment (No space left on device); free some space there" in last["problem"]
    assert last["ended"]
    assert not hub.room.repositories


# Gated models


def opened(view, **data):
    visit = Visit(view, view.open(visitor(), event_of({"model": MODEL, **data})), "opened")
    visit.ends()
    assert "hf_right" not in str(visit.messages)
    return visit.messages[-1]


def test_a_gated_model_opens_with_a_token_that_is_typed_and_kept_nowhere(view, hub):
    hub.gated = "hf_right"
    last = opened(view)
    page = f"https://huggingface.co/{MODEL}"
    assert f"accept its licence at {page}" in last["problem"]
    assert last["gated"] == page
    assert "does not let this token in" in opened(view, token="hf_wrong")["problem"]
    assert opened(view, token="hf_right")["ready"]
    assert not Path(constants.HF_TOKEN_PATH).exists()
    assert not view.state._fetching._fetches
    del view.state.models[MODEL]


def test_a_token_that_is_none_is_said_before_anything_is_asked(view, hub):
    for token in (7, "hf_ x", ["hf_x"]):
        assert "was given as a token of the hub is none" in opened(view, token=token)["problem"]
    assert hub.asked == []


def test_a_public_server_takes_no_token_and_offers_no_place_for_one(view, hub):
    view.page.settings = PUBLIC
    hub.gated = "hf_right"
    assert "a public server takes nobody's token" in opened(view, token="hf_right")["problem"]
    assert hub.asked == []
    assert opened(view)["gated"] is None
