"""Perplexity against a loop written by hand, and what it refuses."""

import math
import os
from pathlib import Path

import pytest
import torch

from wanda_core.errors import InputError, ModelError
from wanda_core.evaluation import perplexity as perplexity_module
from wanda_core.evaluation.perplexity import agreement, growing_perplexity, perplexity, perplexity_steps
from wanda_core.progress import finish
from wanda_core.pruning.prune import prune
from wanda_core.recipe import PruneSpec
from wanda_core.text.files import read_text
from wanda_core.text.windows import calibrate

WIKITEXT = os.environ.get("WANDA_WIKITEXT")


@torch.no_grad()
def by_hand(lm, text: str, seq_len: int, windows: int) -> float:
    """One position after the other, in float64."""
    tokens = lm.encode(text)
    means = []
    for window in range(windows):
        ids = tokens[window * seq_len : (window + 1) * seq_len]
        logits = lm.model(torch.tensor([ids], device=lm.device)).logits[0].double().cpu()
        losses = []
        for position in range(seq_len - 1):
            row = logits[position]
            losses.append(float(torch.logsumexp(row, 0) - row[ids[position + 1]]))
        means.append(sum(losses) / len(losses))
    return math.exp(sum(means) / len(means))


@pytest.mark.parametrize("which", ["tiny_llama", "tiny_gpt2", "tiny_opt"])
def test_perplexity_is_the_hand_written_loops(request, device, text, which):
    lm = request.getfixturevalue(which)
    found = perplexity(lm, text, seq_len=48, windows=3)
    assert found.perplexity == pytest.approx(by_hand(lm, text, 48, 3), rel=1e-5)
    assert (found.seq_len, found.windows, found.tokens) == (48, 3, 3 * 47)
    about = {"seq_len": 48, "windows": 3, "tokens": 141, "bos": False}
    assert found.to_dict() == {"perplexity": found.perplexity, **about}


@pytest.mark.builtin
def test_perplexity_of_the_built_in_models_head_is_the_hand_written_loops(builtin_head, text):
    found = perplexity(builtin_head, text, seq_len=32, windows=2)
    assert found.perplexity == pytest.approx(by_hand(builtin_head, text, 32, 2), rel=1e-5)


def test_a_model_that_knows_nothing_is_as_perplexed_as_its_vocabulary_is_large(own_llama, text):
    with torch.no_grad():
        own_llama.model.lm_head.weight.zero_()
    assert perplexity(own_llama, text, seq_len=32, windows=2).perplexity == pytest.approx(320, rel=1e-6)


def test_the_remainder_is_dropped(tiny_llama, text):
    tokens = len(tiny_llama.encode(text))
    seq_len = 100
    assert tokens % seq_len
    whole = perplexity(tiny_llama, text, seq_len=seq_len)
    assert whole.windows == tokens // seq_len
    assert whole == perplexity(tiny_llama, text, seq_len=seq_len, windows=whole.windows)
    # a cap beyond what there is changes nothing either
    assert whole == perplexity(tiny_llama, text, seq_len=seq_len, windows=99_999)


def test_a_text_of_exactly_one_window_is_enough_and_no_less(tiny_llama, text):
    text = text[:200]  # shorter than the model's positions
    tokens = len(tiny_llama.encode(text))
    assert perplexity(tiny_llama, text, seq_len=tokens).windows == 1
    with pytest.raises(InputError, match=f"the text has {tokens} tokens and one window takes {tokens + 1}"):
        perplexity(tiny_llama, text, seq_len=tokens + 1)


def test_a_window_longer_than_the_models_positions_is_refused(tiny_llama, text):
    most = tiny_llama.model.config.max_position_embeddings
    with pytest.raises(InputError, match=f"more than the {most} tokens"):
        perplexity(tiny_llama, text, seq_len=most + 1)


def test_an_empty_text_is_refused(tiny_llama):
    with pytest.raises(InputError, match="the text has 0 tokens"):
        perplexity(tiny_llama, "", seq_len=8)


@pytest.mark.parametrize("chunk", [1, 7, 47, 48])
def test_working_through_the_loss_in_parts_changes_nothing(tiny_llama, text, monkeypatch, chunk):
    whole = perplexity(tiny_llama, text, seq_len=48, windows=2).perplexity
    monkeypatch.setattr(perplexity_module, "LOSS_CHUNK", chunk)
    assert perplexity(tiny_llama, text, seq_len=48, windows=2).perplexity == pytest.approx(whole, rel=1e-6)


@pytest.mark.parametrize(
    ("field", "bad"),
    [(field, bad) for field in ("seq_len", "windows") for bad in (0, -1, 1.5, "8", True)]
    + [("seq_len", 1), ("seq_len", 32769), ("seq_len", None), ("windows", 100_001)],
)
def test_numbers_out_of_range_are_refused_by_name(tiny_llama, text, field, bad):
    with pytest.raises(InputError, match=f"{field} .* is not a whole number from"):
        perplexity(tiny_llama, text, **{"seq_len": 8, field: bad})


