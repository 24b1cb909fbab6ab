"""Selecting the k-th smallest, of a row or of many matrices, and counting: what masks are made with. Pure functions."""

from collections.abc import Callable, Iterable
from typing import cast

import numpy as np
import torch
from torch import Tensor


def how_many(flags: Tensor) -> int:
    """Count how many are True. On a CPU NumPy counts bytes thirty times faster than torch sums over bool."""
    return int(np.count_nonzero(flags.numpy()) if flags.device.type == "cpu" else flags.sum())


def kth_of_all(matrices: Callable[[], Iterable[Tensor]], k: int) -> Tensor:
    """Find the value at place k, from 0, of all the matrices sorted together, without joining them.

    matrices: called twice; each time yields tensors of any shape, scores >= 0 -> () float32.
    Non-negative float32 numbers sort like their bits read as integers. So counts over the upper 16 bits tell in which
    bin the value lies, and only that bin is sorted.
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
    """Find the k-th smallest of each row, k from 1. (R, C) -> (R, 1).

    On a CPU NumPy's partition is three times faster than torch.kthvalue; a GPU keeps its data. Many short rows, as N:M
    has them, go through `_kth_of_few_columns`.
    """
    if scores.device.type == "cpu":
        if scores.shape[1] <= FEW_COLUMNS and len(scores) >= MANY_ROWS:
            return _kth_of_few_columns(scores, k)
        as_numpy = (scores if scores.dtype == torch.float64 else scores.float()).numpy()  # NumPy has no bfloat16
        partitioned = np.partition(as_numpy, k - 1, axis=1)
        return torch.from_numpy(partitioned[:, k - 1 : k].copy()).to(scores.dtype)
    return torch.kthvalue(scores.contiguous(), k, dim=1, keepdim=True).values


FEW_COLUMNS, MANY_ROWS = 8, 4096  # at most, and at least: there passes over whole columns are faster than partitions


def _kth_of_few_columns(scores: Tensor, k: int) -> Tensor:
    """Find the k-th smallest of each row by k passes over all rows at once. (R, C) -> (R, 1).

    Each pass is one of bubble sort: it carries the smallest remaining score of every row to the front.
    """
    columns = scores.shape[1]
    if 2 * k > columns + 1:  # fewer passes from the other end
        return -_kth_of_few_columns(-scores, columns + 1 - k)
    lanes = list(scores.t().contiguous())  # C of (R,)
    for front in range(k):
        for i in range(columns - 1, front, -1):
            lanes[i - 1], lanes[i] = torch.minimum(lanes[i - 1], lanes[i]), torch.maximum(lanes[i - 1], lanes[i])
    return cast(Tensor, lanes[k - 1][:, None])
