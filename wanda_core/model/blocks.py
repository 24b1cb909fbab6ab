"""The way through the decoder blocks, one at a time, for orders that need not know where the weights are kept."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from wanda_core.errors import ModelError, out_of_memory
from wanda_core.model import experts
from wanda_core.model.block_calls import BlockCall, block_calls, hidden_states, other_tokens
from wanda_core.model.linears import Linear, decoder_blocks, prunable_linears

# What a walk is for: to look at the blocks; to change them; to run the dense model beside one that changes them.
Role = Literal["read", "prune", "beside"]
PROBE_TOKENS = 32  # of the two short sequences on which a model's blocks are first compared with the model
TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-3}  # of the largest hidden state, for sums in another order
HALF_TOLERANCE = 5e-2  # the same in half precision

COMPARED = "_wanda_blocks_compared"  # marks the embedding of a model whose blocks were; its twin shares that parameter


class Carried(Protocol):
    """Hidden states on their way from one block to the next."""

    def add(self, x: Tensor) -> None:
        """Take one call, (B, L, D)."""

    def taken(self) -> list[Tensor]:
        """Return all calls, when all have come."""


class _InMemory:
    """Hidden states that stay where they are."""

    def __init__(self) -> None:
        self.calls: list[Tensor] = []

    def add(self, x: Tensor) -> None:
        self.calls.append(x)

    def taken(self) -> list[Tensor]:
        return self.calls


class BlockWalk:
    """Iterate it for (index, block, its linears): the weights of that block are in memory until the next step.

    Here all are, all the time; `low_memory` has a walk that brings each from the disk and keeps what became of it.
    order: the numbers of the blocks it goes through; tried: what calibration found out about batching shapes of blocks,
    noted: plain values that whoever goes on with the walk must know, both kept by whoever keeps the walk.
    """

    whole = True  # whether all weights are in memory at once

    def __init__(self, model: nn.Module, kept: Sequence[int] | None = None) -> None:
        self.model = model
        _, self.blocks = decoder_blocks(model)
        self.linears = prunable_linears(model)
        self.order = list(range(len(self.blocks)) if kept is None else kept)
        self.tried: dict[str, int] = {}
        self.noted: dict[str, Any] = {}

    def __len__(self) -> int:
        """Number of blocks it goes through."""
        return len(self.order)

    def __iter__(self) -> Iterator[tuple[int, nn.Module, list[Linear]]]:
        """The blocks in turn."""
        for index in self.order:
            yield index, self.blocks[index], self.linears[index]

    def start(self, ids: Tensor) -> tuple[list[BlockCall], list[Tensor]]:
        """How each block is called, and what enters the first of this walk. ids int64 (N, L), on the model's device.

        -> a call per block, N tensors (1, L, D). Raises ModelError for a model whose blocks cannot be run one by one.
        """
        if self.whole:
            check_replay(self.model, self.blocks, ids)
        return block_calls(self.model, self.blocks, ids)

    def carry(self, stream: Iterable[Tensor], times: int = 1) -> list[Tensor]:
        """Keep the hidden states that go from this block to the next. stream: calls (B, L, D), in all so many times
        the N sequences that `start` was given."""
        with self.carrying(times) as carried:
            for x in stream:
                carried.add(x)
            return carried.taken()

    def carrying(self, times: int = 1) -> AbstractContextManager[Carried]:
        """Context manager: the same for hidden states that come one call after the other, with other work between."""
        return nullcontext(_InMemory())

    def keep(self, finished: str) -> None:
        """Keep what is noted, from now on whatever happens, where anything outlasts the walk. finished: what it is the
        result of, in words."""


def check_replay(model: Any, blocks: nn.ModuleList, ids: Tensor) -> None:
    """Raise ModelError unless the blocks, run one by one, give what they give in a plain forward pass of the model, on
    a sequence other than the first. Once a model; ids int64 (N, L), on its device."""
    embedding = model.get_input_embeddings().weight
    if getattr(embedding, COMPARED, False):
        return
    probe = ids[:1, :PROBE_TOKENS]
    pair = torch.cat([probe, other_tokens(probe, model)])
    plain: list[Tensor] = []
    handles = [
        block.register_forward_hook(lambda module, args, out: plain.append(hidden_states(out))) for block in blocks
    ]
    try:
        with torch.no_grad(), experts.apart(model):
            model(pair[1:], use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    limit = TOLERANCE.get(embedding.dtype, HALF_TOLERANCE)
    try:
        with torch.no_grad(), experts.apart(model):
            calls, hidden = block_calls(model, blocks, pair)
            for index, (block, call, expected) in enumerate(zip(blocks, calls, plain, strict=True)):
                hidden = [call.run(block, x, sequence) for sequence, x in enumerate(hidden)]
                found = hidden[1].to(expected.device)
                if found.shape != expected.shape or not _close(found, expected, limit):
                    raise ModelError(_not_replayed(model, index, "gives other hidden states than in the model"))
    except (KeyError, ValueError, RuntimeError, TypeError, AttributeError, IndexError) as error:
        if out_of_memory(error):
            raise
        raise ModelError(_not_replayed(model, len(plain) - 1, f"fails ({type(error).__name__}: {error})")) from error
    setattr(embedding, COMPARED, True)


def _close(found: Tensor, expected: Tensor, limit: float) -> bool:
    """Hidden states that are not finite are told elsewhere, by name."""
    scale = float(expected.float().abs().max())
    distance = float((found.float() - expected.float()).abs().max())
    return not distance > limit * max(scale, 1e-6)


def _not_replayed(model: nn.Module, index: int, what: str) -> str:
    return (
        f"{type(model).__name__}: one of its blocks up to number {index}, run by itself, {what}, so no input norms "
        "could be trusted; choose another model"
    )
