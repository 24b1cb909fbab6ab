"""A smaller model as a recipe of the page: made once, measured against the whole one, and told as what it is."""

import gc
from dataclasses import replace

import pytest
import torch
from engine_room import ASKED, READING, server, spoken, stages
from transformers import AutoModelForCausalLM
from view_alone import Alone
from view_events import column, event, looked, told, visitor

from wanda_core.checkpoint.save import save
from wanda_core.errors import InputError
from wanda_core.evaluation.generation import generate
from wanda_core.evaluation.perplexity import agreement, perplexity
from wanda_core.model.loading import load_model
from wanda_core.progress import finish
from wanda_core.pruning.prune import prune
from wanda_core.recipe import PruneSpec
from wanda_core.report.keys import Key
from wanda_core.report.repeat import Repeat, command, python
from wanda_core.shrinking.shrink import shrink
from wanda_core.shrinking.spec import ShrinkSpec
from wanda_core.text.windows import calibrate
from wanda_ui.away.take import Take
from wanda_ui.compare import asked, messages
from wanda_ui.compare.tab import recipe_at
from wanda_ui.engine import smaller, work
from wanda_ui.engine.buying import bought_steps
from wanda_ui.engine.loaded import Left, Loaded, Measured
from wanda_ui.engine.look import WHOLE
from wanda_ui.engine.queue import BusyError
from wanda_ui.engine.recipe import PLAIN, Recipe
from wanda_ui.language import ENGLISH, LANGUAGES, words
from wanda_ui.settings import Settings

WINDOW = 128
KEEP = PruneSpec("magnitude", 0.0)
FIFTH = Recipe(KEEP, READING, ShrinkSpec(neurons=0.25))


@pytest.fixture(autouse=True)
def short_windows(monkeypatch):
    monkeypatch.setattr(work, "EVAL_SEQ_LEN", WINDOW)


@pytest.fixture
def state(tiny_llama):
    state = server(tiny_llama)
    yield state
    assert state.engine.settle()


@pytest.fixture
def plainly(tiny_llama):
    """The smaller model, made without the page."""
    reading = {"samples": READING.samples, "seq_len": READING.seq_len, "seed": READING.seed}
    return shrink(tiny_llama, FIFTH.smaller, calibrate(tiny_llama, **reading)).lm


def test_a_look_gives_what_the_smaller_model_gives_alone(state, tiny_llama, plainly):
    name = next(iter(state.models))
    said, look = spoken(state.look_steps(name, FIFTH, ASKED))
    assert {"shrinking", "agreement"} <= stages(said)
    assert look.seen.perplexity == perplexity(plainly, seq_len=WINDOW, windows=work.EVAL_WINDOWS)
    (*_, answer) = generate(plainly, ASKED.prompt, **ASKED.settings)
    assert look.seen.answer == answer
    compared = agreement(tiny_llama, plainly, seq_len=WINDOW, windows=work.AGREEMENT_WINDOWS)
    assert look.seen.agreement == compared  # with the whole model, not with itself
    assert look.seen.dense == perplexity(tiny_llama, seq_len=WINDOW, windows=work.EVAL_WINDOWS)
    assert look.measured.smaller == Left(plainly.n_parameters / tiny_llama.n_parameters, "neurons", 72, 288)
    again, before = spoken(state.look_steps(name, FIFTH, ASKED))
    assert not stages(again)
    assert before.kept


def test_it_is_made_once_and_the_whole_model_stays_as_it_is(state, tiny_llama, monkeypatch):
    weights = {name: value.clone() for name, value in tiny_llama.model.state_dict().items()}
    made = []
    steps = smaller.shrink_steps
    monkeypatch.setattr(smaller, "shrink_steps", lambda *given: made.append(given[1]) or steps(*given))
    name = next(iter(state.models))
    finish(state.prune_steps(name, FIFTH))
    finish(bought_steps(state, name, FIFTH))
    then = Recipe(PruneSpec("magnitude", 0.5), READING, FIFTH.smaller)
    zeros = finish(state.prune_steps(name, then))
    assert zeros.variant.report.sparsity == pytest.approx(0.5, abs=0.01)
    assert made == [FIFTH.smaller]
    for place in range(3):  # the one unused longest goes
        finish(state.prune_steps(name, Recipe(KEEP, READING, ShrinkSpec(neurons=0.5, score="random", seed=place))))
    assert len(state.smaller._models) == smaller.MOST_SMALLER
    after = tiny_llama.model.state_dict()
    assert all((after[name] == value).all() for name, value in weights.items())


