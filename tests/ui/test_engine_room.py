"""The server's state: one queue for all visitors, variants within a budget, jobs that another process could run."""

import gc
import random
import shutil
import threading
from contextlib import closing, suppress
from dataclasses import replace
from functools import partial

import pytest
import torch
from engine_room import ASKED, CHANGED, READING, looked, pruned, recipe, server, stages
from model_state import assert_same, state_of
from safetensors.torch import load_file, save_file

from wanda_core.errors import InputError, ModelError, WandaError
from wanda_core.evaluation.generation import generate
from wanda_core.outliers.ablation import Ablation
from wanda_core.progress import Progress, finish
from wanda_core.pruning.packed import laid_over
from wanda_core.recipe import PruneSpec
from wanda_core.text import windows
from wanda_ui import app_state
from wanda_ui.app_state import AppState
from wanda_ui.engine import fetching, work
from wanda_ui.engine.kept_variants import LEAST_BYTES
from wanda_ui.engine.loaded import Loaded
from wanda_ui.engine.looked import only_progress
from wanda_ui.engine.queue import arrived
from wanda_ui.engine.recipe import Recipe
from wanda_ui.engine.tokens import Place
from wanda_ui.outliers.ablation import _ablated, page_settings
from wanda_ui.outliers.sentence import read
from wanda_ui.settings import Settings

COMMIT = "0123456789abcdef" * 2 + "01234567"


@pytest.fixture(autouse=True)
def short_windows(monkeypatch):
    """The tiny model reads no more than 256 tokens."""
    monkeypatch.setattr(work, "EVAL_SEQ_LEN", 128)


@pytest.fixture
def state(own_llama):
    state = server(own_llama)
    yield state
    assert state.engine.settle()


def answer_of(lm):
    (*_, whole) = generate(lm, ASKED.prompt, **ASKED.settings)
    return whole


def test_a_variant_is_kept_as_bits_and_answers_as_the_pruned_model_does(state, own_llama):
    result = pruned(state)
    assert result.variant.nbytes < sum(linear.weight.numel() for linear in own_llama.all_linears) / 8 + 100
    _, shown = looked(state, recipe())
    _, alone = looked(state)
    assert shown.result is result
    assert alone.result is None
    assert alone.seen.answer == answer_of(own_llama)
    with laid_over(own_llama, result.variant) as over:
        assert shown.seen.answer == answer_of(over)
    assert shown.seen.answer.tokens != alone.seen.answer.tokens


def test_the_one_unused_longest_goes_first_and_comes_back_with_one_question(own_llama):
    state = server(own_llama, Settings(variant_bytes=3 * LEAST_BYTES))
    first, second, third = (pruned(state, sparsity=share) for share in (0.3, 0.4, 0.5))
    measured = state.measured.get(second.key)
    assert state.variants.keys == [first.key, second.key, third.key]
    assert pruned(state, sparsity=0.3) is first  # used again: now the second is the oldest
    assert second.key in state.variants.keys  # asking for it would be using it
    fourth = pruned(state, sparsity=0.6)
    assert state.variants.keys == [third.key, first.key, fourth.key]
    assert state.variants.get(second.key) is None
    said, shown = looked(state, recipe(sparsity=0.4))
    assert "pruning" in stages(said)
    assert not stages(said) & {"dense", "agreement", "perplexity"}  # its numbers were not forgotten
    assert shown.kept  # that is said of its numbers
    assert shown.result.key == second.key
    assert (shown.measured.perplexity, shown.measured.agreement) == (measured.perplexity, measured.agreement)
    kept = {name: parameter.kept for name, parameter in second.variant.parameters.items()}
    assert all(torch.equal(kept[name], p.kept) for name, p in shown.result.variant.parameters.items())
    said, shown = looked(state, recipe(sparsity=0.4))
    assert said == []
    assert shown.seen.ended


