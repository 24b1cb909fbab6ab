"""A training's state in a file: what a killed process left of one goes, and what is none is told."""

import json
import os
import signal

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from wanda_core.errors import InputError
from wanda_core.training import state
from wanda_core.training.state import discard_state, read_state, save_state

ABOUT = {"settings": 1}


def tensors(value=1.0):
    return [("a", torch.full((3,), value))]


@pytest.fixture
def killed(tmp_path, monkeypatch):
    """Leave what a process leaves that is killed while it writes a state. killed() -> the state's path."""

    def killed_while_writing():
        path, child = tmp_path / ".out.training", os.fork()
        if not child:
            monkeypatch.setattr(state, "save_file", lambda held, part, metadata: os.kill(os.getpid(), signal.SIGKILL))
            save_state(path, ABOUT, {"done": 2}, tensors(2.0))
        os.waitpid(child, 0)
        assert any(path.name != ".out.training" for path in tmp_path.iterdir())
        return path

    return killed_while_writing


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("then", ["save", "read", "discard"])
def test_what_a_killed_process_left_goes_with_the_next_use(tmp_path, killed, then):
    path = tmp_path / ".out.training"
    save_state(path, ABOUT, {"done": 1}, tensors())
    killed()
    if then == "save":
        save_state(path, ABOUT, {"done": 3}, tensors())
    elif then == "read":
        assert read_state(path, ABOUT)[0] == {"done": 1}
    else:
        discard_state(path)
    assert list(tmp_path.iterdir()) == ([] if then == "discard" else [path])


def test_a_pipe_and_a_device_are_no_states(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    for name in ("pipe", "zero"):
        with pytest.raises(InputError, match="is no whole state of a training"):
            read_state(tmp_path / name, ABOUT)


CHANGES = [{"about": 7}, {"about": {}}, {"progress": {"done": 2}}, {"progress": None}, {"sha256": 1}, {"sha256": None}]


@pytest.mark.parametrize("change", CHANGES)
def test_what_a_state_tells_is_as_it_was_written_or_is_told(tmp_path, change):
    save_state(tmp_path / "state", ABOUT, {"done": 1}, tensors())
    with safe_open(tmp_path / "state", "pt") as file:
        held, told = {"a": file.get_tensor("a")}, json.loads(file.metadata()[state.KEY])
    save_file(held, tmp_path / "state", {state.KEY: json.dumps(told | change)})
    with pytest.raises(InputError, match="is no whole state of a training"):
        read_state(tmp_path / "state", ABOUT)
