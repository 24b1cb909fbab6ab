"""Visitors who leave at any step of any job: soon others are served, and nothing of theirs stays."""

import gc
import json
import os
import random
import socket
import threading
import time
from contextlib import closing

import psutil
import pytest
from engine_room import server, serving, without_other_models
from model_state import assert_same, state_of
from raw_requests import Raw, is_ended
from view_events import ASK, column

from wanda_core.progress import Progress, finish
from wanda_ui.app_state import AppState

LINE = "Cancel and leave"
LEAVES = {True: 100, False: 10}
# Long steps of the built-in model: what is asked, the stage, and the blocks that are done when somebody leaves.
BEST = {"method": "best", "order": "default", "allocation": "uniform", "samples": 32, "seq_len": 256}
WITHIN = [
    (
        {"allocation": "measured", "order": "one-shot", "samples": 4, "seq_len": 128},
        "sensitivity",
        {True: (3, 12, 20, 26, 28, 29), False: (3,)},
    ),
    (BEST, "pruning", {True: (0, 1), False: (0,)}),
    (
        {"method": "sparsegpt", "order": "faithful", "samples": 128, "seq_len": 128},
        "profile",
        {True: (1, 2), False: (1,)},
    ),
]
MOST_SECONDS = 2.0
MOST_GROWTH = 1.0  # MB a time
WAYS = ("cancel", "close", "drop")
# What is asked, by the name of its event, with the Cancel button that ends it; each reads another text every time.
ASKED = {
    "look": ({"recipes": [{"order": "faithful"}]}, "cancel_look"),
    "look, weights updated": ({"recipes": [{"method": "sparsegpt", "order": "in-flight"}]}, "cancel_look"),
    "look, smaller": ({"recipes": [{"method": "neurons", "at": 25}]}, "cancel_look"),
    "sweep": ({"recipes": [{"order": "one-shot"}], "places": [50, 60]}, "cancel_sweep"),
    "own": ({"recipes": [{"order": "one-shot"}], "prompts": ["The sky", "A weight"]}, "cancel_look"),
    "masks": ({"recipes": [{"order": "one-shot"}, {"method": "ria", "order": "one-shot"}]}, "cancel_masks"),
    "buys": ({"recipes": [{"method": "neurons", "at": 25}]}, "cancel_buys"),
}


class Holding:
    """Runs the jobs of a server and holds one at a step until it is given up. at: number of the step, None for none."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.begin(None)

    def begin(self, at: int | None) -> None:
        """Count from now on."""
        self.at, self.steps = at, []
        self.reached.clear()

    def __call__(self, job, models):
        with closing(job(models)) as steps:
            while True:
                try:
                    step = next(steps)
                except StopIteration as stop:
                    return stop.value
                self.steps.append((step.stage, step.done) if isinstance(step, Progress) else type(step).__name__)
                yield step
                while len(self.steps) == self.at:
                    self.reached.set()
                    time.sleep(0.01)
                    yield step


@pytest.fixture(scope="module")
def held(tiny_llama):
    """A server whose jobs can be held. -> what holds them, its state, its page, its address"""

    with without_other_models():
        state, holding = server(tiny_llama), Holding()
        state.models["builtin"] = state.models[tiny_llama.name]
        finish(state.open_steps("builtin"))
        state.run_by(holding)
        with serving(state) as (page, address):
            yield holding, state, page, address


def events(page) -> dict[str, int]:
    """The numbers of the view's events and buttons, by their names in the browser."""
    view = next(event.targets[0][0] for event in page.fns.values() if event.name == "look")
    return {name: number for number, event in page.fns.items() for block, name in event.targets if block == view}


def data_of(name: str, seed: int) -> dict:
    """What an event carries. seed: of the text that is read, so that nothing of it is kept already."""
    given, _ = ASKED[name]
    recipes = [column(number, **{"seed": seed, **more}) for number, more in enumerate(given["recipes"])]
    ask = {**ASK, "length": 4, "chat": False, "seed": seed, "temperature": 0.5}
    return {"run": seed, "model": "builtin", "ask": ask, **given, "recipes": recipes}