def test_no_more_are_made_than_may_be_in_use_at_once(state, monkeypatch):
    monkeypatch.setattr(smaller, "MOST_IN_USE", 2)
    monkeypatch.setattr(smaller, "MOST_SMALLER", 1)
    recipes = [replace(FIFTH, smaller=ShrinkSpec(neurons=share)) for share in (0.25, 0.5, 0.75)]
    whole = finish(state.model_steps("tiny"))
    held = [finish(smaller.base_steps(state, whole, recipe)) for recipe in recipes[:2]]
    with pytest.raises(BusyError, match="2 smaller models are in use on this server, the most at once; try again in a"):
        finish(smaller.base_steps(state, whole, recipes[2]))
    held.clear()
    gc.collect()
    assert finish(smaller.base_steps(state, whole, recipes[2])).shrunk is not None


def test_what_it_buys_is_counted_on_the_smaller_model(state, tiny_llama, plainly):
    found = finish(bought_steps(state, next(iter(state.models)), FIFTH))
    dense, own = found.footprints
    assert own.parameters == plainly.n_parameters < dense.parameters == tiny_llama.n_parameters
    assert own.nbytes == 4 * own.parameters
    assert own.nonzero == sum(int((p != 0).sum()) for p in plainly.model.parameters())
    assert all(speed.decode > 0 for speed in found.speeds)


def test_a_server_that_borrows_its_gpu_says_so(state):
    state.lends = True
    with pytest.raises(InputError, match="on your own machine"):
        finish(state.prune_steps(next(iter(state.models)), FIFTH))


def test_the_view_looks_and_is_told_what_is_left(view):
    small = column(method="neurons", at=25)
    heard, _ = looked(view, small, column(1), column(2, method="blocks", at=34, zeros="2:4"))
    last = heard[-1]
    assert "72 of 288 neurons gone, 89.7% of the weights left, made in" in last["columns"]["0"]["measured"]
    assert "zeros, pruned in" in last["columns"]["1"]["measured"]
    both = last["columns"]["2"]["measured"]
    assert "1 of 3 blocks gone" in both
    assert "of the weights left, 50.0% zeros, made in" in both
    of_its_own = Measured(0.0002, 3.0, None, smaller=Left(0.8, "blocks", 1, 3))  # as few zeros stand in any model
    assert messages.measured(of_its_own, False, ENGLISH).endswith("80.0% of the weights left, made in 3.0 s")
    assert not any("problem" in seen for seen in last["columns"].values())
    swept = told(view, view.sweep(visitor(), event(small, places=[25, 50])), "sweep")
    assert [at for at, _ in swept[-1]["points"]["0"]] == [50, 25]
    assert "problem" not in swept[-1]


@pytest.mark.parametrize(
    ("sent", "why"),
    [
        ({"at": 95}, "0.9"),
        ({"at": -5}, "0.9"),
        ({"at": 0.001}, "cannot be removed"),
        ({"method": "heads", "at": 10}, "come in groups"),
        ({"method": "blocks", "at": 95}, "nor a share above 0 and up to 0.9"),
        ({"method": "blocks", "at": 10}, "less than half a block"),
        ({"score": "luck"}, "score 'luck' is not offered"),
        ({"zeros": "70"}, "zeros '70' is not offered"),
        ({"zeros": ["2:4"]}, "is not offered"),
        ({"method": "blocks", "score": "flap"}, "blocks go by how little they change"),
    ],
)
def test_what_no_model_can_be_made_of_is_one_sentence(view, sent, why):
    messages, _ = looked(view, column(**{"method": "neurons", "at": 25, **sent}))
    told = messages[-1].get("problem") or messages[-1]["columns"]["0"]["problem"]
    assert why in told


def test_single_weights_of_it_are_not_laid_beside_others(view):
    masks = told(view, view.masks(visitor(), event(column(), column(1, method="neurons", at=25))), "agreed")
    assert "other sizes" in masks[-1]["problem"]


def test_at_nothing_removed_it_is_the_dense_model(tiny_llama):
    settings = Settings()
    assert asked.column_of(column(method="neurons", at=0), settings).recipe == Recipe(KEEP, PLAIN)
    some = asked.column_of(column(method="neurons", at=20, score="flap"), settings)
    assert some.recipe.smaller == ShrinkSpec(neurons=0.2, score="flap")
    assert some.title(ENGLISH) == "Neurons 20%"
    both = asked.column_of(column(method="blocks", at=20, zeros="2:4"), settings)
    assert both.recipe.smaller == ShrinkSpec(blocks=0.2)
    assert both.recipe.spec == PruneSpec(pattern="2:4")
    assert both.title(ENGLISH) == "Blocks 20% + Wanda 2:4"
    assert (both.pattern, recipe_at(both, 40).smaller) == (None, ShrinkSpec(blocks=0.4))  # it is a curve
    none = asked.column_of(column(method="neurons", at=0, score="flap", zeros="50"), settings)
    assert recipe_at(none, 40).smaller == ShrinkSpec(neurons=0.4, score="flap")  # also from where nothing is gone


