"""The view looks, without a browser: what a person is told, in which order, and what becomes of who moves on."""

import copy
import json
import threading
import time
from itertools import pairwise

import orjson
import pytest
from view_events import CANCELLED, PATTERNED, SOON, WINDOW, Visit, column, event, looked, told, until, visitor

from wanda_core.assets import BUILTIN_EVALUATION
from wanda_core.evaluation.generation import generate
from wanda_core.evaluation.perplexity import perplexity
from wanda_core.progress import Progress
from wanda_core.pruning.packed import laid_over
from wanda_core.text.files import read_text
from wanda_ui.compare import messages, runs
from wanda_ui.compare.runs import Newest
from wanda_ui.engine import work
from wanda_ui.engine.loaded import Loaded


@pytest.fixture
def state(view):
    return view.context.state


def first_seen(messages):
    """The columns in the order in which each began to answer."""
    order = []
    for message in messages:
        order += [name for name, told in message["columns"].items() if "answer" in told and name not in order]
    return order


@pytest.mark.parametrize("model", ["tiny", "builtin"])
def test_the_first_recipe_comes_first_then_the_dense_model_then_the_others(state, view, tiny_llama, model):
    state.models[model] = Loaded(tiny_llama, model)
    others = [column(1, method="magnitude"), column(2, at=70)]
    messages, _ = looked(view, column(), *others, model=model)
    assert first_seen(messages) == ["0", "dense", "1", "2"]
    last = messages[-1]
    assert (last["run"], last["model"], last["prompt"]) == (1, model, "The sky is")
    assert last["settings"] == {"length": 12, "temperature": 0, "seed": 0, "chat": True}
    assert [message["ended"] for message in messages] == [False] * (len(messages) - 1) + [True]
    assert last["progress"] is None
    assert all(told["ended"] and told["answered"] for told in last["columns"].values())
    assert last["done"] == last["columns"]["0"]["measured"]
    assert {name: (told["key"], told["at"]) for name, told in last["columns"].items()} == {
        "dense": ("", 0),
        "0": ("recipe 0", 50),
        "1": ("recipe 1", 50),
        "2": ("recipe 2", 70),
    }
    assert len(state.variants.keys) == 3


def test_what_a_look_tells_is_what_the_engine_says(state, view, tiny_llama):
    messages, _ = looked(view, column(), column(1, at=70))
    last = messages[-1]["columns"]
    text, question = read_text(BUILTIN_EVALUATION), {"max_new_tokens": 12, "chat": True}

    def check(told, lm):
        (*_, answer) = generate(lm, "The sky is", **question)
        assert told["answer"]["pieces"] == list(answer.pieces)
        assert told["answer"]["tokens"] == list(answer.tokens)
        assert "".join(told["answer"]["pieces"]) == answer.text
        return perplexity(lm, text, seq_len=WINDOW, windows=work.EVAL_WINDOWS).perplexity

    assert check(last["dense"], tiny_llama) == last["dense"]["dense"] == last["0"]["dense"]
    for name, key in (("0", state.variants.keys[0]), ("1", state.variants.keys[1])):
        with laid_over(tiny_llama, state.variants.get(key).variant) as over:
            assert check(last[name], over) == last[name]["point"]["perplexity"]
        assert last[name]["point"]["windows"] == work.EVAL_WINDOWS
        assert last[name]["point"]["zeros"] == pytest.approx(0.5 if name == "0" else 0.7, abs=0.02)
        assert 0 <= last[name]["point"]["top1"] <= 1
    assert "point" not in last["dense"]


