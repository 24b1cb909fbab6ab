"""From scores to masks: which weights go. Pure functions; True marks a weight that is removed."""

from collections.abc import Callable, Iterable

import numpy as np
import torch
from torch import Tensor

from wanda_core.recipe import PruneSpec


def lowest_per_row(scores: Tensor, k: int) -> Tensor:
    """The k lowest of every row; ties go from the lowest column up, as a stable ascending sort has it.

    scores (R, C) float, finite -> bool (R, C) with exactly k True in each row.
    """
    columns = scores.shape[1]
    if k <= 0:
        return torch.zeros_like(scores, dtype=torch.bool)
    if k >= columns:
        return torch.ones_like(scores, dtype=torch.bool)
    threshold = kth_smallest(scores, k)  # (R, 1)
    cut = scores <= threshold
    if how_many(cut) > k * len(scores):
        surplus = torch.nonzero(cut.sum(dim=1) > k).flatten()  # only rows with ties at the threshold
        tied_scores, tied_threshold = scores[surplus], threshold[surplus]
        below = tied_scores < tied_threshold
        at = tied_scores == tied_threshold
        room = k - below.sum(dim=1, keepdim=True)  # (R', 1)
        cut[surplus] = below | (at & (at.cumsum(dim=1) <= room))
    return cut


def how_many(flags: Tensor) -> int:
    """How many are True. On a CPU NumPy counts bytes thirty times faster than a sum over bool."""
    return int(np.count_nonzero(flags.numpy()) if flags.device.type == "cpu" else flags.sum())


def lowest_n_of_m(scores: Tensor, n: int, m: int) -> Tensor:
    """N:M: in every M consecutive columns the M - N lowest go.

    scores (R, C) with C a multiple of M -> bool (R, C).
    """
    return lowest_per_row(scores.reshape(-1, m), m - n).reshape(scores.shape)


def at_or_below(scores: Tensor, threshold: Tensor) -> Tensor:
    """Everything up to and with the threshold: the reference's rule for magnitude per matrix."""
    return scores <= threshold


def kth_of_all(matrices: Callable[[], Iterable[Tensor]], k: int) -> Tensor:
    """The value at 0-based place k of all the matrices sorted together, without joining them.

    matrices: called twice; each time yields tensors of any shape, scores >= 0 -> () float32.
    Non-negative float32 sort like their bits read as integers, so a count over the upper 16 bits
    finds the one bin that holds the value, and only that bin is sorted.
    """
    counts: Tensor | int = 0
    for matrix in matrices():
        counts = counts + torch.bincount((_bits(matrix) >> 16).flatten(), minlength=1 << 15).cpu()
    assert isinstance(counts, Tensor)
    running = counts.cumsum(0)
    bin_index = int(torch.searchsorted(running, k, right=True))
    before = int(running[bin_index - 1]) if bin_index else 0
    members = []
    for matrix in matrices():
        bits = _bits(matrix).flatten()
        members.append(bits[(bits >> 16) == bin_index].cpu())
    return torch.cat(members).sort().values[k - before].view(torch.float32)


def _bits(scores: Tensor) -> Tensor:
    # abs() turns -0.0 into 0.0, whose bits would otherwise sort as the largest
    return scores.to(torch.float32).abs().contiguous().view(torch.int32)


def kth_smallest(scores: Tensor, k: int) -> Tensor:
    """k-th smallest of each row, k from 1. (R, C) -> (R, 1).

    NumPy's partition is three times faster than torch.kthvalue on a CPU; a GPU keeps its data. Many short rows, as N:M
    has them, go through `_kth_of_few`.
    """
    if scores.device.type == "cpu":
        if scores.shape[1] <= FEW_COLUMNS and len(scores) >= MANY_ROWS:
            return _kth_of_few(scores, k)
        known = scores if scores.dtype == torch.float64 else scores.float()  # NumPy has no bfloat16
        parted = np.partition(known.numpy(), k - 1, axis=1)
        return torch.from_numpy(parted[:, k - 1 : k].copy()).to(scores.dtype)
    return torch.kthvalue(scores.contiguous(), k, dim=1, keepdim=True).values


FEW_COLUMNS, MANY_ROWS = 8, 4096