def test_it_is_taken_away_as_command_and_python_that_make_the_same(state, tmp_path, monkeypatch, plainly):
    name = next(iter(state.models))
    take = Take(state, Settings)
    given = column(method="neurons", at=25)
    told = take.answer({"model": name, "recipes": [given]}, ENGLISH)
    (recipe,) = told["recipes"]
    assert recipe["recipe"] is None
    assert "wanda-lab shrink" in recipe["command"]
    assert "--neurons 0.25 --samples 2 --seq-len 64" in recipe["command"]
    assert "wanda.ShrinkSpec(neurons=0.25)" in recipe["python"]
    spec = ShrinkSpec(0.3, score="flap", update="none", multiple=16)
    repeat = Repeat("builtin", KEEP, seed=3, text="notes", smaller=spec)
    assert command(repeat, "out/x") == (
        "wanda-lab shrink --model builtin --neurons 0.3 --score flap --update none --multiple 16 "
        "--calibration ./notes --seed 3 --output out/x"
    )
    assert "wanda.shrink(dense, spec, calibration)" in python(repeat, "out/x")
    both = Repeat("builtin", PruneSpec(sparsity=0.5), samples=4, smaller=ShrinkSpec(blocks=0.1))
    assert command(both, "x") == "wanda-lab shrink --model builtin --blocks 0.1 --sparsity 0.5 --samples 4 --output x"
    assert "variant = wanda.prune(smaller.lm, wanda.PruneSpec(sparsity=0.5), calibration)" in python(both, "x")
    plain = python(replace(both, samples=16), "x")
    assert plain.endswith(
        "smaller = wanda.shrink(dense, spec)\n"
        "variant = wanda.prune(smaller.lm, wanda.PruneSpec(sparsity=0.5))\nwanda.save(variant, 'x')\n"
    )


@pytest.mark.parametrize("zeros", ["default", "50"])
def test_its_checkpoint_is_the_folder_that_the_engine_saves(dense, tmp_path, zeros):
    lm = load_model(dense, device="cpu", dtype=torch.float32)
    state = server(lm)
    take, name = Take(state, Settings), next(iter(state.models))
    given = {"model": name, "recipe": column(method="neurons", at=25, zeros=zeros)}
    recipe = asked.column_of(given["recipe"], Settings()).recipe
    (before,) = take.answer({"model": name, "recipes": [given["recipe"]]}, ENGLISH)["recipes"]
    assert before["bytes"] == {"float32": None, "bfloat16": None, "float16": None}
    assert take.checkpoint(given, ENGLISH) == {"missing": True}
    finish(state.prune_steps(name, recipe))
    state.smaller.put(Loaded(lm, "another"))
    state.smaller._models.clear()  # as after others have come
    assert take.checkpoint(given, ENGLISH) == {"missing": True}
    finish(state.look_steps(name, recipe, None, replace(WHOLE, at_hand=True)))
    chosen = take.chosen(given, ENGLISH)
    sent = take.contents(chosen, ENGLISH)
    (tmp_path / "sent").mkdir()
    for _ in sent.write(tmp_path / "sent"):
        pass
    reading = {"samples": READING.samples, "seq_len": READING.seq_len}
    made = shrink(lm, recipe.smaller, calibrate(lm, **reading))
    if zeros != "default":
        made = prune(made.lm, recipe.spec, calibrate(lm, **reading))
    saved = save(made, tmp_path / "saved")
    weights = [(folder / "model.safetensors").read_bytes() for folder in (saved, tmp_path / "sent")]
    assert weights[0] == weights[1]
    ids = calibrate(lm, samples=1, seq_len=32).ids
    with torch.no_grad():
        found = AutoModelForCausalLM.from_pretrained(tmp_path / "sent", dtype=torch.float32)(ids).logits
        assert torch.equal(found, made.lm.model(ids).logits)
    (after,) = take.answer({"model": name, "recipes": [given["recipe"]]}, ENGLISH)["recipes"]
    ticket = take.checkpoint(given, ENGLISH)
    assert 0 < ticket["bytes"] - after["bytes"]["float32"] < 20_000
    assert ticket["name"] == f"dense-without-25-neurons{'' if zeros == 'default' else '-wanda-50'}.zip"
    assert state.engine.settle()


