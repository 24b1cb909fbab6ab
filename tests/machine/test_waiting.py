"""Waiting for a lock that others hold, and for calls: whoever leaves meanwhile waits no longer, and nobody for ever."""

import contextvars
import threading
import time
from itertools import count
from types import SimpleNamespace

import pytest

from wanda_core.machine import threads, waiting
from wanda_core.machine.waiting import NoAnswerError, call_apart, turn_at
from wanda_core.progress import GivenUpError, end_when


def within(lock, leaves):
    """Return what ended the wait for a lock. leaves: tells when nobody waits any more."""
    end_when(leaves)
    try:
        with turn_at(lock):
            return "held"
    except GivenUpError:
        return "left"


@pytest.mark.parametrize("kind", [threading.Lock, threading.RLock])
def test_who_leaves_waits_no_longer_and_who_stays_has_it_in_turn(kind):
    lock, left, holds, said = kind(), threading.Event(), threading.Event(), {}
    done = threading.Event()

    def hold():
        with turn_at(lock):
            holds.set()
            done.wait(20)

    holder = threading.Thread(target=hold)
    holder.start()
    holds.wait(20)
    waiting = {
        name: threading.Thread(
            target=lambda name=name, leaves=leaves: said.update(
                {name: contextvars.copy_context().run(within, lock, leaves)}
            )
        )
        for name, leaves in (("leaver", left.is_set), ("other", bool))
    }
    for one in waiting.values():
        one.start()
    left.set()
    waiting["leaver"].join(5)
    assert said == {"leaver": "left"}, "the lock is held all along"
    done.set()
    for one in (holder, waiting["other"]):
        one.join(5)
    assert said["other"] == "held"
    assert lock.acquire(timeout=1), "nobody keeps it"


def test_it_is_let_go_of_whatever_ends_what_is_done_within():
    lock = threading.Lock()
    with pytest.raises(ZeroDivisionError), turn_at(lock):
        1 / 0  # noqa: B018
    assert lock.acquire(timeout=1)


# Threads and calls

BEGINS = "_start_joinable_thread" if hasattr(threading, "_start_joinable_thread") else "_start_new_thread"


@pytest.mark.parametrize(
    "kind", [lambda target: threading.Thread(target=target), lambda target: threading.Timer(0, target)]
)
def test_a_thread_that_memory_runs_out_in_before_it_begins_is_waited_for_no_longer(monkeypatch, kind):
    monkeypatch.setattr(threads, "LOOKS", 2)
    with monkeypatch.context() as without_memory:
        without_memory.setattr(threading, BEGINS, lambda *given, **more: None)
        for begin in (lambda: threads.start(kind(print)), lambda: call_apart(lambda: 1, lambda: None)):
            with pytest.raises(MemoryError, match="a thread could not begin"):
                begin()
        threading._limbo.clear()
    done = threading.Event()
    threads.start(kind(done.set))
    assert done.wait(5)
    assert call_apart(lambda: 1, lambda: None) == 1


def test_what_keeps_the_waiting_thread_from_looking_does_not_count(monkeypatch):
    assert call_apart(lambda: sum(range(10**8)), lambda: None, 1.0) == 10**8 * (10**8 - 1) // 2  # it has Python's lock
    held_up = count(0, 100)  # seconds from each look to the next, by the clock
    monkeypatch.setattr(waiting, "time", SimpleNamespace(monotonic=lambda: next(held_up)))
    assert call_apart(lambda: time.sleep(0.3) or "said", lambda: None, 1.0) == "said"
    with pytest.raises(NoAnswerError, match="within 1 s"):
        call_apart(lambda: time.sleep(3), lambda: None, 1.0)


def test_every_thread_of_a_server_is_started_so(monkeypatch):
    monkeypatch.setattr(threading.Thread, "start", threading.Thread.start)  # to be put back
    monkeypatch.setattr(threads, "LOOKS", 2)
    threads.bound_starts()
    with monkeypatch.context() as without_memory:
        without_memory.setattr(threading, BEGINS, lambda *given, **more: None)
        with pytest.raises(MemoryError, match="a thread could not begin"):
            threading.Thread(target=print).start()
        threading._limbo.clear()
    done = threading.Event()
    thread = threading.Thread(target=done.set)
    thread.start()
    thread.join()
    assert done.is_set()
    with pytest.raises(RuntimeError, match="once"):
        thread.start()
