"""A ZeroGPU Space: every kind of job in a forked process, pickled both ways, with the settings of a public page.

The GPU itself is left out; what lends it is `lent_gpu.Space`.
"""

import contextvars
import copy
import os
import sys
import threading
import time
from contextlib import closing
from dataclasses import fields, is_dataclass, replace
from functools import partial
from types import SimpleNamespace

import numpy
import pytest
import torch
from engine_room import ASKED, CHANGED, READING, looked, recipe, spoken
from gradio.context import LocalContext
from lent_gpu import Space
from model_state import assert_same, state_of
from view_events import column, event, told, view_over, visitor

from wanda_core.errors import InputError
from wanda_core.model import builtin
from wanda_core.model.language_model import LanguageModel
from wanda_core.outliers.ablation import Ablation
from wanda_core.progress import Progress, finish
from wanda_core.recipe import PruneSpec
from wanda_core.text.windows import calibrate_steps
from wanda_ui import app_state
from wanda_ui import page as whole_page
from wanda_ui.app_state import AppState
from wanda_ui.engine import fetching, work
from wanda_ui.engine.loaded import Loaded
from wanda_ui.engine.recipe import Recipe
from wanda_ui.engine.tokens import Place
from wanda_ui.engine.zero_gpu import NotLentError, carried, has_zero_gpu, packed
from wanda_ui.lesson import measured
from wanda_ui.outliers import ablation, features, protection, sentence, super_weight
from wanda_ui.settings import Settings

SOON = 30.0  # seconds within which each of these small jobs has ended, or hangs
SPACE = {"SPACE_ID": "somebody/lab", "SPACES_ZERO_GPU": "true"}


@pytest.fixture(scope="module")
def models(tiny_llama):
    """-> the model of the Space and that of a server without one, alike and each its own."""
    return [
        LanguageModel(copy.deepcopy(tiny_llama.model).cpu(), tiny_llama.tokenizer, "builtin", "local") for _ in range(2)
    ]


@pytest.fixture(scope="module")
def space(models, tmp_path_factory):
    """What lends the GPU, with a state that was started there."""
    package, threads = Space(), torch.get_num_threads()
    torch.set_num_threads(1)  # a process forked while OpenMP has threads waits for them for ever
    located = []
    with pytest.MonkeyPatch.context() as patch:
        for name, value in SPACE.items():
            patch.setenv(name, value)
        patch.setitem(sys.modules, "spaces", package)
        patch.setattr(work, "EVAL_SEQ_LEN", 64)
        patch.setattr(work, "EVAL_WINDOWS", 2)
        patch.setattr(builtin, "analysis_file", lambda: tmp_path_factory.mktemp("kept") / "analysis.safetensors")
        patch.setattr(fetching, "locate", lambda name, **given: located.append(given) or "found")
        patch.setattr(app_state, "load_located", lambda located, **more: models[0])
        package.state = whole_page.prepared(Settings.from_environment())
        package.located = located
        yield package
        assert package.state.engine.settle(SOON)
    package.close()
    torch.set_num_threads(threads)


@pytest.fixture
def there(space):
    """The state of the Space; whatever is done, its model stays as it was and nothing hangs."""
    before = state_of(space.state.models["builtin"].lm.model)
    yield space.state
    assert space.state.engine.settle(SOON)
    assert_same(before, state_of(space.state.models["builtin"].lm.model))


@pytest.fixture(scope="module")
def here(models, space):
    """A server that runs its jobs itself."""
    state = AppState(space.state.settings)
    state.models["builtin"] = Loaded(models[1], "builtin")
    finish(state.open_steps("builtin"))
    return state


def same(one, other):
    """Whether two results are equal, the seconds that they took left out."""
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, numpy.ndarray):
        return numpy.array_equal(one, other)
    if is_dataclass(one):
        names = [field.name for field in fields(one) if field.name != "seconds"]
        return type(one) is type(other) and all(same(getattr(one, name), getattr(other, name)) for name in names)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(value, other[name]) for name, value in one.items())
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other or (one != one and other != other)


def test_what_is_known_at_the_start_costs_no_visitors_time(there, space):
    assert has_zero_gpu()
    assert there.settings.public
    assert there.settings.models == {}
    loaded = there.models["builtin"]
    assert loaded.analysis is not None
    assert space.calls == 0
    assert space.located == [
        {"device": "cpu", "on_progress": space.located[0]["on_progress"], "local_folders": False, "token": None}
    ]
    assert loaded.lm.device.type == "cpu"  # single weights are drawn from here
    assert loaded.about.device == "cuda"


RECIPES = {
    "dense": None,
    "mask": recipe(),
    "mask of known norms": Recipe(PruneSpec(order="one-shot")),
    "mask of norms that are measured": Recipe(PruneSpec(order="one-shot"), READING),
    "mask by size": Recipe(PruneSpec("magnitude")),
    "pattern": recipe(pattern="2:4"),
    "blocks by outliers": recipe(allocation="owl", order="in-flight"),
    "changed weights": CHANGED,
    "changed weights of the sweep": recipe(method="sparsegpt"),
}


