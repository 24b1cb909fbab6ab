"""A way through the decoder blocks, one at a time: orders of work go it without knowing where the weights are kept."""

from collections.abc import Iterable, Iterator
from typing import Literal

from torch import Tensor, nn

from wanda_core.calibration.batching import Batches
from wanda_core.model.blocks import BlockCall, block_calls, first_block_inputs
from wanda_core.model.linears import Linear, decoder_blocks, prunable_linears

# What a walk is for: to look at the blocks; to change them; to run the dense model beside one that changes them.
Role = Literal["read", "prune", "beside"]


class Walk:
    """Iterate it for (index, block, its linears): the weights of that block are in memory until the next step.

    Here all are, all the time; `low_memory` has a walk that brings each from the disk and keeps what became of it.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        _, self.blocks = decoder_blocks(model)
        self.linears = prunable_linears(model)
        self.batches = Batches()

    def __len__(self) -> int:
        """Number of blocks."""
        return len(self.blocks)

    def __iter__(self) -> Iterator[tuple[int, nn.Module, list[Linear]]]:
        """The blocks in turn."""
        for index, (block, linears) in enumerate(zip(self.blocks, self.linears, strict=True)):
            yield index, block, linears

    def begun(self, ids: Tensor) -> tuple[list[BlockCall], list[Tensor]]:
        """How each block is called, and what enters the first of this walk. ids int64 (N, L), on the model's device.

        -> a call per block, N tensors (1, L, D).
        """
        calls = block_calls(self.model, self.blocks, ids[:1])
        return calls, first_block_inputs(self.model, self.blocks, ids)

    def carried(self, stream: Iterable[Tensor]) -> list[Tensor]:
        """What goes from the block at hand to the next, kept until then. Calls (B, L, D), N sequences in all."""
        return list(stream)
