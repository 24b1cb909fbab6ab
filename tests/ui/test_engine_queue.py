"""The engine's queue: order, what waiters are told, who is let go when, and what is held afterwards."""

import gc
import subprocess
import sys
import threading
import time
import weakref
from contextlib import suppress

import pytest
import torch
from queue_jobs import SOON, Job, Visitor, until

from wanda_core.errors import InputError
from wanda_core.progress import Progress, finish
from wanda_ui.engine import queue
from wanda_ui.engine.queue import BusyError, Engine
from wanda_ui.language import ENGLISH
from wanda_ui.markup import progress_words


@pytest.fixture
def log():
    return []


@pytest.fixture
def engine():
    engine = Engine()
    yield engine
    assert engine.settle(SOON)


def test_six_visitors_are_served_as_they_came_and_told_how_many_are_before_them(engine, log):
    jobs = [Job(name, log) for name in "abcdef"]
    visitors = [Visitor(engine, jobs[0])]
    assert jobs[0].began.wait(SOON)
    for number, job in enumerate(jobs[1:], 1):
        visitors.append(Visitor(engine, job))
        until(lambda number=number: engine.waiting == number)
    for number, visitor in enumerate(visitors[1:], 1):
        until(lambda visitor=visitor: visitor.told)
        assert visitor.told[-1] == Progress("waiting", 0, number, "jobs")
    for job in jobs:
        job.let()
    assert [visitor.ends() for visitor in visitors] == list("abcdef")
    assert log == list("abcdef")
    places = [step.total for step in visitors[5].told if step.stage == "waiting"]
    assert places == sorted(places, reverse=True)
    assert set().union(*(job.threads for job in jobs)) == {"engine"}


def test_requests_that_came_first_go_first_however_late_they_get_here(engine, log):
    first = Job("first", log)
    visitors = [Visitor(engine, first)]
    assert first.began.wait(SOON)
    for number in (5, 3, 4):
        visitors.append(Visitor(engine, Job(number, log).let(), arrival=number))
        until(lambda: engine.waiting == len(visitors) - 1)
    first.let()
    assert [visitor.ends() for visitor in visitors] == ["first", 5, 3, 4]
    assert log == ["first", 3, 4, 5]


def test_a_request_of_several_jobs_counts_once_and_between_them_too(engine, log):
    first = Job("first", log)
    running = Visitor(engine, first, arrival=1)
    assert first.began.wait(SOON)
    with engine.present(2), engine.present(None):
        later = Visitor(engine, Job("later", log), arrival=9)
        until(lambda: later.told)
        assert later.told[-1].total == 2  # the first, and the one that has no job just now
        jobs = [Visitor(engine, Job(name, log).let(), arrival=2) for name in ("a", "b")]
        until(lambda: engine.waiting == 3)
        until(lambda: all(job.told for job in jobs))
        assert [job.told[-1].total for job in jobs] == [1, 1]  # its own other job is not before it
        told = len(later.told)
        until(lambda: len(later.told) > told)
        assert later.told[-1].total == 2
        first.let()
        assert [visitor.ends() for visitor in (running, *jobs)] == ["first", "a", "b"]
    later.job.let()
    assert later.ends() == "later"
    assert log == ["first", "a", "b", "later"]
    after = Visitor(engine, Job("after", log).let(), arrival=10)
    assert after.ends() == "after"
    assert not engine._present


def test_a_request_that_had_its_turn_lets_others_go_between_its_jobs(engine, log, monkeypatch):
    monkeypatch.setattr(queue, "TURN", 0.0)
    first, second, others = Job("a1", log), Job("a2", log), [Job("b", log), Job("c", log)]
    long = Visitor(engine, first, 1)
    assert first.began.wait(SOON)
    visitors = [Visitor(engine, others[0], 2)]
    until(lambda: engine.waiting == 1)
    first.let()
    long.ends()
    assert others[0].began.wait(SOON)
    visitors.append(Visitor(engine, others[1], 3))
    until(lambda: engine.waiting == 1)
    long = Visitor(engine, second, 1)
    until(lambda: long.told)
    assert (long.told[-1].stage, long.told[-1].total) == ("waiting", 2)
    for job in (*others, second):
        job.let()
    assert [visitor.ends() for visitor in (*visitors, long)] == ["b", "c", "a2"]
    assert log == ["a1", "b", "c", "a2"]


def test_a_full_queue_is_said_in_a_sentence_and_takes_jobs_again_later(log):
    engine = Engine(most_waiting=2)
    running = Job("running", log)
    Visitor(engine, running)
    assert running.began.wait(SOON)
    waiters = [Visitor(engine, Job(name, log).let()) for name in "ab"]
    until(lambda: engine.waiting == 2)
    with pytest.raises(BusyError, match=r"2 jobs wait .*; try again in a minute"):
        next(engine.run(Job("c", log), ("test",)))
    running.let()
    assert [visitor.ends() for visitor in waiters] == ["a", "b"]
    assert finish(engine.run(Job("c", log).let(), ("test",))) == "c"
    engine.durations.add(("test",), 40.0)
    blocked = Job("d", log)
    Visitor(engine, blocked)
    assert blocked.began.wait(SOON)
    for name in "ef":
        Visitor(engine, Job(name, log).let())
    until(lambda: engine.waiting == 2)
    with pytest.raises(BusyError, match=r"try again in \d+ s"):
        next(engine.run(Job("g", log), ("test",)))
    blocked.let()
    assert engine.settle()


