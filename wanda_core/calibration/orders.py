"""When statistics are taken: three ways through the network. Each visits every linear once, with what is known of
its inputs, and yields progress; what a visit does to the linear is not its business."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from itertools import repeat

import torch
from torch import Tensor, nn

from wanda_core.calibration.batching import Batches, joined, regrouped, singly
from wanda_core.calibration.input_norms import (
    InputNorms,
    Moments,
    NormRecorder,
    check_reached,
    checked,
    column_products,
    column_squares,
    rows,
)
from wanda_core.calibration.lockstep import Arrive, Lockstep, at_once
from wanda_core.errors import ModelError
from wanda_core.machine import distributed
from wanda_core.machine.matmul import wide
from wanda_core.model.blocks import BlockCall, StopForward
from wanda_core.model.language_model import LanguageModel
from wanda_core.model.linears import Linear
from wanda_core.progress import Progress, Steps
from wanda_core.text.windows import Calibration

AT_ONCE_TOKENS = 8192  # a set up to this goes through a block in one call

Visit = Callable[[Linear, Moments], object]  # (linear, its inputs' moments)


def faithful(lm: LanguageModel, calibration: Calibration, visit: Visit, gram: bool) -> Steps[dict[str, Tensor]]:
    """The reference protocol: the dense block's statistics, all its linears, then the pruned block's outputs go on.

    The first pass stops at the block's last linear, once it is known which that is, for nothing reads its product; the
    second pass is not needed after the last block. Sequences share a call where that changes no bit. -> the norms, on
    the CPU.
    """
    blocks = lm.walk("prune")
    ids = distributed.share(calibration.ids).to(lm.device)
    yield Progress("reading", 0, len(blocks), "blocks")
    calls, inputs = blocks.start(ids)
    norms: dict[str, Tensor] = {}
    batches = Batches(blocks.tried)
    ends: dict[object, str] = {}  # shape of a block -> the kind of linear it calls last, once it is known
    for index, block, linears in blocks:
        call = calls[index]
        yield Progress("profile", index, len(blocks), "blocks")
        inputs = regrouped(inputs, batches.size(block, call, linears, singly(inputs)))
        recorder = _recorded(block, call, linears, inputs, gram, ends).join()
        found = recorder.found()
        for linear in linears:
            yield Progress("pruning", index, len(blocks), "blocks", linear.kind)
            products = recorder.grams.get(linear.name)
            visit(linear, Moments(found[linear.name], None if products is None else products.float()))
        norms.update({name: one.norms.cpu() for name, one in found.items()})
        if index + 1 < len(blocks):
            inputs = blocks.carry(call.run(block, x) for x in inputs)
    yield Progress("pruning", len(blocks), len(blocks), "blocks")
    return norms


def _recorded(
    block: nn.Module, call: BlockCall, linears: list[Linear], inputs: list[Tensor], gram: bool, ends: dict[object, str]
) -> NormRecorder:
    """A block's linears over all sequences. inputs: tensors (B, L, D), N sequences in all.

    ends: where blocks of each shape stop, learned here. Should a block not do as its likes did, it is run afresh.
    """
    shape = (type(block), tuple((linear.kind, linear.shape) for linear in linears))
    recorder = NormRecorder(linears, gram)
    recorder.stop_before = next((x.name for x in linears if x.kind == ends.get(shape)), None)
    with recorder.recording():
        for x in inputs:
            recorder.sequences = len(x)
            try:
                call.run(block, x)
            except StopForward:
                continue
            recorder.stop_at_last_call()
    if shape in ends and any(recorder.calls.count(x.name) != len(inputs) for x in linears):
        return _recorded(block, call, linears, inputs, gram, {})
    if recorder.stop_before is not None:
        ends[shape] = next(x.kind for x in linears if x.name == recorder.stop_before)
    return recorder


def in_flight(
    lm: LanguageModel, calibration: Calibration, visit: Visit, gram: bool, dense: LanguageModel | None = None
) -> Steps[dict[str, Tensor]]:
    """One pass: each linear is visited when its inputs for the whole set are known, before it is used.

    dense: a model that stays as it is; given, its own stream runs beside, linear by linear, and visits get XᵈᵀX too,
    the products of its inputs with those of the pruned stream, but not for experts. -> the norms, on the CPU.
    """
    blocks, theirs = lm.walk("prune"), dense.walk("beside") if dense else None
    ids = distributed.share(calibration.ids).to(lm.device)
    yield Progress("reading", 0, len(blocks), "blocks")
    calls, hidden = blocks.start(ids)
    beside = theirs.start(ids)[1] if theirs else []
    norms: dict[str, Tensor] = {}
    batches = Batches(blocks.tried)
    for (index, block, linears), other in zip(blocks, theirs or repeat(None)):  # noqa: B905 - one is endless
        call = calls[index]
        yield Progress("pruning", index, len(blocks), "blocks")
        size = batches.size(block, call, linears, singly(hidden))
        seen = Seen(calibration.samples, gram)

        def arrive(linear: Linear, xs: list[Tensor], ds: list[Tensor] | None, seen: Seen = seen) -> None:
            if linear.name in norms:
                raise ModelError(
                    f"{linear.name} is used more than once in a pass, so it cannot be pruned before it is used; "
                    "choose order faithful"
                )
            seen.read(linear, xs, ds)
            norms[linear.name] = checked(seen.moments.norms, linear).norms.cpu()
            visit(linear, seen.moments)

        own = other[1:] if other else None
        if distributed.least(int(size > 1 and ids.numel() <= AT_ONCE_TOKENS)):
            read: dict[str, list[Tensor]] = {}
            if own:
                beside = at_once(own[0], call, own[1], joined(beside), _noted(read))
            told = partial(_with_noted, arrive, read)
            hidden = at_once(block, call, linears, joined(hidden), told)
        else:
            apart: dict[str, list[Tensor]] = {}
            if own and any(linear.routed for linear in linears):
                # The two streams may send tokens to different experts, whose inputs cannot be compared then.
                same = [linear for linear in own[1] if not linear.routed]
                beside = [one for x in singly(beside) for one in at_once(own[0], call, same, x, _noted(apart))]
                own = None
            lockstep = Lockstep(block, call, linears, regrouped(hidden, size))
            second = Lockstep(own[0], call, own[1], regrouped(beside, size)) if own else None
            for linear, xs, ds in _together(lockstep, second):
                yield Progress("pruning", index, len(blocks), "blocks", linear.kind)
                arrive(linear, xs, ds or apart.get(linear.name))
            hidden, beside = lockstep.outputs, second.outputs if second else beside
        check_reached(linears, norms)
        for linear in (linear for linear in linears if linear.name not in norms):
            nothing = checked(None, linear)  # an expert without tokens, else an error
            norms[linear.name] = nothing.norms.cpu()
            visit(linear, Moments(nothing))
        if index + 1 < len(blocks):
            hidden = blocks.carry(hidden)
            beside = theirs.carry(beside) if theirs else []
    yield Progress("pruning", len(blocks), len(blocks), "blocks")
    return norms


def _with_noted(arrive: Callable, read: Mapping[str, list[Tensor]], linear: Linear, xs: list[Tensor]) -> None:
    arrive(linear, xs, read.get(linear.name))


def _noted(read: dict[str, list[Tensor]]) -> Arrive:
    """Keeps what each linear reads, call after call."""
    return lambda linear, xs: read.setdefault(linear.name, []).extend(xs)


def _together(lockstep: Lockstep, other: Lockstep | None) -> Iterator[tuple[Linear, list[Tensor], list[Tensor] | None]]:
    """Two streams linear by linear, or one alone."""
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


@dataclass
class Seen:
    """What the last linear read; q, k and v read the same, and it is measured once."""

    sequences: int
    gram: bool
    xs: list[Tensor] = field(default_factory=list)
    moments: Moments = field(default_factory=lambda: Moments(InputNorms(torch.zeros(0))))

    def read(self, linear: Linear, xs: list[Tensor], ds: list[Tensor] | None) -> None:
        """Measure, unless it is what was read before. Without inputs here, another process has them."""
        same = len(xs) == len(self.xs) and all(a is b for a, b in zip(xs, self.xs, strict=True))
        if distributed.least(int(same)):
            return
        self.xs = xs
        zeros = torch.zeros(1, linear.shape[1], device=linear.weight.device)
        # Sequence by sequence, then in float64: one float32 sum over all tokens would depend on how they are shared.
        each = [column_squares(x, _sequences(x)) for x in xs] or [zeros]
        squares = distributed.total(torch.cat(each).sum(dim=0, dtype=wide(zeros.device))) / self.sequences
        found = InputNorms(squares.float(), self.sequences, distributed.sum_of(sum(rows(x) for x in xs)))
        gram = _products(xs or [zeros], xs or [zeros]) if self.gram else None
        cross = _products(ds or [zeros], xs or [zeros]) if ds is not None else None
        self.moments = Moments(found, gram, cross)


def _products(left: list[Tensor], right: list[Tensor]) -> Tensor:
    """Σ over calls, of all processes, of XᵀY. tensors (…, C) -> (C, C) float32."""
    total = column_products(left[0], right[0], _sequences(left[0]))
    for a, b in zip(left[1:], right[1:], strict=True):
        total += column_products(a, b, _sequences(a))
    return distributed.total(total).float()


def _sequences(x: Tensor) -> int:
    """How many a linear's inputs hold, as far as their shape tells: (B, L, C_in), or tokens of any (T, C_in)."""
    return len(x) if x.dim() == 3 else 1


def one_shot(
    lm: LanguageModel, norms: Mapping[str, Tensor], tokens: Mapping[str, int], visit: Visit
) -> Steps[dict[str, Tensor]]:
    """No pass at all: the dense model's norms, taken before, decide. tokens: of the experts. -> those norms."""
    blocks = lm.walk("prune")
    for index, _, linears in blocks:
        for linear in linears:
            yield Progress("pruning", index, len(blocks), "blocks", linear.kind)
            squares = torch.square(norms[linear.name].to(linear.weight.device))  # blocks may lie on several GPUs
            visit(linear, Moments(InputNorms(squares, 1, tokens.get(linear.name, 0))))
    yield Progress("pruning", len(blocks), len(blocks), "blocks")
    return dict(norms)
