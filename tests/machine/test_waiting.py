"""Waiting for a lock that others hold: whoever leaves meanwhile waits no longer."""

import contextvars
import threading

import pytest

from wanda_core.machine.waiting import turn_at
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
