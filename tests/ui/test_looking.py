"""Looks at one model: what is run, what is kept of it, and that what is interleaved is what each gives alone."""

import threading
from dataclasses import replace

import pytest
import torch
from engine_room import ASKED, CHANGED, READING, looked, pruned, recipe, server, spoken, stages

from wanda_core.assets import BUILTIN_EVALUATION
from wanda_core.errors import InputError, ModelError
from wanda_core.evaluation.generation import generate
from wanda_core.evaluation.perplexity import agreement, perplexity
from wanda_core.progress import Progress, finish
from wanda_core.pruning.packed import laid_over
from wanda_core.recipe import PruneSpec
from wanda_core.text.files import read_text
from wanda_ui import app_state
from wanda_ui.engine import look as looks
from wanda_ui.engine import work
from wanda_ui.engine.kept import Kept
from wanda_ui.engine.loaded import Loaded, OneState
from wanda_ui.engine.look import Wanted
from wanda_ui.engine.looked import Look
from wanda_ui.engine.queue import BusyError
from wanda_ui.engine.recipe import PLAIN, Recipe

WINDOW = 128  # tokens; the tiny model reads no more than 256


@pytest.fixture(autouse=True)
def short_windows(monkeypatch):
    monkeypatch.setattr(work, "EVAL_SEQ_LEN", WINDOW)


@pytest.fixture
def state(tiny_llama):
    state = server(tiny_llama)
    yield state
    assert state.engine.settle()


@pytest.fixture
def made(monkeypatch):
    """The recipes of all variants that are made, in order."""
    specs, prune = [], looks._prune

    def noted(lm, how):
        specs.append(how.spec)
        return prune(lm, how)

    monkeypatch.setattr(looks, "_prune", noted)
    return specs


def measured_alone(lm):
    return perplexity(lm, read_text(BUILTIN_EVALUATION), seq_len=WINDOW, windows=work.EVAL_WINDOWS)


WANTED = {
    "bits": recipe(),
    "changed weights": CHANGED,
    "one-shot": Recipe(PruneSpec(order="one-shot"), READING),
    "no text": recipe(method="magnitude", sparsity=0.7),
    "pattern": recipe(pattern="2:4"),
}


@pytest.mark.parametrize("temperature", [0.0, 1.3])
@pytest.mark.parametrize("wanted", [None, *WANTED.values()], ids=["dense", *WANTED])
def test_what_is_interleaved_is_what_each_gives_alone(state, tiny_llama, wanted, temperature):
    question = replace(ASKED, max_new_tokens=17, temperature=temperature, seed=3)
    _, look = looked(state, wanted, question)
    assert look.seen.ended
    assert not look.kept
    assert look.seen.dense == measured_alone(tiny_llama)

    def check(lm):
        (*_, answer) = generate(lm, question.prompt, **question.settings)
        assert look.seen.answer == answer
        assert look.seen.perplexity == measured_alone(lm)

    if wanted is None:
        check(tiny_llama)
        assert (look.result, look.measured, look.seen.agreement) == (None, None, None)
        return
    with laid_over(tiny_llama, look.result.variant) as over:
        check(over)
        text = read_text(BUILTIN_EVALUATION)
        compared = agreement(tiny_llama, over, text, seq_len=WINDOW, windows=work.AGREEMENT_WINDOWS)
    assert look.seen.agreement == look.measured.agreement == compared
    assert look.measured.perplexity == look.seen.perplexity
    assert look.measured.sparsity == look.result.variant.report.sparsity


def test_a_look_grows_and_what_is_waited_for_comes_first(state, monkeypatch):
    """Every step is looked at, which no slow reader can: those of the job itself."""
    profile = finish(state.open_steps("tiny")).analysis.profile
    how = looks.How(PruneSpec(order="one-shot"), None, profile)
    question = replace(ASKED, max_new_tokens=20)
    said, whole = spoken(looks.look(state.models, "tiny", how, None, question, looks.Seen()))
    seen = [step for step in said if isinstance(step, looks.Seen)]
    [variant] = [step.variant for step in said if isinstance(step, looks.Made)]
    first = said.index(seen[0])
    assert len(seen[0].answer.tokens) == 1  # the first word before the variant is packed
    assert isinstance(next(step for step in said[first + 1 :] if not isinstance(step, Progress)), looks.Made)
    assert variant.nbytes
    assert (seen[1].perplexity.windows, len(seen[1].answer.tokens)) == (1, 1)
    tokens = [len(step.answer.tokens) for step in seen]
    windows = [step.perplexity.windows if step.perplexity else 0 for step in seen]
    assert tokens == sorted(tokens)
    assert tokens[-1] == 20
    assert windows == sorted(windows)
    assert windows[-1] == work.EVAL_WINDOWS
    second = windows.index(2)
    assert tokens[second] == 1 + looks.TOKENS_A_WINDOW  # both grow
    assert not any(step.ended for step in seen)
    assert whole.ended
    assert whole.agreement is not None