@pytest.mark.parametrize("name", RECIPES)
def test_a_variant_its_answer_and_its_perplexity_are_those_of_a_server_of_ones_own(there, here, space, name):
    calls, wanted = space.calls, RECIPES[name]
    said, lent = looked(there, wanted)
    _, own = looked(here, wanted)
    assert space.calls > calls
    assert space.forks == 1  # one process serves them all
    assert any(not isinstance(step, Progress) for step in said)  # it is told while it grows
    assert same(own.seen, lent.seen)
    assert lent.seen.answer.text
    assert lent.seen.perplexity.windows == work.EVAL_WINDOWS
    if wanted is not None:
        assert same(own.result.variant.parameters, lent.result.variant.parameters)
        assert lent.result.variant.changes_weights == (wanted.spec.update != "none")
        assert lent.measured.agreement == own.measured.agreement
    calls = space.calls
    assert looked(there, wanted)[0] == []
    assert space.calls == calls  # what is known needs no GPU


def test_points_of_a_curve_tokens_and_masks(there, here):
    shares = [replace(RECIPES["mask of known norms"], spec=PruneSpec(order="one-shot", sparsity=s)) for s in (0.3, 0.7)]
    for point in shares:
        assert same(*(finish(state.point_steps("builtin", point)) for state in (here, there)))
    pair = [RECIPES["mask"], RECIPES["mask by size"]]
    place = Place((1, 2, 3), (4,))
    assert same(*(finish(state.told_steps("builtin", pair, ASKED, place)) for state in (here, there)))
    assert same(*(finish(state.masks_steps("builtin", pair)) for state in (here, there)))


SETTINGS = ablation.page_settings(5, 1, "The sky")
DRAW = partial(calibrate_steps, text="The sky is blue. " * 99, source="uploaded text", samples=2, seq_len=64, seed=0)
MEASUREMENTS = {
    "features": partial(features.counted, magnitude=2.0),
    "a sentence": partial(sentence.read, text="The sky is blue"),
    "the lesson's sentence": partial(measured._meet, text="The sky is blue"),
    "the lesson's channel": partial(measured._without, channel=3),
    "the lesson's masks": partial(measured._masks, block=1),
    "the lesson's answers": partial(measured._answers, prompt="The sky"),
    "the norms of another text": partial(work.read_profile, draw=DRAW),
    "channels taken away": partial(ablation._ablated, chosen=Ablation((3,), "mean"), settings=SETTINGS),
    "a super weight": partial(super_weight.searched, settings=SETTINGS),
}


@pytest.mark.parametrize("name", MEASUREMENTS)
def test_measurements_of_the_outlier_lab_and_the_lesson(there, here, name):
    make = MEASUREMENTS[name]
    assert same(*(finish(state.alone_steps(state.models["builtin"], name, make)) for state in (here, there)))


def test_masks_of_the_whole_model_are_compared_by_norms_that_go_along(there, here):
    profile = there.models["builtin"].analysis.profile
    make = partial(protection.compared, profile=profile, share=0.5, within="row")
    found = [finish(state.measurement_steps("builtin", ("parting",), make)) for state in (here, there)]
    assert same(*found)


def test_the_views_events_run_there(there, space):
    view, calls = view_over(there), space.calls
    columns = [column(0, at=41), column(1, at=41, method="magnitude")]
    messages = told(view, list(view.look(visitor(), event(*columns, model="builtin", length=4))), "run")
    assert messages[-1]["ended"]
    assert all("measured" in messages[-1]["columns"][name] for name in ("0", "1"))
    swept = told(
        view, list(view.sweep(visitor(), event(columns[0], model="builtin", length=4, places=[20, 60]))), "sweep"
    )
    assert [at for at, _ in swept[-1]["points"]["0"]] in ([20, 60], [60, 20])
    asked = event(columns[0], model="builtin", length=4, prompts=["The sky", "A weight"])
    assert len(told(view, list(view.own(visitor(), asked)), "own")[-1]["rows"]) == 2
    asked = event(columns[0], model="builtin", tokens=[1, 2, 3], index=2, text="", rest="")
    assert told(view, list(view.why(visitor(), asked)), "told")[-1]["dense"]
    agreed = told(view, list(view.masks(visitor(), event(*columns, model="builtin", length=4))), "agreed")
    assert agreed[-1]["masks"]["overall"]
    assert space.calls > calls


def test_a_job_that_is_cancelled_ends_and_the_next_finds_the_weights_as_they_were(there, here):
    dense = finish(there.point_steps("builtin", Recipe(PruneSpec("magnitude", 0.0)))).perplexity
    for steps in (1, 3, 8):
        cancelled = there.look_steps("builtin", recipe(sparsity=0.6 + steps / 100), ASKED)
        with closing(cancelled):
            for _ in range(steps):
                next(cancelled)
        assert there.engine.settle(SOON)
    there.measured = type(there.measured)(1)  # so that it is measured again
    assert finish(there.point_steps("builtin", Recipe(PruneSpec("magnitude", 0.0)))).perplexity == dense
    assert looked(there, recipe(sparsity=0.55))[1].seen == looked(here, recipe(sparsity=0.55))[1].seen


