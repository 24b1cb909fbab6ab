"""How much the model's output suffers when one block alone is pruned: what allocation `measured` goes by.

One walk through the blocks carries all it needs: the dense stream, and for every block so far two streams in which that
block is pruned by plain Wanda and every other is dense. So each block is run, and under `--low-memory` read, in one go.
"""

import copy
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from wanda_core.calibration.batching import Batches, regrouped, singly
from wanda_core.calibration.profile import Profile
from wanda_core.errors import ModelError
from wanda_core.evaluation.divergence import divergence_along
from wanda_core.machine import distributed
from wanda_core.machine.matmul import accumulator_dtype
from wanda_core.maths import masks
from wanda_core.maths.sensitivity import AT, Sensitivities
from wanda_core.model import experts
from wanda_core.model.block_calls import BlockCall, predictions
from wanda_core.model.devices import overflow_remedy
from wanda_core.model.language_model import LanguageModel
from wanda_core.model.linears import Linear
from wanda_core.progress import Progress, Steps
from wanda_core.pruning.one_linear import removed_of
from wanda_core.pruning.variant import twin
from wanda_core.recipe import PruneSpec
from wanda_core.text.windows import Calibration

WINDOWS, TOKENS = 4, 128  # that are read: the first windows of a calibration, of each the first so many tokens
EVERY = 2  # the divergence is measured after each so many-th token
PLAIN = PruneSpec("wanda", order="one-shot")


@torch.no_grad()
def sensitivity_steps(
    lm: LanguageModel,
    calibration: Calibration,
    profile: Profile,
    make_twin: Callable[[LanguageModel], LanguageModel] = twin,
) -> Steps[Profile]:
    """Measure the sensitivity of every block. -> the profile, with them.

    calibration: the text that is read, its first windows; profile: the dense model's norms; make_twin: makes the model
    whose blocks are pruned one at a time, over the same weights. Several processes share the windows. Raises ModelError
    for predictions that are not finite.
    """
    lm.check_windows(calibration.ids)
    read = calibration.ids[: max(WINDOWS, distributed.size()), :TOKENS]
    pruned = make_twin(lm)
    with experts.apart(pruned.model):
        losses = yield from _losses(pruned, distributed.share(read).to(lm.device), profile)
    if not bool(torch.isfinite(losses).all()):
        raise ModelError(
            f"the model's predictions are not finite, so no block's sensitivity is known; {overflow_remedy(lm.dtype)}"
        )
    pairs = tuple((float(first), float(second)) for first, second in losses.reshape(-1, len(AT)))
    return replace(profile, sensitivities=Sensitivities(pairs, *read.shape))


def sensitivity_passes(blocks: int, samples: int, seq_len: int) -> float:
    """Tell how often a pass over a calibration of so many windows would fit into the time that the measuring takes, as
    counted for the built-in model: every block is run for each block before it and for two sparsities, which is once
    a block and stream, and the output head, a quarter of a pass, for half of the tokens of every stream."""
    tokens = min(samples, WINDOWS) * min(seq_len, TOKENS)
    return 1.3 * (blocks + 1) * tokens / (samples * seq_len)


def sensitivity_tokens(blocks: int, calibration: Calibration) -> int:
    """Count the tokens of all streams that leave the last block."""
    windows, length = calibration.ids[: max(WINDOWS, distributed.size()), :TOKENS].shape
    return (1 + len(AT) * blocks) * windows * length


@dataclass(frozen=True)
class _Streams:
    """Hidden states of several streams of the same windows; the first stream is the dense model's.

    windows: in each stream; hidden: calls (B, L, D), stream after stream; calls: of each stream, how it calls each
    block: its own where blocks leave something there for later ones.
    """

    windows: int
    hidden: list[Tensor]
    calls: list[list[BlockCall]]


def _losses(lm: LanguageModel, ids: Tensor, profile: Profile) -> Steps[Tensor]:
    """Carry all streams through the blocks and compare what is predicted. ids int64 (K, L): of this process.

    -> (blocks · sparsities,) mean KL in nats over the windows of all processes.
    """
    blocks = lm.walk("read")
    yield Progress("reading", 0, len(blocks), "blocks")
    calls, hidden = blocks.start(ids)
    streams = _Streams(len(ids), hidden, [calls])
    batches = Batches(blocks.tried)
    returned: list[Any] = []  # what blocks return, a tensor or a tuple; the latest

    def keep(module: nn.Module, args: Any, output: Any) -> None:
        returned[:] = [output]

    for index, block, linears in blocks:
        step = Progress("sensitivity", index, len(blocks), "blocks")
        yield step
        size = batches.size(block, calls[index], linears, singly(streams.hidden[: len(ids)]))
        hook = block.register_forward_hook(keep)
        grown = _Streams(len(ids), [], [*streams.calls, *_calls_of_new(streams)])
        through = _through(block, index, linears, streams, grown, size, profile)
        try:
            with blocks.carrying(len(grown.calls)) as carried, closing(through):
                for x in through:
                    if x is not None:
                        carried.add(x)
                    yield step  # the last blocks are run for many streams, and whoever leaves is waited for by others
                streams = replace(grown, hidden=carried.taken())
        finally:
            hook.remove()
    yield Progress("sensitivity", len(blocks), len(blocks), "blocks")
    sums = torch.zeros(len(streams.calls), dtype=accumulator_dtype(lm.device), device=lm.device)
    sequences = singly(streams.hidden)
    with lm.around_blocks():
        for window in range(len(ids)):
            step = Progress("agreement", window, len(ids), "windows")
            yield step
            of_window = (
                predictions(lm.model, blocks.blocks, ids[window : window + 1], x, returned[0], EVERY)
                for x in sequences[window :: len(ids)]
            )
            dense = next(of_window)
            for stream, logits in enumerate(of_window, 1):
                sums[stream] += divergence_along(dense, logits).mean().to(sums)
                yield step
    yield Progress("agreement", len(ids), len(ids), "windows")
    count = distributed.sum_of(len(ids))
    return distributed.total(sums)[1:] / count


def _calls_of_new(streams: _Streams) -> list[list[BlockCall]]:
    """Make the calls of the streams that part from the dense one at the next block, one for each sparsity."""
    dense = streams.calls[0]
    return [copy.deepcopy(dense) if dense[0].stateful else dense for _ in AT]


def _through(
    block: nn.Module, index: int, linears: list[Linear], old: _Streams, new: _Streams, size: int, profile: Profile
) -> Generator[Tensor | None, None, None]:
    """Run a block for all streams, then pruned at each sparsity for a stream that parts from the dense one there.

    old: the streams that enter; new: their calls and those of the streams that begin; size: sequences in a call.
    -> calls (B, L, D), stream after stream; None after each linear that is pruned. The block's weights are put back.
    """
    for number, x in enumerate(regrouped(old.hidden, size)):
        stream = number // old.windows if size == 1 else 0  # calls that are a stream's own come one by one
        yield old.calls[stream][index].run(block, x, number % old.windows)
    dense = regrouped(singly(old.hidden)[: old.windows], size)
    # Of experts a copy: their slices may be written to in place.
    weights = [linear.weight.clone() if linear.routed else linear.weight for linear in linears]
    for share, calls in zip(AT, new.calls[len(old.calls) :], strict=True):
        try:
            for linear in linears:
                linear.replace(masks.without(linear.weight, removed_of(linear, PLAIN, share, profile)))
                yield None
            for number, x in enumerate(dense):
                yield calls[index].run(block, x, number)
        finally:
            for linear, weight in zip(linears, weights, strict=True):
                linear.replace(weight)
