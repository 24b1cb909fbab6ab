"""Work that leaves the engine's thread: jobs that another process could run, and look-ups in threads of their own."""

import pickle
import threading
import time
from functools import partial

import pytest
from engine_room import ASKED, CHANGED, pruned, server, spoken

from wanda_core.errors import ModelError, WandaError
from wanda_core.outliers.ablation import Ablation
from wanda_core.progress import Progress, finish, still_wanted
from wanda_core.recipe import PruneSpec
from wanda_core.text.windows import calibrate_steps
from wanda_ui.engine import look as looks
from wanda_ui.engine import work
from wanda_ui.engine.fetching import MOST_FETCHES, Fetching
from wanda_ui.engine.look import How, Made, Seen
from wanda_ui.engine.tokens import Place, told_at
from wanda_ui.lesson import measured
from wanda_ui.outliers.ablation import _ablated, page_settings
from wanda_ui.outliers.features import counted
from wanda_ui.outliers.protection import compared
from wanda_ui.outliers.sentence import read
from wanda_ui.outliers.super_weight import searched


@pytest.fixture(autouse=True)
def short_windows(monkeypatch):
    """The tiny model reads no more than 256 tokens."""
    monkeypatch.setattr(work, "EVAL_SEQ_LEN", 128)


@pytest.fixture
def state(own_llama):
    state = server(own_llama)
    yield state
    assert state.engine.settle()


@pytest.mark.long
def test_what_runs_in_the_engine_could_run_in_another_process(state, own_llama):
    """Every job of the page is pickled with its arguments, and its result gives the same when it comes back so."""
    name = own_llama.name
    loaded = finish(state.open_steps(name))
    models = {name: loaded}
    profile = loaded.analysis.profile
    settings = page_settings(5, 1, "The sky")
    draw = partial(calibrate_steps, text=None, source=None, samples=2, seq_len=64, seed=0)
    own = partial(calibrate_steps, text="The sky is blue. " * 99, source="uploaded text", samples=2, seq_len=64, seed=0)
    measures = [
        partial(counted, magnitude=2.0),
        partial(read, text="The sky is blue"),
        partial(compared, profile=profile, share=0.5, within="row"),
        partial(measured._source),
        partial(measured._change, text="The sky is blue"),
        partial(measured._sinks, text="The sky is blue"),
        partial(measured._lean),
        partial(measured._price),
        partial(work.read_profile, draw=own),
        partial(_ablated, chosen=Ablation((3,), "mean"), settings=settings),
    ]
    variant = pruned(state).variant
    look = partial(looks.look, name=name, asked=ASKED, known=Seen())
    jobs = [
        partial(work.analyse, name=name),
        partial(look, how=None, variant=None),
        partial(look, how=How(PruneSpec(), draw), variant=None),
        partial(look, how=How(PruneSpec(order="one-shot"), None, profile), variant=None),
        partial(look, how=How(CHANGED.spec, own), variant=None),
        partial(look, how=How(variant.spec), variant=variant),
        partial(looks.point, name=name, how=How(PruneSpec(), draw)),
        partial(told_at, name=name, variants=[(name, variant)], asked=ASKED, place=Place((1, 2))),
        partial(work.masks, name=name, variants=[variant, variant]),
        *(partial(work.measure, name=name, make=make) for make in measures),
    ]
    for job in jobs:
        said, result = spoken(pickle.loads(pickle.dumps(job))(models))
        again = pickle.loads(pickle.dumps((said, result)))
        assert [step for step in again[0] if not isinstance(step, Made)] == [x for x in said if not isinstance(x, Made)]
        assert type(again[1]) is type(result)
    pickle.dumps(partial(searched, settings=settings))


def test_a_model_that_cannot_be_fetched_holds_up_nobody():
    silent, tell_all = threading.Event(), []

    def fetch(name, tell):
        tell(Progress("asking", 0, 1, "parts", name))
        if name == "silent":
            tell_all.append(tell)
            silent.wait(20)
            tell(Progress("downloading", 0, 1, "bytes"))  # raises where nobody waits any more
        if name == "wrong":
            raise ModelError("it is wrong; take another")
        return name

    fetching = Fetching(fetch)
    waiting = fetching.steps("silent")
    assert next(waiting).stage in ("asking", "loading")
    assert finish(fetching.steps("quick")) == "quick"
    with pytest.raises(ModelError, match="take another"):
        finish(fetching.steps("wrong"))
    second = fetching.steps("silent")
    next(second)
    assert len(tell_all) == 1
    waiting.close()
    silent.set()
    assert finish(second) == "silent"
    silent.clear()
    third = fetching.steps("silent")
    next(third)
    third.close()  # the last one
    with pytest.raises(Exception):  # noqa: B017, PT011 - a type of its own, which nobody else sees
        tell_all[-1](Progress("downloading", 0, 1, "bytes"))
    silent.set()


def test_who_gives_another_token_waits_for_no_fetch_without_it():
    begun, go = threading.Event(), threading.Event()

    def fetch(name, tell, token=None):
        begun.set()
        assert go.wait(20)
        if token != "right":
            raise ModelError(f"{name} is gated; give a token")
        return name

    fetching = Fetching(fetch)
    without, wrong, right, also = (
        fetching.steps("gated", **more) for more in ({}, {"token": "wrong"}, {"token": "right"}, {"token": "right"})
    )
    for steps in (without, wrong, right, also):
        next(steps)
    assert len(fetching._fetches) == 3
    go.set()
    for refused in (without, wrong):
        with pytest.raises(ModelError, match="give a token"):
            finish(refused)
    assert [finish(steps) for steps in (right, also)] == ["gated", "gated"]
    assert fetching._fetches == {}


def test_a_long_step_of_what_nobody_waits_for_ends_too():
    ended = threading.Event()

    def fetch(name, tell):
        try:
            while True:
                still_wanted()
                time.sleep(0.01)
        finally:
            ended.set()

    waiting = Fetching(fetch).steps("long")
    next(waiting)
    assert not ended.wait(0.1)
    waiting.close()
    assert ended.wait(5)


def test_so_many_models_may_be_on_their_way_at_once():
    go = threading.Event()
    fetching = Fetching(lambda name, tell: go.wait(20) and name)
    held = [fetching.steps(f"model{number}") for number in range(MOST_FETCHES)]
    for steps in held:
        next(steps)
    with pytest.raises(WandaError, match="try again in a minute"):
        next(fetching.steps("one-more"))
    go.set()
    assert [finish(steps) for steps in held] == [f"model{number}" for number in range(MOST_FETCHES)]
    assert finish(fetching.steps("one-more")) == "one-more"
