"""The order `in-flight`: one pass, in which each linear is visited when its inputs are known and before it is used.

All sequences go through a block in one call where they are few, else batch by batch in lockstep. A dense model's stream
may run beside, linear by linear.
"""

from collections.abc import Callable, Collection, Generator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import repeat

from torch import Tensor, nn

from wanda_core.calibration.arrivals import Arrivals, Visit
from wanda_core.calibration.batching import Batches, joined, regrouped, singly
from wanda_core.calibration.lockstep import Lockstep, at_once
from wanda_core.calibration.stream import adding, drift, outputs_kept
from wanda_core.errors import ModelError
from wanda_core.machine import distributed
from wanda_core.model.block_calls import BlockCall
from wanda_core.model.language_model import LanguageModel
from wanda_core.model.linears import Linear
from wanda_core.progress import Progress, Steps
from wanda_core.text.windows import Calibration

AT_ONCE_TOKENS = 8192  # a set up to this goes through a block in one call

# (linear, its inputs, the dense stream's, how far the streams are apart where it adds to them)
Arrive = Callable[[Linear, list[Tensor], list[Tensor] | None, list[Tensor] | None], object]


@dataclass(frozen=True)
class BlockRun:
    """One block of a stream: how it is called, its linears, and the hidden states that enter it, calls (B, L, D);
    adding: names of the linears that add to the stream, where that is asked for."""

    block: nn.Module
    call: BlockCall
    linears: list[Linear]
    hidden: list[Tensor]
    adding: Collection[str] = ()

    @property
    def that_add(self) -> list[Linear]:
        """The linears that add to the stream."""
        return [linear for linear in self.linears if linear.name in self.adding]


def in_flight(
    lm: LanguageModel,
    calibration: Calibration,
    visit: Visit,
    gram: bool,
    dense: LanguageModel | None = None,
    drifts: bool = False,
) -> Steps[dict[str, Tensor]]:
    """Visit every linear of `lm` in one pass. -> the norms that decided, by linear name, on the CPU.

    gram: whether visits get XᵀX; dense: a model that stays as it is, whose own stream then runs beside the pruned one.
    Visits then get XᵈᵀX too, the products of the dense stream's inputs with the pruned stream's, except for experts.
    drifts: whether those of linears that add to the stream also get EᵀX, E what the dense stream holds more there.
    Raises ModelError for a linear that is used twice in a pass, or not at all.
    """
    blocks, dense_blocks = lm.walk("prune"), dense.walk("beside") if dense else None
    ids = distributed.share(calibration.ids).to(lm.device)
    yield Progress("reading", 0, len(blocks), "blocks")
    calls, hidden = blocks.start(ids)
    dense_calls, dense_hidden = dense_blocks.start(ids) if dense_blocks else ([], [])
    batches = Batches(blocks.tried)
    arrivals = Arrivals(visit, calibration.samples, gram)
    with ThreadPoolExecutor(2 * max(1, len(ids)), "lockstep") as threads:  # one starts only when a batch needs it
        # The dense blocks in step with the pruned ones, or None for each without a dense model: `repeat` has no end.
        for (index, block, linears), dense_step in zip(blocks, dense_blocks or repeat(None)):  # noqa: B905
            step = Progress("pruning", index, len(blocks), "blocks")
            yield step
            size = batches.size(block, calls[index], linears, singly(hidden))
            names: list[str] = []
            dense_run = None
            if dense_step is not None:
                _, dense_block, dense_linears = dense_step
                if drifts:
                    first = singly(dense_hidden[:1])[0] if dense_hidden else None
                    names = adding(dense_block, dense_calls[index], dense_linears, first)
                dense_run = BlockRun(dense_block, dense_calls[index], dense_linears, dense_hidden, names)
            pruned_run = BlockRun(block, calls[index], linears, hidden, names)
            arrivals.begin_block()
            if distributed.least(int(size > 1 and ids.numel() <= AT_ONCE_TOKENS)):
                hidden, dense_hidden = _in_one_call(pruned_run, dense_run, arrivals.arrive)
            else:
                hidden, dense_hidden = yield from _in_lockstep(
                    pruned_run, dense_run, size, arrivals.arrive, step, threads
                )
            arrivals.finish_block(linears)
            if index + 1 < len(blocks):
                hidden = blocks.carry(hidden)
                dense_hidden = dense_blocks.carry(dense_hidden) if dense_blocks else []
    yield Progress("pruning", len(blocks), len(blocks), "blocks")
    return arrivals.norms


