"""Bounded summaries of scores for people to look at: a million numbers become some hundred bins.

Axes are logarithmic and end at quantiles, not at the extremes: one super weight would push all others into a corner.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from wanda_core.maths import scores
from wanda_core.maths.selection import how_many, kth_smallest
from wanda_core.model.linears import Linear

BINS = 64  # bars of a histogram, cells of a row of the picture of all blocks
LOWEST, HIGHEST = 0.005, 0.9995  # quantiles where an axis begins and ends; what lies beyond joins the outermost bins
SAMPLED = 1 << 16  # values that quantiles are taken of, spread evenly


@dataclass(frozen=True)
class Histogram:
    """Counts over log10 bins. edges: (BINS + 1,) log10; kept, removed: (BINS,) counts; zeros: exact zeros, apart;
    misplaced: share of the removed weights that one cut along this axis would keep if it removed as many, 0 to 1."""

    edges: Tensor
    kept: Tensor
    removed: Tensor
    zeros: int
    misplaced: float


@dataclass(frozen=True)
class Grid:
    """Per block, the share of weights in each log10 score bin. share: (B, BINS); edges: (BINS + 1,) log10; median: (B,)
    log10 of the median score; blocks: the block of each row."""

    share: Tensor
    edges: Tensor
    median: Tensor
    blocks: tuple[int, ...]


@dataclass(frozen=True)
class Disagreement:
    """Where two masks of one linear part. overall, top: share of weights on which they differ, in all columns and
    in the `columns` columns with the largest input norms."""

    overall: float
    top: float
    columns: int


def histogram(values: Tensor, removed: Tensor) -> Histogram:
    """Count values >= 0, (C_out, C_in), the removed ones, bool of the same shape, apart."""
    flat, gone = values.detach().float().flatten(), removed.flatten()
    positive = flat > 0
    logs = torch.log10(flat[positive])
    edges = _edges([logs])
    count = how_many(gone)
    beyond = how_many(flat[gone] > kth_smallest(flat[None], count)[0]) if count else 0
    gone = gone[positive]
    kept, cut = _counts(logs[~gone], edges), _counts(logs[gone], edges)
    return Histogram(edges, kept, cut, int((~positive).sum()), beyond / max(count, 1))


def score_grid(linears: list[Linear], norms: Mapping[str, Tensor] | None) -> Grid:
    """One row per linear (the same kind, block after block): Wanda's scores, or |W| where norms is None."""
    logs = []
    for linear in linears:
        S = score_of(linear, norms).float()
        logs.append(torch.log10(S[S > 0]))
    edges = _edges(logs)
    share = torch.stack(
        [_counts(row, edges) / linear.weight.numel() for row, linear in zip(logs, linears, strict=True)]
    )
    median = torch.stack(
        [
            row.median().cpu() if len(row) else torch.tensor(float("nan"), dtype=torch.float32, device="cpu")
            for row in logs
        ]
    )
    return Grid(share, edges, median, tuple(x.block for x in linears))


def score_of(linear: Linear, norms: Mapping[str, Tensor] | None) -> Tensor:
    """Wanda's scores of a linear, or |W| where norms is None. (C_out, C_in)."""
    W = linear.weight
    return scores.magnitude(W) if norms is None else scores.wanda(W, norms[linear.name].to(W.device))


def disagreement(first: Tensor, second: Tensor, X_norm: Tensor) -> Disagreement:
    """How often two masks (C_out, C_in) differ, and how often in the top 1% of columns by X_norm (C_in,)."""
    differ = first != second
    columns = max(1, round(0.01 * len(X_norm)))
    top = X_norm.topk(columns).indices.to(differ.device)
    return Disagreement(float(differ.float().mean()), float(differ[:, top].float().mean()), columns)


def _edges(logs: Iterable[Tensor]) -> Tensor:
    """Divide evenly what lies between the low quantile of the lowest row and the high quantile of the highest."""
    rows = [_sampled(row).sort().values.cpu() for row in logs]
    rows = [row for row in rows if len(row)]
    if not rows:
        return torch.linspace(-0.5, 0.5, BINS + 1, dtype=torch.float32)
    low, high = min(_at(row, LOWEST) for row in rows), max(_at(row, HIGHEST) for row in rows)
    if high - low < 1e-3:  # all alike: give them a bin in the middle
        low, high = low - 0.5, high + 0.5
    return torch.linspace(low, high, BINS + 1, dtype=torch.float32)


def _sampled(row: Tensor) -> Tensor:
    return row[:: len(row) // SAMPLED | 1]  # odd: an even step would meet only some of a matrix's columns


def _at(ordered: Tensor, quantile: float) -> float:
    return float(ordered[int(quantile * (len(ordered) - 1))])


def _counts(logs: Tensor, edges: Tensor) -> Tensor:
    low, high = float(edges[0]), float(edges[-1])
    return torch.histc(logs.clamp(low, high), bins=len(edges) - 1, min=low, max=high).cpu()
