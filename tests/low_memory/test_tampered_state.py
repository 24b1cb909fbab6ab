"""What somebody has changed in the state of an unfinished run: the next one begins afresh, whatever stands there."""

import contextlib
import json

import pytest

from wanda_core.errors import StorageError
from wanda_core.low_memory.resume import STATE, open_run

ABOUT = {"recipe": {"sparsity": 0.5}}


@pytest.fixture
def left(tmp_path):
    """The target and the state of a run that was cut off after its first block."""
    target = tmp_path / "out"
    folder = cut_off(target, lambda run: run.commit(1))
    notes = []
    assert cut_off(target, lambda run: notes.append(run.note)) == folder
    assert notes == ["going on after block 1, the last that an earlier run finished"]
    return target, folder / STATE


def cut_off(target, work):
    """Begin a run that the disk ends. -> its folder"""
    with contextlib.suppress(StorageError), open_run(target, ABOUT) as run:
        work(run)
        raise StorageError("the disk became full")
    return run.folder


@pytest.mark.parametrize(
    "changes",
    [
        {"about": "x"},
        {"about": []},
        {"shards": []},
        {"shards": {"a": 5}},
        {"streams": {"prune": []}},
        {"others": None},
        {"reports": [5]},
        {"seconds": "x"},
        {"seconds": -1},
        {"done": "x"},
        {"done": -1},
        {"done": 10**400},
        {"done": True},
        {"last": 5},
        {"more": 5},
        {"done": 2},
        {"seconds": 1e9},
        {"tried": {"a": 5}},
        {"noted": {"a": []}},
        {"sha256": None},
    ],
)
def test_a_value_of_another_kind(left, changes):
    target, state = left
    state.write_text(json.dumps(json.loads(state.read_text()) | changes))
    with open_run(target, ABOUT) as run:
        assert run.done == 0
        assert "so this one begins afresh" in run.note


@pytest.mark.parametrize("text", ['{"a": ' * 100_000, '{"done": ' + "1" * 5000 + "}", "{}", "{"])
def test_what_is_no_state_at_all(left, text):
    target, state = left
    state.write_text(text)
    with open_run(target, ABOUT) as run:
        assert "so this one begins afresh" in run.note
