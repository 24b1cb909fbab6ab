"""Memory that runs out and memory that must not grow, and visitors who take their time: nobody else pays for it."""

import gc
import json
import random
import shutil
import statistics
import threading
import time
from asyncio import TimerHandle
from collections import OrderedDict, deque
from contextlib import closing, suppress
from dataclasses import replace
from functools import partial

import psutil
import pytest
from engine_room import ASKED, CHANGED, READING, recipe, server, serving
from model_state import assert_same, state_of
from raw_requests import JSON, Raw, is_ended
from safe.faults import ERRORS, Allocations, Under
from safe.lines import idle, raised_limit, slow_readers, stalled_uploads
from take_away import asked as asked_for_checkpoint
from take_away import got
from view_events import ASK, WINDOW, column

from wanda_core.model.loading import load_model
from wanda_core.progress import finish
from wanda_core.recipe import PruneSpec
from wanda_core.shrinking.spec import ShrinkSpec
from wanda_ui.app_state import AppState
from wanda_ui.compare import runs
from wanda_ui.engine import work
from wanda_ui.engine.recipe import Recipe
from wanda_ui.engine.tokens import Place
from wanda_ui.gate import body, sessions, visitors
from wanda_ui.outliers.sentence import read

LINE = "Memory and time"
FAULTS = {True: None, False: 14}  # None: at every line
CYCLES = {True: 100, False: 12}
WARM = 4  # cycles after which everything that is kept is full
POOL, MOST_OF_POOL = "AnyIO worker thread", 2  # as many as were needed at once are kept, whichever cycle that was
MOST_GROWTH = 1.0  # MB a cycle
CONNECTIONS = {True: 1000, False: 1000}
MOST_SECONDS = 0.5
LOOKS = {True: 100, False: 25}  # at the page, for a percentile
SMALLER = Recipe(PruneSpec("magnitude", 0.0), READING, ShrinkSpec(neurons=0.25))


@pytest.fixture(autouse=True)
def short_windows(monkeypatch):
    monkeypatch.setattr(work, "EVAL_SEQ_LEN", WINDOW)


def requests(state: AppState, name: str) -> dict:
    """What visitors ask, each for another part of the engine."""
    other = recipe(method="magnitude", sparsity=0.4)
    return {
        "analysis": partial(state.open_steps, name),
        "look": partial(state.look_steps, name, recipe(order="faithful"), ASKED),
        "look in flight": partial(state.look_steps, name, replace_order(CHANGED, "in-flight"), ASKED),
        "updated": partial(state.look_steps, name, Recipe(PruneSpec("sparsegpt", 0.5), READING), ASKED),
        "one-shot": partial(state.look_steps, name, recipe(order="one-shot"), ASKED),
        "point": partial(state.point_steps, name, recipe(method="ria", sparsity=0.3)),
        "why": partial(state.told_steps, name, [other], ASKED, Place(" blue", " sky")),
        "masks": partial(state.masks_steps, name, [other, recipe(method="random", sparsity=0.4)]),
        "sentence": partial(state.measurement_steps, name, ("sentence", 0), partial(read, text="The sky")),
        "smaller": partial(state.look_steps, name, SMALLER, ASKED),
    }


def replace_order(wanted: Recipe, order: str) -> Recipe:
    return replace(wanted, spec=replace(wanted.spec, order=order))


def answer_of(result) -> object:
    """What must be the same however often it is asked for."""
    seen = getattr(result, "seen", None)
    return (seen.answer, seen.perplexity, seen.agreement) if seen is not None else getattr(result, "perplexity", None)


