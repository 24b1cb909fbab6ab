"""Attention heads that are gone: the same outputs as with heads that are zero, for every family that can say it."""

import pytest
import torch
from families import FAMILIES, USUAL, tiny
from model_state import with_zeros
from test_neurons import calibration  # noqa: F401
from transformers import AutoModelForCausalLM

from wanda_core.checkpoint.save import save
from wanda_core.errors import ModelError
from wanda_core.shrinking.shrink import shrink
from wanda_core.shrinking.spec import ShrinkSpec

# What the configuration cannot say, or what depends on all heads at once, and the words that tell why.
DERIVED = "derives the size of its attention heads from their number"
REFUSED = {
    "OPT": DERIVED,
    "GPT2": DERIVED,
    "GPTNeoX": DERIVED,
    "GPTJ": DERIVED,
    "Bloom": DERIVED,
    "StableLm": DERIVED,
    "Olmo2": "reads something else than with all of them",  # a norm over all heads
    "Falcon": "cannot be told apart",  # all heads share one key, whatever their number
    "Mamba2": "has no one number of attention heads",
}


@pytest.mark.parametrize("family", FAMILIES)
def test_heads_gone_are_the_same_as_zero(device, tokenizer, calibration, tmp_path, family):  # noqa: F811
    lm = tiny(family, tokenizer, device)
    spec = ShrinkSpec(heads=0.5, update="none")
    if family in REFUSED:
        with pytest.raises(ModelError, match=REFUSED[family]):
            shrink(lm, spec, calibration)
        return
    ids = calibration.ids.to(device)
    shrunk = shrink(lm, spec, calibration)
    with torch.no_grad():
        found = shrunk.lm.model(ids).logits
        assert torch.allclose(found, with_zeros(lm.model, shrunk.kept)(ids).logits, rtol=1e-3, atol=1e-4)
        again = AutoModelForCausalLM.from_pretrained(save(shrunk, tmp_path / "out"), dtype=torch.float32)
        assert torch.equal(again.to(device).eval()(ids).logits, found)
    assert shrunk.lm.n_parameters < lm.n_parameters


@pytest.mark.parametrize("part", ["heads", "neurons"])
def test_norms_over_all_units_are_refused_also_where_the_smaller_block_cannot_run(
    device,
    tokenizer,
    calibration,  # noqa: F811
    monkeypatch,
    part,
):
    """BitNet has a norm before each matrix that reads heads or neurons; that over heads has the width of the model."""
    monkeypatch.setitem(FAMILIES, "BitNet", USUAL)
    lm = tiny("BitNet", tokenizer, device)
    with pytest.raises(ModelError, match="reads something else than with all of them"):
        shrink(lm, ShrinkSpec(**{part: 0.5}), calibration)
