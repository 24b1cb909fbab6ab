"""Order `in-flight`: one pass, in which each linear is visited when its inputs are known and before it is used.

All sequences go through a block in one call where they are few, else batch by batch in lockstep. A dense model's stream
may run beside, linear by linear.
"""

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from itertools import repeat

import torch
from torch import Tensor, nn

from wanda_core.calibration.batching import Batches, joined, regrouped, singly
from wanda_core.calibration.input_norms import (
    InputNorms,
    Moments,
    check_reached,
    checked,
    column_products,
    column_squares,
    rows,
)
from wanda_core.calibration.lockstep import Lockstep, at_once
from wanda_core.errors import ModelError
from wanda_core.machine import distributed
from wanda_core.machine.matmul import accumulator_dtype
from wanda_core.model.blocks import BlockCall
from wanda_core.model.language_model import LanguageModel
from wanda_core.model.linears import Linear
from wanda_core.progress import Progress, Steps
from wanda_core.text.windows import Calibration

AT_ONCE_TOKENS = 8192  # a set up to this goes through a block in one call

Visit = Callable[[Linear, Moments], object]  # (linear, its inputs' moments)
Arrive = Callable[[Linear, list[Tensor], list[Tensor] | None], object]  # (linear, its inputs, the dense stream's)


@dataclass(frozen=True)
class BlockRun:
    """One block of a stream: how it is called, its linears, and the hidden states that enter it, calls (B, L, D)."""

    block: nn.Module
    call: BlockCall
    linears: list[Linear]
    hidden: list[Tensor]


def in_flight(
    lm: LanguageModel, calibration: Calibration, visit: Visit, gram: bool, dense: LanguageModel | None = None
) -> Steps[dict[str, Tensor]]:
    """Visit every linear of `lm` in one pass. -> the norms that decided, on the CPU.

    gram: whether visits get XᵀX; dense: a model that stays as it is, whose own stream then runs beside, and visits get
    XᵈᵀX too, the products of its inputs with those of the pruned stream, but not for experts.
    Raises ModelError for a linear that is used twice in a pass, or not at all.
    """
    blocks, dense_blocks = lm.walk("prune"), dense.walk("beside") if dense else None
    ids = distributed.share(calibration.ids).to(lm.device)
    yield Progress("reading", 0, len(blocks), "blocks")
    calls, hidden = blocks.start(ids)
    beside = dense_blocks.start(ids)[1] if dense_blocks else []
    batches = Batches(blocks.tried)
    arrivals = Arrivals(visit, calibration.samples, gram)
    for (index, block, linears), other in zip(blocks, dense_blocks or repeat(None)):  # noqa: B905 - one is endless
        here = Progress("pruning", index, len(blocks), "blocks")
        yield here
        size = batches.size(block, calls[index], linears, singly(hidden))
        pruned = BlockRun(block, calls[index], linears, hidden)
        unpruned = BlockRun(other[1], calls[index], other[2], beside) if other else None
        arrivals.begin_block()
        if distributed.least(int(size > 1 and ids.numel() <= AT_ONCE_TOKENS)):
            hidden, beside = _in_one_call(pruned, unpruned, arrivals.arrive)
        else:
            hidden, beside = yield from _in_lockstep(pruned, unpruned, size, arrivals.arrive, here)
        arrivals.finish_block(linears)
        if index + 1 < len(blocks):
            hidden = blocks.carry(hidden)
            beside = dense_blocks.carry(beside) if dense_blocks else []
    yield Progress("pruning", len(blocks), len(blocks), "blocks")
    return arrivals.norms


def _in_one_call(pruned: BlockRun, dense: BlockRun | None, arrive: Arrive) -> tuple[list[Tensor], list[Tensor]]:
    """Run a block over all sequences at once, first dense, then pruned. -> what leaves it, of both streams."""
    read: dict[str, list[Tensor]] = {}
    beside: list[Tensor] = []
    if dense is not None:
        beside = at_once(dense.block, dense.call, dense.linears, joined(dense.hidden), _keep_in(read))

    def both(linear: Linear, xs: list[Tensor]) -> None:
        arrive(linear, xs, read.get(linear.name))

    return at_once(pruned.block, pruned.call, pruned.linears, joined(pruned.hidden), both), beside


def _in_lockstep(
    pruned: BlockRun, dense: BlockRun | None, size: int, arrive: Arrive, here: Progress
) -> Steps[tuple[list[Tensor], list[Tensor]]]:
    """Run a block over calls of `size` sequences that wait for each other at every linear, both streams together.

    here: the progress of this block. -> what leaves it, of both streams.
    """
    read: dict[str, list[Tensor]] = {}
    beside: list[Tensor] = []
    if dense is not None and any(linear.routed for linear in pruned.linears):
        # The two streams may send tokens to different experts, whose inputs cannot be compared then.
        same = [linear for linear in dense.linears if not linear.routed]
        for x in singly(dense.hidden):
            beside += at_once(dense.block, dense.call, same, x, _keep_in(read))
        dense = None
    lockstep = Lockstep(pruned.block, pruned.call, pruned.linears, regrouped(pruned.hidden, size))
    second = Lockstep(dense.block, dense.call, dense.linears, regrouped(dense.hidden, size)) if dense else None
    for linear, xs, ds in _together(lockstep, second):
        yield Progress(here.stage, here.done, here.total, here.unit, linear.kind)
        arrive(linear, xs, ds or read.get(linear.name))
    return lockstep.outputs, second.outputs if second else beside