def test_memory_that_runs_out_costs_the_request_that_it_hits(tiny_llama, figures, whole):
    before, draw, cases, right = state_of(tiny_llama.model), random.Random(5), [], {}
    for name in requests(server(tiny_llama), tiny_llama.name):
        asked_under(server(tiny_llama), name, None)  # what is found out once a model is found out
        counting = Allocations()
        right[name] = answer_of(asked_under(server(tiny_llama), name, counting))
        cases += [(name, at) for at in counting.sites]
    lines = len(cases)
    if FAULTS[whole] is not None:
        one_each = [draw.choice([case for case in cases if case[0] == name]) for name in right]
        cases = one_each + draw.sample(cases, FAULTS[whole] - len(one_each))
    lost, told = [], 0
    for number, (name, at) in enumerate(cases):
        state, fault = server(tiny_llama), Allocations(at, ERRORS[number % len(ERRORS)])
        try:
            asked_under(state, name, fault)
        except Exception:  # which the page puts into words
            told += 1
        assert fault.failed, (name, at)
        assert state.engine.settle()
        assert_same(before, state_of(tiny_llama.model))
        if answer_of(asked_under(state, name, None)) != right[name]:
            lost.append((name, at))
    assert not lost, lost
    assert told > len(cases) / 2, "the faults hit nothing"
    what = (
        f"places, of {len(cases)} tried of {lines}, where memory ran out and the next request failed or answered else"
    )
    figures.exactly(LINE, what, len(lost), 0)


def asked_under(state: AppState, name: str, mode: Allocations | None):
    """Ask for one of `requests`, the engine's steps under a mode. -> its result"""
    under = Under()
    under.mode = mode
    state.run_by(under)
    return finish(requests(state, next(iter(state.models)))[name]())