def test_what_is_known_is_not_run_again(state, made):
    said, first = looked(state, recipe())
    assert not first.kept
    again, second = looked(state, recipe())
    assert again == []
    assert second.kept
    assert second.result is first.result
    assert (second.seen, second.measured) == (first.seen, first.measured)
    others = [replace(ASKED, prompt="A river"), replace(ASKED, seed=5), replace(ASKED, max_new_tokens=3)]
    for other in [*others, None]:
        said, look = looked(state, recipe(), other)
        assert not stages(said) & {"pruning", "dense", "agreement"}
        assert look.kept
        assert look.measured == first.measured
        assert (look.seen.answer is None) == (other is None)
    assert len(made) == 1
    assert looked(state)[1].seen.perplexity == first.seen.dense
    assert looked(state)[0] == []


def test_what_is_not_wanted_is_not_measured_and_comes_with_the_next_look(state, tiny_llama, made):
    answered = Wanted(perplexity=False, agreement=False)
    steps = state.look_steps("tiny", recipe(), ASKED, answered)
    said, look = spoken(steps)
    assert (look.seen.perplexity, look.seen.agreement, look.measured) == (None, None, None)
    assert look.seen.ended
    assert look.seen.answer is not None
    assert not any(isinstance(step, Look) and step.seen.perplexity for step in said)
    _, look = spoken(state.look_steps("tiny", recipe(), ASKED, Wanted(agreement=False)))
    assert look.seen.perplexity is not None
    assert (look.seen.agreement, look.seen.dense) == (None, None)
    assert look.measured.agreement is None
    _, look = looked(state, recipe())
    assert look.seen.agreement is not None
    assert len(made) == 1
    _, look = spoken(state.look_steps("tiny", None, replace(ASKED, seed=9), answered))
    assert look.seen.answer is not None


@pytest.mark.parametrize("wanted", [None, recipe()], ids=["dense", "pruned"])
def test_what_is_measured_once_for_two_visitors_leaves_each_its_own_answer(state, wanted):
    """Both have their answers, and wait for the rest at the same time."""
    questions = ASKED, replace(ASKED, prompt="Whose word is this? Another visitor's.")
    answered = [spoken(state.look_steps("tiny", wanted, each, Wanted(False, False)))[1] for each in questions]
    own = [look.seen.answer for look in answered]
    assert own[0] != own[1]
    go, jobs = threading.Event(), []

    def hold():
        while not go.wait(0.001):
            yield Progress("loading", 0, 1, "parts")

    held = state.engine.run(hold, ("hold",))
    next(held)
    for each in (*questions, None):  # one who asks nothing is told nobody's answer
        jobs.append(state.look_steps("tiny", wanted, each))
        next(jobs[-1])
    go.set()
    assert spoken(held)
    for job, answer in zip(jobs, (*own, None), strict=True):
        said, look = spoken(job)
        assert {step.seen.answer for step in [*said, look] if isinstance(step, Look)} == {answer}
        assert look.seen.dense is not None
        assert (look.seen.agreement is None) == (wanted is None)


def test_what_is_made_is_kept_however_seldom_anybody_listens(state):
    """A busy server's events are told the latest step alone: the variant must not be among those they miss."""
    steps = state.look_steps("tiny", recipe(), ASKED)
    said = []
    try:
        while True:
            said.append(next(steps))
            assert state.engine.settle()  # the job is over before the event looks again
    except StopIteration as stop:
        look = stop.value
    assert len(said) < 3
    assert state.variants.get(look.result.key) is look.result
    assert look.measured.agreement is not None
    assert looked(state, recipe())[0] == []


def test_what_was_made_stays_where_the_rest_is_given_up(state, made):
    steps = state.look_steps("tiny", recipe(), replace(ASKED, max_new_tokens=150))
    for step in steps:
        if isinstance(step, Look) and step.result is not None:
            break
    steps.close()
    assert state.engine.settle()
    assert state.variants.keys == [step.result.key]
    said, _ = looked(state, recipe())
    assert "pruning" not in stages(said)
    assert len(made) == 1


def test_recipes_on_the_plain_reading_share_one_pass_of_the_model(state, monkeypatch):
    passes, analyse = [], work.analyse_steps

    def noted(lm, calibration):
        passes.append(calibration.samples)
        return analyse(lm, calibration)

    monkeypatch.setattr(work, "analyse_steps", noted)
    for method, share in (("wanda", 0.3), ("wanda", 0.6), ("ria", 0.5)):
        _, look = looked(state, Recipe(PruneSpec(method, share, order="one-shot")))
        assert look.result.variant.profile is not None
    assert passes == [PLAIN.samples]
    assert state.models["tiny"].analysis is not None


def test_recipes_on_another_reading_share_its_profile(state, monkeypatch):
    drawn, profile = [], work.profile_steps

    def noted(lm, calibration):
        drawn.append(calibration.source)
        return profile(lm, calibration)

    monkeypatch.setattr(work, "profile_steps", noted)
    digest = state.texts.put("The river carries sand to the sea. " * 99)
    reading = replace(READING, text=digest)
    results = [
        looked(state, Recipe(PruneSpec(sparsity=share, order="one-shot"), reading))[1].result for share in (0.3, 0.6)
    ]
    assert drawn == ["uploaded text"]
    assert len({result.variant.profile.calibration for result in results}) == 1
    other = looked(state, Recipe(PruneSpec(order="one-shot"), READING))[1].result
    assert other.variant.profile.calibration != results[0].variant.profile.calibration
    assert drawn == ["uploaded text", "built-in text"]