def _in_one_call(pruned: BlockRun, dense: BlockRun | None, arrive: Arrive) -> tuple[list[Tensor], list[Tensor]]:
    """Run a block over all sequences at once, the dense one first. -> outputs of the pruned and the dense stream."""
    x = joined(pruned.hidden)
    if dense is None:

        def arrive_alone(linear: Linear, inputs: list[Tensor]) -> None:
            arrive(linear, inputs, None, None)

        return at_once(pruned.block, pruned.call, pruned.linears, x, arrive_alone), []
    dense_inputs: dict[str, list[Tensor]] = {}
    dense_x = joined(dense.hidden)
    with outputs_kept(dense.that_add) as dense_added:
        dense_hidden = at_once(dense.block, dense.call, dense.linears, dense_x, _keep_in(dense_inputs))

    def arrive_with_dense(linear: Linear, inputs: list[Tensor]) -> None:
        apart = None
        if linear.name in pruned.adding:
            apart = [drift(dense_x, x, [(dense_added[name], output) for name, output in added.items()])]
        arrive(linear, inputs, dense_inputs.get(linear.name), apart)

    with outputs_kept(pruned.that_add) as added:
        return at_once(pruned.block, pruned.call, pruned.linears, x, arrive_with_dense), dense_hidden


def _in_lockstep(
    pruned: BlockRun, dense: BlockRun | None, size: int, arrive: Arrive, step: Progress, threads: Executor
) -> Steps[tuple[list[Tensor], list[Tensor]]]:
    """Run a block over calls of `size` sequences that wait for each other at every linear, both streams together.

    step: the progress of this block; threads: room for one a call of both streams. -> outputs of the pruned and the
    dense stream.
    """
    dense_inputs: dict[str, list[Tensor]] = {}
    dense_hidden: list[Tensor] = []
    if dense is not None and any(linear.routed for linear in pruned.linears):
        # The two streams may send tokens to different experts, and then the experts' inputs cannot be compared.
        comparable = [linear for linear in dense.linears if not linear.routed]
        for sequence, x in enumerate(singly(dense.hidden)):
            dense_hidden += at_once(dense.block, dense.call, comparable, x, _keep_in(dense_inputs), sequence)
        dense = None
    lockstep, dense_lockstep = (
        Lockstep(run.block, run.call, run.linears, regrouped(run.hidden, size), threads, run.adding) if run else None
        for run in (pruned, dense)
    )
    assert lockstep is not None
    with closing(_paired(lockstep, dense_lockstep)) as steps:  # whatever happens, no thread may go on waiting
        for linear, inputs, from_dense in steps:
            yield Progress(step.stage, step.done, step.total, step.unit, linear.kind)
            apart = None
            if dense_lockstep is not None and linear.name in pruned.adding:
                apart = [_drift_of(batch, dense_lockstep, lockstep) for batch in lockstep.at]
            arrive(linear, inputs, from_dense or dense_inputs.get(linear.name), apart)
    return lockstep.outputs, dense_lockstep.outputs if dense_lockstep else dense_hidden


def _drift_of(batch: int, dense: Lockstep, pruned: Lockstep) -> Tensor:
    """How far one batch of two streams is apart where both wait."""
    added = [(dense.added[batch][name], output) for name, output in pruned.added[batch].items()]
    return drift(dense.inputs[batch], pruned.inputs[batch], added)


def _keep_in(inputs_by_name: dict[str, list[Tensor]]) -> Callable[[Linear, list[Tensor]], None]:
    """Make an `arrive` that only keeps each linear's inputs, call after call."""
    return lambda linear, inputs: inputs_by_name.setdefault(linear.name, []).extend(inputs)


def _paired(pruned: Lockstep, dense: Lockstep | None) -> Generator[tuple[Linear, list[Tensor], list[Tensor] | None]]:
    """Go through two streams linear by linear, or through the pruned one alone.

    -> linear of the pruned model, its inputs, the dense stream's or None. Raises ModelError when the streams reach
    different linears, or with inputs of other shapes.
    """
    if dense is None:
        with closing(iter(pruned)) as steps:
            for linear, inputs in steps:
                yield linear, inputs, None
        return
    with closing(iter(pruned)) as pruned_steps, closing(iter(dense)) as dense_steps:
        for (linear, inputs), (dense_linear, dense_inputs) in zip(pruned_steps, dense_steps, strict=True):
            if linear.name != dense_linear.name or [x.shape for x in inputs] != [x.shape for x in dense_inputs]:
                raise ModelError(
                    f"the dense and the pruned model read different inputs at {linear.name}, so they cannot be "
                    "compared; choose order in-flight with update least-squares and no dense_share, not the preset best"
                )
            yield linear, inputs, dense_inputs
