"""Cancel: which jobs it ends, and what they say last."""

from functools import partial
from types import SimpleNamespace

import pytest

from wanda_core.errors import InputError
from wanda_core.progress import Progress
from wanda_ui.faults import unexpected
from wanda_ui.jobs import Cancel, watched
from wanda_ui.language import ENGLISH, LANGUAGES, say


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


def job(ended, fails: Exception | None = None):
    try:
        for done in range(3):
            yield Progress("pruning", done, 3, "blocks")
        if fails is not None:
            raise fails
        return "counted"
    finally:
        ended.append(True)


def watch(steps, stop):
    """-> everything that was shown in a line, and the result."""
    shown, updates = [], watched(steps, lambda html: {"line": html}, ENGLISH, stop)
    try:
        while True:
            update = next(updates)
            assert list(update) == ["line"]
            shown.append(update["line"])
    except StopIteration as finished:
        return shown, finished.value


def test_a_cancelled_job_is_closed_and_its_last_word_comes_last():
    ended, answers = [], iter([None, "cancelled"])
    shown, result = watch(job(ended), lambda: next(answers))
    assert len(shown) == 2
    assert "wl-progress" in shown[0]
    assert shown[1] == "cancelled"
    assert (ended, result) == ([True], None)


@pytest.mark.parametrize("stop", [None, lambda: None])
def test_a_job_that_nobody_cancels_leaves_its_result_or_its_mistake(stop):
    ended = []
    shown, result = watch(job(ended), stop)
    assert result == "counted"
    assert all("wl-progress" in html for html in shown)
    (*_, last), result = watch(job(ended, InputError("three is too many; count to two")), stop)
    assert "count to two" in last
    assert (ended, result) == ([True, True], None)


def test_what_nobody_foresaw_is_a_sentence_on_the_page_and_a_traceback_in_the_log(caplog):
    ended = []
    shown, result = watch(job(ended, KeyError("my secret")), None)
    assert "Something went wrong here (KeyError) and was noted" in shown[-1]
    assert (ended, result) == ([True], None)
    [record] = caplog.records
    line, *frames = record.getMessage().splitlines()
    assert line.startswith("job failed: KeyError in job (test_jobs.py:")
    assert frames[-1].strip() == "raise fails"
    assert "my secret" not in record.getMessage()


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes")])
@pytest.mark.parametrize("language", LANGUAGES)
def test_memory_that_ran_out_is_said_and_no_fault_of_the_visitors(error, language):
    said = unexpected(error, partial(say, language))
    assert said == say(language, "gate.memory")
    assert type(error).__name__ not in said
    assert "KeyError" in unexpected(KeyError("a secret"), partial(say, language))