@pytest.mark.alone
@pytest.mark.parametrize("place", ["running", "next", "last"])
def test_whoever_goes_is_gone_at_any_place(engine, log, place):
    jobs = {name: Job(name, log, steps=3) for name in ("running", "next", "last")}
    visitors = {}
    for number, (name, job) in enumerate(jobs.items()):
        visitors[name] = Visitor(engine, job)
        until(lambda number=number: engine.waiting == number)
    began = time.monotonic()
    visitors[place].close.set()
    visitors[place].ends()
    jobs[place].let(1)
    assert time.monotonic() - began < 2
    if place == "running":
        assert jobs["running"].ended.wait(2)
    others = [name for name in jobs if name != place]
    for name in others:
        jobs[name].let()
    assert [visitors[name].ends() for name in others] == others
    assert log == [name for name in jobs if name != place or place == "running"]


def test_the_seconds_before_are_told_where_they_can_be_known(engine, log):
    engine.durations.add(("test",), 30.0)
    first, second = Job("a", log), Job("b", log)
    visitors = [Visitor(engine, first)]
    assert first.began.wait(SOON)
    visitors.append(Visitor(engine, second.let()))
    until(lambda: engine.waiting == 1)
    third = Visitor(engine, Job("c", log).let())
    until(lambda: third.told)
    assert third.told[0].total == 2
    assert 55 < third.told[0].seconds <= 60  # what is left of the first, and the second's thirty
    first.let()
    for visitor in (*visitors, third):
        visitor.ends()


def test_a_mistake_reaches_its_visitor_and_no_other(engine, log):
    wrong = Visitor(engine, Job("a", log, error=InputError("three is too many; count to two")).let())
    right = Visitor(engine, Job("b", log).let())
    assert wrong.ends() is None
    assert str(wrong.error) == "three is too many; count to two"
    assert right.ends() == "b"


def test_quiet_work_lets_others_go_first_and_goes_on_where_it_was(engine, log):
    quiet = Job("quiet", log, steps=3)
    reader = Visitor(engine, quiet, quiet=True)
    assert quiet.began.wait(SOON)
    asked = Visitor(engine, Job("asked", log).let())
    until(lambda: engine.waiting == 1)
    behind = Visitor(engine, Job("behind", log).let())
    until(lambda: behind.told)
    assert all(step.total == 0 for step in asked.told)  # nobody is before it
    words = [progress_words(visitor.told[-1], ENGLISH) for visitor in (asked, behind)]
    assert words == ["you are next", "1 before you"]  # one place is one visitor's
    quiet.let(1)
    assert (asked.ends(), behind.ends()) == ("asked", "behind")
    quiet.let(2)
    assert reader.ends() == "quiet"
    assert log == ["quiet", "asked", "behind"]
    done = [step.done for step in reader.told if step.stage == "pruning"]
    assert done == sorted(done)  # it did not begin again


def test_a_shared_job_runs_once_until_the_last_has_gone(engine, log):
    job = Job("shared", log, steps=2)
    first, second = (Visitor(engine, job, shared="key") for _ in range(2))
    assert job.began.wait(SOON)
    until(lambda: first.told and second.told)
    first.close.set()
    first.ends()
    job.let()
    assert second.ends() == "shared"
    assert log == ["shared"]
    again = Job("again", log).let()
    assert Visitor(engine, again, shared="key").ends() == "again"  # the first has ended
    left = Job("left", log, steps=9)
    visitors = [Visitor(engine, left, shared="key") for _ in range(2)]
    assert left.began.wait(SOON)
    for visitor in visitors:
        visitor.close.set()
        visitor.ends()
    left.let(1)
    assert left.ended.wait(2)


def test_quiet_work_that_somebody_asks_for_is_quiet_no_longer(engine, log):
    before = Job("before", log)
    Visitor(engine, before)
    assert before.began.wait(SOON)
    job = Job("shared", log).let()
    Visitor(engine, job, quiet=True, shared="key")
    until(lambda: len(engine._waiting) == 1)
    asked = Visitor(engine, job, shared="key")
    until(lambda: engine.waiting == 1)
    later = Visitor(engine, Job("later", log).let())
    until(lambda: engine.waiting == 2)
    before.let()
    assert (asked.ends(), later.ends()) == ("shared", "later")
    assert log == ["before", "shared", "later"]


