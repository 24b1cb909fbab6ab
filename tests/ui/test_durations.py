"""What the engine tells of time: how long a kind of job took, and steps often enough to watch."""

import time
from itertools import pairwise

import pytest

from wanda_core.progress import Progress, finish
from wanda_ui.compare import looking
from wanda_ui.engine import queue
from wanda_ui.engine.durations import Durations
from wanda_ui.engine.queue import Engine
from wanda_ui.language import ENGLISH


def test_durations_go_from_the_particular_to_the_general():
    durations = Durations()
    assert durations.expected(("prune", "builtin")) is None
    for seconds in (1.0, 9.0, 2.0):
        durations.add(("prune", "builtin", "faithful"), seconds)
    durations.add(("prune", "other"), 100.0)
    assert durations.expected(("prune", "builtin", "faithful")) == 2.0
    assert durations.expected(("prune", "builtin", "in-flight")) == 2.0
    assert durations.expected(("prune", "third")) == 5.5
    assert durations.expected(("answer",)) is None
    assert durations.exactly(("prune", "builtin", "faithful")) == durations.exactly(("prune", "builtin")) == 2.0
    assert durations.exactly(("prune", "builtin", "in-flight")) is None
    assert durations.left(("prune", "builtin"), 0.5) == 1.5
    assert durations.left(("prune", "builtin"), 100.0) == pytest.approx(0.2)


def test_steps_of_one_stage_wake_their_event_now_and_then_and_a_new_stage_at_once():
    engine, told = Engine(), []

    def job():
        for number in range(400):
            yield Progress("pruning", number, 400, "blocks")
            time.sleep(0.001)
        yield Progress("perplexity", 0, 4, "windows")
        time.sleep(queue.PACE / 2)
        return "done"

    assert finish(engine.run(job, ("test",)), told.append) == "done"
    stages = [step.stage for step in told]
    assert "perplexity" in stages
    assert 2 <= stages.count("pruning") < 100
    assert engine.settle()


def test_a_job_is_told_no_oftener_than_can_be_seen_and_nothing_it_said_is_lost(monkeypatch):
    now, steps = [100.0], []

    def job():
        for number in range(300):
            now[0] += looking.BLINK / 10
            yield Progress("pruning", number, 300, "blocks") if number % 3 else f"seen {number}"

    def tell(step):
        steps.append(step)
        return {"said": [step for step in steps if isinstance(step, str)]}

    monkeypatch.setattr(looking.time, "monotonic", lambda: now[0])
    told = list(looking.Watch(ENGLISH, None, lambda: None, lambda: False).through(job(), tell))
    assert 25 <= len(told) <= 35  # words of an answer; of progress alone, one in TICK
    said = [message["said"] for message in told if message]
    assert all(len(after) - len(before) > 1 for before, after in pairwise(said))
    assert said[-1] == [f"seen {number}" for number in range(0, 3 * len(said[-1]), 3)]