def test_a_message_grows_and_what_was_told_once_is_never_changed(view):
    updates = view.look(visitor(), event(column(), column(1, method="magnitude"), length=30))
    messages, copies = [], []
    for update in updates:
        for message in told(view, [update], "run"):
            orjson.dumps(message)  # as Gradio sends it
            messages.append(message)
            copies.append(copy.deepcopy(message))
    assert messages == copies
    for before, after in pairwise(messages):
        for name, column_before in before["columns"].items():
            column_after = after["columns"][name]
            pieces = column_before.get("answer", {}).get("pieces", [])
            assert column_after.get("answer", {}).get("pieces", [])[: len(pieces)] == pieces
            windows = column_before.get("point", {}).get("windows", 0)
            assert column_after.get("point", {}).get("windows", 0) >= windows
            assert column_after["ended"] >= column_before["ended"]
        if after["progress"] is not None:
            assert 0 <= after["progress"]["percent"] <= 100
            assert after["progress"]["words"]


def test_no_point_is_drawn_before_two_windows_and_no_infinity_is_told(view):
    messages_told, _ = looked(view, column())
    points = [told["point"] for message in messages_told for told in message["columns"].values() if "point" in told]
    assert min(point["windows"] for point in points) >= messages.FIRST_WINDOWS
    assert messages.finite(float("inf")) == messages.LARGEST
    assert json.loads(json.dumps(messages.LARGEST)) == messages.LARGEST
    assert messages.finite(12.5) == 12.5
    assert messages.dense(None) is None


def test_without_a_recipe_the_dense_model_answers_alone(view):
    messages, _ = looked(view)
    assert list(messages[-1]["columns"]) == ["dense"]
    assert messages[-1]["done"] is None


def test_a_second_look_runs_nothing_and_says_so(view, state, held, monkeypatch):
    first, _ = looked(view, column(), column(1, **PATTERNED))
    assert len(held.specs) == 2
    for name in ("0", "1"):
        assert "pruned in" in first[-1]["columns"][name]["measured"]

    def nothing(*given, **more):
        raise AssertionError("the engine was asked")

    monkeypatch.setattr(state.engine, "run", nothing)
    second, _ = looked(view, column(), column(1, **PATTERNED), run=2)
    assert all(message["progress"] is None for message in second)
    for name in ("0", "1"):
        assert "as measured before" in second[-1]["columns"][name]["measured"]
        for same in ("answer", "point", "dense"):
            assert second[-1]["columns"][name].get(same) == first[-1]["columns"][name].get(same)


def test_a_column_that_fails_says_why_and_leaves_the_others(view):
    wrong = {"text": "0123456789abcdef", "order": "faithful"}
    for place, columns in (("0", [column(**wrong), column(1)]), ("1", [column(), column(1, **wrong)])):
        messages, _ = looked(view, *columns)
        last = messages[-1]
        failed = last["columns"].pop(place)
        assert "choose the file again" in failed["problem"]
        assert failed["ended"]
        assert (failed["key"], failed["at"]) == (f"recipe {place}", 50)
        assert all(told["answered"] and "problem" not in told for told in last["columns"].values())
        assert len(last["columns"]) == 2
        assert (last["done"] is None) == (place == "0")


def test_what_the_model_cannot_read_is_said_in_every_column(view):
    messages, _ = looked(view, column(), prompt="word " * 300)
    assert all("shorten it" in told["problem"] for told in messages[-1]["columns"].values())
    assert messages[-1]["ended"]


@pytest.mark.parametrize(
    "wrong", [None, [], {}, {"run": 7}, {"run": 7, "model": "tiny", "recipes": [{}], "ask": {"prompt": "a"}}]
)
def test_an_event_that_carries_something_else_is_ended_with_a_sentence(view, wrong):
    carried = event()
    carried._data = wrong
    for kind, of in (("run", view.look), ("sweep", view.sweep), ("own", view.own)):
        [message] = told(view, list(of(visitor(), carried)), kind)
        assert message["ended"]
        assert "; " in message["problem"]
        assert message["run"] == (7 if wrong and "run" in wrong else None)


