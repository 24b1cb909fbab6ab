"""Outlier features by the definition of LLM.int8() (Dettmers et al. 2022, arXiv 2208.07339, section 4.1).

A feature dimension with |x| ≥ 6.0 in at least 25% of the layers and at least 6% of the sequence positions, read at the
inputs of the attention projections and of the first linear of the MLP. One pass counts; the two shares can then be
changed without another. Positions are counted over all hidden states that are read, as the paper's wording has it.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from wanda_core.errors import InputError, ModelError, shortened
from wanda_core.model import experts
from wanda_core.model.block_calls import BlockCall
from wanda_core.model.language_model import LanguageModel
from wanda_core.model.linears import Linear
from wanda_core.progress import Progress, Steps, finish
from wanda_core.text.windows import Calibration

FEATURE_MAGNITUDE = 6.0
LAYER_SHARE = 0.25
POSITION_SHARE = 0.06


@dataclass(frozen=True)
class FeatureCounts:
    """How often each column passes, of the R hidden states that are read.

    over: int64 (R, D) positions with |x| ≥ magnitude, positive: those of them with x > 0; blocks: the block of each
    hidden state; kinds: the linears that read them, by their names inside a block; positions: how many each hidden
    state has: its tokens, or fewer where blocks read several as one (BLT); n_blocks: of the model; one_stream: whether
    the columns are channels of the residual stream, see `LanguageModel.one_stream`.
    """

    magnitude: float
    over: Tensor
    positive: Tensor
    blocks: tuple[int, ...]
    kinds: tuple[str, ...]
    positions: tuple[int, ...]
    n_blocks: int
    one_stream: bool = True


@dataclass(frozen=True)
class Feature:
    """A channel by the definition, or a column of the mixture where there are several streams.

    layer_share: of blocks in which it passes at least once; position_share: of all positions read; positive_share: of
    the passing values, how many are above zero; meets: whether it meets both thresholds.
    """

    channel: int
    layer_share: float
    position_share: float
    positive_share: float
    meets: bool = True


@dataclass(frozen=True)
class FeatureReport:
    """The features that meet the thresholds, most positions first. blocks_share: of blocks in which any feature passes;
    closest: the channel that comes nearest, whether or not it meets them; positions: of the longest hidden state that
    was read; one_stream: whether they are channels of the residual stream, and no columns of a mixture."""

    features: tuple[Feature, ...]
    magnitude: float
    layer_share: float
    position_share: float
    blocks_share: float
    closest: Feature
    kinds: tuple[str, ...]
    positions: int
    one_stream: bool = True

    @property
    def meets(self) -> bool:
        """Whether the model has an outlier feature by these thresholds."""
        return bool(self.features)


def outlier_features(
    counts: FeatureCounts, layer_share: float = LAYER_SHARE, position_share: float = POSITION_SHARE
) -> FeatureReport:
    """The channels that meet all thresholds, from counts; a share exactly at its threshold meets it."""
    _check_share("layer_share", layer_share)
    _check_share("position_share", position_share)
    passes = counts.over > 0  # (R, D)
    rows = torch.tensor(counts.blocks, dtype=torch.int64)
    in_block = torch.stack([passes[rows == block].any(dim=0) for block in sorted(set(counts.blocks))])  # (B', D)
    layers = in_block.sum(dim=0).double() / counts.n_blocks
    total = counts.over.sum(dim=0)
    positions = total.double() / sum(counts.positions)
    meets = (layers >= layer_share) & (positions >= position_share) & (total > 0)
    order = sorted(torch.nonzero(meets).flatten().tolist(), key=lambda c: (-float(positions[c]), c))
    # how far along both thresholds a channel is; 1 or more meets both
    reach = torch.minimum(layers / max(layer_share, 1e-9), positions / max(position_share, 1e-9))

    def feature(channel: int) -> Feature:
        positive = float(counts.positive[:, channel].sum()) / max(1, int(total[channel]))
        return Feature(channel, float(layers[channel]), float(positions[channel]), positive, bool(meets[channel]))

    affected = in_block[:, order].any(dim=1).sum() if order else 0
    return FeatureReport(
        features=tuple(feature(channel) for channel in order),
        magnitude=counts.magnitude,
        layer_share=layer_share,
        position_share=position_share,
        blocks_share=float(affected) / counts.n_blocks,
        closest=feature(int(reach.argmax())),
        kinds=counts.kinds,
        positions=max(counts.positions),
        one_stream=counts.one_stream,
    )


def feature_of(counts: FeatureCounts, kind: str, column: int) -> Feature | None:
    """Return how far a linear's column comes by the definition, None where the linear is not among those that read
    the stream or a mixture of several. kind: of the linear."""
    if kind not in counts.kinds or column >= counts.over.shape[1]:
        return None
    total = counts.over[:, column].sum()
    rows = torch.tensor(counts.blocks, dtype=torch.int64)
    passed = {int(block) for block in rows[counts.over[:, column] > 0]}
    layers, positions = len(passed) / counts.n_blocks, int(total) / sum(counts.positions)
    positive = float(counts.positive[:, column].sum()) / max(1, int(total))
    meets = layers >= LAYER_SHARE and positions >= POSITION_SHARE and int(total) > 0
    return Feature(column, layers, positions, positive, meets)


def find_outlier_features(
    lm: LanguageModel,
    calibration: Calibration,
    *,
    magnitude: float = FEATURE_MAGNITUDE,
    layer_share: float = LAYER_SHARE,
    position_share: float = POSITION_SHARE,
    on_progress: Callable[[Progress], object] | None = None,
) -> FeatureReport:
    """The outlier features of a model over a calibration set."""
    shares = {"layer_share": layer_share, "position_share": position_share}
    return finish(outlier_features_steps(lm, calibration, magnitude=magnitude, **shares), on_progress)


def outlier_features_steps(
    lm: LanguageModel,
    calibration: Calibration,
    *,
    magnitude: float = FEATURE_MAGNITUDE,
    layer_share: float = LAYER_SHARE,
    position_share: float = POSITION_SHARE,
) -> Steps[FeatureReport]:
    """`find_outlier_features` as a generator that yields progress per block."""
    _check_share("layer_share", layer_share)
    _check_share("position_share", position_share)
    counts = yield from feature_counts_steps(lm, calibration, magnitude)
    return outlier_features(counts, layer_share, position_share)


def check_magnitude(magnitude: object) -> None:
    """Raise InputError for what is no magnitude that values could reach."""
    if isinstance(magnitude, bool) or not isinstance(magnitude, (int, float)) or not 0 < magnitude < math.inf:
        raise InputError(f"magnitude {shortened(magnitude)} is not a number above 0; the definition has 6.0")


@torch.no_grad()
def feature_counts_steps(
    lm: LanguageModel, calibration: Calibration, magnitude: float = FEATURE_MAGNITUDE
) -> Steps[FeatureCounts]:
    """One pass of the dense model that counts where the hidden states reach `magnitude`.

    Raises InputError for a magnitude that is none, ModelError when no linear reads the residual stream.
    """
    check_magnitude(magnitude)
    lm.check_windows(calibration.ids)
    blocks = lm.walk("read")
    calls, hidden = blocks.start(calibration.ids.to(lm.device))
    counter = FeatureCounter(lm, magnitude)
    for index, block, linears in blocks:
        yield Progress("features", index, len(blocks), "blocks")
        with experts.apart(lm.model):
            hidden = blocks.carry(counter.through(calls[index], index, block, linears, hidden))
    yield Progress("features", len(blocks), len(blocks), "blocks")
    counts = counter.counts(len(blocks))
    if counts is None:
        raise ModelError(
            f"no linear of {lm.title} reads all {lm.width} channels of the residual stream, so outlier features "
            "cannot be read; choose another model"
        )
    return counts


class FeatureCounter:
    """Counts where hidden states reach a magnitude, while something else runs the blocks. lm: whose they are."""

    def __init__(self, lm: LanguageModel, magnitude: float = FEATURE_MAGNITUDE) -> None:
        self.width, self.one_stream, self.magnitude = lm.width, lm.one_stream, float(magnitude)
        self._counts: dict[tuple[int, str], Tensor] = {}  # by block and sublayer, (2, D): passing, and those above zero
        self._positions: dict[tuple[int, str], int] = {}
        self._kinds: dict[str, None] = {}

    def through(
        self, call: BlockCall, index: int, block: nn.Module, linears: list[Linear], hidden: Iterable[Tensor]
    ) -> Iterator[Tensor]:
        """Run samples through a block, and count what it reads. linears: of the block, experts apart. -> its outputs"""
        for number, sample in enumerate(hidden):
            reads: dict[str, tuple[Tensor, tuple[str, ...]]] = {}
            with _entering(linears, self.width, reads):
                output = call.run(block, sample, number)
            for sublayer, (x, names) in reads.items():
                passes = x.float().abs() >= self.magnitude
                here = torch.stack([passes.sum(dim=0), (passes & (x > 0)).sum(dim=0)]).cpu()
                place = (index, sublayer)
                self._counts[place] = self._counts[place] + here if place in self._counts else here
                self._positions[place] = self._positions.get(place, 0) + len(x)
                self._kinds.update(dict.fromkeys(names))
            yield output

    def counts(self, n_blocks: int) -> FeatureCounts | None:
        """Return what was counted, None where no linear reads the whole stream."""
        if not self._counts:
            return None
        over, positive = torch.stack(list(self._counts.values())).unbind(dim=1)
        return FeatureCounts(
            self.magnitude,
            over.contiguous(),
            positive.contiguous(),
            tuple(block for block, _ in self._counts),
            tuple(self._kinds),
            tuple(self._positions[place] for place in self._counts),
            n_blocks,
            self.one_stream,
        )


@contextmanager
def _entering(linears: list[Linear], width: int, reads: dict[str, tuple[Tensor, tuple[str, ...]]]) -> Iterator[None]:
    """Context manager: fill `reads`, sublayer -> (what enters it (L, D), the linears that read just that).

    A sublayer is the module that holds the linears. The first of them to be called reads the normalised residual
    stream, and so do those that are given the same tensor (q, k, v; gate and up): later ones read what these made.
    A linear without a sublayer of its own (OPT's fc1) begins one when none read the stream under its holder before.
    """

    def hook(linear: Linear) -> Callable[[nn.Module, Any], None]:
        holder = linear.kind.rpartition(".")[0]

        def note(module: nn.Module, args: Any) -> None:
            x = args[0]
            first = reads.get(holder)
            if first is None and x.shape[-1] == width:
                reads[holder] = (x.reshape(-1, width), (linear.kind,))
                firsts[holder] = x
            elif first is not None and firsts[holder] is x:
                reads[holder] = (first[0], (*first[1], linear.kind))

        return note

    firsts: dict[str, Tensor] = {}
    handles = [linear.module.register_forward_pre_hook(hook(linear)) for linear in linears if not linear.routed]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _check_share(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise InputError(
            f"{name} {shortened(value)} is not a share from 0 to 1; the definition has 0.25 of layers and 0.06"
        )