def test_variants_with_changed_weights_count_as_what_they_take(own_llama):
    prunable = 4 * sum(linear.weight.numel() for linear in own_llama.all_linears)
    state = server(own_llama, Settings(variant_bytes=max(prunable, LEAST_BYTES) + LEAST_BYTES))
    changed = finish(state.prune_steps(own_llama.name, CHANGED))
    assert changed.variant.nbytes == prunable
    assert state.variants.nbytes == max(prunable, LEAST_BYTES)
    assert state.needed_bytes(own_llama.name, CHANGED.spec) == max(prunable, LEAST_BYTES)
    assert state.needed_bytes(own_llama.name, PruneSpec()) == LEAST_BYTES
    assert state.needed_bytes("elsewhere", PruneSpec()) is None
    pruned(state)
    pruned(state, sparsity=0.4)
    assert changed.key not in state.variants.keys


@pytest.mark.parametrize("more", [{}, {"allocation": "owl"}])
def test_a_variant_larger_than_the_budget_is_refused_before_anything_runs(own_llama, more):
    state = server(own_llama, Settings(variant_bytes=1000))
    large = Recipe(replace(CHANGED.spec, **more), READING)
    with pytest.raises(InputError, match=r"takes 0.00 GB .* choose a recipe without an update"):
        next(state.prune_steps(own_llama.name, large))


def test_a_job_that_reads_many_documents_is_left_between_two_of_them(state, own_llama, monkeypatch):
    read, words = [], windows._Cut.words
    monkeypatch.setattr(windows._Cut, "words", lambda cut, index: (read.append(index), words(cut, index))[1])
    text = state.texts.put([f"chat number {number}" for number in range(20_000)])
    steps = state.prune_steps(own_llama.name, Recipe(PruneSpec(), replace(READING, text=text)))
    assert next(step for step in steps if step.stage == "reading")
    steps.close()
    assert state.engine.settle()
    assert len(read) < 10_000
    assert pruned(state).variant.nbytes


def test_six_visitors_are_pruned_for_in_the_order_they_came(state, own_llama):
    """Their requests reach the engine in any order; each is told how many are before it, never fewer than are."""
    gate, ended = threading.Event(), []

    def hold():
        while not gate.is_set():
            yield Progress("analysis", 0, 1, "blocks")
            gate.wait(0.01)

    holder = state.engine.run(hold, ("hold",))
    next(holder)
    told = {number: [] for number in range(1, 7)}

    def visit(number):
        with arrived(number), closing(state.prune_steps(own_llama.name, recipe(sparsity=number / 10))) as steps:
            try:
                while True:
                    told[number].append(next(steps))
            except StopIteration:
                ended.append(number)

    order = [4, 1, 6, 3, 2, 5]
    visitors = []
    for place, number in enumerate(order, 1):
        visitors.append(threading.Thread(target=visit, args=(number,)))
        visitors[-1].start()
        while state.engine.waiting < place:
            pass
    gate.set()
    for visitor in visitors:
        visitor.join(60)
    holder.close()
    assert ended == [1, 2, 3, 4, 5, 6]
    for number, steps in told.items():
        places = [step.total for step in steps if step.stage == "waiting"]
        assert places
        assert max(places) <= number  # the one who holds the engine, and those who came before
        assert number - 1 in places or number == 1
    assert told[6][0].stage == "waiting"  # what comes after may be told in part, where the machine is busy


