"""The orders `faithful` and `one-shot`: when inputs are measured and linears visited; `in_flight.py` has the third.

Each order visits every linear once, with the moments of its inputs, and yields progress; what a visit does to the
linear is not the order's business.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from wanda_core.calibration.arrivals import Visit
from wanda_core.calibration.batching import Batches, regrouped, singly
from wanda_core.calibration.input_norms import InputNorms, Moments
from wanda_core.calibration.norm_recorder import NormRecorder
from wanda_core.machine import distributed
from wanda_core.model.block_calls import BlockCall, StopForward, sequences_in
from wanda_core.model.language_model import LanguageModel
from wanda_core.model.linears import Linear
from wanda_core.progress import Progress, Steps
from wanda_core.text.windows import Calibration


def faithful(lm: LanguageModel, calibration: Calibration, visit: Visit, gram: bool) -> Steps[dict[str, Tensor]]:
    """Follow the reference protocol, block by block: measure the dense block's inputs, visit all its linears, then run
    the pruned block for the inputs of the next.

    The measuring pass stops at the block's last linear, once it is known which that is, since nothing needs its
    output; the second pass is left out after the last block. Sequences share a call where that changes no bit.
    gram: whether visits get XᵀX. -> the norms that decided, by linear name, on the CPU.
    """
    blocks = lm.walk("prune")
    ids = distributed.share(calibration.ids).to(lm.device)
    yield Progress("reading", 0, len(blocks), "blocks")
    calls, inputs = blocks.start(ids)
    norms: dict[str, Tensor] = {}
    batches = Batches(blocks.tried)
    last_kinds: dict[object, str] = {}  # shape of a block -> the kind of linear it calls last, once that is known
    for index, block, linears in blocks:
        call = calls[index]
        yield Progress("profile", index, len(blocks), "blocks")
        inputs = regrouped(inputs, batches.size(block, call, linears, singly(inputs)))
        recorder = _record(block, call, linears, inputs, gram, last_kinds).join()
        input_norms = recorder.input_norms()
        for linear in linears:
            yield Progress("pruning", index, len(blocks), "blocks", linear.kind)
            products = recorder.grams.get(linear.name)
            visit(linear, Moments(input_norms[linear.name], None if products is None else products.float()))
        norms.update({name: measured.norms.cpu() for name, measured in input_norms.items()})
        if index + 1 < len(blocks):
            inputs = blocks.carry(call.run(block, x, number) for number, x in enumerate(inputs))
    yield Progress("pruning", len(blocks), len(blocks), "blocks")
    return norms


def _record(
    block: nn.Module,
    call: BlockCall,
    linears: list[Linear],
    inputs: list[Tensor],
    gram: bool,
    last_kinds: dict[object, str],
) -> NormRecorder:
    """Run a block over all sequences and record its linears' inputs. inputs: tensors (B, L, D), N sequences in all.

    last_kinds: the kind of linear that blocks of each shape call last, learned here. A block that turns out to call
    its linears otherwise than earlier blocks of its shape is run once more, to its end.
    """
    shape = (type(block), tuple((linear.kind, linear.shape) for linear in linears))
    recorder = NormRecorder(linears, gram)
    recorder.stop_before = next((linear.name for linear in linears if linear.kind == last_kinds.get(shape)), None)
    with recorder.recording():
        for number, x in enumerate(inputs):
            recorder.sequences = sequences_in(x)
            try:
                call.run(block, x, number)
            except StopForward:
                continue
            recorder.stop_at_last_call()
    if shape in last_kinds and any(recorder.calls.count(linear.name) != len(inputs) for linear in linears):
        return _record(block, call, linears, inputs, gram, {})
    if recorder.stop_before is not None:
        last_kinds[shape] = next(linear.kind for linear in linears if linear.name == recorder.stop_before)
    return recorder


def one_shot(
    lm: LanguageModel, norms: Mapping[str, Tensor], tokens: Mapping[str, int], visit: Visit
) -> Steps[dict[str, Tensor]]:
    """Visit every linear without running the model, with norms measured earlier on the dense one. -> those norms.

    norms: (C_in,) float32 by linear name; tokens: how many each expert was sent, by linear name.
    """
    blocks = lm.walk("prune")
    for index, _, linears in blocks:
        for linear in linears:
            yield Progress("pruning", index, len(blocks), "blocks", linear.kind)
            squares = torch.square(norms[linear.name].to(linear.weight.device))  # blocks may lie on several GPUs
            visit(linear, Moments(InputNorms(squares, 1, tokens.get(linear.name, 0))))
    yield Progress("pruning", len(blocks), len(blocks), "blocks")
    return dict(norms)