def test_predictions_that_are_not_finite_are_an_error_not_a_number(own_llama, text):
    with torch.no_grad():
        own_llama.model.lm_head.weight[0, 0] = float("nan")
    with pytest.raises(ModelError, match="predictions are not finite"):
        perplexity(own_llama, text, seq_len=16, windows=1)


def test_a_perplexity_beyond_every_float_is_infinity(own_llama, text):
    with torch.no_grad():
        own_llama.model.lm_head.weight.mul_(1e6)
    assert perplexity(own_llama, text, seq_len=16, windows=1).perplexity == math.inf


def test_progress_counts_windows_and_closing_cancels(tiny_llama, text):
    steps = []
    result = finish(perplexity_steps(tiny_llama, text, seq_len=32, windows=3), steps.append)
    assert [(step.done, step.total) for step in steps] == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert result.windows == 3
    run = perplexity_steps(tiny_llama, text, seq_len=32, windows=3)
    next(run)
    run.close()
    with pytest.raises(StopIteration):
        next(run)


def test_it_grows_window_by_window_and_every_step_is_the_perplexity_so_far(tiny_llama, text):
    first, *grown = growing_perplexity(tiny_llama, text, seq_len=32, windows=4)
    assert math.isnan(first.perplexity)
    assert (first.windows, first.seq_len, first.tokens) == (4, 32, 4 * 31)
    assert grown == [perplexity(tiny_llama, text, seq_len=32, windows=count) for count in (1, 2, 3, 4)]


def test_it_fails_at_the_first_window_that_is_not_finite(own_llama, text):
    run = growing_perplexity(own_llama, text, seq_len=16, windows=3)
    next(run)
    next(run)
    with torch.no_grad():
        own_llama.model.lm_head.weight[0, 0] = float("nan")
    with pytest.raises(ModelError, match="predictions are not finite"):
        next(run)


def test_between_two_steps_the_callers_own_gradient_setting_holds(tiny_llama, text):
    run = perplexity_steps(tiny_llama, text, seq_len=32, windows=2)
    next(run)
    assert torch.is_grad_enabled()
    run.close()


@pytest.mark.builtin
@pytest.mark.skipif(not WIKITEXT, reason="WANDA_WIKITEXT does not name wiki.test.raw of WikiText-2")
def test_wanda_at_half_keeps_the_built_in_model_below_95_on_wikitext(builtin_lm):
    text = read_text(Path(WIKITEXT))
    assert perplexity(builtin_lm, text, seq_len=512, windows=16).perplexity == pytest.approx(36.08, abs=0.1)
    variant = prune(builtin_lm, calibration=calibrate(builtin_lm))
    assert perplexity(variant.lm, text, seq_len=512, windows=16).perplexity < 95


@torch.no_grad()
def agreement_by_hand(dense, lm, text, seq_len, windows):
    """Position by position in float64, from the definition Σ p·log(p / q)."""
    total, same, positions = 0.0, 0, 0
    tokens = lm.encode(text)
    for window in range(windows):
        ids = torch.tensor([tokens[window * seq_len : (window + 1) * seq_len]], device=lm.device)
        p, q = (torch.softmax(one.model(ids).logits[0].double(), dim=-1) for one in (dense, lm))
        for position in range(seq_len - 1):
            total += float((p[position] * torch.log(p[position] / q[position])).sum())
            same += int(p[position].argmax() == q[position].argmax())
            positions += 1
    return total / positions, same / positions


def test_agreement_is_the_definition(tiny_llama, text):
    pruned = prune(tiny_llama, PruneSpec("magnitude", 0.5)).lm
    found = agreement(tiny_llama, pruned, text, seq_len=32, windows=3)
    kl, top1 = agreement_by_hand(tiny_llama, pruned, text, 32, 3)
    assert found.kl == pytest.approx(kl, rel=1e-4)
    assert found.kl > 0.01
    assert found.top1 == pytest.approx(top1)
    assert (found.seq_len, found.windows, found.tokens) == (32, 3, 93)


def test_a_model_agrees_with_itself(tiny_llama, text):
    found = agreement(tiny_llama, tiny_llama, text, seq_len=32, windows=2)
    assert found.kl == pytest.approx(0, abs=1e-6)
    assert found.top1 == 1


def test_models_with_other_vocabularies_are_not_compared(tiny_llama, own_llama, text):
    own_llama.model.resize_token_embeddings(512)
    with pytest.raises(InputError, match="same vocabulary"):
        agreement(tiny_llama, own_llama, text, seq_len=32, windows=1)


def test_numbers_that_overflow_in_float32_are_not_answered_with_float32(own_llama, text):
    with torch.no_grad():
        own_llama.model.model.norm.weight.fill_(3e38)  # finite, and too large for what comes after it
    with pytest.raises(ModelError, match="its numbers overflow even in float32, so check the checkpoint"):
        perplexity(own_llama, text, seq_len=32, windows=1)
    own_llama.model.to(torch.bfloat16)
    with pytest.raises(ModelError, match="load the model in float32"):
        perplexity(own_llama, text, seq_len=32, windows=1)
