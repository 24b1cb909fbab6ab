"""What may be pruned is found by structure, and nothing outside the decoder blocks is."""

import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from wanda_core.errors import ModelError
from wanda_core.model.linears import Linear, decoder_blocks, prunable_linears


def test_a_llama_block_holds_seven_linears_in_order(tiny_llama):
    kinds = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    found = tiny_llama.linears
    assert len(found) == 3
    for index, block in enumerate(found):
        assert [linear.kind.split(".")[1] for linear in block] == kinds
        assert [linear.block for linear in block] == [index] * 7
        assert [linear.name for linear in block] == [f"model.layers.{index}.{linear.kind}" for linear in block]


def test_grouped_query_attention_keeps_its_narrow_keys(tiny_llama):
    shapes = {linear.kind: linear.shape for linear in tiny_llama.linears[0]}
    assert shapes["self_attn.q_proj"] == (64, 64)
    assert shapes["self_attn.k_proj"] == (32, 64)
    assert shapes["mlp.down_proj"] == (64, 96)


def test_conv1d_is_seen_as_rows_of_outputs(tiny_gpt2):
    linears = {linear.kind: linear for linear in tiny_gpt2.linears[0]}
    assert list(linears) == ["attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"]
    c_attn = linears["attn.c_attn"]
    assert c_attn.transposed
    assert tuple(c_attn.module.weight.shape) == (64, 192)
    assert c_attn.shape == (192, 64)
    assert torch.equal(c_attn.weight, c_attn.module.weight.t())


@pytest.mark.parametrize("model", ["tiny_llama", "tiny_gpt2", "tiny_opt"])
def test_every_name_leads_to_its_module_and_none_is_outside_the_blocks(request, device, model):
    lm = request.getfixturevalue(model)
    prefix, blocks = decoder_blocks(lm.model)
    found = [linear for block in lm.linears for linear in block]
    assert len(lm.linears) == len(blocks)
    for linear in found:
        assert lm.model.get_submodule(linear.name) is linear.module
        assert linear.name.startswith(f"{prefix}.{linear.block}.")
    assert not any(name in linear.name for linear in found for name in ("lm_head", "embed", "norm", "wte", "wpe"))


@pytest.mark.builtin
def test_the_built_in_model_has_106_million_prunable_weights(builtin_lm):
    assert len(builtin_lm.linears) == 30
    assert sum(linear.weight.numel() for block in builtin_lm.linears for linear in block) == 106_168_320


@pytest.mark.parametrize("kind", ["linear", "conv1d"])
def test_replacing_a_weight_leaves_the_old_parameter_as_it_was(kind):
    module = nn.Linear(3, 2) if kind == "linear" else Conv1D(2, 3)
    linear = Linear("a", "a", 0, module)
    old = module.weight
    kept = old.detach().clone()
    linear.replace(torch.arange(6.0).reshape(2, 3))
    assert torch.equal(old, kept)
    assert module.weight is not old
    assert not module.weight.requires_grad
    assert module.weight.is_contiguous()
    assert linear.weight.tolist() == [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]
    bias = module.bias.detach()
    assert torch.allclose(module(torch.eye(3)) - bias, torch.arange(6.0).reshape(2, 3).t())


def test_lists_inside_blocks_are_no_blocks_of_their_own():
    block = nn.Module()
    block.experts = nn.ModuleList(nn.Linear(4, 4) for _ in range(8))
    model = nn.Module()
    model.layers = nn.ModuleList([block])
    assert decoder_blocks(model)[0] == "layers"
    assert [linear.kind for linear in prunable_linears(model)[0]] == [f"experts.{i}" for i in range(8)]


def test_of_two_towers_the_one_with_most_weights_is_the_decoder():
    model = nn.Module()
    model.vision = nn.ModuleList(nn.Linear(4, 4) for _ in range(9))
    model.text = nn.ModuleList(nn.Linear(32, 32) for _ in range(2))
    assert decoder_blocks(model)[0] == "text"


@pytest.mark.parametrize(
    "model", [nn.Linear(2, 2), nn.ModuleList([nn.LayerNorm(3)]), nn.Sequential(nn.Linear(2, 2), nn.ReLU())]
)
def test_a_model_without_decoder_blocks_is_refused_by_its_class(model):
    holder = nn.Module()
    holder.inner = model
    with pytest.raises(ModelError, match="Module has no decoder blocks with linear layers"):
        decoder_blocks(holder)