def test_an_idle_engine_holds_neither_jobs_nor_results_nor_mistakes(engine):
    class Large:
        pass

    held = []

    def job(fails):
        mine = Large()
        held.append(weakref.ref(mine))
        yield Progress("pruning", 0, 1, "blocks")
        if fails:
            raise InputError("it fails; that is the rule")
        return mine

    finish(engine.run(lambda: job(False), ("test",)))
    with pytest.raises(InputError):
        finish(engine.run(lambda: job(True), ("test",)))

    def endless():
        mine = Large()
        held.append(weakref.ref(mine))
        while True:
            yield Progress("pruning", 0, 1, "blocks")
            time.sleep(0.01)

    closed = engine.run(endless, ("test",))
    next(closed)
    closed.close()
    assert engine.settle(SOON)
    gc.collect()
    assert [reference() for reference in held if reference() is not None] == []


def test_joining_is_bounded_too(engine, log, monkeypatch):
    monkeypatch.setattr(queue, "MOST_CLAIMS", 3)
    job = Job("shared", log)
    visitors = [Visitor(engine, job, shared="key") for _ in range(3)]
    assert job.began.wait(SOON)
    until(lambda: all(visitor.told for visitor in visitors))
    with pytest.raises(BusyError):
        next(engine.run(job, ("test",), shared="key"))
    job.let()
    assert [visitor.ends() for visitor in visitors] == ["shared"] * 3
    assert finish(engine.run(Job("later", log).let(), ("test",))) == "later"


@pytest.mark.alone
def test_the_time_an_interrupted_job_waited_is_not_learned(engine, log):
    quiet, other = Job("quiet", log, steps=2), Job("other", log)
    reader = Visitor(engine, quiet, quiet=True)
    assert quiet.began.wait(SOON)
    asked = Visitor(engine, other)
    until(lambda: engine.waiting == 1)
    quiet.let(1)
    assert other.began.wait(SOON)
    time.sleep(1.0)
    other.let()
    assert asked.ends() == "other"
    quiet.let(1)
    assert reader.ends() == "quiet"
    assert min(engine.durations._seconds[("test",)]) < 0.9


def test_a_closed_engine_ends_what_runs_and_waits_and_takes_nothing_more(log):
    engine = Engine()
    running, waiting = Job("running", log, steps=9), Job("waiting", log)
    visitors = [Visitor(engine, running)]
    assert running.began.wait(SOON)
    visitors.append(Visitor(engine, waiting))
    until(lambda: engine.waiting == 1)
    running.let(1)
    closing_it = threading.Thread(target=engine.close)
    closing_it.start()
    until(lambda: engine._closed)
    running.let(1)
    closing_it.join(SOON)
    assert not closing_it.is_alive()
    assert running.ended.is_set()
    for visitor in visitors:
        assert visitor.ends() is None
        assert isinstance(visitor.error, BusyError)
    assert log == ["running"]
    with pytest.raises(BusyError, match="closing"):
        next(engine.run(Job("late", log), ("test",)))


ENDS_WHILE_COMPUTING = """
import torch
from wanda_core.progress import Progress
from wanda_ui.engine.queue import Engine

def computing():
    X = torch.rand(300, 300)
    while True:
        X = (X @ X).softmax(0)
        yield Progress("pruning", 0, 1, "blocks")

steps = Engine().run(computing, ("test",))
for _ in range(3):
    next(steps)
"""


def test_a_program_that_ends_while_the_engine_computes_ends_well():
    ended = subprocess.run([sys.executable, "-c", ENDS_WHILE_COMPUTING], capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_a_job_that_is_given_up_ends_at_the_next_module_of_its_step(engine, log):
    """Also one that takes every fault for its own; what other threads call is not ended."""
    called, other = threading.Event(), torch.nn.Linear(1, 1)

    class Slow(torch.nn.Module):
        def forward(self, x):
            called.set()
            time.sleep(0.01)
            return x

    def one_long_step():
        yield Progress("pruning", 0, 1, "blocks")
        slow = Slow()
        for _ in range(int(SOON / 0.01)):
            with suppress(Exception):
                slow(0)
        log.append("to its end")

    steps = engine.run(one_long_step, ("test",))
    next(steps)
    assert called.wait(SOON)
    other(torch.zeros(1))
    steps.close()
    assert engine.settle(SOON / 10)
    other(torch.zeros(1))
    assert log == []
    assert not torch.nn.modules.module._global_forward_pre_hooks


def test_the_thread_survives_what_fails_beside_a_job(engine, log, monkeypatch):
    def fail(*_):
        raise KeyError("of the engine's own")

    with monkeypatch.context() as patch:
        patch.setattr(engine.durations, "add", fail)
        assert Visitor(engine, Job("its time is lost", log).let()).ends() == "its time is lost"
        read, kept = threading.Event(), Job("memory is kept", log)
        patch.setattr(queue, "release_freed_memory", lambda: fail(read.wait(SOON)))
        steps = engine.run(kept, ("test",))
        next(steps)
        kept.let()
        until(lambda: engine._running is not None and engine._running.ended)
        read.set()  # it fails while nobody has read the result
        until(lambda: engine._running is None)
        assert finish(steps) == "memory is kept"
        patch.setattr(engine, "_go_on", fail)
        with pytest.raises(KeyError):
            finish(engine.run(Job("never begun", log).let(), ("test",)))
    assert Visitor(engine, Job("next", log).let()).ends() == "next"
