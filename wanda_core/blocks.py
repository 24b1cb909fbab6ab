"""Running decoder blocks one at a time, each called the way the whole model calls it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from wanda_core.errors import ModelError
from wanda_core.statistics import StopForward


@dataclass(frozen=True)
class BlockCall:
    """What a block is given besides hidden states: masks and rotary embeddings, per block because they may
    differ by layer type."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def run(self, block: nn.Module, hidden: Tensor) -> Tensor:
        """One block, one sample. hidden (1, L, D) -> (1, L, D)."""
        return hidden_states(block(hidden, *self.args, **self.kwargs))


def hidden_states(output: Any) -> Tensor:
    """A block's output: a tensor in transformers 5, the first of a tuple elsewhere. -> (1, L, D)."""
    return output[0] if isinstance(output, (tuple, list)) else output


def _split(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Tensor, BlockCall]:
    if args:
        return args[0], BlockCall(args[1:], dict(kwargs))
    rest = dict(kwargs)
    return rest.pop("hidden_states"), BlockCall((), rest)


def block_calls(model: nn.Module, blocks: nn.ModuleList, ids: Tensor) -> list[BlockCall]:
    """How the model calls each block for one sample. ids int64 (1, L), on the model's device.

    No cache is kept: replaying a captured live cache would corrupt every later sample.
    """
    calls: dict[int, BlockCall] = {}

    def note(index: int):
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            calls[index] = _split(args, kwargs)[1]
            if index == len(blocks) - 1:
                raise StopForward

        return hook

    with _hooks(blocks, note):
        _run_until_stopped(model, ids)
    missing = [index for index in range(len(blocks)) if index not in calls]
    if missing:
        raise ModelError(
            f"block {missing[0]} was never called in a forward pass, so its inputs are unknown; choose another model"
        )
    return [calls[index] for index in range(len(blocks))]


def first_block_inputs(model: nn.Module, blocks: nn.ModuleList, ids: Tensor) -> list[Tensor]:
    """What enters the first block, sample by sample. ids int64 (N, L) -> N tensors (1, L, D)."""
    inputs: list[Tensor] = []

    def note(index: int):
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            inputs.append(_split(args, kwargs)[0])
            raise StopForward

        return hook

    with _hooks(blocks[:1], note):
        for sample in ids:
            _run_until_stopped(model, sample[None])
    return inputs


@contextmanager
def _hooks(blocks: Any, make: Any) -> Iterator[None]:
    handles = [block.register_forward_pre_hook(make(i), with_kwargs=True) for i, block in enumerate(blocks)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _run_until_stopped(model: nn.Module, ids: Tensor) -> None:
    try:
        with torch.no_grad():
            model(ids, use_cache=False)
    except StopForward:
        pass
