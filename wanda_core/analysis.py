"""One pass of the dense model over the calibration text: input norms and how large hidden states grow.

Three things are kept apart (README has their definitions): Wanda's input norms, the residual stream's
magnitudes (massive activations, Sun et al. 2024, arXiv 2402.17762), and outlier features.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from wanda_core.blocks import block_calls, first_block_inputs
from wanda_core.calibration import Calibration
from wanda_core.linears import decoder_blocks
from wanda_core.masks import kth_smallest
from wanda_core.models import LanguageModel
from wanda_core.progress import Progress, Steps, finish
from wanda_core.statistics import InputNorms, NormRecorder, Profile, column_squares

MASSIVE_MAGNITUDE = 100.0  # |x| above this, and
MASSIVE_RATIO = 1000.0  # this many times the median of its hidden state: the paper's definition
TOP = 3  # largest magnitudes kept per block


@dataclass(frozen=True)
class Analysis:
    """What the dense model shows on one calibration set. B blocks, D channels of the residual stream.

    profile: input norms of every linear, from the dense model.
    top: (B, 3) the largest |x| of a block's output, mean over sequences; median: (B,) likewise.
    channel_max: (B, D) largest |x| per channel over all tokens; stream_norms: (B, D) L2 norms of the block's output
    columns, on the same scale as the input norms. All float32 on the CPU.
    """

    profile: Profile
    top: Tensor
    median: Tensor
    channel_max: Tensor
    stream_norms: Tensor

    @property
    def ratios(self) -> Tensor:
        """(B, D) how many times the median of its block each channel reaches."""
        return self.channel_max / self.median.clamp_min(1e-12)[:, None]


@dataclass(frozen=True)
class StandOut:
    """A channel of the residual stream that stands out. blocks: where (counted from 0); largest: |x|;
    ratio: times the median of that block; block: where it is largest against the median."""

    channel: int
    blocks: tuple[int, ...]
    largest: float
    ratio: float
    block: int
    massive: bool


def analyse(
    lm: LanguageModel, calibration: Calibration, on_progress: Callable[[Progress], object] | None = None
) -> Analysis:
    """Run the dense model once over the calibration set. Raises ModelError when values are not finite."""
    return finish(analyse_steps(lm, calibration), on_progress)


@torch.no_grad()
def analyse_steps(lm: LanguageModel, calibration: Calibration) -> Steps[Analysis]:
    """`analyse` as a generator that yields progress per block."""
    _, blocks = decoder_blocks(lm.model)
    ids = calibration.ids.to(lm.device)
    yield Progress("analysis", 0, len(blocks), "reading the calibration text")
    calls = block_calls(lm.model, blocks, ids[:1])
    hidden = first_block_inputs(lm.model, blocks, ids)
    norms: dict[str, Tensor] = {}
    top, median, largest, stream = [], [], [], []
    for index, (block, call, linears) in enumerate(zip(blocks, calls, lm.linears, strict=True)):
        yield Progress("analysis", index, len(blocks), f"block {index + 1} of {len(blocks)}")
        recorder = NormRecorder(linears)
        with recorder.recording():
            hidden = [call.run(block, sample) for sample in hidden]
        norms.update({name: norm.cpu() for name, norm in recorder.checked_norms().items()})
        magnitudes = [sample[0].float().abs() for sample in hidden]  # N of (L, D)
        top.append(torch.stack([m.flatten().topk(TOP).values for m in magnitudes]).mean(dim=0))
        median.append(torch.stack([_median(m) for m in magnitudes]).mean())
        largest.append(torch.stack([m.amax(dim=0) for m in magnitudes]).amax(dim=0))
        stream.append(_column_norms(hidden))
    yield Progress("analysis", len(blocks), len(blocks), "done")
    profile = Profile(norms, calibration.fingerprint, "one-shot")
    return Analysis(profile, *(torch.stack(part).cpu() for part in (top, median, largest, stream)))


def standing_out(analysis: Analysis, least: int = 5) -> list[StandOut]:
    """Massive channels by the paper's definition, strongest first; filled up to `least` with the next largest.

    A filled-up channel has `massive` False and spans the blocks where it is the block's largest.
    """
    ratios = analysis.ratios
    massive = (analysis.channel_max > MASSIVE_MAGNITUDE) & (ratios >= MASSIVE_RATIO)  # (B, D)
    strongest = ratios.amax(dim=0)
    found = torch.nonzero(massive.any(dim=0)).flatten().tolist()
    leaders = ratios.argmax(dim=1)
    order = strongest.argsort(descending=True).tolist()
    chosen = sorted(found, key=lambda c: -float(strongest[c]))
    chosen += [c for c in order[: least + len(found)] if c not in found][: max(0, least - len(found))]
    out = []
    for channel in chosen:
        is_massive = channel in found
        blocks = massive[:, channel] if is_massive else leaders == channel
        block = int(ratios[:, channel].argmax())
        out.append(
            StandOut(
                channel,
                tuple(torch.nonzero(blocks).flatten().tolist()),
                float(analysis.channel_max[:, channel].max()),
                float(ratios[block, channel]),
                block,
                is_massive,
            )
        )
    return out


def _median(x: Tensor) -> Tensor:
    flat = x.reshape(1, -1)
    return kth_smallest(flat, (flat.shape[1] + 1) // 2)[0, 0]


def _column_norms(hidden: list[Tensor]) -> Tensor:
    running = InputNorms(torch.zeros(hidden[0].shape[-1], device=hidden[0].device))
    for sample in hidden:
        running.add(column_squares(sample))
    return running.norms
