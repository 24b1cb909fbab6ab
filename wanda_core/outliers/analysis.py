"""One pass of the dense model over the calibration text: input norms and how large hidden states grow.

Three things are kept apart (README has their definitions): Wanda's input norms, the residual stream's
magnitudes (massive activations, Sun et al. 2024, arXiv 2402.17762), and outlier features.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from wanda_core.calibration.input_norms import InputNorms, column_squares
from wanda_core.calibration.norm_recorder import NormRecorder
from wanda_core.calibration.profile import Profile, profile_of
from wanda_core.maths.selection import kth_smallest
from wanda_core.model import experts
from wanda_core.model.language_model import LanguageModel
from wanda_core.outliers.features import FeatureCounter, FeatureCounts
from wanda_core.outliers.massive import TOP, is_massive
from wanda_core.progress import Progress, Steps, finish
from wanda_core.text.windows import Calibration

STANDS_OUT_RATIO = 100.0  # times the median: a looser mark that shows where a channel rises and falls


@dataclass(frozen=True)
class Analysis:
    """Input norms and hidden states of the dense model on one calibration set: B blocks, S channels of the stream.

    profile: input norms of every linear, from the dense model.
    top: (B, 3) the largest |x| of a block's output, mean over sequences; median: (B,) likewise.
    channel_max: (B, S) largest |x| per channel over all tokens; stream_norms: (B, S) L2 norms of the block's output
    columns, on the same scale as the input norms. All float32 on the CPU.
    features: where the hidden states pass the definition of an outlier feature, None where no linear reads them whole.
    """

    profile: Profile
    top: Tensor
    median: Tensor
    channel_max: Tensor
    stream_norms: Tensor
    features: FeatureCounts | None = None

    @property
    def ratios(self) -> Tensor:
        """(B, S) how many times the median of its block each channel reaches."""
        return self.channel_max / self.median.clamp_min(1e-12)[:, None]

    @property
    def massive(self) -> Tensor:
        """Tell where a channel meets the definition of a massive activation. (B, S) bool."""
        return is_massive(self.channel_max, self.median[:, None])


@dataclass(frozen=True)
class StandOut:
    """A channel of the residual stream that stands out. blocks: where it is 100 × the median or more
    (counted from 0); massive: where it meets the definition of a massive activation; largest: |x|; ratio: times the
    median of `block`, where it is largest against it."""

    channel: int
    blocks: tuple[int, ...]
    largest: float
    ratio: float
    block: int
    massive: tuple[int, ...]


def analyse(
    lm: LanguageModel, calibration: Calibration, on_progress: Callable[[Progress], object] | None = None
) -> Analysis:
    """Run the dense model once over the calibration set. Raises ModelError when values are not finite."""
    return finish(analyse_steps(lm, calibration), on_progress)


@torch.no_grad()
def analyse_steps(lm: LanguageModel, calibration: Calibration) -> Steps[Analysis]:
    """`analyse` as a generator that yields progress per block."""
    with experts.apart(lm.model):
        return (yield from _analysed(lm, calibration))


def _analysed(lm: LanguageModel, calibration: Calibration) -> Steps[Analysis]:
    blocks = lm.walk("read")
    yield Progress("reading", 0, len(blocks), "blocks")
    calls, hidden = blocks.start(calibration.ids.to(lm.device))
    input_norms: dict[str, InputNorms] = {}
    counter = FeatureCounter(lm)
    top, median, largest, stream = [], [], [], []
    for index, block, linears in blocks:
        yield Progress("analysis", index, len(blocks), "blocks")
        recorder = NormRecorder(linears)
        with recorder.recording():
            hidden = blocks.carry(counter.through(calls[index], index, block, linears, hidden))
        input_norms.update(recorder.input_norms())
        streams = [lm.stream_of(sample) for sample in hidden]  # N of (1, L, S)
        magnitudes = [sample[0].float().abs() for sample in streams]  # N of (L, S)
        top.append(torch.stack([m.flatten().topk(TOP).values for m in magnitudes]).mean(dim=0))
        median.append(torch.stack([_median(m) for m in magnitudes]).mean())
        largest.append(torch.stack([m.amax(dim=0) for m in magnitudes]).amax(dim=0))
        stream.append(_column_norms(streams))
    yield Progress("analysis", len(blocks), len(blocks), "blocks")
    profile = profile_of(lm, calibration, input_norms)
    tops, medians, maxima, norms = (
        torch.stack([value.cpu() for value in values]) for values in (top, median, largest, stream)
    )
    return Analysis(profile, tops, medians, maxima, norms, counter.counts(len(blocks)))


def standing_out(analysis: Analysis, least: int = 5) -> list[StandOut]:
    """Massive channels by the paper's definition, then the next largest up to `least`; strongest first."""
    ratios = analysis.ratios
    massive = analysis.massive
    high = ratios >= STANDS_OUT_RATIO
    order = ratios.amax(dim=0).argsort(descending=True).tolist()
    is_massive = massive.any(dim=0).tolist()
    chosen = [c for c in order if is_massive[c]]
    chosen += [c for c in order if not is_massive[c]][: max(0, least - len(chosen))]
    out = []
    for channel in chosen:
        block = int(ratios[:, channel].argmax())
        out.append(
            StandOut(
                channel=channel,
                blocks=_places(high[:, channel]),
                massive=_places(massive[:, channel]),
                largest=float(analysis.channel_max[:, channel].max()),
                ratio=float(ratios[block, channel]),
                block=block,
            )
        )
    return out


def _places(flags: Tensor) -> tuple[int, ...]:
    return tuple(torch.nonzero(flags).flatten().tolist())


def _median(x: Tensor) -> Tensor:
    flat = x.reshape(1, -1)
    return kth_smallest(flat, (flat.shape[1] + 1) // 2)[0, 0]


def _column_norms(streams: list[Tensor]) -> Tensor:
    running = InputNorms(torch.zeros(streams[0].shape[-1], dtype=torch.float32, device=streams[0].device))
    for sample in streams:
        running.add(column_squares(sample, len(sample)))
    return running.norms