def broken(loaded):
    yield Progress("analysis", 0, 1, "blocks")
    raise KeyError("what a visitor sent")


class StubbornError(Exception):
    """It cannot be made again from what was pickled."""

    def __init__(self, one, other):
        super().__init__(one)


def stubborn(loaded):
    yield Progress("analysis", 0, 1, "blocks")
    raise StubbornError(1, 2)


def refused(loaded):
    yield Progress("analysis", 0, 1, "blocks")
    raise InputError("this breaks a rule; change it")


def dying(loaded):
    yield Progress("analysis", 0, 1, "blocks")
    os._exit(1)


def slow(loaded):
    for _ in range(10_000):
        time.sleep(0.01)
        yield Progress("analysis", 0, 1, "blocks")


def alone(state, make):
    return spoken(state.alone_steps(state.models["builtin"], "test", make))


def test_what_a_job_raises_is_raised_here_and_the_next_runs(there, space):
    with pytest.raises(InputError, match=r"^this breaks a rule; change it$"):
        alone(there, refused)
    with pytest.raises(KeyError):
        alone(there, broken)
    with pytest.raises(RuntimeError, match=r"^StubbornError$"):
        alone(there, stubborn)
    with pytest.raises(InputError, match=r"characters|tokens"):
        looked(there, None, replace(ASKED, prompt="word " * 900))
    assert looked(there, Recipe(PruneSpec("magnitude", 0.2)))[1].seen.ended
    assert space.forks == 1


def test_a_process_that_dies_is_said_in_a_sentence_and_another_takes_over(there, space):
    forks = space.forks
    with pytest.raises(NotLentError, match=r"^the GPU that .* was not to be had \(GPU task aborted\); try again later"):
        alone(there, dying)
    assert looked(there, Recipe(PruneSpec("magnitude", 0.1)))[1].seen.ended
    assert space.forks == forks + 1


def test_a_quota_that_is_used_up_is_the_visitors_to_read(there, space, monkeypatch):
    words = "You have exceeded your free ZeroGPU quota (60s requested vs. 20s left).\nTry again in 3:05:10. "
    monkeypatch.setattr(space, "refuse", words)
    view = view_over(there)
    asked = event(column(at=33), model="builtin")
    problem = told(view, list(view.look(visitor(), asked)), "run")[-1]["columns"]["0"]["problem"]
    assert "(You have exceeded your free ZeroGPU quota (60s requested vs. 20s left). Try again in 3:05:10)" in problem
    assert "\n" not in problem
    assert set(space.durations) == {60}


def test_a_model_that_was_not_there_at_the_start_is_refused(there):
    with pytest.raises(InputError, match="is not one of those this server offers"):
        finish(there.model_steps("openai-community/gpt2"))


def test_the_gpu_is_lent_to_whoever_asks_and_two_at_once_are_served_one_after_the_other(there, space):
    """Quotas are the visitors' own, so the engine's thread asks in the name of the one whose job it runs."""
    view, asked = view_over(there), len(space.asked)
    ended = {}

    def visit(name, at):
        LocalContext.request.set(SimpleNamespace(session_hash=name, headers={}))
        updates = list(view.look(visitor(name), event(column(at=at, order="faithful"), model="builtin", length=4)))
        ended[name] = told(view, updates, "run")[-1]

    threads = [
        threading.Thread(target=contextvars.Context().run, args=(visit, name, at))
        for name, at in (("one", 21), ("two", 22))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SOON)
        assert not thread.is_alive()
    assert all(message["ended"] and "problem" not in message["columns"]["0"] for message in ended.values())
    assert {"one", "two"} <= set(space.asked[asked:])


def test_a_visitor_who_leaves_while_another_waits_holds_up_nobody(there):
    first = there.alone_steps(there.models["builtin"], "test", slow)
    next(step for step in first if step.stage == "analysis")
    began = time.monotonic()
    waits = threading.Thread(target=looked, args=(there, Recipe(PruneSpec("magnitude", 0.15))))
    waits.start()
    first.close()
    waits.join(SOON)
    assert not waits.is_alive()
    assert time.monotonic() - began < SOON


def test_tensors_of_any_device_come_back_to_the_cpu(device):
    import pickle

    kept = torch.arange(6.0, device=device).reshape(2, 3)
    sent = {"a": kept, "b": [torch.nn.Parameter(kept.t(), requires_grad=False)]}
    back = pickle.loads(packed(sent))
    assert back["a"].device.type == back["b"][0].device.type == "cpu"
    assert torch.equal(back["a"], kept.cpu())
    assert torch.equal(back["b"][0], kept.t().cpu())
    assert isinstance(carried(StubbornError(1, 2)), RuntimeError)
    error = InputError("a rule; a remedy")
    assert carried(error) is error


@pytest.mark.parametrize(("value", "lends"), [("true", True), ("1", True), ("false", False), ("", False)])
def test_the_platform_says_whether_a_gpu_is_lent(monkeypatch, value, lends):
    monkeypatch.setenv("SPACES_ZERO_GPU", value)
    assert has_zero_gpu() == lends
