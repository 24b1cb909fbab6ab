"""OWL's allocation: blocks with more outliers keep more (Yin et al. 2024, arXiv 2310.05175). Pure functions."""

from torch import Tensor

from wanda_core.checks import MAX_SPARSITY
from wanda_core.machine.matmul import accumulator_dtype
from wanda_core.maths import scores

OWL_LAMBDA = 0.08  # how far a block's sparsity may lie from the target, as published
OWL_M = 5.0  # a score above this many times its block's mean is an outlier, as published


def outlier_ratio(block: list[tuple[Tensor, Tensor]], m: float = OWL_M) -> float:
    """Compute the share of a block's Wanda scores above m times their mean (Yin et al. 2024).

    block: per linear W (C_out, C_in) and ‖X‖ (C_in,). -> 0 to 1.
    """
    block_scores = [scores.wanda(W.float(), X_norm.to(W.device)) for W, X_norm in block]
    count = sum(S.numel() for S in block_scores)
    mean = sum(float(S.sum(dtype=accumulator_dtype(S.device))) for S in block_scores) / count
    return sum(int(S.gt(m * mean).sum()) for S in block_scores) / count


def owl(ratios: list[float], sparsity: float, width: float = OWL_LAMBDA) -> list[float]:
    """Allot sparsities around the target, lower where the outlier ratio is higher, with the target as their mean.

    The published formula: ratios are scaled to [0, 2λ], their mean is subtracted, and the rest is what a block keeps
    more than the target. ratios: of every block; width: λ. -> sparsities, 0 to MAX_SPARSITY.
    """
    low, high = min(ratios), max(ratios)
    scaled = [(ratio - low) / (high - low) * 2 * width if high > low else 0.0 for ratio in ratios]
    mean = sum(scaled) / len(scaled)
    return [min(max(sparsity - (value - mean), 0.0), MAX_SPARSITY) for value in scaled]
