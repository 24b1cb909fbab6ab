"""Shrinking a whole model: the dense one is only read, and the smaller one is an ordinary model of its own."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from wanda_core.calibration.batching import Batches, regrouped, singly
from wanda_core.calibration.input_norms import check_experts_reached
from wanda_core.errors import ModelError, first_line, out_of_memory
from wanda_core.model import experts
from wanda_core.model.block_calls import BlockCall
from wanda_core.model.blocks import BlockWalk
from wanda_core.model.language_model import LanguageModel
from wanda_core.model.linears import Linear, decoder_blocks
from wanda_core.progress import Progress, Steps, finish
from wanda_core.shrinking.blocks import without_blocks
from wanda_core.shrinking.column_cutter import ColumnCutter
from wanda_core.shrinking.column_moments import ColumnMoments
from wanda_core.shrinking.heads import head_settings
from wanda_core.shrinking.report import ShrinkReport, Shrunk
from wanda_core.shrinking.smaller_model import empty_model, share_parameters, without_memory
from wanda_core.shrinking.spec import ShrinkSpec
from wanda_core.shrinking.widths import neuron_settings
from wanda_core.text.windows import Calibration, calibrate

PROBE_TOKENS = 32


def shrink(
    lm: LanguageModel,
    spec: ShrinkSpec,
    calibration: Calibration | None = None,
    on_progress: Callable[[Progress], object] | None = None,
) -> Shrunk:
    """Shrink a model. `lm` stays as it is; the smaller model that is returned runs beside it, and is an ordinary one:
    it can be pruned, measured, saved and shrunk again.

    spec: the recipe; calibration: by default 16 windows of the built-in text, where the recipe needs any.
    Raises InputError for a recipe the model cannot take, ModelError for a model whose configuration cannot say it.
    """
    return finish(shrink_steps(lm, spec, calibration), on_progress)


@torch.no_grad()
def shrink_steps(lm: LanguageModel, spec: ShrinkSpec, calibration: Calibration | None = None) -> Steps[Shrunk]:
    """Shrink as a generator that yields progress; closing it cancels and leaves nothing behind."""
    started = time.perf_counter()
    plan = _plan(lm, spec)
    if not spec.needs_inputs:
        calibration = calibrate(lm, samples=1, seq_len=PROBE_TOKENS)  # to see that both models read the same
    calibration = calibration or calibrate(lm)
    lm.check_windows(calibration.ids)
    made = yield from (_without_columns if spec.blocks is None else _without_blocks)(lm, spec, plan, calibration)
    shrunk = replace(lm, model=made.model, carried={})  # layers that predict further tokens have the old sizes
    said = lm.model.config.get_text_config().to_dict()  # type: ignore[operator, union-attr]
    report = ShrinkReport(
        spec.label(*made.removed),
        {name: (said.get(name), value) for name, value in made.settings.items()},
        (lm.n_parameters, shrunk.n_parameters),
        made.removed,
        made.influences,
        made.by_magnitude,
        time.perf_counter() - started,
        _source_of(calibration) if spec.needs_inputs else None,
    )
    done = {"recipe": spec.to_dict(), **report.to_dict()}
    return Shrunk(replace(shrunk, shrunk=(*lm.shrunk, done)), spec, report, made.kept)


@dataclass(frozen=True)
class _Plan:
    """What is known before anything runs. settings: of the smaller model; units: how many there are and stay, None
    where every column of a matrix is one."""

    settings: Mapping[str, Any]
    units: tuple[int, int] | None = None


@dataclass(frozen=True)
class _Made:
    """A smaller model, and for its report: what of the settings, `removed`, `influences`, `by_magnitude` and `kept`."""

    model: nn.Module
    settings: Mapping[str, Any]
    removed: tuple[int, int]
    kept: Mapping[str, Tensor]
    influences: tuple[float, ...] = ()
    by_magnitude: int = 0


def _plan(lm: LanguageModel, spec: ShrinkSpec) -> _Plan:
    """Check that the model and its configuration can be without what is to be removed."""
    if len({parameter.device for parameter in lm.model.parameters()}) > 1:
        raise ModelError(
            f"{lm.title} is spread over several devices, and a smaller model is made on one; load it on one device"
        )
    if spec.neurons is not None:
        return _Plan(neuron_settings(lm, spec))
    if spec.heads is not None:
        return _Plan(*head_settings(lm, spec))
    spec.kept_blocks(len(decoder_blocks(lm.model)[1]), lm.title)
    return _Plan({})


def _without_columns(lm: LanguageModel, spec: ShrinkSpec, plan: _Plan, calibration: Calibration) -> Steps[_Made]:
    """Remove neurons or heads, columns of the matrices that read them."""
    smaller = empty_model(lm, plan.settings)
    share_parameters(lm, smaller)
    walk = lm.walk("prune", smaller=smaller)
    cutter = ColumnCutter(lm, smaller, spec, plan.units, walk.noted)
    with experts.apart(lm.model), experts.apart(smaller):
        yield from _through_the_blocks(lm, walk, cutter, calibration)
    removed = (walk.noted["removed"], walk.noted["units"])
    return _Made(smaller, plan.settings, removed, cutter.kept, by_magnitude=walk.noted["by_magnitude"])


def _without_blocks(lm: LanguageModel, spec: ShrinkSpec, plan: _Plan, calibration: Calibration) -> Steps[_Made]:
    """Remove whole blocks."""
    depth = len(decoder_blocks(lm.model)[1])
    with experts.apart(lm.model):
        left = yield from without_blocks(lm, depth - spec.kept_blocks(depth, lm.title), calibration.ids.to(lm.device))
    experts.run_alike(left.model, lm.model)
    removed = (len(left.influences), len(left.influences) + len(left.kept))
    return _Made(
        left.model,
        left.settings,
        removed,
        {"blocks": torch.tensor(left.kept, dtype=torch.int64)},
        tuple(left.influences),
    )


def _source_of(calibration: Calibration) -> dict[str, Any]:
    """Describe the text that was read, as plain values for reports."""
    return {
        "source": calibration.source,
        "samples": calibration.samples,
        "seq_len": calibration.seq_len,
        "seed": calibration.seed,
        "bos": calibration.bos,
        "packed": calibration.packed,
        "fingerprint": calibration.fingerprint,
    }


def _through_the_blocks(
    lm: LanguageModel, walk: BlockWalk, cutter: ColumnCutter, calibration: Calibration
) -> Steps[None]:
    """Cut every block, each by what enters it in the model that is already smaller before it.

    Two streams of hidden states go through, the smaller model's and, where the update asks for it, the dense one's.
    """
    solver = cutter.spec.solver
    beside = cutter.spec.update != "none" and solver.dense_share > 0
    dense_walk = lm.walk("beside")
    ids = calibration.ids.to(lm.device)
    yield Progress("reading", 0, len(walk), "blocks")
    calls, hidden = walk.start(ids)
    dense_calls, dense_hidden = dense_walk.start(ids) if beside else (calls, [])
    batches = Batches(walk.tried)
    for index, block, linears in walk:
        step = Progress("shrinking", index, len(walk), "blocks")
        yield step
        call, dense_call = calls[index], dense_calls[index]
        groups = cutter.groups(index, linears)
        readers = [group.reader for group in groups]
        size = batches.size(block, call, linears, singly(hidden))
        hidden, dense_hidden = regrouped(hidden, size), regrouped(dense_hidden, size) if beside else []
        measured = {group.reader.name: ColumnMoments(group.own.size) for group in groups}
        first: dict[str, Tensor] = {}
        with dense_walk.carrying() as dense_leaving:
            for number, x in enumerate(hidden):
                with refusing(lm, f"{cutter.prefix}.{index}"):
                    inputs, _ = run_and_record(block, call, readers, x, number)
                first = first or inputs
                dense_inputs: dict[str, Tensor] = {}
                if beside:
                    dense_inputs, y = run_and_record(block, dense_call, readers, dense_hidden.pop(0), number)
                    if index + 1 < len(walk):
                        dense_leaving.add(y)
                for reader in readers:
                    if reader.name in inputs:  # the two streams may send tokens to different experts
                        comparable = None if reader.routed else dense_inputs.get(reader.name)
                        measured[reader.name].add(inputs[reader.name], cutter.spec.update != "none", comparable)
                yield step
            dense_hidden = dense_leaving.taken()
        check_experts_reached(readers, {name for name, moments in measured.items() if moments.tokens})
        smaller = cutter.cut(index, groups, measured, partial(_first_call, call, hidden[0]), first)
        left = without_memory(smaller)
        if left is not None:
            raise ModelError(
                f"{type(lm.model).__name__} holds {cutter.prefix}.{index}.{left} in a way that is not known; choose "
                "another model"
            )
        yield step
        if index + 1 < len(walk):
            hidden = walk.carry(call.run(smaller, x, number) for number, x in enumerate(hidden))
    yield Progress("shrinking", len(walk), len(walk), "blocks")


@contextmanager
def refusing(lm: LanguageModel, block: str) -> Iterator[None]:
    """Within it, a dense block that cannot run in the smaller model's stream is refused by name: it reads what a block
    before it put aside, keys and values say, which has another size there."""
    try:
        yield
    except (RuntimeError, ValueError, IndexError, TypeError) as error:
        if out_of_memory(error):
            raise
        raise ModelError(
            f"{type(lm.model).__name__}: {block} cannot run after smaller blocks ({first_line(error)}); remove "
            "something else or choose another model"
        ) from error


def _first_call(call: BlockCall, x: Tensor, block: nn.Module, readers: list[Linear]) -> dict[str, Tensor]:
    return run_and_record(block, call, readers, x, 0)[0]


def run_and_record(
    block: nn.Module, call: BlockCall, readers: list[Linear], x: Tensor, number: int
) -> tuple[dict[str, Tensor], Tensor]:
    """Run a block and keep what some of its matrices read. x (B, L, D), number: of the sequence, where it is one alone.

    -> the inputs by name of the matrix, (…, C_in), none of an expert that was sent no token; the block's output.
    """
    inputs: dict[str, Tensor] = {}

    def note(linear: Linear) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def hook(module: nn.Module, args: tuple[Tensor, ...]) -> None:
            if linear.name in inputs:
                raise ModelError(f"{linear.name} is used more than once in a pass; choose another model")
            inputs[linear.name] = args[0]

        return hook

    handles = [reader.module.register_forward_pre_hook(note(reader)) for reader in readers]
    try:
        return inputs, call.run(block, x, number)
    finally:
        for handle in handles:
            handle.remove()
