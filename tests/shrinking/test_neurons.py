"""Neurons that are gone: the same outputs as with neurons that are zero, for every family, and an ordinary folder."""

import pytest
import torch
from families import FAMILIES, tiny
from model_state import with_zeros
from transformers import AutoModelForCausalLM, AutoTokenizer

from wanda_core.checkpoint.save import save
from wanda_core.errors import ModelError
from wanda_core.shrinking.shrink import shrink
from wanda_core.shrinking.spec import ShrinkSpec
from wanda_core.text.windows import draw

# What cannot be said in the configuration, and the words that say why.
REFUSED = {
    "Bloom": "has no setting for the number of neurons",
    "Mamba2": "has no setting for the number of neurons",
}
PLAIN = {"update": "none", "multiple": 4}


@pytest.fixture(scope="module")
def calibration():
    generator = torch.Generator().manual_seed(4)
    return draw(torch.randint(1, 250, (500,), generator=generator).tolist(), samples=4, seq_len=16)


@torch.no_grad()
@pytest.mark.parametrize("family", FAMILIES)
def test_gone_is_the_same_as_zero_and_the_folder_is_an_ordinary_one(device, tokenizer, calibration, tmp_path, family):
    lm = tiny(family, tokenizer, device)
    if family in REFUSED:
        with pytest.raises(ModelError, match=REFUSED[family]):
            shrink(lm, ShrinkSpec(0.3), calibration)
        return
    ids = calibration.ids.to(device)
    with torch.no_grad():
        before = lm.model(ids).logits
    shrunk = shrink(lm, ShrinkSpec(0.3, **PLAIN), calibration)
    with torch.no_grad():
        found = shrunk.lm.model(ids).logits
        assert torch.allclose(found, with_zeros(lm.model, shrunk.kept)(ids).logits, rtol=1e-3, atol=1e-4)
        assert not torch.allclose(found, before, rtol=1e-3, atol=1e-4)
        assert torch.equal(lm.model(ids).logits, before)
    assert shrunk.lm.n_parameters == shrunk.report.parameters[1] < lm.n_parameters

    folder = save(shrunk, tmp_path / "out")
    again = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).to(device).eval()
    assert AutoTokenizer.from_pretrained(folder).vocab_size == tokenizer.vocab_size
    with torch.no_grad():
        assert torch.equal(again(ids).logits, found)
    for name, (dense, left) in shrunk.report.settings.items():
        assert getattr(again.config, name) == left != dense


@pytest.mark.parametrize("family", [family for family in FAMILIES if family not in REFUSED])
def test_solving_anew_brings_the_outputs_closer(device, tokenizer, calibration, family):
    lm = tiny(family, tokenizer, device)
    ids = calibration.ids.to(device)
    with torch.no_grad():
        dense = lm.model(ids).logits
        away = [
            float(
                (
                    shrink(lm, ShrinkSpec(0.3, update=update, multiple=4), calibration).lm.model(ids).logits - dense
                ).norm()
            )
            for update in ("none", "least-squares")
        ]
    assert away[1] < away[0]