@pytest.mark.parametrize("shared", ["pruning", "analysis"])
def test_a_newer_run_ends_an_older_one_and_what_both_wait_for_is_not_begun_anew(view, state, held, monkeypatch, shared):
    """The older is told only when the newer has its place, so that somebody wants the job at every moment."""
    passes, go, analyse = [], threading.Event(), work.analyse_steps
    late, model_steps = threading.Event(), state.model_steps

    def slow(name):
        if late.is_set():
            time.sleep(1)  # before it has its place
        return model_steps(name)

    monkeypatch.setattr(state, "model_steps", slow)

    def noted(lm, calibration):
        passes.append(calibration)
        while not go.wait(0.01):
            yield Progress("analysis", 0, 1, "blocks")
        return (yield from analyse(lm, calibration))

    monkeypatch.setattr(work, "analyse_steps", noted)
    if shared == "pruning":
        held.go.clear()
        first = second = column(order="faithful")
        begun = held.began.is_set
    else:
        first, second = (column(at=at, samples=16, seq_len=256) for at in (50, 60))
        begun = passes.__len__
    older = Visit(view, view.look(visitor(), event(first)))
    until(begun)
    other = Visit(view, view.look(visitor("somebody else"), event(column(order="faithful", at=80))))
    until(lambda: other.messages)
    late.set()
    newer = Visit(view, view.look(visitor(), event(second, run=2)))
    last = older.ends(SOON)
    assert (last["run"], last["ended"], last["done"]) == (1, True, CANCELLED)
    assert last["progress"] is None
    assert newer.is_alive()
    assert other.is_alive()  # whose own it is
    late.clear()
    go.set()
    held.go.set()
    for visit, run in ((newer, 2), (other, 1)):
        last = visit.ends(SOON)
        assert last["run"] == run
        assert last["done"] != CANCELLED
        assert last["columns"]["0"]["answered"]
    assert len(passes) == (shared == "analysis")
    assert len(held.specs) == 2  # the newer's and somebody else's


def test_newest_remembers_the_latest_visitors_and_the_newest_run_of_each(monkeypatch):
    monkeypatch.setattr(runs, "MOST_VISITORS", 2)
    newest = Newest()
    one, two, three = (newest.number() for _ in range(3))
    newest.place("a", two)
    newest.place("a", one)  # it comes late and changes nothing
    assert (newest.is_old("a", one), newest.is_old("a", two), newest.is_old("a", three)) == (True, False, False)
    assert not newest.is_old("b", one)
    newest.place("b", three)
    newest.place("c", three)
    assert not newest.is_old("a", one)  # forgotten
    assert newest.is_old("c", one)


def test_cancel_ends_a_look_where_it_is_and_what_was_made_stays(view, state, held):
    updates = view.look(visitor(), event(column(), column(1, at=70), length=150))
    told_so_far = []
    for update in updates:
        told_so_far += told(view, [update], "run")
        if told_so_far and "point" in told_so_far[-1]["columns"].get("0", {}):
            view.cancel.press(visitor("somebody else"))
            view.cancel.press(visitor())
            break
    rest = told(view, list(updates), "run")
    last = rest[-1]
    assert (last["ended"], last["done"], last["progress"]) == (True, CANCELLED, None)
    assert last["columns"]["0"]["answer"]["pieces"]
    assert "1" not in last["columns"]
    assert state.engine.settle()
    assert len(state.variants.keys) == len(held.specs) == 1
    messages, _ = looked(view, column())
    assert "as measured before" in messages[-1]["done"] or state.measured.get(state.variants.keys[0])
    assert len(held.specs) == 1


def test_cancel_of_a_look_leaves_a_curve_alone_and_the_other_way_round(view, held):
    held.go.clear()
    look = Visit(view, view.look(visitor(), event(column(order="faithful"))))
    sweep = Visit(view, view.sweep(visitor(), event(column(), places=[5, 10])), "sweep")
    until(lambda: look.messages and sweep.messages)
    view.cancel_sweep.press(visitor())
    assert sweep.ends(SOON)["done"] == CANCELLED
    assert look.is_alive()
    view.cancel.press(visitor())
    assert look.ends(SOON)["done"] == CANCELLED
    held.go.set()
