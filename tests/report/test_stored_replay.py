"""The replay that comes with the program: whole, small, made by today's recipes, and what the engine still measures."""

import base64
import hashlib
import json
import random

import pytest
import torch
from run_shape import assert_whole

from wanda_core.assets import BUILTIN_EVALUATION, REPLAY
from wanda_core.checks import DEFAULT_SAMPLES, DEFAULT_SEQ_LEN, EVAL_SEQ_LEN, EVAL_WINDOWS
from wanda_core.evaluation.generation import prompt_ids
from wanda_core.evaluation.next_logits import next_logits
from wanda_core.evaluation.perplexity import perplexity
from wanda_core.model.builtin import GGUF_SHA256, TITLE
from wanda_core.outliers.ablation import Ablation, ablated
from wanda_core.presets import preset
from wanda_core.pruning.prune import prune
from wanda_core.report import figures, keys
from wanda_core.report.plan import PICTURED, PROMPTS, WHOLE, Cell
from wanda_core.report.replay import MOST_BYTES
from wanda_core.report.run import dumped, points_of, recipe_of
from wanda_core.text.chats import fingerprint_of
from wanda_core.text.files import read_text
from wanda_core.text.windows import calibrate

WRITTEN = REPLAY.read_bytes()
STORED = json.loads(WRITTEN)
POINTS = points_of(STORED)
BEST = [cell for cell in WHOLE.cells if cell.key.method == "best"]
AGAIN = "make it anew with `make replay`"


def drawn_cells() -> list:
    """A cell by lot, in the long form more of both lines and one of the preset: another file, other lots."""
    lots = random.Random(hashlib.sha256(WRITTEN).hexdigest())
    percents = lots.sample([percent for percent in WHOLE.lines[0].percents if percent], 2)
    cells = [Cell(key, percent) for percent in percents for key in PICTURED]
    more = [*cells[1:], lots.choice(BEST)]
    return [cells[0], *(pytest.param(cell, marks=pytest.mark.long) for cell in more)]


def test_it_is_whole_and_small():
    assert len(WRITTEN) <= MOST_BYTES
    assert_whole(STORED, WHOLE, 30)
    assert dumped(STORED).encode() == WRITTEN


def test_it_was_made_by_todays_recipes_texts_and_prompts():
    made = STORED["made"]
    recipes = {line["key"]: line["recipe"] for line in STORED["lines"]}
    assert recipes == {str(line.key): recipe_of(line.key) for line in WHOLE.lines}, AGAIN
    drawn = made["calibration"]
    assert (drawn["samples"], drawn["seq_len"], drawn["seed"]) == (DEFAULT_SAMPLES, DEFAULT_SEQ_LEN, 0), AGAIN
    assert (made["windows"], made["seq_len"]) == (EVAL_WINDOWS, EVAL_SEQ_LEN), AGAIN
    assert made["eval"] == fingerprint_of(read_text(BUILTIN_EVALUATION)), AGAIN
    assert [prompt["text"] for prompt in STORED["prompts"]] == [prompt.text for prompt in PROMPTS], AGAIN
    assert (made["model"], made["name"], made["revision"]) == (TITLE, "builtin", GGUF_SHA256), AGAIN


def test_a_default_that_changes_is_seen(monkeypatch):
    """The test above would fail: with one more step of the preset's solver, or the matrix for Wanda's group."""
    known = recipe_of(BEST[0].key)
    monkeypatch.setattr(keys, "preset", lambda name, **given: preset(name, **given, solver={"steps": 9}))
    assert recipe_of(BEST[0].key) != known


def test_it_shows_what_the_lab_is_about():
    """Wanda's line lies below magnitude's, less is the same as nothing, and the dense model knows its capitals."""
    perplexity = {name: point["perplexity"] for name, point in POINTS.items()}
    assert all(perplexity[f"wanda@{at}"] < perplexity[f"magnitude@{at}"] for at in range(20, 75, 5))
    assert perplexity["wanda@5"] < 1.02 * perplexity["wanda@0"]
    assert all(perplexity[cell.name] < perplexity[f"wanda@{cell.percent}"] for cell in BEST)
    assert "Paris" in "".join(STORED["answers"]["dense"][0]["t"])
    linear = STORED["linears"][0]
    loudest = linear["plane"]["loudest"]
    assert (linear["block"], loudest["column"]) == (11, 247)
    assert (loudest["first"], loudest["second"]) == pytest.approx((0.90, 0.09), abs=0.02)
    assert linear["plane"]["differ"] == pytest.approx(0.058, abs=0.002)
    told = linear["told"]["weight"]
    assert told["by_score"] == 1
    assert told["by_size"] > 0.6 * told["columns"]
    assert (STORED["stream"]["channel"], STORED["stream"]["block"]) == (507, 11)
    assert STORED["ablation"]["channel"] > 1000 * STORED["ablation"]["nothing"]
    assert STORED["ablation"]["high"] < 1.2 * STORED["ablation"]["nothing"]


