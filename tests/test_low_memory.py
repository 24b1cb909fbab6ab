"""Pruning from disk to disk: the same bytes as in memory, whatever the model, the recipe, or a kill in between."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from test_families import FAMILIES, tiny

from wanda_core import checkpoint, low_memory
from wanda_core.calibration import draw
from wanda_core.models import load_model
from wanda_core.prune import prune
from wanda_core.recipe import PruneSpec, preset


@pytest.fixture(scope="module")
def calibration():
    generator = torch.Generator().manual_seed(4)
    return draw(torch.randint(1, 250, (500,), generator=generator).tolist(), samples=4, seq_len=16)


def saved(lm, folder: Path) -> str:
    lm.model.save_pretrained(folder)
    lm.tokenizer.save_pretrained(folder)
    return str(folder)


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    found = {}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            found |= {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    return found


def same(ours: Path, theirs: Path) -> None:
    """Every tensor bit for bit, and every other file but for the seconds in the record."""
    a, b = tensors(ours), tensors(theirs)
    assert a.keys() == b.keys()
    for name in a:
        assert a[name].dtype == b[name].dtype
        assert torch.equal(a[name].contiguous().view(torch.uint8), b[name].contiguous().view(torch.uint8)), name
    for path in theirs.iterdir():
        if path.suffix == ".safetensors" or path.name.endswith("index.json"):
            continue
        if path.name == checkpoint.RECORD:
            records = [json.loads((folder / path.name).read_text()) for folder in (ours, theirs)]
            assert all(record.pop("seconds") > 0 for record in records)
            assert records[0] == records[1]
        else:
            assert (ours / path.name).read_bytes() == path.read_bytes(), path.name


def in_both_ways(name: str, spec: PruneSpec, calibration, tmp_path: Path, **options) -> None:
    lm = load_model(name, **options)
    theirs = checkpoint.save(prune(lm, spec, calibration), tmp_path / "in-memory")
    variant = low_memory.prune_to_folder(low_memory.load_model(name, **options), spec, tmp_path / "out", calibration)
    assert variant.report.sparsity == pytest.approx(spec.target, abs=0.05)
    same(tmp_path / "out", theirs)
    again = load_model(str(tmp_path / "out"), **options)
    dense = dict(lm.model.named_buffers())
    for key, buffer in again.model.named_buffers():
        assert torch.equal(buffer, dense[key])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dense", "in-memory", "out"]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_comes_out_as_it_does_in_memory(tokenizer, device, calibration, tmp_path, family):
    name = saved(tiny(family, tokenizer, device), tmp_path / "dense")
    in_both_ways(name, PruneSpec("wanda", 0.5), calibration, tmp_path, device=device, dtype=torch.float32)


RECIPES = [
    PruneSpec("wanda", 0.5, order="in-flight"),
    PruneSpec("wanda", 0.5, order="one-shot"),
    PruneSpec("wanda", 0.6, allocation="owl"),
    PruneSpec("wanda", pattern="2:4", update="obs"),
    PruneSpec("sparsegpt", 0.5),
    PruneSpec("magnitude", 0.5, group="model"),
    PruneSpec("magnitude", 0.5, group="row"),
    PruneSpec("random", 0.5),
    preset("best"),
]


@pytest.mark.parametrize("family", ["Llama", "GPT2", "Mixtral"])
@pytest.mark.parametrize("spec", RECIPES, ids=lambda spec: f"{spec.label} {spec.order} {spec.group}")
def test_a_recipe_comes_out_as_it_does_in_memory(tokenizer, device, calibration, tmp_path, family, spec):
    name = saved(tiny(family, tokenizer, device), tmp_path / "dense")
    in_both_ways(name, spec, calibration, tmp_path, device=device, dtype=torch.float32)
