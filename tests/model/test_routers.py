"""What decides between experts is not pruned: on small blocks by hand, and in every architecture by what it does."""

import re

import pytest
import torch
from architectures import IMPOSSIBLE, NAMES, tiny_model
from torch import nn
from transformers.pytorch_utils import Conv1D

from wanda_core.model.linears import decoder_blocks, prunable_linears
from wanda_core.model.routers import router_linears

VOCABULARY = 320  # tokens
# Linears that decide, where they are linears at all; most architectures have a parameter in a class of their own.
DECIDING = {
    "afmoe": {"mlp.router.gate"},
    "gemma4_text": {"router.proj"},
    "hunyuan_v1_moe": {"mlp.gate.wg"},
    "llama4": {"feed_forward.router"},
    "llama4_text": {"feed_forward.router"},
    "phimoe": {"mlp.router"},
    "zaya": {
        "mlp.gate.down_proj",
        "mlp.gate.router_mlp.fc1",
        "mlp.gate.router_mlp.fc2",
        "mlp.gate.router_mlp.out_proj",
    },
    **{
        name: {"mlp.shared_expert_gate"}
        for name in ("qwen2_moe", "qwen3_5_moe", "qwen3_5_moe_text", "qwen3_next", "qwen4_exp", "qwen4_exp_text")
    },
}
CALLED_ROUTERS = {  # by the architecture, without experts of a form that is known
    "dbrx": {"ffn.router.layer"},
    "gemma3n_text": {"altup.modality_router"},
    "jetmoe": {"mlp.router.layer", "self_attention.experts.router.layer"},
}
FEW = ["afmoe", "gemma4_text", "hunyuan_v1_moe", "jetmoe", "llama", "mixtral", "phimoe", "qwen2_moe", "zamba"]
# Refused before its linears are looked for: its experts cannot be told apart.
POSSIBLE = [name for name in NAMES if name not in IMPOSSIBLE and name != "longcat_flash"]


class Expert(nn.Module):
    def __init__(self, width=32):
        super().__init__()
        self.up, self.down = nn.Linear(width, 12), nn.Linear(12, width)


def layer(count=4, **beside):
    """A layer with a list of experts and what stands beside it."""
    module = nn.Module()
    for name, child in beside.items():
        module.add_module(name, child)
    module.members = nn.ModuleList(Expert() for _ in range(count))
    return module


def block(**children):
    module = nn.Module()
    module.attention = nn.Sequential(nn.Linear(32, 4), nn.Linear(4, 32))  # four heads have a number each
    for name, child in children.items():
        module.add_module(name, child)
    return module


def test_a_linear_with_a_number_for_each_expert_is_a_router_whatever_its_name():
    assert router_linears(block(mlp=layer(pick=nn.Linear(32, 4)))) == {"mlp.pick"}
    assert router_linears(block(mlp=layer(pick=Conv1D(4, 32)))) == {"mlp.pick"}
    assert router_linears(block(mlp=layer(count=6, pick=nn.Linear(32, 4)))) == set()


def test_all_linears_of_a_router_are_kept():
    deep = nn.Sequential(nn.Linear(32, 16), nn.Tanh(), nn.Linear(16, 4))
    assert router_linears(block(mlp=layer(pick=deep))) == {"mlp.pick.0", "mlp.pick.2"}


def test_a_single_number_beside_experts_is_a_gate_and_elsewhere_a_linear():
    gate = nn.Linear(32, 1)
    assert router_linears(block(mlp=layer(shared=Expert(), gate=gate))) == {"mlp.gate"}
    assert router_linears(block(mlp=nn.Sequential(nn.Linear(32, 8), gate))) == set()


def test_attention_and_shared_experts_beside_the_experts_compute():
    flat = layer(pick=nn.Linear(32, 4), attention=nn.Sequential(nn.Linear(32, 4), nn.Linear(4, 32)), shared=Expert())
    assert router_linears(flat) == {"pick"}


