"""Jobs that are given up at any module of any step: nothing of them stays, and the next finds the model as it was."""

import random
from functools import partial

import pytest
from engine_room import ASKED, READING, recipe, server
from model_state import assert_same, state_of
from view_events import WINDOW

from wanda_core.progress import end_when, finish
from wanda_core.recipe import PruneSpec, Solver
from wanda_core.shrinking.spec import ShrinkSpec
from wanda_ui.engine import work
from wanda_ui.engine.queue import BusyError
from wanda_ui.engine.recipe import Recipe
from wanda_ui.outliers.sentence import read

BESIDE = Solver(steps=2, rounds=1, dense_share=0.5, stream_share=0.25)
RECIPES = {
    "faithful": recipe(),
    "one-shot": recipe(method="ria", order="one-shot"),
    "sparsegpt": recipe(method="sparsegpt", order="in-flight"),
    "beside the dense stream": recipe(order="in-flight", update="least-squares", solver=BESIDE),
    "by sensitivity": recipe(order="one-shot", allocation="measured"),
    "arranged": recipe(pattern="2:4", arrange=True),
    "smaller": Recipe(PruneSpec("magnitude", 0.0), READING, ShrinkSpec(neurons=0.25)),
}
QUICK = ("beside the dense stream", "smaller", "sentence")  # make soak runs the others too
PLACES = 4  # of each job at which it is given up


class GivenUp:
    """Asked at every module; true from one of them on."""

    def __init__(self, at=None):
        self.at, self.asked = at, 0

    def __call__(self):
        self.asked += 1
        return self.asked == self.at


def jobs(state, name):
    """What visitors ask, by name, as functions that begin it."""
    asked = {each: partial(state.look_steps, name, wanted, ASKED) for each, wanted in RECIPES.items()}
    sentence = partial(state.measurement_steps, name, ("sentence", 0), partial(read, text="The sky"))
    return {**asked, "analysis": partial(state.open_steps, name), "sentence": sentence}


def measured(result):
    """What has to be the same however often it is asked for."""
    seen = getattr(result, "seen", None)
    return None if seen is None else (seen.perplexity, seen.agreement, seen.dense)


@pytest.mark.parametrize(
    "what",
    [
        pytest.param(each, marks=() if each in QUICK else pytest.mark.long)
        for each in (*RECIPES, "analysis", "sentence")
    ],
)
def test_at_any_module_of_any_job_nothing_of_it_stays(tiny_llama, monkeypatch, what):
    monkeypatch.setattr(work, "EVAL_SEQ_LEN", WINDOW)

    def run(given_up):
        state = server(tiny_llama)

        def here(job, models):
            end_when(given_up)
            return (yield from job(models))

        state.run_by(here)
        return finish(jobs(state, tiny_llama.name)[what]())

    before, whole = state_of(tiny_llama.model), GivenUp()
    run(GivenUp())  # a model's first run looks at more
    result = run(whole)
    for at in sorted(random.Random(0).sample(range(1, whole.asked + 1), PLACES)):
        with pytest.raises(BusyError, match="ended before its time"):
            run(GivenUp(at))
        assert_same(before, state_of(tiny_llama.model))
    assert measured(run(GivenUp())) == measured(result)