def test_keys_of_smaller_models_say_nothing_of_zeros():
    assert Key.parse("neurons,score=flap").score == "flap"
    assert Key.parse("neurons").label(20) == "20% of the neurons gone"
    assert Key.parse("blocks,zeros=2:4").label(20) == "20% of the blocks gone, Wanda 2:4"
    wrong_zeros = ("wanda,zeros=50", "neurons,zeros=40", "blocks,score=flap")
    wrong_others = ("neurons,order=faithful", "neurons,pattern=2:4", "wanda,score=flap", "neurons,score=size")
    for wrong in (*wrong_zeros, *wrong_others):
        with pytest.raises(InputError, match="names no recipe"):
            Key.parse(wrong)


STARTS = ("wanda", "neurons,score=flap", "wanda,pattern=2:4", "neurons,zeros=50")  # at 0%: two leave the dense model


@pytest.mark.browser
@pytest.mark.parametrize("language", LANGUAGES)
def test_the_page_offers_it_with_its_score_and_without_what_means_nothing(browser, language):
    told_words = words(language)
    view = Alone(browser, language=language)
    page = view.page
    assert page.locator("#wl-method option[value=neurons]").inner_text() == told_words["view.method.neurons"]
    page.locator(".wl-segments input[value='2:4']").check(force=True)
    page.locator("#wl-method").select_option("neurons")
    page.locator(".wl-more-button").click()
    assert page.locator("#wl-strip .wl-segments").is_hidden()
    assert page.locator("#wl-score").is_visible()
    assert page.locator("#wl-order").is_hidden()
    assert page.locator("#prune").inner_text() == told_words["view.shrink"]
    assert page.locator(".wl-caption").inner_text() == told_words["view.caption_parts"]
    page.locator("#wl-score").select_option("flap")
    page.locator("#wl-at").fill("20")
    page.locator("#wl-at").press("Enter")
    page.locator("#prune").click()
    sent = [data for name, data in page.evaluate("calls") if name == "look"][-1]
    first, second = sent["recipes"]
    assert (first["key"], first["at"], first["pattern"], first["score"]) == (
        "neurons,score=flap",
        20,
        "unstructured",
        "flap",
    )
    assert (second["method"], second["pattern"]) == ("magnitude", "2:4")  # what stands beside it is as it was
    message = {"run": sent["run"], "model": "builtin", "ended": True, "progress": None, "prompt": "", "settings": {}}
    point = {"perplexity": 50.0, "windows": 4, "zeros": 0, "seconds": 20.0}
    seen = {"ended": True, "key": first["key"], "at": 20, "point": point, "measured": "88% left"}
    page.evaluate("heard.run", {**message, "columns": {str(first["id"]): seen}})
    page.wait_for_function("document.querySelector('#finding').textContent.includes('50.0')")
    said = told_words["view.finding.neurons"].split("{")[0]
    assert page.locator("#finding").inner_text().startswith(said)
    assert "20%" in page.locator("#finding").inner_text()
    page.locator("#wl-method").select_option("wanda")
    assert page.locator(".wl-caption").inner_text() == told_words["view.caption"]
    assert page.locator("#wl-score").is_hidden()
    assert page.locator("#wl-order").is_visible()
    assert page.evaluate("WandaLab.recipeOf('neurons,order=faithful')") is None
    assert page.evaluate("WandaLab.recipeOf('wanda,score=flap')") is None
    for key in ("wanda,zeros=50", "neurons,zeros=40", "blocks,score=flap"):
        assert page.evaluate("key => WandaLab.recipeOf(key)", key) is None
    for key in ("neurons,score=flap", "blocks,zeros=2:4"):
        assert page.evaluate("key => WandaLab.keyOf(WandaLab.recipeOf(key))", key) == key
    page.locator("#wl-method").select_option("blocks")
    assert page.locator("#wl-score").is_hidden()
    page.locator("#wl-zeros").select_option("2:4")
    assert "+ Wanda 2:4" in page.locator(".wl-col-0 .wl-col-name").inner_text()
    starts = [page.evaluate("key => WandaLab.startsDense(WandaLab.recipeOf(key))", key) for key in STARTS]
    assert starts == [True, True, False, False]
    page.locator("#wl-at").fill("0")
    page.locator("#wl-at").press("Enter")
    assert told_words["view.finding.whole"].split("{")[0] not in page.locator("#finding").inner_text()
    page.locator("#wl-at").fill("20")
    page.locator("#wl-at").press("Enter")
    page.locator("#prune").click()
    sent = [data for name, data in page.evaluate("calls") if name == "look"][-1]
    assert (sent["recipes"][0]["key"], sent["recipes"][0]["zeros"]) == ("blocks,zeros=2:4", "2:4")
    assert not view.complaints
    view.context.close()