def _kth_of_few(scores: Tensor, k: int) -> Tensor:
    """The same by k passes over all rows at once, each of which carries the smallest that is left to the front."""
    columns = scores.shape[1]
    if 2 * k > columns + 1:  # fewer passes from the other end
        return -_kth_of_few(-scores, columns + 1 - k)
    lanes = list(scores.t().contiguous())  # C of (R,)
    for front in range(k):
        for i in range(columns - 1, front, -1):
            lanes[i - 1], lanes[i] = torch.minimum(lanes[i - 1], lanes[i]), torch.maximum(lanes[i - 1], lanes[i])
    return lanes[k - 1][:, None]


def without(W: Tensor, mask: Tensor) -> Tensor:
    """W with +0.0 where the mask is True, every other bit as it was. W (R, C), mask bool (R, C) -> (R, C), W's dtype.

    An `and` of bit patterns: eight times faster on a CPU than `masked_fill`, and unlike a product it makes no -0.0.
    """
    bits = INTEGERS[W.element_size()]
    keep = -(~mask).to(bits)  # all ones or all zeros
    return (W.contiguous().view(bits) & keep).view(W.dtype)


INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}  # by size in bytes


def removal_mask(scores: Tensor, spec: PruneSpec, sparsity: float | None = None) -> Tensor:
    """The mask of one linear under a recipe. scores (C_out, C_in) -> bool (C_out, C_in).

    sparsity: what the allocation gives this linear, else the recipe's. Inside every group the `int(size * sparsity)`
    lowest go; only magnitude per matrix cuts everything up to and with the value at that place, as published.
    """
    share = spec.target if sparsity is None else sparsity
    if spec.n_of_m is not None:
        return lowest_n_of_m(scores, *spec.n_of_m)
    if spec.method == "wanda-variant":
        return up_to_a_share_of_the_sum(scores, share)
    if spec.group == "matrix":
        flat = scores.reshape(1, -1)
        k = int(flat.shape[1] * share)
        if spec.method == "magnitude":
            return at_or_below(scores, kth_smallest(flat, k + 1)) if k else torch.zeros_like(scores, dtype=torch.bool)
        return lowest_per_row(flat, k).reshape(scores.shape)
    along, _, size = str(spec.group).partition(":")
    lines = scores.t() if along == "column" else scores
    mask = lowest_in_blocks(lines, share, int(size) if size else lines.shape[1])
    return mask.t() if along == "column" else mask


def lowest_in_blocks(scores: Tensor, share: float, size: int) -> Tensor:
    """The `int(size * share)` lowest of every `size` consecutive scores of a row; the last block may be shorter.

    (R, C) -> bool (R, C).
    """
    mask = torch.zeros_like(scores, dtype=torch.bool)
    whole = scores.shape[1] - scores.shape[1] % size
    for part, width in ((slice(whole), size), (slice(whole, None), scores.shape[1] - whole)):
        here = scores[:, part]
        if here.numel():  # of several processes one may have no row
            mask[:, part] = lowest_per_row(here.reshape(-1, width), int(width * share)).reshape(here.shape)
    return mask


def up_to_a_share_of_the_sum(scores: Tensor, sparsity: float) -> Tensor:
    """Wanda's variant: of every row the smallest scores whose cumulative sum stays within α of the row's sum.

    One α for the matrix, by bisection in [0, 0.8] from 0.4, until its sparsity is within 0.001 of the target or the
    interval is narrower than that. A row whose first score is already more loses nothing. (R, C) -> bool (R, C).
    """
    ordered = torch.sort(scores, dim=1, stable=True).values
    sums = ordered.cumsum(dim=1)
    low, high, alpha = 0.0, 0.8, 0.4
    while True:
        count = (sums <= scores.sum(dim=1, keepdim=True) * alpha).sum(dim=1, keepdim=True)  # (R, 1)
        threshold = ordered.gather(1, (count - 1).clamp_min(0))
        mask = (scores <= threshold) & (count > 0)
        reached = float(mask.float().mean())
        if abs(reached - sparsity) <= VARIANT_TOLERANCE or high - low < VARIANT_TOLERANCE:
            return mask
        if reached > sparsity:
            high, alpha = alpha, (alpha + low) / 2
        else:
            low, alpha = alpha, (alpha + high) / 2


VARIANT_TOLERANCE = 0.001  # of the share of zeros, and of the interval of α: the published code's