@pytest.fixture(scope="module")
def calibration(builtin_lm):
    return calibrate(builtin_lm)


@pytest.mark.builtin
def test_the_calibration_is_todays(calibration):
    assert STORED["made"]["calibration"]["fingerprint"] == calibration.fingerprint, AGAIN


@pytest.mark.builtin
@pytest.mark.parametrize("cell", drawn_cells(), ids=lambda cell: cell.name)
def test_the_engine_measures_the_same_today(builtin_lm, calibration, builtin_profile, cell):
    """Which cells is drawn by lot; recipes that change weights move with the order of sums."""
    one_shot = cell.spec.order == "one-shot"
    given = {"profile": builtin_profile} if one_shot else {"calibration": calibration}
    lm = prune(builtin_lm, cell.spec, **given).lm
    measured = perplexity(lm, seq_len=EVAL_SEQ_LEN, windows=EVAL_WINDOWS).perplexity
    assert measured == pytest.approx(POINTS[cell.name]["perplexity"], rel=0.01 if one_shot else 0.15), AGAIN
    clear = 0.05 if one_shot else 1.0  # a likeliest token by so much is the likeliest anywhere
    for prompt, answer in zip(PROMPTS, STORED["answers"][cell.name], strict=True):
        logits = next(next_logits(lm, prompt_ids(lm, prompt.text, chat=True), 1))
        first, second = logits.topk(2).values.tolist()
        if first - second > clear:
            assert lm.decode([int(logits.argmax())]).rstrip("\ufffd") == answer["t"][0], AGAIN
            percent = 100 * float(logits.softmax(0).max())
            assert percent == pytest.approx(answer["p"][0], abs=2 if one_shot else 30), AGAIN


def pixels(sheet: str) -> torch.Tensor:
    return torch.frombuffer(bytearray(base64.b64decode(sheet)), dtype=torch.uint8).float()


@pytest.mark.builtin
@torch.no_grad()
def test_the_pictures_of_scores_are_todays(builtin_lm, builtin_analysis):
    masked = figures.masked_linears(builtin_lm, builtin_analysis.profile, WHOLE)
    scores = figures.scores(builtin_lm, builtin_analysis.profile, WHOLE, masked)
    found = figures.linears(builtin_lm, builtin_analysis, WHOLE, masked)
    for metric in ("score", "size"):
        assert scores[metric]["median"] == pytest.approx(STORED["scores"][metric]["median"], abs=1e-3), AGAIN
        assert scores[metric]["edges"] == pytest.approx(STORED["scores"][metric]["edges"], abs=1e-3), AGAIN
    for today, told in zip(found, STORED["linears"], strict=True):
        assert today.keys() == told.keys(), AGAIN
        assert today["kept"] == pytest.approx(told["kept"], abs=1e-4), AGAIN
        assert today["plane"]["differ"] == pytest.approx(told["plane"]["differ"], abs=1e-4), AGAIN
        for axis in "xy":
            assert today["plane"][axis] == pytest.approx(told["plane"][axis], abs=1e-3), AGAIN
        for metric in ("score", "size"):
            assert today[metric]["misplaced"] == pytest.approx(told[metric]["misplaced"], abs=1e-3), AGAIN
    today, told = found[0], STORED["linears"][0]
    place = ("row", "column", "by_size", "by_score")
    assert [today["told"]["weight"][name] for name in place] == [told["told"]["weight"][name] for name in place], AGAIN
    feature, stored = (held["told"]["column"]["feature"] for held in (today, told))
    assert (feature["meets"], feature["least"]) == (stored["meets"], stored["least"]), AGAIN
    for share in ("layers", "positions"):
        assert feature[share] == pytest.approx(stored[share], abs=0.05), AGAIN
    for tile in ("overview", "near"):
        now, then = ([held[tile]["size"], *held[tile]["kept"]] for held in (today, told))
        for ours, theirs in zip(now, then, strict=True):
            assert float((pixels(ours) - pixels(theirs)).abs().mean()) < 0.1, AGAIN  # of 0 to 255


@pytest.mark.builtin
@torch.no_grad()
def test_where_the_masks_differ_is_todays(builtin_lm, builtin_profile):
    found = figures.masks(builtin_lm, builtin_profile, WHOLE)
    assert found["kinds"] == STORED["masks"]["kinds"], AGAIN
    assert found["overall"] == pytest.approx(STORED["masks"]["overall"], abs=1e-3), AGAIN
    for today, told in zip(found["differ"][0], STORED["masks"]["differ"][0], strict=True):
        assert today == pytest.approx(told, abs=1e-3), AGAIN


@pytest.mark.builtin
@torch.no_grad()
def test_the_ablation_is_todays(builtin_lm):
    told = STORED["ablation"]
    with ablated(builtin_lm, Ablation(tuple(told["channels"]), told["value"], told["tokens"])):
        measured = perplexity(builtin_lm, seq_len=told["seq_len"], windows=told["windows"])
    assert measured.perplexity == pytest.approx(told["channel"], rel=0.05), AGAIN