def test_a_reading_longer_than_the_model_reads_is_refused_before_anything_runs(state, made):
    with pytest.raises(InputError, match="seq_len"):
        finish(state.look_steps("tiny", Recipe(PruneSpec(order="one-shot"), replace(READING, seq_len=1000))))
    assert made == []


def test_a_point_is_what_a_look_measures_and_nothing_but_its_numbers_is_kept(state, made):
    point = finish(state.point_steps("tiny", recipe(sparsity=0.3)))
    assert not state.variants.keys
    assert finish(state.point_steps("tiny", recipe(sparsity=0.3))) == point
    assert len(made) == 1
    _, look = looked(state, recipe(sparsity=0.3))
    assert look.kept  # its perplexity was known
    assert look.seen.perplexity == point.perplexity
    assert look.measured.sparsity == point.sparsity
    measured = pruned(state, sparsity=0.6)
    after = len(made)
    assert finish(state.point_steps("tiny", recipe(sparsity=0.6))).sparsity == measured.variant.report.sparsity
    assert len(made) == after


def test_the_seconds_of_a_pruning_are_those_of_the_same_before_else_reckoned_from_one_pass(state):
    one_shot, faithful = (Recipe(PruneSpec(order=order)) for order in ("one-shot", "faithful"))
    assert state.expected("elsewhere", one_shot).pruning is None
    assert state.expected("tiny", one_shot).pruning is None
    finish(state.open_steps("tiny"))
    quick, slow = (state.expected("tiny", wanted).pruning for wanted in (one_shot, faithful))
    assert 0 < quick < slow
    report = finish(state.prune_steps("tiny", one_shot)).variant.report
    assert state.expected("tiny", Recipe(PruneSpec(sparsity=0.2, order="one-shot"))).pruning == report.seconds
    assert state.expected("tiny", faithful).pruning == slow


def test_small_things_are_kept_within_a_bound():
    kept = Kept(2)
    kept.put("a", 1)
    kept.put("b", 2)
    assert kept.get("a") == 1  # used now
    kept.put("c", 3)
    assert [kept.get(name) for name in "abc"] == [1, None, 3]
    kept.put("a", 4)
    assert (kept.get("a"), len(kept)) == (4, 2)


def test_a_full_queue_is_no_problem_of_the_model_whose_analysis_it_refused(state, monkeypatch):
    def full(*_, **__):
        raise BusyError("20 jobs wait for this server already; try again in a minute")

    with monkeypatch.context() as patch:
        patch.setattr(state.engine, "run", full)
        with pytest.raises(BusyError):
            finish(state.open_steps("tiny"))
    assert state.models["tiny"].problem == ""


def test_answers_are_of_one_model_variant_and_question(state):
    answers = {}
    for wanted in (None, recipe(sparsity=0.6), recipe(sparsity=0.7)):
        for question in (ASKED, replace(ASKED, prompt="A river")):
            answers[(wanted, question)] = looked(state, wanted, question)[1].seen.answer
    assert len(state.answers) == 6
    for (wanted, question), answer in answers.items():
        said, look = looked(state, wanted, question)
        assert said == []
        assert look.seen.answer == answer


def test_of_the_built_in_model_the_analysis_is_kept_from_one_start_to_the_next(tiny_llama, tmp_path, monkeypatch):
    monkeypatch.setattr(app_state.builtin, "analysis_file", lambda: tmp_path / "analysis")
    named = replace(tiny_llama, name="builtin")
    first, second, other = server(named), server(named), server(tiny_llama)
    finish(other.open_steps("tiny"))
    assert not (tmp_path / "analysis").exists()
    finish(first.open_steps("builtin"))
    assert (tmp_path / "analysis").exists()

    def nothing(*given):
        raise AssertionError("the model was run")

    monkeypatch.setattr(work, "analyse_steps", nothing)
    finish(second.open_steps("builtin"))
    one_shot = Recipe(PruneSpec(order="one-shot"))
    assert first.expected("builtin", one_shot).pruning == second.expected("builtin", one_shot).pruning
    profiles = [state.models["builtin"].analysis.profile for state in (first, second)]
    assert all(torch.equal(profiles[0].norms[name], norm) for name, norm in profiles[1].norms.items())


def test_what_is_told_together_is_of_one_state(tiny_llama):
    now = {"loaded": Loaded(tiny_llama)}
    one = OneState(lambda: now["loaded"])
    one.check()
    now["loaded"] = Loaded(tiny_llama)
    one.check()  # read again, as it was
    now["loaded"] = None
    one.check()
    now["loaded"] = Loaded(tiny_llama)
    now["loaded"].state = "written anew"
    with pytest.raises(ModelError, match="have changed since it was loaded; load the model again"):
        one.check()
