"""Cancel: which jobs it ends, and what they say last."""

from types import SimpleNamespace

import pytest

from wanda_core.errors import InputError
from wanda_core.progress import Progress
from wanda_ui.jobs import Cancel, watched
from wanda_ui.language import ENGLISH


def visitor(name):
    return SimpleNamespace(session_hash=name)


def test_it_ends_the_jobs_of_its_visitor_that_had_begun_and_no_other():
    cancel = Cancel()
    before, others = (cancel.since(visitor(name), lambda: "cancelled") for name in ("a", "b"))
    assert before() is None
    cancel.press(visitor("a"))
    after = cancel.since(visitor("a"), lambda: "cancelled")
    assert (before(), others(), after()) == ("cancelled", None, None)
    cancel.press(visitor("a"))
    assert after() == "cancelled"


def test_only_the_latest_visitors_are_remembered(monkeypatch):
    monkeypatch.setattr(Cancel, "MOST_VISITORS", 2)
    cancel = Cancel()
    stops = {name: cancel.since(visitor(name), lambda: "cancelled") for name in "abc"}
    for name in "aabc":
        cancel.press(visitor(name))
    assert {name: stop() for name, stop in stops.items()} == {"a": None, "b": "cancelled", "c": "cancelled"}


def job(ended, fails=False):
    try:
        for done in range(3):
            yield Progress("pruning", done, 3, "blocks")
        if fails:
            raise InputError("three is too many; count to two")
        return "counted"
    finally:
        ended.append(True)


def test_a_cancelled_job_is_closed_and_its_last_word_comes_last():
    ended, kept, answers = [], [], iter([None, "cancelled"])
    shown = list(watched(job(ended), kept, ENGLISH, lambda: next(answers)))
    assert len(shown) == 2
    assert "wl-progress" in shown[0]
    assert shown[1] == "cancelled"
    assert (ended, kept) == ([True], [])


@pytest.mark.parametrize("stop", [None, lambda: None])
def test_a_job_that_nobody_cancels_leaves_its_result_or_its_mistake(stop):
    ended, kept = [], []
    list(watched(job(ended), kept, ENGLISH, stop))
    assert kept == ["counted"]
    *_, last = watched(job(ended, fails=True), kept, ENGLISH, stop)
    assert "count to two" in last
    assert (ended, kept) == ([True, True], ["counted"])