def _keep_in(read: dict[str, list[Tensor]]) -> Callable[[Linear, list[Tensor]], None]:
    """Keep what each linear reads, call after call."""
    return lambda linear, xs: read.setdefault(linear.name, []).extend(xs)


def _together(lockstep: Lockstep, other: Lockstep | None) -> Iterator[tuple[Linear, list[Tensor], list[Tensor] | None]]:
    """Go through two streams linear by linear, or through one alone."""
    if other is None:
        for linear, xs in lockstep:
            yield linear, xs, None
        return
    with closing(iter(lockstep)) as ours, closing(iter(other)) as theirs:
        for (linear, xs), (twin, ds) in zip(ours, theirs, strict=True):
            if linear.name != twin.name or [x.shape for x in xs] != [d.shape for d in ds]:
                raise ModelError(
                    f"the dense and the pruned stream part at {linear.name}; choose order in-flight with update "
                    "least-squares and no dense_share, not the preset best"
                )
            yield linear, xs, ds


class Arrivals:
    """Measures what arrives at each linear and has the linear visited, whichever way the block is run.

    norms: by linear name, (C_in,) float32 on the CPU, of all linears visited so far.
    """

    def __init__(self, visit: Visit, sequences: int, gram: bool) -> None:
        self.norms: dict[str, Tensor] = {}
        self._visit, self._sequences, self._gram = visit, sequences, gram
        self.begin_block()

    def begin_block(self) -> None:
        """Let go of the last block's inputs."""
        self._meter = InputMeter(self._sequences, self._gram)

    def arrive(self, linear: Linear, xs: list[Tensor], ds: list[Tensor] | None) -> None:
        """Measure and visit a linear before it is used. xs, ds: its inputs, of the pruned and of the dense stream."""
        if linear.name in self.norms:
            raise ModelError(
                f"{linear.name} is used more than once in a pass, so it cannot be pruned before it is used; "
                "choose order faithful"
            )
        moments = self._meter.read(linear, xs, ds)
        self.norms[linear.name] = checked(moments.norms, linear).norms.cpu()
        self._visit(linear, moments)

    def finish_block(self, linears: list[Linear]) -> None:
        """Visit the experts that were sent no token. Raises ModelError for any other linear that was not reached."""
        check_reached(linears, self.norms)
        for linear in linears:
            if linear.name not in self.norms:
                nothing = checked(None, linear)
                self.norms[linear.name] = nothing.norms.cpu()
                self._visit(linear, Moments(nothing))


@dataclass
class InputMeter:
    """Measures a linear's inputs; what several linears read, as q, k and v do, is measured once."""

    sequences: int
    gram: bool
    xs: list[Tensor] = field(default_factory=list)
    moments: Moments = field(default_factory=lambda: Moments(InputNorms(torch.zeros(0))))

    def read(self, linear: Linear, xs: list[Tensor], ds: list[Tensor] | None) -> Moments:
        """Moments of the inputs of all processes. xs: those of this one, none where another process has them."""
        same = len(xs) == len(self.xs) and all(a is b for a, b in zip(xs, self.xs, strict=True))
        if distributed.least(int(same)):
            return self.moments
        self.xs = xs
        zeros = torch.zeros(1, linear.shape[1], device=linear.weight.device)
        # Sequence by sequence, then in float64: one float32 sum over all tokens would depend on how they are shared.
        each = [column_squares(x, _sequences(x)) for x in xs] or [zeros]
        squares = distributed.total(torch.cat(each).sum(dim=0, dtype=accumulator_dtype(zeros.device))) / self.sequences
        norms = InputNorms(squares.float(), self.sequences, distributed.sum_of(sum(rows(x) for x in xs)))
        gram = _products(xs or [zeros], xs or [zeros]) if self.gram else None
        cross = _products(ds or [zeros], xs or [zeros]) if ds is not None else None
        self.moments = Moments(norms, gram, cross)
        return self.moments


def _products(left: list[Tensor], right: list[Tensor]) -> Tensor:
    """Σ over calls, of all processes, of XᵀY. tensors (…, C) -> (C, C) float32."""
    total = column_products(left[0], right[0], _sequences(left[0]))
    for a, b in zip(left[1:], right[1:], strict=True):
        total += column_products(a, b, _sequences(a))
    return distributed.total(total).float()


def _sequences(x: Tensor) -> int:
    """How many a linear's inputs hold, as far as their shape tells: (B, L, C_in), or tokens of any (T, C_in)."""
    return len(x) if x.dim() == 3 else 1
