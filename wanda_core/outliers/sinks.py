"""Attention sinks: how much attention goes to the first token, beside the massive activations that sit there."""

from dataclasses import dataclass

import torch
from torch import Tensor

from wanda_core.errors import InputError
from wanda_core.outliers.sentence import Sentence

LEAST_BLOCKS = 3  # two points always lie on a line


@dataclass(frozen=True)
class Sinks:
    """to_first: (B, H) mean share of attention that later tokens give to the first; per_block: (B,) its mean over
    heads, NaN for a block without attention; entering: (B,) largest |x| of the first token in what enters the block,
    NaN for block 0; correlation: see `sink_report`, None where it is not defined."""

    to_first: Tensor
    per_block: Tensor
    entering: Tensor
    correlation: float | None


def sink_report(sentence: Sentence) -> Sinks:
    """Attention to the first token beside how large that token is when a block reads it.

    correlation: Pearson's, over blocks 1 to B - 1, of per_block with log10 of the largest |x| of the first token at
    the output of the block before. None with fewer than three such blocks or when either side does not vary.
    Raises InputError for a sentence without attention.
    """
    if sentence.to_first is None:
        raise InputError(f"{sentence.why_no_attention} Choose another model or a longer text")
    per_block = sentence.to_first.nanmean(dim=1)
    largest = sentence.hidden[:, 0].abs().amax(dim=1)  # (B,)
    entering = torch.cat([torch.full((1,), float("nan"), dtype=torch.float32), largest[:-1]])
    known = torch.isfinite(per_block) & torch.isfinite(entering) & (entering > 0)
    return Sinks(
        sentence.to_first, per_block, entering, _pearson(entering[known].double().log10(), per_block[known].double())
    )


def _pearson(x: Tensor, y: Tensor) -> float | None:
    if len(x) < LEAST_BLOCKS:
        return None
    x, y = x - x.mean(), y - y.mean()
    spread = float(x.norm() * y.norm())
    if spread <= 1e-12:  # one of them is constant, up to rounding
        return None
    return max(-1.0, min(1.0, float(x @ y) / spread))
