"""Running several sequences in one call of a block, where that changes no bit of the result.

A larger matrix product is faster, but another kernel may round differently, experts may see other tokens, and a
captured mask may not fit. So one block of each shape is run both ways first, and only equal bits are trusted: the
kernel chosen depends on shapes and types, not on values.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from wanda_core.calibration.norm_recorder import NormRecorder
from wanda_core.model.block_calls import BlockCall
from wanda_core.model.linears import Linear

BATCH_TOKENS = 2048  # in one call at most; more is no faster on two cores and takes memory


@dataclass
class Batches:
    """Decides how many sequences a call may carry, by one trial for every shape of block.

    tried: shape, as text that can be saved -> sequences.
    """

    tried: dict[str, int] = field(default_factory=dict)

    def size(self, block: nn.Module, call: BlockCall, linears: list[Linear], hidden: list[Tensor]) -> int:
        """Return how many sequences a call of this block may carry. hidden: N tensors (1, L, D) that enter it."""
        if call.own or hidden[0].dim() != 3:  # what belongs to one sequence serves no other
            return 1
        most = min(len(hidden), BATCH_TOKENS // hidden[0].shape[1])
        if most < 2 or any(linear.routed for linear in linears):  # experts see other tokens every time
            return 1
        shape = repr((type(block), call.shape, [(linear.kind, linear.shape) for linear in linears], most))
        if shape not in self.tried:
            self.tried[shape] = most if same_bits(block, call, linears, hidden[:most]) else 1
        return self.tried[shape]


def singly(calls: list[Tensor]) -> list[Tensor]:
    """Split calls of any number of sequences, (B, L, D), into views of one sequence each, (1, L, D)."""
    return [sequence for x in calls for sequence in (x.split(1) if x.dim() == 3 else [x])]


def joined(calls: list[Tensor]) -> Tensor:
    """Join all sequences into one call, (N, L, D)."""
    return calls[0] if len(calls) == 1 else torch.cat(calls)


def regrouped(calls: list[Tensor], size: int) -> list[Tensor]:
    """Regroup sequences into calls of `size`, the rest one by one; nothing is copied if they already come that way."""
    if calls[0].dim() != 3:  # one sequence in each
        return calls
    sequences = sum(len(x) for x in calls)
    whole, rest = divmod(sequences, size)
    if [len(x) for x in calls] == [size] * whole + [1] * rest:
        return calls
    return list(batched(singly(calls), size))


def batched(hidden: list[Tensor], size: int) -> Iterator[Tensor]:
    """Join sequences into calls of `size`, the rest one by one. N tensors (1, L, D) -> (size, L, D) or (1, L, D)."""
    whole = len(hidden) - len(hidden) % size
    for start in range(0, whole, size):
        yield torch.cat(hidden[start : start + size]) if size > 1 else hidden[start]
    yield from hidden[whole:]


def same_bits(block: nn.Module, call: BlockCall, linears: list[Linear], hidden: list[Tensor]) -> bool:
    """Try whether one call with all sequences gives the outputs and input norms of a call for each, bit for bit."""
    together, apart = NormRecorder(linears), NormRecorder(linears)
    with apart.recording():
        outputs = [call.run(block, sample) for sample in hidden]
    try:
        with together.recording(len(hidden)):
            joint = call.run(block, torch.cat(hidden))
    except (RuntimeError, ValueError, IndexError):  # a captured mask or position that carries one sequence only
        return False
    if joint.shape[0] != len(hidden) or together.stats.keys() != apart.stats.keys():
        return False
    pairs = [(joint, torch.cat(outputs))]
    pairs += [(norms.squares, apart.stats[name].squares) for name, norms in together.stats.items()]
    return all(torch.equal(a, b) for a, b in pairs)
