"""What takes too long is ended in its own thread, in one sentence, wherever it is struck, and so is its clock."""

import contextlib
import io
import json
import random
import sys
import threading
import time

import pytest
from tqdm import tqdm

from wanda_core.errors import ModelError
from wanda_core.model import watched
from wanda_core.model.any_fault import any_fault_worded
from wanda_core.model.watched import ended_after
from wanda_core.progress import GivenUpError, end_when


def loops():
    while True:
        try:
            sum(range(1000))
        except Exception:
            pytest.fail("stopped on its way")


def test_what_takes_too_long_is_ended_in_its_thread(monkeypatch):
    monkeypatch.setattr(watched, "SECONDS", 0.2)
    monkeypatch.setattr(watched, "WAITS", 2)
    with pytest.raises(ModelError, match="take more than 0 s to build"), watched.watched("owner/model"):
        loops()
    with watched.watched("owner/model"):
        pass
    time.sleep(0.3)  # a thread that has left is not disturbed
    with pytest.raises(ModelError, match="take more than 0 s to build"), watched.watched("owner/model"):
        time.sleep(0.5)  # one call, after which it comes


@pytest.mark.skipif(not hasattr(time, "pthread_getcpuclockid"), reason="nobody can know what a thread has taken")
def test_on_a_busy_machine_a_model_is_not_refused_sooner(monkeypatch):
    monkeypatch.setattr(watched, "SECONDS", 0.2)
    with watched.watched("owner/model"):
        time.sleep(0.5)  # as a thread that waits for a core
    with pytest.raises(ModelError, match="to build from"), watched.watched("owner/model"):
        time.sleep(watched.WAITS * 0.2 + 0.1)  # for ever
    with pytest.raises(ModelError, match="too long"), watched.ended_after(0.2, "too long"):
        time.sleep(0.3)  # what others wait for by the clock


def test_a_bar_of_progress_is_not_left_with_its_lock_taken():
    """tqdm takes it, writes, and lets go of it without a `finally`."""

    class Slow(io.StringIO):
        def write(self, text):
            time.sleep(0.002)
            return super().write(text)

    def bars():
        while True:
            for _ in tqdm(range(20), file=Slow(), mininterval=0, miniters=1):
                time.sleep(0.001)  # reads a tensor

    for number in range(20):
        with pytest.raises(ModelError, match="too long"), ended_after(0.001 + 0.0005 * number, "too long"):
            bars()
    other = threading.Thread(target=lambda: list(tqdm(range(2), file=io.StringIO())), daemon=True)
    other.start()
    other.join(10)
    assert not other.is_alive()


@pytest.mark.parametrize("before", [True, False])
def test_what_nobody_waits_for_any_more_is_ended_as_soon(before):
    gone, said = threading.Event(), []

    def job():
        end_when(gone.is_set)
        begun = time.monotonic()
        try:
            with watched.watched("owner/model"):
                loops()
        except GivenUpError:
            said.append(time.monotonic() - begun)

    if before:
        gone.set()
    thread = threading.Thread(target=job)
    thread.start()
    time.sleep(0.3)
    gone.set()
    thread.join(20)
    assert said
    assert said[0] < 0.3 * (not before) + 1.5


def test_an_error_of_what_is_watched_stays_what_it_is(monkeypatch):
    monkeypatch.setattr(watched, "SECONDS", 0.2)
    with pytest.raises(KeyError), watched.watched("owner/model"):
        raise KeyError


def test_it_is_ended_wherever_it_is_struck_and_no_clock_goes_on(monkeypatch):
    monkeypatch.setattr(watched, "AGAIN", 1e-4)
    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)  # a destructor may be struck too, and pytest's own hook
    draw, ends, before = random.Random(0), set(), sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for _ in range(150):
            text = "[" + "[]," * draw.randrange(1, 10_000) + "[]]"
            try:
                with watched.ended_after(draw.random() * 0.003, "too long"):
                    made = []
                    try:
                        made += [[number] for number in range(len(text) // 3)]
                        made += json.loads(text)
                    finally:
                        made.clear()
                ends.add("served")
            except ModelError as error:
                ends.add(str(error))
            assert sum(range(1000))  # another's work, in the same thread
    finally:
        sys.setswitchinterval(before)
    assert ends == {"served", "too long"}
    begun = time.monotonic()
    while "wanda-watch" in {thread.name for thread in threading.enumerate()}:  # the last one ends by itself
        assert time.monotonic() - begun < 10
        time.sleep(0.01)


def clocks_within_each_other():
    with watched.ended_after(0.05, "the outer"):
        with watched.ended_after(9, "the inner"):
            loops()
        pytest.fail("the inner has taken it for its own")


def test_a_clock_within_another_leaves_its_refusal_alone():
    with pytest.raises(ModelError, match="the outer"):
        clocks_within_each_other()


def test_what_comes_where_nobody_catches_it_is_worded_too():
    clock = watched.ended_after(0.01, "too long")
    clock.__enter__()
    with pytest.raises(ModelError, match="too long"), any_fault_worded("owner/model"):
        loops()
    assert "wanda-watch" not in {thread.name for thread in threading.enumerate()}


@pytest.mark.parametrize("most", [60.0, 0.0])
def test_nothing_of_a_clock_is_looked_for_once_it_is_left(most):
    """Python would not get beyond the first line of what a debugger follows."""

    def follow():
        sys.settrace(lambda *_: None)
        str.upper("a")
        (lambda: None)()
        sys.settrace(None)

    with contextlib.suppress(ModelError), ended_after(most, "too long"):
        time.sleep(0.02)
    following = threading.Thread(target=follow, daemon=True)
    following.start()
    following.join(10)
    assert not following.is_alive()
