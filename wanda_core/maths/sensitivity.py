"""Sparsities of blocks from how much the model's output suffers when each alone is pruned. Pure functions.

A block's loss is taken for an exponential of its sparsity, through two measured points. Of all allotments of one budget
the sum of losses is least where every block's loss grows equally fast with each weight removed: equal slopes, as
rate and distortion are traded in coding (Shoham and Gersho 1988).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from wanda_core.checks import MAX_SPARSITY

AT = (0.5, 0.7)  # sparsities at which losses are measured
LARGEST_LOSS = 1e6  # nats; a vocabulary of a million tokens, forgotten with certainty, has a thousand or two
LEAST_LOSS = 1e-7  # nats; below it a measured divergence is rounding
LEAST_GROWTH = 1.5  # of the loss between the two sparsities; a curve that is flatter was measured badly


@dataclass(frozen=True)
class Sensitivities:
    """How much each block's pruning harms the model.

    losses: of every block, KL(dense ‖ pruned) of the next token in nats when it alone is pruned at the two sparsities
    `AT`; windows, seq_len: of the text that was read.
    """

    losses: tuple[tuple[float, float], ...]
    windows: int
    seq_len: int

    def __post_init__(self) -> None:
        """Raise ValueError for losses that cannot have been measured."""
        if not self.losses or any(len(pair) != len(AT) for pair in self.losses):
            raise ValueError(f"sensitivities are {len(AT)} losses of each block")
        if not all(math.isfinite(loss) and loss >= 0 for pair in self.losses for loss in pair):
            raise ValueError("sensitivities are finite and not negative")

    @classmethod
    def read(cls, given: Any) -> "Sensitivities":
        """Make one of plain values as `asdict` gives them. Raises ValueError, KeyError or TypeError for any others."""
        losses = tuple((_loss(first), _loss(second)) for first, second in given["losses"])
        counts = given["windows"], given["seq_len"]
        if not all(type(count) is int and 0 < count < 2**63 for count in counts):
            raise ValueError("windows and seq_len are whole numbers above 0")
        return cls(losses, *counts)

    def sparsities(self, weights: Sequence[int], sparsity: float) -> list[float]:
        """Allot a sparsity to every block. weights: in each; sparsity: 0 to MAX_SPARSITY, the mean over all weights."""
        return equal_slopes([exponential(AT, pair) for pair in self.losses], weights, sparsity)


def _loss(value: object) -> float:
    if type(value) not in (int, float) or not 0 <= cast(float, value) <= LARGEST_LOSS:
        raise ValueError("sensitivities are finite and not negative")
    return float(cast(float, value))


def exponential(at: tuple[float, float], losses: tuple[float, float]) -> tuple[float, float]:
    """Find the curve loss(s) = exp(a + b s) through two points. -> a, b with b > 0.

    at: two sparsities, rising; losses: there, of which those below `LEAST_LOSS` count as that, and the second as at
    least `LEAST_GROWTH` times the first.
    """
    first = max(losses[0], LEAST_LOSS)
    b = math.log(max(losses[1] / first, LEAST_GROWTH)) / (at[1] - at[0])
    return math.log(first) - b * at[0], b


def equal_slopes(
    curves: Sequence[tuple[float, float]], weights: Sequence[int], sparsity: float, most: float = MAX_SPARSITY
) -> list[float]:
    """Allot sparsities that lose least in sum, with `sparsity` as their mean over all weights.

    curves: of every block the a and b of `exponential`; weights: in each, at least 1; sparsity: 0 to `most`.
    -> sparsities from 0 to `most`. Between these bounds b exp(a + b s) / weights is the same for all; at the lower
    bound that slope is at least this, at the upper at most. Each block's sparsity rises with the mean.
    """
    # s = (level - offset) / b of each block, cut off at the bounds: what goes in all is piecewise linear in the level.
    offsets = [a + math.log(b / count) for (a, b), count in zip(curves, weights, strict=True)]
    slopes = [b for _, b in curves]
    corners = sorted({offset + b * end for offset, b in zip(offsets, slopes, strict=True) for end in (0.0, most)})

    def at(level: float) -> list[float]:
        return [min(max((level - offset) / b, 0.0), most) for offset, b in zip(offsets, slopes, strict=True)]

    def removed(level: float) -> float:
        return math.fsum(share * count for share, count in zip(at(level), weights, strict=True))

    budget = sparsity * sum(weights)
    low, high = 0, len(corners) - 1  # the budget is met between two neighbours, where every piece is straight
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if removed(corners[middle]) <= budget else (low, middle)
    fewest, greatest = removed(corners[low]), removed(corners[high])
    part = (budget - fewest) / (greatest - fewest) if greatest > fewest else 0.0
    return at(corners[low] + part * (corners[high] - corners[low]))