def test_who_leaves_at_any_step_leaves_nothing_and_others_are_served_soon(held, tiny_llama, figures, whole):
    holding, state, page, address = held
    numbers, draw, seed = events(page), random.Random(2), 0
    by_event = {"own": "own_prompts"}
    places: dict[str, list[int]] = {}
    with closing(Raw(address)) as raw:
        for name in ASKED:  # to the end, for the steps that there are
            seed += 1
            holding.begin(None)
            event = by_event.get(name, name.partition(",")[0])
            assert raw.join(f"whole{seed}", numbers[event], [], event_data=data_of(name, seed)).status == 200
            assert is_ended(raw.messages(f"whole{seed}")[-1])
            places[name] = [holding.steps.index(step) + 1 for step in dict.fromkeys(holding.steps)]
        assert state.engine.settle()
        before = state_of(tiny_llama.model)
        every = [(name, at) for name, steps in places.items() for at in steps]
        count = min(LEAVES[whole], len(every))
        chosen = [(name, draw.choice(steps)) for name, steps in places.items()]
        chosen += draw.sample(every, count - len(chosen))
        waited, memory, threads, early = [], [], [], 0
        for number, (name, at) in enumerate(chosen):
            seed, way = seed + 1, WAYS[number % len(WAYS)]
            session = f"leaves{seed}"
            holding.begin(at)
            event = by_event.get(name, name.partition(",")[0])
            assert raw.join(session, numbers[event], [], event_data=data_of(name, seed)).status == 200
            with closing(raw.connection()) as tab:
                tab.request("GET", f"/gradio_api/queue/data?session_hash={session}")
                answer = tab.getresponse()
                assert answer.readline()
                if not is_held(holding, state):
                    early += 1  # another text, and so another answer, that ended in fewer steps
                    continue
                begun = time.monotonic()
                leave(way, raw, tab, session, numbers[ASKED[name][1]])
                assert state.engine.settle(30), (name, at, way)
                waited.append(time.monotonic() - begun)
            assert_same(before, state_of(tiny_llama.model))
            gc.collect()
            memory.append(psutil.Process().memory_info().rss / 1e6)
            threads.append(sum("AnyIO" not in thread.name for thread in threading.enumerate()))
        assert early <= len(chosen) // 10
        holding.begin(None)
        seed += 1
        assert raw.join("after", numbers["look"], [], event_data=data_of("look", seed)).status == 200
        messages = raw.messages("after")
        assert is_ended(messages[-1])
        assert "problem" not in json.dumps(messages)
    what = f"until others are served, the longest of {len(waited)} who left at one of {len(every)} steps"
    figures.at_most(LINE, what, max(waited), MOST_SECONDS, "s")
    third = max(2, len(waited) // 3)
    slope = (min(memory[-third:]) - min(memory[:third])) / (len(waited) - third)
    figures.at_most(LINE, "memory that one of them leaves taken", slope, MOST_GROWTH, "MB")
    figures.at_most(LINE, "threads that they leave", max(threads[-third:]) - max(threads[:third]), 0)


@pytest.mark.builtin
def test_who_leaves_within_a_long_step_of_the_built_in_model_is_not_waited_for(builtin_lm, figures, whole):
    """Nothing is held, so that what is left of the step that runs is in the figure."""
    places = [(recipe, stage, block) for recipe, stage, blocks in WITHIN for block in blocks[whole]]
    with without_other_models():
        state = server(builtin_lm)
        finish(state.open_steps("builtin"))
        with serving(state) as (page, address), closing(Raw(address)) as raw:
            numbers, waited = events(page), []
            for number, (recipe, stage, block) in enumerate(places):
                session, given = f"within{number}", data_of("look", 1)
                given["recipes"] = [column(1, **recipe)]
                assert raw.join(session, numbers["look"], [], event_data=given).status == 200
                with closing(raw.connection()) as tab:
                    tab.request("GET", f"/gradio_api/queue/data?session_hash={session}")
                    assert tab.getresponse().readline()
                    wait_for(state, stage, block)
                    time.sleep(0.2)  # so that it is far from its end
                    begun = time.monotonic()
                    leave(WAYS[number % len(WAYS)], raw, tab, session, numbers["cancel_look"])
                    assert state.engine.settle(60)
                    waited.append(time.monotonic() - begun)
    what = f"until others are served, the longest of {len(waited)} who left within a step of the built-in model"
    figures.at_most(LINE, what, max(waited), MOST_SECONDS, "s")


def wait_for(state: AppState, stage: str, done: int) -> None:
    """Wait until the job that runs is so far."""
    for _ in range(60_000):
        step = state.engine._running and state.engine._running.news
        if isinstance(step, Progress) and step.stage == stage and step.done >= done:
            return
        time.sleep(0.01)
    raise AssertionError(f"no {stage} {done}")


def is_held(holding: Holding, state: AppState) -> bool:
    """Wait for the step at which a job is to be held; whether it came to that before all was done."""
    for _ in range(600):
        if holding.reached.wait(0.1):
            return True
        if holding.steps and state.engine.settle(0):
            time.sleep(1)  # between two jobs of one event nothing runs either
            if not holding.reached.is_set() and state.engine.settle(0):
                return False
    raise AssertionError(holding.steps)


def leave(way: str, raw: Raw, tab, session: str, button: int) -> None:
    """Press Cancel, close the tab, or lose the connection."""
    if way == "cancel":
        reply = raw.post("/gradio_api/run/press", {"data": [], "fn_index": button, "session_hash": session})
        assert reply.status == 200, reply
    elif way == "drop":
        tab.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        os.close(tab.sock.detach())  # the answer holds it open otherwise
    else:
        tab.sock.shutdown(socket.SHUT_RDWR)
