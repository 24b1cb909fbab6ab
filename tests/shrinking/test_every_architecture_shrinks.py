"""Every causal architecture of transformers, tiny: made smaller with the same outputs, or refused by name."""

from pathlib import Path

import pytest
import torch
from architectures import tiny_model
from every_architecture import POSSIBLE, REFUSED, VOCABULARY, sequences
from model_state import with_zeros
from transformers import AutoModelForCausalLM

from wanda_core.checkpoint.save import save
from wanda_core.errors import WandaError
from wanda_core.model.loading import load_model
from wanda_core.shrinking.shrink import shrink
from wanda_core.shrinking.spec import ShrinkSpec

README = Path(__file__).resolve().parents[2] / "README.md"
SERVED = [name for name in POSSIBLE if name not in REFUSED]
SPECS = {
    "neurons": ShrinkSpec(neurons=0.5, update="none", multiple=2),
    "heads": ShrinkSpec(heads=0.5, update="none"),
    "blocks": ShrinkSpec(blocks=1),
}

# Those with something of their own, tested every time, and what cannot be done to them.
SAID = {
    "gemma3n_text": {  # a top share of all neurons, keys and values of another block, a table as deep as the model
        "neurons": "reads something else than with all of them",
        "heads": "cannot run after smaller blocks",
        "blocks": "whichever block is removed",
    },
    "gemma4_text": {"heads": "num_key_value_heads of its own in some blocks"},  # settings of single blocks
    "olmo_hybrid": {"heads": "reads something else", "blocks": "whichever block"},  # both kinds of blocks must be there
    "qwen4_exp_text": {},  # numbers of blocks that count from 1
    "zamba": {"neurons": "has one matrix for", "heads": "has one matrix for"},  # one block in several places
}
DONE: dict[str, set[str]] = {part: set() for part in SPECS}


@torch.no_grad()
def check(lm, shrunk, ids, folder):
    """Raise AssertionError where a smaller model is not the dense one with zeros, or its folder not an ordinary one."""
    found = shrunk.lm.model(ids, use_cache=False).logits
    if shrunk.spec.blocks is None:
        zeroed = with_zeros(lm.model, shrunk.kept)(ids, use_cache=False).logits
        assert torch.allclose(found, zeroed, rtol=1e-3, atol=1e-4)
    assert shrunk.lm.n_parameters < lm.n_parameters
    again = AutoModelForCausalLM.from_pretrained(save(shrunk, folder), dtype=torch.float32).eval()
    kept = again.state_dict()
    assert all(torch.equal(kept[name], value) for name, value in shrunk.lm.model.state_dict().items())
    assert torch.allclose(again(ids, use_cache=False).logits, found, rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "name", [name if name in SAID else pytest.param(name, marks=pytest.mark.families) for name in SERVED]
)
def test_it_is_made_smaller_or_refused_by_name(name, tokenizer, tmp_path, transformers_as_before):
    model = tiny_model(name, VOCABULARY)
    model.save_pretrained(tmp_path / "dense")
    tokenizer.save_pretrained(tmp_path / "dense")
    lm = load_model(str(tmp_path / "dense"), device="cpu", dtype=torch.float32)
    text = sequences()
    for part, spec in SPECS.items():
        try:
            shrunk = shrink(lm, spec, text)
        except WandaError as error:
            said = str(error)
        else:
            said = ""
            assert part not in SAID.get(name, {})
            check(lm, shrunk, text.ids, tmp_path / part)
            DONE[part].add(name)
        if said:
            assert SAID.get(name, {}).get(part, "") in said
            assert any(word in said for word in (type(lm.model).__name__, lm.title)), said
            assert "; " in said  # the remedy


@pytest.mark.families
def test_readme_says_of_how_many():
    """Comes last, after all of them but those that are tested every time, with what is said of them here."""
    done = {part: DONE[part] | {name for name, said in SAID.items() if part not in said} for part in SPECS}
    found = ", ".join(f"{part} of {len(done[part])}" for part in SPECS)
    assert f"Of these {len(SERVED)}, {found}" in " ".join(README.read_text(encoding="utf-8").split())
