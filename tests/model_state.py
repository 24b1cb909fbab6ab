"""What a model is like before and after: hooks, attention implementation, every parameter."""

import copy

import torch

from wanda_core.model.linears import prunable_linears

SKY = "The sky is blue because sunlight is scattered."


def hooks_of(model) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def state_of(model):
    kinds = {m.config._attn_implementation_internal for m in model.modules() if hasattr(m, "config")}
    return hooks_of(model), kinds, {name: p.clone() for name, p in model.named_parameters()}


def assert_same(before, after):
    assert before[:2] == after[:2]
    assert all(torch.equal(before[2][name], p) for name, p in after[2].items())


def with_zeros(model, kept):
    """The dense model with the columns that are gone from the smaller one set to zero."""
    model = copy.deepcopy(model)
    for linear in (linear for block in prunable_linears(model) for linear in block):
        if linear.name in kept:
            stays = torch.zeros(linear.shape[1])
            stays[kept[linear.name]] = 1
            linear.replace(linear.weight * stays.to(linear.weight.device))
    return model