def test_with_as_many_experts_as_channels_only_a_single_linear_decides():
    assert router_linears(layer(count=32, pick=nn.Linear(32, 32), shared=Expert())) == {"pick"}


def test_experts_in_a_module_of_their_own_have_their_router_outside_it():
    holder = nn.Module()
    holder.all = layer().members
    outer = nn.Module()
    outer.pick, outer.held = nn.Linear(32, 4), holder
    assert router_linears(block(mlp=outer)) == {"mlp.pick"}


def test_lists_of_one_and_lists_of_different_modules_are_no_experts():
    assert router_linears(block(mlp=layer(count=1, gate=nn.Linear(32, 1)))) == set()
    mixed = layer(pick=nn.Linear(32, 4))
    mixed.members[2].up = nn.Linear(32, 13)
    assert router_linears(block(mlp=mixed)) == set()


def test_what_is_called_a_router_is_one():
    class TopicRouter(nn.Linear):
        pass

    named = nn.Module()
    named.streams_router = nn.Sequential(nn.Linear(32, 8))
    assert router_linears(block(a=named, b=TopicRouter(32, 8))) == {"a.streams_router.0", "b"}


@torch.no_grad()
def deciding(model) -> set[str]:
    """Names of the linears that decide what experts add, found by what they do and not by how they look.

    Another weight of such a linear changes how the experts beside it are chosen or weighed, and not what they read; or
    it gives a single number for each token.
    """
    ids = torch.randint(1, VOCABULARY, (1, 24), generator=torch.Generator().manual_seed(4))
    names = {module: name for name, module in model.named_modules()}
    found = set()
    for module, name in names.items():
        if "Expert" in type(module).__name__ and any(p.dim() == 3 for p in module.parameters(recurse=False)):
            found |= _deciding_in(model, model.get_submodule(name.rpartition(".")[0]), module, names, ids)
    return found


def _deciding_in(model, layer, experts, names, ids) -> set[str]:
    calls, given = [], []
    handle = layer.register_forward_pre_hook(lambda m, args, kw: calls.append((args, kw)), with_kwargs=True)
    model(ids, use_cache=False)
    handle.remove()
    args, kwargs = calls[0]
    handle = experts.register_forward_pre_hook(lambda m, a, kw: given.append([*a, *kw.values()]), with_kwargs=True)
    found = set()
    for linear in layer.modules():
        if not isinstance(linear, nn.Linear):
            continue
        given.clear()
        layer(*args, **kwargs)
        before = linear.weight.clone()
        linear.weight += torch.randn(before.shape, generator=torch.Generator().manual_seed(5))
        layer(*args, **kwargs)
        linear.weight.copy_(before)
        (read, *how), (then_read, *then_how) = given
        same = all(a.shape == b.shape and torch.equal(a, b) for a, b in zip(how, then_how, strict=True))
        if linear.out_features == 1 or (torch.equal(read, then_read) and not same):
            found.add(names[linear])
    handle.remove()
    return found


def _inside(names, prefix) -> set[str]:
    """Names inside the block that a full name begins with."""
    return {re.sub(rf"^{re.escape(prefix)}\.\d+\.", "", name) for name in names}


def _check(name):
    model = tiny_model(name, VOCABULARY)
    prefix, blocks = decoder_blocks(model)
    linears = {name for name, module in blocks.named_modules() if isinstance(module, (nn.Linear, Conv1D))}
    pruned = {linear.name for of_block in prunable_linears(model) for linear in of_block}
    expected = DECIDING.get(name, set()) | CALLED_ROUTERS.get(name, set())
    assert _inside({f"{prefix}.{linear}" for linear in linears} - pruned, prefix) == expected
    if name not in CALLED_ROUTERS and not name.startswith("llama4"):  # whose scores are in what experts read
        assert _inside(deciding(model), prefix) == expected


@pytest.mark.parametrize("name", FEW)
def test_a_few_architectures_keep_what_decides(name):
    _check(name)


@pytest.mark.families
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", POSSIBLE)
def test_every_architecture_keeps_what_decides_between_experts_and_nothing_else(name):
    _check(name)
