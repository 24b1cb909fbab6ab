"""Ablation: channels of the residual stream set to zero or to their mean, against as many random channels.

After Sun et al. 2024 (arXiv 2402.17762, section 3): a massive activation set to zero ruins the model, set to its mean
it changes nothing. The model itself is never written to: hooks change what the blocks hand on, and go afterwards.
"""

import random
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from wanda_core.checks import check_whole
from wanda_core.errors import InputError, shortened
from wanda_core.evaluation.perplexity import Text
from wanda_core.machine.matmul import faster_linear
from wanda_core.model.language_model import LanguageModel
from wanda_core.model.linears import decoder_blocks
from wanda_core.outliers.hooks import block_outputs, passes_begin
from wanda_core.outliers.interventions import (
    LEAST_DRAWS,
    LINE_TOKENS,
    MOST_DRAWS,
    Intervention,
    Outcome,
    interventions_steps,
    spread,
)
from wanda_core.progress import Progress, Steps, finish
from wanda_core.text.windows import Calibration

VALUES = ("zero", "mean")
PLACES = ("all", "first", "others")
MAX_CHANNELS = 4096


@dataclass(frozen=True)
class Ablation:
    """Which channels of the residual stream become what, and where.

    channels: from 0; value: `zero` or `mean`, the channel's mean over calibration text per block, in which the first
    position has a mean of its own; tokens: `all`, `first` or `others`; from_block: the first block whose output is
    changed, every later one is too.
    """

    channels: tuple[int, ...]
    value: str = "zero"
    tokens: str = "all"
    from_block: int = 0

    def __post_init__(self) -> None:
        """Check what does not depend on a model."""
        for name, given, known in (("value", self.value, VALUES), ("tokens", self.tokens, PLACES)):
            if given not in known:
                raise InputError(f"{name} {shortened(given)} is not one of {', '.join(known)}; choose one of them")
        if not self.channels or len(set(self.channels)) != len(self.channels) or len(self.channels) > MAX_CHANNELS:
            raise InputError(
                f"{len(self.channels)} channels are given, and 1 to {MAX_CHANNELS} different ones can be ablated; "
                "name each once"
            )

    def check_fits(self, width: int, blocks: int) -> None:
        """Raise InputError for a channel or block that a model of S = `width` channels does not have."""
        for channel in self.channels:
            if isinstance(channel, bool) or not isinstance(channel, int) or not 0 <= channel < width:
                raise InputError(
                    f"channel {shortened(channel)} does not exist; this model has channels 0 to {width - 1}"
                )
        check_whole("from_block", self.from_block, 0, blocks - 1)


@dataclass(frozen=True)
class Measured:
    """Perplexity with some channels ablated. line: what the model then writes after the prompt, None without one."""

    channels: tuple[int, ...]
    perplexity: float
    line: str | None = None


@dataclass(frozen=True)
class AblationReport:
    """Untouched, with the chosen channels ablated, and with as many random channels, draw by draw.

    prompt, line: what was given to continue and how the untouched model does; None without a prompt; zeroed: the same
    channels at zero where the ablation sets them to their mean, for only the pair tells what a channel is needed for.
    """

    ablation: Ablation
    untouched: float
    chosen: Measured
    random: tuple[Measured, ...]
    seq_len: int
    windows: int
    prompt: str | None = None
    line: str | None = None
    zeroed: Measured | None = None

    @property
    def random_range(self) -> tuple[float, float]:
        """The smallest and the largest perplexity among the random draws."""
        return spread(draw.perplexity for draw in self.random)


def channel_means(
    lm: LanguageModel, calibration: Calibration, on_progress: Callable[[Progress], object] | None = None
) -> Tensor:
    """Mean of every channel at every block's output. -> (B, 2, S) float32: of the first position, of the others."""
    return finish(channel_means_steps(lm, calibration), on_progress)


@torch.no_grad()
def channel_means_steps(lm: LanguageModel, calibration: Calibration) -> Steps[Tensor]:
    """`channel_means` as a generator that yields progress per sample."""
    lm.check_windows(calibration.ids)
    _, blocks = decoder_blocks(lm.model)
    sums = [torch.zeros(2, lm.stream_width, dtype=torch.float64, device="cpu") for _ in blocks]

    def add(index: int, hidden: Tensor) -> None:
        values = hidden[0].double().cpu()  # (L, S)
        sums[index][0] += values[0]
        sums[index][1] += values[1:].mean(dim=0)

    for number, sample in enumerate(calibration.ids):
        yield Progress("channel-means", number, calibration.samples, "samples")
        with block_outputs(lm, add), faster_linear(lm.device):
            lm.model(sample[None].to(lm.device), use_cache=False)
    yield Progress("channel-means", calibration.samples, calibration.samples, "samples")
    return torch.stack(sums).div(calibration.samples).float()


