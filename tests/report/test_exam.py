"""The test at the end: each answer follows from the shown figures alone, and no way of guessing is favoured."""

from collections import Counter
from dataclasses import replace

import pytest
import torch

from wanda_core.outliers.analysis import analyse
from wanda_core.report.exam import KINDS, PAIRS, draw, gains_of
from wanda_core.text.windows import calibrate

SEEDS = range(12)


def derive(item):
    """What a reader finds who has nothing but the figures, by what the steps showed; written without the engine's."""
    f = item.figures
    if item.kind == "two_weights":
        first_goes = abs(f["w"][0]) < abs(f["w"][1])
        losses = [abs(w * x) for w, x in zip(f["w"], f["x"], strict=True)]
        cheap = losses[0] < losses[1]
        return f"{1 if first_goes else 2}_{'right' if first_goes == cheap else 'wrong'}"
    if item.kind == "kept_pair":
        scores = {place: abs(w) * x for place, (w, x) in enumerate(zip(f["w"], f["x"], strict=True), 1)}
        return "".join(str(place) for place in sorted(sorted(scores, key=scores.get)[2:]))
    if item.kind == "massive":
        large, far = f["value"] > 100, f["value"] / f["median"] >= 1000
        return {(True, True): "yes", (True, False): "near", (False, True): "small", (False, False): "both"}[large, far]
    if item.kind == "massive_or_feature":
        massive = f["value"] > 100 and f["value"] >= 1000 * f["median"]
        feature = f["layers"] >= 25 and f["positions"] >= 6
        return {(True, True): "both", (True, False): "massive", (False, True): "feature", (False, False): "neither"}[
            massive, feature
        ]
    if item.kind == "shared_budget":
        places = sorted(((value, row) for row, values in enumerate(f["scores"]) for value in values))
        return str(sum(row == 1 for _, row in places[6:]))
    if item.kind == "louder_column":
        return "1" if f["size"][0] * f["gain"][0] > f["size"][1] * f["gain"][1] else "2"
    kept = (abs(f["w"]) > f["cut_size"], abs(f["w"]) * f["x"] > f["cut_score"])
    return {(True, True): "both", (True, False): "magnitude", (False, True): "wanda", (False, False): "none"}[kept]


@pytest.fixture(scope="module")
def tiny(tiny_llama):
    return tiny_llama, analyse(tiny_llama, calibrate(tiny_llama, samples=2, seq_len=32))


@pytest.fixture(scope="module")
def drawn(tiny):
    return [item for seed in SEEDS for item in draw(*tiny, seed)]


def test_six_items_of_six_kinds_and_each_names_its_step(drawn):
    assert len(drawn) == 6 * len(SEEDS)
    assert [item.kind for item in drawn[0:2]] == ["two_weights", "kept_pair"]
    assert {item.kind for item in drawn[2::6]} == {"massive", "massive_or_feature"}
    assert [item.kind for item in drawn[3:6]] == ["shared_budget", "louder_column", "who_keeps"]
    assert {item.step for item in drawn} == {"two", "matrix", "meet", "masks"}


def test_a_channel_of_several_streams_is_no_column_and_not_asked_about_as_a_feature(tiny):
    lm, analysis = tiny
    mixed = replace(analysis, features=replace(analysis.features, one_stream=False))
    assert {item.kind for seed in SEEDS for item in draw(lm, mixed, seed)[2:3]} == {"massive"}


def test_every_answer_follows_from_the_shown_figures(drawn):
    assert [derive(item) for item in drawn] == [item.answer for item in drawn]
    assert all(item.answer in item.options for item in drawn)
    assert all(len(set(item.options)) == len(item.options) <= 5 for item in drawn)


def test_figures_have_three_digits_and_none_is_compared_by_a_hair(drawn):
    def numbers(value):
        return [n for part in value for n in numbers(part)] if isinstance(value, (list, tuple)) else [value]

    for item in drawn:
        for number in numbers(list(item.figures.values())):
            assert number == float(f"{number:.3g}")
        if item.kind == "two_weights":
            for a, b in (item.figures["w"], [w * x for w, x in zip(item.figures["w"], item.figures["x"], strict=True)]):
                assert max(abs(a), abs(b)) >= 1.15 * min(abs(a), abs(b)) > 0


def test_the_same_seed_draws_the_same_and_others_do_not(tiny):
    assert draw(*tiny, 3) == draw(*tiny, 3)
    assert draw(*tiny, 3) != draw(*tiny, 4)


@pytest.mark.parametrize("kind", ["two_weights", "kept_pair", "shared_budget", "louder_column", "who_keeps"])
def test_no_answer_is_right_most_of_the_time(drawn, kind):
    answers = Counter(item.answer for item in drawn if item.kind == kind)
    assert len(answers) > 1
    assert max(answers.values()) <= 0.75 * len(SEEDS)


def test_the_gain_of_an_rmsnorm_is_its_weight(tiny):
    gains = gains_of(tiny[0])
    blocks = tiny[0].model.model.layers
    assert len(gains) == 2 * len(blocks)
    for linear, gain in gains:
        norm = blocks[linear.block]
        norm = norm.input_layernorm if "q_proj" in linear.kind else norm.post_attention_layernorm
        torch.testing.assert_close(gain.float(), norm.weight.detach(), rtol=1e-4, atol=0)


def test_a_model_whose_norms_are_others_is_asked_something_else(tiny_gpt2):
    """GPT-2's blocks name their norms otherwise, and these subtract a mean."""
    analysis = analyse(tiny_gpt2, calibrate(tiny_gpt2, samples=2, seq_len=32))
    assert gains_of(tiny_gpt2) == []
    items = draw(tiny_gpt2, analysis, 0)
    assert len(items) == 6
    assert [derive(item) for item in items] == [item.answer for item in items]


def test_all_answers_can_be_wished_for():
    assert len(KINDS) == 6
    assert len(PAIRS) == len({frozenset(pair) for pair in PAIRS}) == 6


def test_no_figure_alone_leads_to_the_answer(drawn):
    """Who goes by the weights' sizes, by one of two figures, or by a row's share of a budget, is told so."""
    for item in drawn:
        f = item.figures
        if item.kind == "kept_pair":
            sizes = {place: abs(w) for place, w in enumerate(f["w"], 1)}
            assert "".join(map(str, sorted(sorted(sizes, key=sizes.get)[2:]))) != item.answer
        elif item.kind == "shared_budget":
            assert item.answer != "2"
        elif item.kind == "louder_column":
            assert (f["size"][0] > f["size"][1]) != (f["gain"][0] > f["gain"][1])


@pytest.mark.long
@pytest.mark.builtin
def test_the_built_in_model_has_every_answer(builtin_lm, builtin_analysis):
    """A massive activation is asked for with and without one, and neither of two columns is always the louder."""
    items = [item for seed in range(20) for item in draw(builtin_lm, builtin_analysis, seed)]
    assert [derive(item) for item in items] == [item.answer for item in items]
    for kind, least in {
        "two_weights": 4,
        "kept_pair": 4,
        "massive": 2,
        "massive_or_feature": 2,
        "shared_budget": 4,
        "louder_column": 2,
        "who_keeps": 4,
    }.items():
        answers = Counter(item.answer for item in items if item.kind == kind)
        assert len(answers) >= least, (kind, answers)
        assert max(answers.values()) <= 14, (kind, answers)
