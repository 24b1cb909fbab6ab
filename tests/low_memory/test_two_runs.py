"""One run at a time works in the folder of what is unfinished, whoever's processes can be seen."""

import multiprocessing
import os
import signal

import pytest

from wanda_core.errors import StorageError
from wanda_core.low_memory.resume import MARK, STATE, open_run
from wanda_core.machine.lock import hold, is_at

FORK = multiprocessing.get_context("fork") if hasattr(os, "fork") else multiprocessing.get_context()
PAIRS = 10
TAKEN = "another process is writing .* already; wait until it ends or choose another folder"


def test_a_second_run_is_refused_and_the_first_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr("psutil.pid_exists", lambda pid: False)  # as in a container of its own
    target = tmp_path / "out"
    with open_run(target, {"recipe": 1}) as run:
        for _ in range(2):
            with pytest.raises(StorageError, match=TAKEN), open_run(target, {"recipe": 2}):
                pytest.fail("both work in one folder")
        run.commit(1)
        assert (run.folder / STATE).is_file()
    with open_run(target, {"recipe": 2}):
        pass
    assert [*tmp_path.iterdir()] == []


def _killed(target):
    with open_run(target, {"recipe": 1}) as run:
        run.commit(1)
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_what_a_killed_run_held_is_free(tmp_path):
    process = FORK.Process(target=_killed, args=(tmp_path / "out",))
    process.start()
    process.join()
    with open_run(tmp_path / "out", {"recipe": 1}) as run:
        assert run.done == 1


def _both(target, barrier, inside, most):
    barrier.wait()
    try:
        with open_run(target, {"recipe": os.getpid()}):
            with inside.get_lock():
                inside.value += 1
                most.value = max(most.value, inside.value)
            barrier.wait()  # for both: the one that is refused says so below
            with inside.get_lock():
                inside.value -= 1
    except StorageError:
        barrier.wait()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_of_two_that_begin_at_once_one_is_refused(tmp_path):
    for number in range(PAIRS):
        barrier, inside, most = FORK.Barrier(2, timeout=20), FORK.Value("i", 0), FORK.Value("i", 0)
        target = tmp_path / f"out{number}"
        pair = [FORK.Process(target=_both, args=(target, barrier, inside, most)) for _ in range(2)]
        for process in pair:
            process.start()
        for process in pair:
            process.join()
        assert [process.exitcode for process in pair] == [0, 0]
        assert most.value == 1
    assert [*tmp_path.iterdir()] == []


def test_a_lock_is_of_the_file_that_has_the_name_now(tmp_path):
    path = tmp_path / MARK
    path.touch()
    lock = hold(path)
    assert hold(path) is None
    assert is_at(lock, path)
    path.unlink()
    assert not is_at(lock, path)
    path.touch()
    assert not is_at(lock, path)
    os.close(lock)