@contextmanager
def ablated(lm: LanguageModel, ablation: Ablation, means: Tensor | None = None) -> Iterator[None]:
    """Context manager: run the model with the channels ablated. A pass going on from a cache holds later tokens only.

    means: of `channel_means`, needed for the value `mean`. Raises InputError for what the model does not have, and in
    a pass whose blocks read several tokens as one, where `tokens` tells the first from the others.
    """
    _, blocks = decoder_blocks(lm.model)
    ablation.check_fits(lm.stream_width, len(blocks))
    if ablation.value == "mean" and means is None:
        raise InputError("the value 'mean' needs the channels' means; take them with channel_means")
    channels = list(ablation.channels)
    passes: deque[tuple[bool, int]] = deque(maxlen=1)  # the one under way: if it begins at the first token, its tokens

    def change(index: int, hidden: Tensor) -> Tensor | None:
        begins, read = passes[0]
        if ablation.tokens != "all" and hidden.shape[1] != read:
            raise InputError(
                f"the blocks of {lm.title} read {hidden.shape[1]} pieces where the text has {read} tokens, so its "
                "first token cannot be told from the others; choose all tokens or another model"
            )
        first_here = int(begins)  # tokens in this pass that are the first one
        start, end = {"all": (0, None), "first": (0, first_here), "others": (first_here, None)}[ablation.tokens]
        if index < ablation.from_block:
            return None
        changed = hidden.clone()
        values = torch.zeros(hidden.shape[1], len(channels), device=hidden.device, dtype=hidden.dtype)  # (L, k)
        if ablation.value == "mean" and means is not None:
            first, others = means[index].to(hidden.device, hidden.dtype)[:, channels]
            values[:] = others
            values[:first_here] = first
        changed[:, start:end, channels] = values[start:end]
        return changed

    with passes_begin(lm.model, passes.append), block_outputs(lm, change):
        yield


def ablate(
    lm: LanguageModel,
    ablation: Ablation,
    text: Text,
    *,
    means: Tensor | None = None,
    draws: int = LEAST_DRAWS,
    seed: int = 0,
    seq_len: int = 512,
    windows: int = 8,
    prompt: str | None = None,
    line_tokens: int = LINE_TOKENS,
    on_progress: Callable[[Progress], object] | None = None,
) -> AblationReport:
    """Perplexity untouched, with the channels ablated, and with as many other channels drawn at random.

    Channels that get their mean are measured at zero besides.

    draws: how many random sets, at least five, so that their spread can be seen; prompt: what every setting of the
    model continues, by line_tokens of the likeliest tokens.
    """
    settings: dict[str, Any] = {"draws": draws, "seed": seed, "seq_len": seq_len, "windows": windows}
    settings |= {"prompt": prompt, "line_tokens": line_tokens}
    return finish(ablate_steps(lm, ablation, text, means=means, **settings), on_progress)


def ablate_steps(
    lm: LanguageModel,
    ablation: Ablation,
    text: Text,
    *,
    means: Tensor | None = None,
    draws: int = LEAST_DRAWS,
    seed: int = 0,
    seq_len: int = 512,
    windows: int = 8,
    prompt: str | None = None,
    line_tokens: int = LINE_TOKENS,
) -> Steps[AblationReport]:
    """`ablate` as a generator that yields progress; closing it leaves the model as it was."""
    check_whole("draws", draws, LEAST_DRAWS, MOST_DRAWS)
    ablation.check_fits(lm.stream_width, len(lm.linears))
    sets = random_channels(ablation.channels, lm.stream_width, draws, seed)
    plans = [Ablation(channels, ablation.value, ablation.tokens, ablation.from_block) for channels in sets]
    interventions = [Intervention("untouched"), Intervention("chosen", partial(ablated, lm, ablation, means))]
    interventions += [Intervention("random", partial(ablated, lm, plan, means)) for plan in plans]
    if ablation.value == "mean":
        interventions.append(Intervention("zeroed", partial(ablated, lm, replace(ablation, value="zero"))))
    settings: dict[str, Any] = {"seq_len": seq_len, "windows": windows, "prompt": prompt, "line_tokens": line_tokens}
    untouched, chosen, *others = yield from interventions_steps(lm, text, interventions, stage="ablation", **settings)

    def measured(channels: tuple[int, ...], outcome: Outcome) -> Measured:
        return Measured(channels, outcome.perplexity.perplexity, outcome.line)

    return AblationReport(
        ablation,
        untouched.perplexity.perplexity,
        measured(ablation.channels, chosen),
        tuple(measured(channels, outcome) for channels, outcome in zip(sets, others[:draws], strict=True)),
        seq_len,
        untouched.perplexity.windows,
        prompt,
        untouched.line,
        measured(ablation.channels, others[draws]) if ablation.value == "mean" else None,
    )


def random_channels(chosen: Sequence[int], width: int, draws: int, seed: int) -> list[tuple[int, ...]]:
    """As many channels as are chosen, none of them chosen, `draws` times. Raises InputError when too few are left."""
    rest = sorted(set(range(width)) - set(chosen))
    if len(rest) < len(chosen):
        raise InputError(
            f"{len(chosen)} of {width} channels are chosen and {len(rest)} are left to draw from; choose at most half"
        )
    rng = random.Random(seed)
    return [tuple(sorted(rng.sample(rest, len(chosen)))) for _ in range(draws)]
