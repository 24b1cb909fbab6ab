"""The probability of every written token: the model's own, by a plain forward pass and by hand."""

from unittest.mock import patch

import pytest
import torch

from wanda_core.evaluation import generation
from wanda_core.evaluation.generation import generate

PROMPT = "The sky is blue because"


@torch.no_grad()
@pytest.mark.parametrize("temperature", [0.0, 3.0])
def test_a_tokens_probability_is_the_models_own_whatever_the_temperature_of_the_draw(tiny_llama, device, temperature):
    *_, made = generate(tiny_llama, PROMPT, max_new_tokens=6, temperature=temperature, seed=2)
    ids = torch.tensor([[*tiny_llama.encode(PROMPT), *made.tokens]], device=device)
    logits = tiny_llama.model(ids, use_cache=False).logits[0, -7:-1].double().cpu()
    expected = [float(row.exp()[token] / row.exp().sum()) for row, token in zip(logits, made.tokens, strict=True)]
    assert made.probabilities == pytest.approx(expected, rel=1e-3)
    likeliest = [float(row.softmax(0).max()) for row in logits]
    assert (expected == pytest.approx(likeliest)) is (temperature == 0)


def test_probabilities_worked_by_hand(tiny_llama):
    """Two steps: three tokens alike and the rest ruled out; then logits ln 3 and ln 1."""

    def scripted(lm, ids, length):
        logits = torch.full((len(lm.tokenizer),), -torch.inf)
        logits[[40, 41, 42]] = 7.0
        yield logits
        yield torch.full_like(logits, -torch.inf).index_put((torch.tensor([50, 51]),), torch.tensor([3.0, 1.0]).log())

    with patch.object(generation, "next_logits", scripted):
        *_, made = generate(tiny_llama, PROMPT, max_new_tokens=2)
    assert made.tokens == (40, 50)
    assert made.probabilities == pytest.approx((1 / 3, 3 / 4))
