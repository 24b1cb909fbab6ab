"""The residual stream, which some linears of a block add to: which they are, and how far a pruned model's stream lies
from the dense one's where they do.

What a pruned block gets wrong is carried on by the stream and read by every block after it. The next linear that adds
to the stream can take part of it back: its own target, and `stream_share` of what the dense stream holds there more.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import combinations

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from wanda_core.machine import distributed
from wanda_core.model.block_calls import BlockCall
from wanda_core.model.linears import Linear

MOST_ADDING = 3  # attention and an MLP, beside them at most another
MOST_CANDIDATES = 40  # linears that are no experts, in one block
TOLERANCE = {torch.float32: 1e-2, torch.float64: 1e-2}  # of what a block adds to a token, in the median
HALF_TOLERANCE = 0.1  # the same in half precision, where sums are rounded to the stream's own size


def keep_outputs(linears: Iterable[Linear], keep: Callable[[Linear, Tensor], object]) -> list[RemovableHandle]:
    """Have every output of these linears handed to `keep`, with the linear. -> what ends that again."""

    def after_use(linear: Linear) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def hook(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
            keep(linear, output.clone())  # some blocks add to it where it lies

        return hook

    return [linear.module.register_forward_hook(after_use(linear)) for linear in linears]


@contextmanager
def outputs_kept(linears: Iterable[Linear]) -> Iterator[dict[str, Tensor]]:
    """Context manager: the outputs of these linears, by name, as they come."""
    outputs: dict[str, Tensor] = {}
    handles = keep_outputs(linears, lambda linear, output: outputs.__setitem__(linear.name, output))
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


def adding(block: nn.Module, call: BlockCall, linears: Sequence[Linear], x: Tensor | None) -> list[str]:
    """Find the linears whose outputs a block adds to the hidden states, as they are and nothing else: tried by its
    numbers, so that no architecture has to be known. All processes find the same.

    x: hidden states (1, L, D) of one sequence, None for a process without any. -> their names; none where the block
    adds something else, as with experts, or with factors or norms behind its linears.
    """
    candidates = [linear for linear in linears if not linear.routed]
    if len(candidates) > MOST_CANDIDATES:
        return []
    every = 2 ** len(candidates) - 1  # said by a process that cannot know; no block adds all of its linears' outputs
    found = every if x is None else sum(1 << place for place in _adding(block, call, candidates, x))
    found = distributed.least(found) % every
    return [linear.name for place, linear in enumerate(candidates) if found >> place & 1]


def _adding(block: nn.Module, call: BlockCall, candidates: Sequence[Linear], x: Tensor) -> tuple[int, ...]:
    """-> the places of these linears among the candidates."""
    if x.dim() != 3:
        return ()
    with outputs_kept(candidates) as kept:
        added = call.run(block, x, 0).float() - x.float()
    outputs = {
        place: kept[linear.name].float().reshape(x.shape)
        for place, linear in enumerate(candidates)
        if linear.name in kept and kept[linear.name].numel() == x.numel() and linear.shape[0] == x.shape[-1]
    }
    size = added.norm(dim=-1).clamp_min(1e-12)  # (1, L)

    def distance(some: tuple[int, ...]) -> float:
        total = torch.stack([outputs[place] for place in some]).sum(dim=0)
        return float(((added - total).norm(dim=-1) / size).median())

    tried = [some for count in range(1, MOST_ADDING + 1) for some in combinations(outputs, count)]
    best = min(tried, key=distance, default=())
    return best if best and distance(best) <= TOLERANCE.get(x.dtype, HALF_TOLERANCE) else ()


def drift(dense: Tensor, pruned: Tensor, added: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
    """Compute what the dense stream holds more than the pruned one, after some linears of a block have added to them.

    dense, pruned: what enters the block, (B, L, D); added: the outputs of each of these linears, of the dense and of
    the pruned model. -> (B, L, D) float32, zeros for the first token of every sequence, whose features are so large
    that they would own every sum.
    """
    more = dense.float() - pruned.float()
    for dense_output, output in added:
        more += (dense_output.float() - output.float()).reshape(more.shape)  # some run over the tokens of all sequences
    more[:, 0] = 0
    return more
