"""Pruning a model by a recipe. The dense model is only read: all changes go to a twin that shares its weights."""

import time
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from wanda_core import masks, scores
from wanda_core.batches import Batches, batched
from wanda_core.blocks import BlockCall, block_calls, first_block_inputs
from wanda_core.calibration import Calibration, calibrate
from wanda_core.errors import InputError, ModelError
from wanda_core.linears import Linear, decoder_blocks
from wanda_core.models import LanguageModel
from wanda_core.progress import Progress, Steps, finish
from wanda_core.recipe import PruneSpec
from wanda_core.statistics import NormRecorder, Profile, StopForward
from wanda_core.variant import LinearReport, PruneReport, Variant, twin


def prune(
    lm: LanguageModel,
    spec: PruneSpec | None = None,
    calibration: Calibration | None = None,
    on_progress: Callable[[Progress], object] | None = None,
) -> Variant:
    """Prune to the end. `lm` stays dense; the result runs beside it.

    spec: Wanda at 50% when left out. calibration: 16 windows of the built-in text when left out.
    Raises InputError for a recipe the model cannot take, ModelError for a model that cannot be scored.
    """
    return finish(prune_steps(lm, spec or PruneSpec(), calibration), on_progress)


@torch.no_grad()
def prune_steps(lm: LanguageModel, spec: PruneSpec, calibration: Calibration | None = None) -> Steps[Variant]:
    """`prune` as a generator that yields progress; closing it cancels and leaves nothing behind."""
    started = time.perf_counter()
    pruned = twin(lm)
    _check_pattern(pruned.linears, spec)
    profile = None
    if spec.needs_calibration:
        calibration = calibration or calibrate(lm)
        lm.check_length(calibration.seq_len)
        reports, norms = yield from _faithful(pruned, spec, calibration)
        profile = Profile(norms, calibration.fingerprint, spec.order)
    else:
        calibration = None
        reports = yield from _by_magnitude(pruned, spec)
    seconds = time.perf_counter() - started
    return Variant(pruned, spec, PruneReport(tuple(reports), seconds, _describe(calibration)), profile)


def _faithful(
    lm: LanguageModel, spec: PruneSpec, calibration: Calibration
) -> Steps[tuple[list[LinearReport], dict[str, Tensor]]]:
    """Block by block: the dense block's statistics, then masks, then the pruned block's outputs go on.

    The first pass may stop at the block's last linear, whose product nothing reads; the second pass is
    not needed after the last block. Sequences share a call where that changes no bit.
    """
    _, blocks = decoder_blocks(lm.model)
    ids = calibration.ids.to(lm.device)
    yield Progress("pruning", 0, len(blocks), "reading the calibration text")
    calls = block_calls(lm.model, blocks, ids[:1])
    hidden = first_block_inputs(lm.model, blocks, ids)
    reports: list[LinearReport] = []
    norms: dict[str, Tensor] = {}
    batches = Batches()
    for index, (block, call, linears) in enumerate(zip(blocks, calls, lm.linears, strict=True)):
        where = f"block {index + 1} of {len(blocks)}"
        yield Progress("pruning", index, len(blocks), f"{where}: input norms")
        inputs = list(batched(hidden, batches.size(block, call, linears, hidden)))
        found = _block_norms(block, call, linears, inputs)
        for number, linear in enumerate(linears, 1):
            yield Progress("pruning", index, len(blocks), f"{where}, linear {number} of {len(linears)}: {linear.kind}")
            reports.append(_prune_linear(linear, spec, found[linear.name]))
        norms.update({name: norm.cpu() for name, norm in found.items()})
        if index + 1 < len(blocks):
            hidden = [output for x in inputs for output in call.run(block, x).split(1)]
    yield Progress("pruning", len(blocks), len(blocks), "all blocks pruned")
    return reports, norms


def _block_norms(block: nn.Module, call: BlockCall, linears: list[Linear], inputs: list[Tensor]) -> dict[str, Tensor]:
    """Input norms of a block's linears over all sequences. inputs: tensors (B, L, D), N sequences in all."""
    recorder = NormRecorder(linears)
    with recorder.recording():
        for x in inputs:
            recorder.sequences = len(x)
            try:
                call.run(block, x)
            except StopForward:
                continue
            recorder.stop_at_last_call()
    return recorder.checked_norms()


def _prune_linear(linear: Linear, spec: PruneSpec, X_norm: Tensor) -> LinearReport:
    W = linear.weight
    S = scores.wanda(W, X_norm)
    dead = int((X_norm == 0).sum())
    if dead:
        S = scores.dead_columns_by_magnitude(S, W, X_norm)
    return _cut(linear, masks.removal_mask(_finite(S, linear.name), spec), dead)


def _by_magnitude(lm: LanguageModel, spec: PruneSpec) -> Steps[list[LinearReport]]:
    linears = [linear for block in lm.linears for linear in block]
    threshold = None
    if spec.group == "model":
        yield Progress("pruning", 0, len(linears), "one threshold for the whole model")
        threshold = _model_threshold(linears, spec)
    reports = []
    for number, linear in enumerate(linears):
        yield Progress("pruning", number, len(linears), f"linear {number + 1} of {len(linears)}: {linear.name}")
        S = _finite(scores.magnitude(linear.weight), linear.name)
        if spec.group != "model":
            mask = masks.removal_mask(S, spec)
        elif threshold is None:
            mask = torch.zeros_like(S, dtype=torch.bool)
        else:
            mask = masks.at_or_below(S, threshold.to(S.device))
        reports.append(_cut(linear, mask))
    yield Progress("pruning", len(linears), len(linears), "all linears pruned")
    return reports


def _model_threshold(linears: list[Linear], spec: PruneSpec) -> Tensor | None:
    total = sum(linear.weight.numel() for linear in linears)
    k = int(total * spec.target)

    def matrices() -> Iterator[Tensor]:
        return (_finite(scores.magnitude(linear.weight), linear.name) for linear in linears)

    return masks.kth_of_all(matrices, k) if k else None


def _cut(linear: Linear, mask: Tensor, dead_columns: int = 0) -> LinearReport:
    weight = masks.without(linear.weight, mask)
    linear.replace(weight)
    zeros = int((weight == 0).sum())
    return LinearReport(linear.name, linear.shape, zeros, dead_columns)


def _finite(S: Tensor, name: str) -> Tensor:
    """NaN would sort last and be kept without a word."""
    if not (bool(torch.isfinite(S.sum())) or bool(torch.isfinite(S).all())):  # the sum alone may overflow
        raise ModelError(f"{name} has weights or inputs that are not finite, so it cannot be scored; check the model")
    return S


def _check_pattern(linears: list[list[Linear]], spec: PruneSpec) -> None:
    if spec.n_of_m is None:
        return
    m = spec.n_of_m[1]
    for linear in (linear for block in linears for linear in block):
        if linear.shape[1] % m:
            raise InputError(
                f"pattern {spec.pattern} needs a number of input columns divisible by {m}, and {linear.name} has "
                f"{linear.shape[1]}; choose another pattern"
            )


def _describe(calibration: Calibration | None) -> dict[str, object] | None:
    if calibration is None:
        return None
    return {
        "source": calibration.source,
        "samples": calibration.samples,
        "seq_len": calibration.seq_len,
        "seed": calibration.seed,
        "fingerprint": calibration.fingerprint,
    }
