"""The lesson's stored answers: whole, small, made by today's texts, and what the engine still measures."""

import json

import pytest

from wanda_core.assets import BUILTIN_EVALUATION, LESSON
from wanda_core.evaluation.perplexity import perplexity
from wanda_core.model.builtin import GGUF_SHA256, TITLE
from wanda_core.outliers.ablation import Ablation, ablated
from wanda_core.outliers.super_weight import zeroed
from wanda_core.progress import finish
from wanda_core.pruning.prune import prune
from wanda_core.recipe import PruneSpec
from wanda_core.report.lesson import consequences, sentences
from wanda_core.report.lesson.making import MOST_BYTES, dumped, middle
from wanda_core.report.lesson.plan import (
    CELLS,
    DRAWS,
    FORMAT,
    OTHER_SENTENCE,
    PROMPT,
    SENTENCE,
    SEQ_LEN,
    SPARSITIES,
    SPARSITY,
    WINDOWS,
)
from wanda_core.text.chats import fingerprint_of
from wanda_core.text.files import read_text
from wanda_core.text.windows import calibrate

WRITTEN = LESSON.read_bytes()
STORED = json.loads(WRITTEN)
AGAIN = "make it anew with `make replay`"


def test_it_is_whole_and_small():
    assert len(WRITTEN) <= MOST_BYTES
    assert dumped(STORED).encode() == WRITTEN
    assert list(STORED) == ["format", "made", "meet", "source", "change", "sinks", "lean", "masks", "price"]
    assert STORED["format"] == FORMAT


def test_it_was_made_by_todays_texts_and_settings():
    made, lean, price = (STORED[name] for name in ("made", "lean", "price"))
    assert (made["model"], made["name"], made["revision"]) == (TITLE, "builtin", GGUF_SHA256), AGAIN
    assert made["eval"] == fingerprint_of(read_text(BUILTIN_EVALUATION)), AGAIN
    assert [STORED[name]["sentence"] for name in ("meet", "change", "sinks")] == [SENTENCE, OTHER_SENTENCE, SENTENCE], (
        AGAIN
    )
    assert lean["prompt"] == price["answers"]["prompt"] == PROMPT, AGAIN
    for step in (lean, price):
        assert (step["windows"], step["seq_len"]) == (WINDOWS, SEQ_LEN), AGAIN
    assert [len(lean["random"]), len(STORED["source"]["random"])] == [DRAWS, DRAWS], AGAIN
    assert [share for share, _ in price["along"]["wanda"]] == list(SPARSITIES), AGAIN
    assert [tuple(cell[:2]) for cell in price["cells"]] == list(CELLS), AGAIN


def test_one_text_has_one_perplexity_in_all_steps():
    assert STORED["source"]["untouched"] == STORED["lean"]["untouched"] == STORED["price"]["dense"]


@pytest.mark.builtin
def test_the_calibration_is_todays(builtin_lm):
    assert calibrate(builtin_lm).fingerprint == STORED["made"]["calibration"], AGAIN


def cost(lm):
    return perplexity(lm, read_text(BUILTIN_EVALUATION), seq_len=SEQ_LEN, windows=WINDOWS).perplexity


@pytest.mark.builtin
@pytest.mark.parametrize("name", ["meet", "sinks", "change"])
def test_the_sentences_are_read_the_same_today(builtin_lm, name):
    told, stored = finish(getattr(sentences, f"{name}_steps")(builtin_lm, STORED[name]["sentence"])), STORED[name]
    assert told.keys() == stored.keys(), AGAIN
    for key in ("tokens", "block", "channel"):
        assert told.get(key) == stored.get(key), AGAIN
    for key in ("ratio", "value"):
        if key in stored:
            assert told[key] == pytest.approx(stored[key], rel=0.02), AGAIN
    for key in ("shares", "without", "sizes"):
        known = [[value for value in side.get(key, ()) if value is not None] for side in (told, stored)]
        assert known[0] == pytest.approx(known[1], rel=0.02, abs=0.01), AGAIN
    if "weight" in stored:
        place = ("linear", "row", "column")
        assert [told["weight"][key] for key in place] == [stored["weight"][key] for key in place], AGAIN


@pytest.mark.builtin
def test_what_goes_without_a_channel_or_a_weight_is_todays(builtin_lm):
    channel = STORED["lean"]["channel"]
    with ablated(builtin_lm, Ablation((channel,), tokens="first")):
        assert cost(builtin_lm) == pytest.approx(STORED["lean"]["zero"]["first"], rel=0.05), AGAIN
    weight = STORED["source"]["first"]["weight"]
    with zeroed(builtin_lm, weight["linear"], weight["row"], weight["column"]):
        assert cost(builtin_lm) == pytest.approx(STORED["source"]["zeroed"], rel=0.02), AGAIN


@pytest.mark.builtin
def test_masks_and_a_cell_are_todays(builtin_lm, builtin_analysis):
    told, stored = consequences.masks(builtin_lm, builtin_analysis, middle(builtin_lm)), STORED["masks"]
    assert told.keys() == stored.keys(), AGAIN
    assert told["overall"] == pytest.approx(stored["overall"], abs=1e-3), AGAIN
    assert [column for column, *_ in told["loudest"][:3]] == [column for column, *_ in stored["loudest"][:3]], AGAIN
    assert told["spike"]["rank"] == stored["spike"]["rank"], AGAIN
    assert consequences.strongest(builtin_analysis) == STORED["lean"]["channel"], AGAIN
    method, group, stored_cost = STORED["price"]["cells"][2]
    spec = PruneSpec(method, SPARSITY, order="one-shot", group=group)
    variant = prune(builtin_lm, spec, profile=builtin_analysis.profile)
    assert cost(variant.lm) == pytest.approx(stored_cost, rel=0.02), AGAIN
