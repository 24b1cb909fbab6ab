"""A model that accelerate spread over devices: its hooks move what a block reads, and pruning goes through them."""

import copy

import pytest
import torch
from accelerate import dispatch_model

from wanda_core.checkpoint.save import save
from wanda_core.errors import ModelError
from wanda_core.model import devices, loading
from wanda_core.model.language_model import LanguageModel
from wanda_core.model.loading import load_model
from wanda_core.pruning.prune import prune
from wanda_core.recipe import PruneSpec, Solver
from wanda_core.text.windows import draw

RECIPES = (
    PruneSpec(),
    PruneSpec(order="in-flight"),
    PruneSpec(order="one-shot", pattern="2:4"),
    PruneSpec(
        order="in-flight", update="least-squares", solver=Solver(steps=3, damping=0.1, rounds=1, dense_share=0.5)
    ),
    PruneSpec("magnitude", group="model"),
)
PARTS = ("model.embed_tokens", "model.layers.0", "model.layers.1", "model.layers.2", "model.norm", "model.rotary_emb")


@pytest.fixture(scope="module")
def calibration():
    generator = torch.Generator().manual_seed(4)
    return draw(torch.randint(1, 250, (500,), generator=generator).tolist(), samples=4, seq_len=16)


@pytest.fixture(scope="module")
def spread(tiny_llama, device):
    """Every part with accelerate's hooks, as a device map gives them. One device, for want of two."""
    model = copy.deepcopy(tiny_llama.model)
    place = 0 if device.type == "cuda" else "cpu"
    model = dispatch_model(model, dict.fromkeys((*PARTS, "lm_head"), place), main_device=place, force_hooks=True)
    model.hf_device_map = dict.fromkeys(model.hf_device_map, 0)  # transformers takes a map with cpu for offloading
    return LanguageModel(model, tiny_llama.tokenizer, "tiny", "local")


@torch.no_grad()
@pytest.mark.parametrize("spec", RECIPES, ids=lambda spec: f"{spec.label}-{spec.order}")
def test_a_spread_model_is_pruned_as_a_whole_one(tiny_llama, spread, calibration, spec):
    assert all(hasattr(block, "_hf_hook") for block in spread.model.model.layers)
    ids = calibration.ids.to(tiny_llama.device)
    dense = spread.model(ids).logits
    ours, whole = prune(spread, spec, calibration), prune(tiny_llama, spec, calibration)
    for block in whole.lm.linears:
        for linear in block:
            assert torch.equal(ours.pruned_weight(linear.name), linear.weight)
    # The twin's hooks call the twin's own modules, and the dense model keeps its own.
    assert torch.equal(ours.lm.model(ids).logits, whole.lm.model(ids).logits)
    assert torch.equal(spread.model(ids).logits, dense)


def test_a_spread_model_is_saved_whole(spread, calibration, tmp_path):
    variant = prune(spread, PruneSpec(), calibration)
    save(variant, tmp_path / "out")
    again = load_model(str(tmp_path / "out"), device="cpu", dtype=torch.float32)
    for block in again.linears:
        for linear in block:
            assert torch.equal(linear.weight, variant.pruned_weight(linear.name).cpu())


@pytest.fixture
def two_gpus(monkeypatch):
    """A machine that says it has two GPUs; `auto` then asks transformers for a map, and gets the one given here."""
    given = {}
    real = loading.AutoModelForCausalLM.from_pretrained

    def load(*args, device_map=None, **kwargs):
        assert device_map == "auto"
        return real(*args, device_map=given, **kwargs)

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(devices, "free_memory", lambda device: 10**9)
    monkeypatch.setattr(loading.AutoModelForCausalLM, "from_pretrained", load)
    return given


@pytest.fixture(scope="module")
def folder(tiny_llama, tmp_path_factory):
    place = tmp_path_factory.mktemp("models") / "tiny"
    tiny_llama.model.save_pretrained(place)
    tiny_llama.tokenizer.save_pretrained(place)
    return str(place)


def test_a_model_with_a_part_on_the_disk_is_refused(two_gpus, folder):
    two_gpus.update(dict.fromkeys((*PARTS, "lm_head"), "cpu") | {"model.layers.1": "disk"})
    with pytest.raises(ModelError, match="does not fit on the 2 GPUs here, a part of it went to the cpu and the disk"):
        load_model(folder, device="auto", dtype=torch.float32)


def test_several_gpus_count_together_and_too_little_is_refused(two_gpus, folder, monkeypatch):
    needed = 4 * load_parameters(folder)
    monkeypatch.setattr(devices, "free_memory", lambda device: int(needed * 0.5))
    with pytest.raises(ModelError, match="GB of memory are free on cuda"):
        load_model(folder, device="auto", dtype=torch.float32)
    monkeypatch.setattr(devices, "free_memory", lambda device: int(needed * 0.6))
    two_gpus.update(dict.fromkeys((*PARTS, "lm_head"), "cpu") | {"lm_head": "disk"})
    with pytest.raises(ModelError, match="does not fit on the 2 GPUs"):  # past the first check, to the map's own
        load_model(folder, device="auto", dtype=torch.float32)


def load_parameters(folder: str) -> int:
    from safetensors import safe_open

    with safe_open(f"{folder}/model.safetensors", "pt") as file:
        return sum(file.get_tensor(name).numel() for name in file.keys())  # noqa: SIM118 - no mapping


@pytest.mark.skipif(torch.cuda.device_count() > 1, reason="here auto would spread the model")
def test_auto_on_one_device_is_that_device(folder):
    lm = load_model(folder, device="auto", dtype=torch.float32)
    assert lm.device.type == loading.default_device().type
    assert not hasattr(lm.model, "hf_device_map")
