"""When statistics are taken: three ways through the network, of which `in_flight` has a file of its own.

Each visits every linear once, with what is known of its inputs, and yields progress; what a visit does to the linear is
not its business.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from wanda_core.calibration.batching import Batches, regrouped, singly
from wanda_core.calibration.in_flight import Visit
from wanda_core.calibration.input_norms import (
    InputNorms,
    Moments,
    NormRecorder,
)
from wanda_core.machine import distributed
from wanda_core.model.block_calls import BlockCall, StopForward, sequences_in
from wanda_core.model.language_model import LanguageModel
from wanda_core.model.linears import Linear
from wanda_core.progress import Progress, Steps
from wanda_core.text.windows import Calibration


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
            inputs = blocks.carry(call.run(block, x, number) for number, x in enumerate(inputs))
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
        for number, x in enumerate(inputs):
            recorder.sequences = sequences_in(x)
            try:
                call.run(block, x, number)
            except StopForward:
                continue
            recorder.stop_at_last_call()
    if shape in ends and any(recorder.calls.count(x.name) != len(inputs) for x in linears):
        return _recorded(block, call, linears, inputs, gram, {})
    if recorder.stop_before is not None:
        ends[shape] = next(x.kind for x in linears if x.name == recorder.stop_before)
    return recorder


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
