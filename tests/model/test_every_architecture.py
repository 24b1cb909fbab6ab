"""Every causal architecture of transformers: measured as it runs and saved whole, or refused by name."""

import contextlib
import copy
from pathlib import Path

import pytest
import torch
from architectures import NAMES, tiny_model
from every_architecture import POSSIBLE, REFUSED, VOCABULARY, changed, kept_by, sequences

from wanda_core.calibration.profile import profile
from wanda_core.checkpoint.contents import contents
from wanda_core.checkpoint.save import save
from wanda_core.errors import ModelError, WandaError
from wanda_core.evaluation.generation import generate
from wanda_core.low_memory.model_on_disk import open_model
from wanda_core.low_memory.one_by_one import files_one_by_one
from wanda_core.low_memory.prune import prune_to_folder
from wanda_core.model import experts
from wanda_core.model.loading import load_model
from wanda_core.model.stored_tensors import RECOMPUTED, stored_tensors
from wanda_core.pruning.packed import pack
from wanda_core.pruning.prune import prune
from wanda_core.recipe import PruneSpec

# Served in memory, refused by low memory.
IN_MEMORY_ONLY = {
    "qwen4_exp": "cannot be read part by part",
    "qwen4_exp_text": "cannot be read part by part",
    "zamba": "has blocks that share weights",
}
# Pruned block by block, while their files have one place for what the blocks share: saved, and not sent one by one.
ONE_PLACE = {"zamba"}


@torch.no_grad()
def plain_norms(lm, linears, ids) -> dict[str, torch.Tensor]:
    """Root of the mean of Σx² over the calls of every linear in plain forward passes, expert by expert.

    Calls are counted: an expert is sent tokens of some sequences only, and some linears are used twice in a pass.
    """
    squares: dict[str, torch.Tensor] = {}
    calls: dict[str, int] = {}

    def note(name):
        def add(module, args):
            x = args[0].reshape(-1, args[0].shape[-1]).double()
            squares[name] = squares.get(name, 0) + x.square().sum(dim=0)
            calls[name] = calls.get(name, 0) + 1

        return add

    handles = [linear.module.register_forward_pre_hook(note(linear.name)) for linear in linears]
    try:
        with experts.apart(lm.model), experts.watched(lm.model):
            for sample in ids:
                lm.model(sample[None], use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    return {name: (total / calls[name]).sqrt() for name, total in squares.items()}


def check_sent(name, lm, variant, folder, saved):
    """Raise AssertionError where the files of a variant that are sent one by one are not those that are saved."""
    packed = pack(lm, variant)
    weights = files_one_by_one(lm, None, packed.parameters)
    assert (weights is None) == (name in ONE_PLACE)
    if weights is not None:
        folder.mkdir()
        for _ in contents(lm, packed, weights).write(folder):
            pass
        assert files_of(folder) == saved


def files_of(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def serve(name, tokenizer, folder):
    """Raise AssertionError where a served model is not the one that was given, WandaError where it is refused."""
    model = tiny_model(name, VOCABULARY)
    model.save_pretrained(folder / "dense")
    tokenizer.save_pretrained(folder / "dense")
    lm = load_model(str(folder / "dense"), device="cpu", dtype=torch.float32)
    text = sequences()
    kept = kept_by(lm.model)
    with contextlib.suppress(ModelError):  # BLT writes nothing
        list(generate(lm, "The sky is", max_new_tokens=3))
    assert changed(kept, kept_by(lm.model)) == set()  # `module_state` knows what would be
    with torch.no_grad():
        before = copy.deepcopy(lm.model)(text.ids[:1], use_cache=False).logits
    norms = profile(lm, text).norms
    plain = plain_norms(lm, lm.all_linears, text.ids)
    assert plain.keys() <= norms.keys()
    for linear, expected in plain.items():
        assert torch.allclose(norms[linear].double(), expected, rtol=1e-3, atol=1e-5), linear
    for spec in (PruneSpec("wanda", 0.5), PruneSpec("wanda", 0.5, order="in-flight")):
        variant = prune(lm, spec, text)
        out = save(variant, folder / spec.order)
        check_sent(name, lm, variant, folder / f"{spec.order}-sent", files_of(out))
        again = load_model(str(out), device="cpu", dtype=torch.float32)
        with torch.no_grad():
            assert torch.equal(
                again.model(text.ids, use_cache=False).logits, variant.lm.model(text.ids, use_cache=False).logits
            )
        given, kept = stored_tensors(folder / "dense", name), stored_tensors(out, name)
        assert {tensor for tensor in given if not RECOMPUTED.search(tensor)} <= set(
            kept
        )  # shared ones may be there twice
    with torch.no_grad():
        assert torch.equal(lm.model(text.ids[:1], use_cache=False).logits, before)
    if name in IN_MEMORY_ONLY:
        with pytest.raises(WandaError, match=IN_MEMORY_ONLY[name]):
            open_model(str(folder / "dense"), device="cpu", dtype=torch.float32)
        return
    on_disk = open_model(str(folder / "dense"), device="cpu", dtype=torch.float32)
    prune_to_folder(on_disk, PruneSpec(), folder / "low", text)
    streamed = load_model(str(folder / "low"), device="cpu", dtype=torch.float32)
    faithful = load_model(str(folder / "faithful"), device="cpu", dtype=torch.float32)
    with torch.no_grad():
        assert torch.equal(
            streamed.model(text.ids, use_cache=False).logits, faithful.model(text.ids, use_cache=False).logits
        )


@pytest.mark.families
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", POSSIBLE)
def test_it_is_served_whole_or_refused_by_name(name, tokenizer, tmp_path, transformers_as_before):
    if name in REFUSED:
        with pytest.raises(WandaError, match=REFUSED[name]):
            serve(name, tokenizer, tmp_path)
    else:
        serve(name, tokenizer, tmp_path)


@pytest.mark.families
def test_the_counts_that_readme_gives():
    readme = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")
    served = len(POSSIBLE) - len(REFUSED)
    assert f"{served} of the {len(NAMES)} causal architectures" in readme
    assert f"{len(REFUSED)} are refused by name" in readme