def test_a_model_that_memory_runs_out_for_is_loaded_the_next_time(dense, figures, whole):
    load_model(dense, device="cpu")  # what is found out once a process is found out
    counting = Allocations()
    with counting:
        loaded = load_model(dense, device="cpu")
    right, places = state_of(loaded.model), [*counting.sites]
    for number, at in enumerate(places if whole else places[:: max(1, len(places) // 4)]):
        fault = Allocations(at, ERRORS[number % len(ERRORS)])
        with suppress(Exception), fault:
            load_model(dense, device="cpu")
        assert fault.failed, (at, number, [*fault.sites])
        assert_same(right, state_of(load_model(dense, device="cpu").model))


def test_a_day_of_loading_pruning_and_taking_away_leaves_memory_where_it_was(
    dense, tmp_path, monkeypatch, figures, whole
):
    folders = [shutil.copytree(dense, tmp_path / f"model{number}") for number in range(3)]
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    for where, bound_of in ((runs, "MOST_VISITORS"), (visitors, "MOST_SESSIONS"), (sessions.Sessions, "MOST")):
        monkeypatch.setattr(where, bound_of, WARM)  # what is bounded is full by then
    state, clock, memory, threads, pools = AppState(), [0.0], [], [], []
    state.tickets.clock = lambda: clock[0]
    with serving(state) as (page, address), closing(Raw(address)) as raw:
        page.app.state_holder.capacity = page._queue.ANALYTICS_MAX_EVENTS = WARM
        page._queue.pending_messages_per_session.max_size = WARM  # 2,000 sessions that nobody listens to any more
        numbers = {event.name: number for number, event in page.fns.items() if event.collects_event_data}
        for cycle in range(WARM + CYCLES[whole]):
            if cycle == WARM:
                sizes = [(each, len(each)) for each in containers()]
            once(raw, numbers, str(folders[cycle % 3]), f"day{cycle}", at=30 + cycle % 6)
            clock[0] += 1000  # a ticket lives a quarter of an hour
            assert state.engine.settle()
            gc.collect()
            memory.append(psutil.Process().memory_info().rss / 1e6)
            pool = sum(thread.name == POOL for thread in threading.enumerate())
            threads.append(threading.active_count() - pool)
            pools.append(pool)
        grown = [each for each, size in sizes if len(each) >= size + CYCLES[whole] and not is_ours(each)]
        told = [f"{type(each).__name__} {len(each)}: {str(each)[-200:]}" for each in grown]
        del sizes, grown
    third = CYCLES[whole] // 3
    early, late = slice(WARM, WARM + third), slice(-third, None)  # the least of each is what stays
    slope = (min(memory[late]) - min(memory[early])) / (CYCLES[whole] - third)
    assert not told, "\n".join(told)
    figures.at_most(LINE, f"memory that a cycle adds, after {WARM}, over {CYCLES[whole]}", slope, MOST_GROWTH, "MB")
    figures.exactly(LINE, "containers that grow by something each cycle", len(told), 0)
    assert min(pools[late]) - min(pools[early]) <= MOST_OF_POOL, "threads of the pool never came back"
    figures.at_most(LINE, "threads that the cycles add", min(threads[late]) - min(threads[early]), 0)


def containers() -> list:
    """Everything in this process that can grow, what is frozen too."""
    gc.collect()
    gc.unfreeze()
    found = [each for each in gc.get_objects() if type(each) in (dict, list, set, OrderedDict, deque)]
    gc.freeze()
    return found


def is_ours(container) -> bool:
    """Whether it is this test's own figures, or the event loop's clock, which drops what is over by itself."""
    first = next(iter(container), None)
    return isinstance(container, list) and isinstance(first, (int, float, TimerHandle)) and first is not True


def once(raw: Raw, numbers: dict, model: str, session: str, at: float) -> None:
    """Load a model, prune it, compare two recipes, take a checkpoint away, and leave."""
    first, second = column(1, method="magnitude", at=at), column(2, at=at)
    given = {"run": 1, "model": model, "ask": {**ASK, "length": 3, "chat": False}}
    for name, data in (
        ("open", {"model": model}),
        ("look", {**given, "recipes": [first, second]}),
        ("masks", {**given, "recipes": [first, second]}),
    ):
        assert raw.join(session, numbers[name], [], event_data=data).status == 200
        messages = raw.messages(session)
        assert is_ended(messages[-1])
        assert "problem" not in json.dumps(messages), messages[-1]
    reply = asked_for_checkpoint(raw, model=model, recipe=first)
    assert reply.status == 200, reply
    assert len(got(raw, json.loads(reply.body)).body) == json.loads(reply.body)["bytes"]
    raw.send("GET", "/")


def test_those_who_take_their_time_cost_nobody_else_anything(tiny_llama, tmp_path, monkeypatch, figures, whole):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    state = server(tiny_llama)
    with serving(state) as (_, address), closing(Raw(address)) as raw:
        alone = waits(raw, LOOKS[whole])
        count = raised_limit(CONNECTIONS[whole])
        with idle(address, count), slow_readers(address, 20), stalled_uploads(address, 20) as stalled:
            waits(raw, 2)  # what they ask for is made
            beside = waits(raw, LOOKS[whole])
            monkeypatch.setattr(body, "MOST_SECONDS", 0.5)
            with stalled_uploads(address, 1) as late:
                assert late[0].recv(100).startswith(b"HTTP/1.1 408"), "an upload may stall for ever"
            assert len(stalled) == 20
        with closing(Raw(address)) as again:
            assert again.send("GET", "/").status == 200
    late, before = (statistics.quantiles(seconds, n=20)[-1] for seconds in (beside, alone))
    figures.at_most(
        LINE, f"the page beside {count} idle connections, 20 slow, 20 stalled, 95 of 100", late, bound(before), "s"
    )


def bound(alone: float) -> float:
    """What others may wait: the target, or on a machine that is late without them, twice as long as without them."""
    return max(MOST_SECONDS, 2 * alone)


def waits(raw: Raw, count: int) -> list[float]:
    """-> the seconds that looks at the page take"""
    taken = []
    for _ in range(count):
        begun = time.monotonic()
        assert raw.send("GET", "/", headers=JSON).status == 200
        taken.append(time.monotonic() - begun)
    return taken
