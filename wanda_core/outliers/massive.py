"""Massive activations: scalars of the residual stream, found by the definition of Sun et al. 2024 (arXiv 2402.17762).

A scalar is massive when |x| > 100 and |x| ≥ 1,000 × the median of its hidden state, the block's output for one text.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from wanda_core.errors import InputError, shortened
from wanda_core.maths.selection import kth_smallest

MASSIVE_MAGNITUDE = 100.0  # |x| above this, and
MASSIVE_RATIO = 1000.0  # this many times the median of its hidden state or more: the paper's definition
TOP = 3  # largest magnitudes kept per block
MOST_LISTED = 500  # scalars; under a loose criterion millions pass


@dataclass(frozen=True)
class Massive:
    """One scalar: at which block's output, token and channel, all from 0; value with its sign; ratio: |value| as a
    multiple of the block's median."""

    block: int
    token: int
    channel: int
    value: float
    ratio: float


def massive(hidden: Tensor, magnitude: float = MASSIVE_MAGNITUDE, ratio: float = MASSIVE_RATIO) -> list[Massive]:
    """The massive activations, largest first, MOST_LISTED at most. hidden: (B, L, D), every block's output."""
    _check(magnitude, ratio)
    medians, found = top_and_median(hidden)[1].tolist(), []
    for block, (states, median) in enumerate(zip(hidden, medians, strict=True)):  # not all at once: all may pass
        mask = is_massive(states.abs(), torch.tensor(median, dtype=torch.float64), magnitude, ratio)
        places, values = torch.nonzero(mask), states[mask]  # (K, 2), (K,)
        order = values.abs().argsort(descending=True, stable=True)[:MOST_LISTED]
        for (token, channel), value in zip(places[order].tolist(), values[order].tolist(), strict=True):
            found.append(Massive(block, token, channel, value, abs(value) / median if median else math.inf))
    return sorted(found, key=lambda each: -abs(each.value))[:MOST_LISTED]


def massive_mask(hidden: Tensor, magnitude: float = MASSIVE_MAGNITUDE, ratio: float = MASSIVE_RATIO) -> Tensor:
    """Where |x| > magnitude and |x| ≥ ratio × the block's median. (B, L, D) -> bool (B, L, D).

    Compared in float64, in which the product is exact, so that a value at the threshold is on its side.
    """
    _check(magnitude, ratio)
    return is_massive(hidden.abs(), top_and_median(hidden)[1][:, None, None], magnitude, ratio)


def _check(magnitude: float, ratio: float) -> None:
    for name, value in (("magnitude", magnitude), ("ratio", ratio)):
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
            raise InputError(
                f"{name} {shortened(value)} is not a number of 0 or more; the definition has 100 and 1,000"
            )


def is_massive(
    size: Tensor, median: Tensor, magnitude: float = MASSIVE_MAGNITUDE, ratio: float = MASSIVE_RATIO
) -> Tensor:
    """Tell where |x| meets the definition. size: |x|; median: of its hidden state, of a shape that broadcasts -> bool.

    Compared in float64, in which the product is exact, so that a value at the threshold is on its side.
    """
    size = size.double()
    return (size > magnitude) & (size >= ratio * median.double())


def top_and_median(hidden: Tensor) -> tuple[Tensor, Tensor]:
    """Per block the three largest |x| and the median of |x| (the lower one of an even count).

    (B, L, D) -> (B, 3), (B,), float32.
    """
    flat = hidden.abs().flatten(1)  # (B, L · D)
    return flat.topk(TOP, dim=1).values, kth_smallest(flat, (flat.shape[1] + 1) // 2)[:, 0]


def top_channels(hidden: Tensor, k: int) -> list[int]:
    """The k channels that reach the largest |x|, strongest first. hidden: (L, D), one block's output."""
    return hidden.abs().amax(dim=0).argsort(descending=True, stable=True)[:k].tolist()
