"""Running decoder blocks one at a time, each called the way the whole model calls it, and walking through them all."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from wanda_core.errors import ModelError
from wanda_core.machine.matmul import FasterLinear
from wanda_core.model import experts
from wanda_core.model.linears import Linear, decoder_blocks, prunable_linears


@dataclass(frozen=True)
class BlockCall:
    """The arguments of a block besides hidden states: masks and rotary embeddings, per block because they may differ
    by layer type."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def run(self, block: nn.Module, hidden: Tensor) -> Tensor:
        """Run a block. hidden (B, L, D) -> (B, L, D); arguments of one sequence serve B only where they broadcast."""
        with FasterLinear(), experts.watched(block):  # the watch sees every product first
            return hidden_states(block(hidden, *self.args, **self.kwargs))

    @property
    def shape(self) -> tuple[Any, ...]:
        """Shapes and types of the arguments, by which kernels are chosen."""
        return tuple(_shape(value) for value in (*self.args, *self.kwargs.values()))


def _shape(value: Any) -> Any:
    if isinstance(value, Tensor):
        return tuple(value.shape), value.dtype
    return tuple(map(_shape, value)) if isinstance(value, (tuple, list)) else type(value)


def hidden_states(output: Any) -> Tensor:
    """Take the hidden states from a block's output: itself in transformers 5, else the first of a tuple. (B, L, D)."""
    return output[0] if isinstance(output, (tuple, list)) else output


def _split(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Tensor, BlockCall]:
    """Split a block's arguments into hidden states and all others."""
    if args:
        return args[0], BlockCall(args[1:], dict(kwargs))
    rest = dict(kwargs)
    return rest.pop("hidden_states"), BlockCall((), rest)


def block_calls(model: nn.Module, blocks: nn.ModuleList, ids: Tensor) -> list[BlockCall]:
    """Capture how the model calls each block for one sequence. ids int64 (1, L), on the model's device.

    Only the first block computes; the others pass on the hidden states they are given, on which the other arguments do
    not depend. No cache is kept: replaying a captured live cache would corrupt every later sample.
    Raises ModelError for a block that is never called.
    """
    calls: dict[int, BlockCall] = {}
    first_output: list[Any] = []  # of the first block, once it ran: a tensor, or a tuple that begins with one

    def capturing(index: int, forward: Any) -> Any:
        def capture(*args: Any, **kwargs: Any) -> Any:
            hidden, calls[index] = _split(args, kwargs)
            if index == len(blocks) - 1:
                raise StopForward
            if not first_output:
                first_output.append(forward(*args, **kwargs))
            output = first_output[0]
            return (hidden, *output[1:]) if isinstance(output, (tuple, list)) else hidden

        return capture

    with _replaced_forwards(blocks, capturing):
        _run_until_stopped(model, ids)
    missing = [index for index in range(len(blocks)) if index not in calls]
    if missing:
        raise ModelError(
            f"block {missing[0]} was never called in a forward pass, so its inputs are unknown; choose another model"
        )
    return [calls[index] for index in range(len(blocks))]


def first_block_inputs(model: nn.Module, blocks: nn.ModuleList, ids: Tensor) -> list[Tensor]:
    """Capture the hidden states that enter the first block. ids int64 (N, L) -> N tensors (1, L, D)."""
    inputs: list[Tensor] = []

    def capturing(index: int, forward: Any) -> Any:
        def capture(*args: Any, **kwargs: Any) -> None:
            inputs.append(_split(args, kwargs)[0])
            raise StopForward

        return capture

    with _replaced_forwards(blocks[:1], capturing):
        for sample in ids:
            _run_until_stopped(model, sample[None])
    return inputs


@contextmanager
def _replaced_forwards(blocks: Any, make: Any) -> Iterator[None]:
    """Context manager: run what `make(index, forward)` returns in place of each block's forward."""
    before = [block.__dict__.get("forward") for block in blocks]  # accelerate puts its own there
    try:
        for index, block in enumerate(blocks):
            block.forward = make(index, block.forward)
        yield
    finally:
        for block, forward in zip(blocks, before, strict=True):
            block.__dict__.pop("forward", None)
            if forward is not None:
                block.forward = forward


def _run_until_stopped(model: nn.Module, ids: Tensor) -> None:
    """Run the model until something in it raises StopForward, or to its end."""
    try:
        with torch.no_grad():
            model(ids, use_cache=False)
    except StopForward:
        pass


class StopForward(Exception):  # noqa: N818 - a signal, not an error
    """Ends a forward pass whose remaining work nobody needs."""


# The purpose of a walk: to look at the blocks; to prune them; to run the dense model beside one that is pruned.
Role = Literal["read", "prune", "beside"]


class BlockWalk:
    """A walk through the decoder blocks. Iterate it for (index, block, its linears): the weights of that block are in
    memory until the next step.

    Here all blocks are in memory all the time; `low_memory` has a walk that loads each from the disk and saves it
    after its step. tried: for calibration, how many sequences a call of each shape of block may carry.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        _, self.blocks = decoder_blocks(model)
        self.linears = prunable_linears(model)
        self.tried: dict[str, int] = {}

    def __len__(self) -> int:
        """Number of blocks."""
        return len(self.blocks)

    def __iter__(self) -> Iterator[tuple[int, nn.Module, list[Linear]]]:
        """Go through the blocks in turn."""
        for index, (block, linears) in enumerate(zip(self.blocks, self.linears, strict=True)):
            yield index, block, linears

    def start(self, ids: Tensor) -> tuple[list[BlockCall], list[Tensor]]:
        """Capture how each block is called and what enters the first. ids int64 (N, L), on the model's device.

        -> a call per block, and N tensors (1, L, D).
        """
        calls = block_calls(self.model, self.blocks, ids[:1])
        return calls, first_block_inputs(self.model, self.blocks, ids)

    def carry(self, stream: Iterable[Tensor]) -> list[Tensor]:
        """Keep the hidden states that go from this block to the next. stream: calls (B, L, D), N sequences in all."""
        return list(stream)