def test_two_who_ask_for_the_same_get_one_result(state):
    results = []
    threads = [threading.Thread(target=lambda: results.append(pruned(state))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(results) == 3
    assert len({id(result.variant) for result in results}) == 1


@pytest.mark.parametrize("number_of_jobs", [35, pytest.param(200, marks=pytest.mark.long)])
def test_jobs_closed_at_random_moments_leave_everything_as_it_was(state, own_llama, number_of_jobs):
    rng = random.Random(0)
    name = own_llama.name
    finish(state.open_steps(name))
    before, threads = state_of(own_llama.model), threading.active_count()
    grad = torch.is_grad_enabled()
    long = replace(ASKED, max_new_tokens=40)
    jobs = [
        lambda: state.look_steps(name, recipe(sparsity=round(rng.uniform(0.1, 0.8), 3)), long),
        lambda: state.prune_steps(name, Recipe(CHANGED.spec, replace(READING, seed=rng.randrange(10**6)))),
        lambda: state.look_steps(name, None, replace(long, seed=rng.randrange(10**6), temperature=1.0)),
        lambda: state.point_steps(name, recipe(method="magnitude", sparsity=round(rng.uniform(0.1, 0.8), 3))),
        lambda: state.told_steps(name, [recipe()], ASKED, Place(" blue" * rng.randrange(9))),
        lambda: state.measurement_steps(name, ("sentence", rng.random()), partial(read, text="The sky")),
        lambda: state.measurement_steps(
            name,
            ("ablation", rng.random()),
            partial(_ablated, chosen=Ablation((3,)), settings=page_settings(5, 1, "The sky")),
        ),
    ]
    held, closed = [], 0
    for number in range(number_of_jobs):
        held.append(jobs[number % len(jobs)]())
        with suppress(StopIteration, WandaError):
            for _ in range(rng.randrange(6)):
                next(held[-1])
        if len(held) > rng.randrange(4):
            held.pop(rng.randrange(len(held))).close()
            closed += 1
    for steps in held:
        steps.close()
    assert closed > number_of_jobs / 2
    assert state.engine.settle()
    assert_same(before, state_of(own_llama.model))
    gc.collect()
    assert threading.active_count() == threads
    assert torch.is_grad_enabled() == grad
    assert state.engine.idle
    assert finish(state.measurement_steps(name, ("sentence", 0), partial(read, text="The sky"))).tokens


def test_a_pinned_model_is_fetched_at_its_commit_and_its_variants_come_back(own_llama, monkeypatch):
    asked = []

    def locate(name, **_):
        asked.append(name)
        return name

    monkeypatch.setattr(fetching, "locate", locate)
    monkeypatch.setattr(
        app_state, "load_located", lambda name, one_thread: replace(own_llama, name=name, revision=COMMIT)
    )
    state = AppState(Settings(public=True, models={"owner/m": COMMIT}, variant_bytes=2 * LEAST_BYTES))
    shares = (0.3, 0.4, 0.5)
    keys = [finish(state.prune_steps("owner/m", recipe(sparsity=share))).key for share in shares]
    assert asked == [f"owner/m@{COMMIT}"]
    assert list(state.models) == ["owner/m"]
    assert state.variants.get(keys[0]) is None
    _, shown = looked(state, recipe(sparsity=0.3))
    assert shown.result.key == keys[0]
    assert finish(state.open_steps("owner/m")).analysis is not None


def test_a_variant_is_not_laid_over_another_folders_model_nor_over_the_folder_written_anew(own_llama, tmp_path):
    """Nor is anything else taken over that was found out about another state of a model."""
    (tmp_path / "config.json").write_text("{}")
    state = AppState()
    for name in ("base", "tuned"):
        state.models[name] = Loaded(replace(own_llama, name=name, folder=tmp_path))

    def look(name):
        return finish(state.look_steps(name, recipe(), ASKED))

    first = look("base")
    assert not first.kept
    assert first.result.is_of(state.models["base"])
    assert not first.result.is_of(state.models["tuned"])
    other = look("tuned")
    assert not other.kept
    assert other.result.key != first.result.key
    (tmp_path / "config.json").write_text("{} ")
    state.models["base"] = Loaded(replace(own_llama, name="base", folder=tmp_path))
    assert not first.result.is_of(state.models["base"])
    again = look("base")
    assert not again.kept
    assert again.result.key not in (first.result.key, other.result.key)
    assert look("base").kept


def test_a_folder_that_was_written_anew_is_read_anew_and_one_that_has_gone_serves(own_llama, tmp_path):
    folder = tmp_path / "model"
    own_llama.model.save_pretrained(folder)
    own_llama.tokenizer.save_pretrained(folder)
    state, name = AppState(), str(folder)
    first = finish(state.model_steps(name))
    assert finish(state.model_steps(name)) is first
    halve(folder)
    again = finish(state.model_steps(name))
    assert again.state != first.state
    assert finish(state.model_steps(name)) is again
    assert list(state.models) == [name]
    for before, now in zip(first.lm.model.parameters(), again.lm.model.parameters(), strict=True):
        assert torch.equal(before / 2, now), "nor has the one in memory changed with the files"
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[:-1])
    with pytest.raises(ModelError, match="give a complete checkpoint"):
        finish(state.model_steps(name))
    (folder / "model.safetensors").write_bytes(whole)
    last = finish(state.model_steps(name))
    shutil.rmtree(folder)
    assert finish(state.model_steps(name)) is last


def test_no_result_is_of_two_states_of_a_folder(own_llama, tmp_path):
    folder = tmp_path / "model"
    own_llama.model.save_pretrained(folder)
    own_llama.tokenizer.save_pretrained(folder)
    state = AppState()
    finish(state.model_steps(str(folder)))
    looking = state.look_steps(str(folder), recipe(order="one-shot"))
    while not isinstance(step := next(looking), Progress) or step.innermost.stage != "profile":
        pass
    halve(folder)
    with pytest.raises(ModelError, match="have changed since it was loaded; load the model again"):
        finish(only_progress(looking))
    assert finish(state.prune_steps(str(folder), recipe(order="one-shot"))).is_of(state.models[str(folder)])


def test_an_analysis_is_that_of_the_state_that_it_is_kept_with(own_llama):
    state, name = server(own_llama), own_llama.name
    first = state.models[name]
    waiting = state.open_steps(name)
    next(waiting)
    state.models[name] = second = Loaded(own_llama)
    second.state, second.has_changed = "written anew", lambda: False
    finish(state.open_steps(name))
    finish(waiting)
    assert first.analysis is not None
    assert second.analysis is not None
    assert second.analysis is not first.analysis


def test_the_model_of_a_gguf_file_that_was_written_anew_is_made_anew(own_llama, tmp_path):
    file = tmp_path / "one.gguf"
    file.write_bytes(b"first")
    (tmp_path / "config.json").write_text("{}")
    loaded = Loaded(replace(own_llama, name=str(file), folder=tmp_path, revision="local"))
    assert not loaded.has_changed()
    file.write_bytes(b"another")
    assert loaded.has_changed()
    file.unlink()
    assert not loaded.has_changed(), "what was made of it is there"


def halve(folder):
    """Write a folder's weights anew in place, as programs do that save a model."""
    file = folder / "model.safetensors"
    save_file({name: value / 2 for name, value in load_file(file).items()}, folder / "other", {"format": "pt"})
    file.write_bytes((folder / "other").read_bytes())
    (folder / "other").unlink()


def test_where_jobs_run_elsewhere_only_what_is_loaded_is_offered(own_llama):
    state = server(own_llama)
    state.run_by(lambda job, models: job(models))
    assert pruned(state)
    with pytest.raises(InputError, match=f"this server runs {own_llama.name} alone"):
        next(state.model_steps("owner/other"))


def test_a_start_without_network_is_no_traceback(monkeypatch):
    def nothing(name, **_):
        raise ModelError("there is no network; connect first")

    monkeypatch.setattr(fetching, "locate", nothing)
    raised = []
    monkeypatch.setattr(threading, "excepthook", raised.append)
    state = AppState()
    state.start()
    with pytest.raises(ModelError, match="connect first"):
        finish(state.model_steps("builtin"))
    for thread in threading.enumerate():
        if thread.name == "start":
            thread.join(10)
    assert raised == []


@pytest.mark.parametrize("name", ["{} ", " {}\n", "'{}'"])
def test_every_way_to_write_a_name_is_the_same_model(state, own_llama, name):
    loaded = state.models[own_llama.name]
    assert finish(state.model_steps(name.format(own_llama.name))) is loaded
    assert state.loaded(name.format(own_llama.name)) is loaded
    assert list(state.models) == [own_llama.name]
    assert state.loaded(None) is state.loaded([]) is state.loaded("no such/model/at all") is None


def test_only_listed_models_are_fetched_in_public():
    state = AppState(Settings(public=True, models={}))
    with pytest.raises(InputError, match="not one of those this server offers"):
        next(state.model_steps("Qwen/Qwen2.5-0.5B"))
