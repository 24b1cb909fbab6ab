"""Telling what sends tokens to experts from what computes, by what it gives: no method means to prune a router."""

from collections.abc import Iterator

from torch import nn
from transformers.pytorch_utils import Conv1D

from wanda_core.model import experts

NAME = "router"  # what decides is never pruned where the architecture itself calls it so


def router_linears(block: nn.Module) -> set[str]:
    """Find a block's linears that belong to a router or to the gate of a shared expert. -> their names in the block.

    Beside experts, a module whose last linear gives one number for each of them, or a single one, decides what each
    adds; attention and shared experts give what the experts give, the width of the residual stream. A linear within
    anything named a router is one too.
    """
    deciding = {name for name, module in block.named_modules() if NAME in f"{name}.{type(module).__name__}".lower()}
    for experts_name, count, width in _groups_of_experts(block):
        for name, module in _beside(block, experts_name):
            outputs = [_outputs(linear) for _, linear in _linears(module)]
            # Where there are as many experts as channels, a module of several linears is taken for one that computes.
            if outputs and outputs[-1] in (1, count) and (outputs[-1] != width or len(outputs) == 1):
                deciding.add(name)
    return {
        name for name, _ in _linears(block) if any(name == place or name.startswith(f"{place}.") for place in deciding)
    }


def _groups_of_experts(block: nn.Module) -> Iterator[tuple[str, int, int]]:
    """List the modules of a block that hold several experts, with how many there are and the width of what they give.

    It is a list of alike modules with linears, or a module that holds all experts in 3-D parameters.
    """
    for name, module in block.named_modules():
        if isinstance(module, nn.ModuleList):
            shapes = [[linear.weight.shape for _, linear in _linears(member)] for member in module]
            if len(shapes) > 1 and shapes[0] and all(shape == shapes[0] for shape in shapes):
                yield name, len(shapes), _outputs(list(_linears(module[-1]))[-1][1])
        for slices in list(experts.fused(name, module).values())[-1:]:
            if len(slices) > 1:
                yield name, len(slices), slices[0].weight.shape[1 if slices[0].transposed else 0]


def _beside(block: nn.Module, experts_name: str) -> Iterator[tuple[str, nn.Module]]:
    """List what stands beside a group of experts in the layer that holds it: the innermost module with more in it."""
    path = experts_name
    while path:
        layer, _, own = path.rpartition(".")
        others = [
            (f"{layer}.{name}" if layer else name, module)
            for name, module in block.get_submodule(layer).named_children()
            if name != own and any(True for _ in module.parameters())
        ]
        if others:
            yield from others
            return
        path = layer


def _linears(module: nn.Module) -> Iterator[tuple[str, nn.Linear | Conv1D]]:
    """List the linears in a module, with their names there; a linear itself has the empty name."""
    for name, child in module.named_modules():
        if isinstance(child, (nn.Linear, Conv1D)):
            yield name, child


def _outputs(linear: nn.Linear | Conv1D) -> int:
    """Count the columns of what a linear gives."""
    return int(linear.weight.shape[1 if isinstance(linear, Conv1D) else 0])
