"""Bounded summaries of scores for people to look at: a million numbers become some hundred bins."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from wanda_core.maths import scores
from wanda_core.model.linears import Linear

BINS = 96  # bars of a histogram: finer than a screen resolves is payload without use
GRID_BINS = 64  # score bins of the block × score picture
DECADES = 5.0  # shown below the largest score; what is lower joins the lowest bin


@dataclass(frozen=True)
class Histogram:
    """Counts over log10 bins. edges: (BINS + 1,) log10; kept, cut: (BINS,) counts; zeros: exact zeros, apart;
    threshold: largest score that was cut, None when nothing was."""

    edges: Tensor
    kept: Tensor
    cut: Tensor
    zeros: int
    threshold: float | None


@dataclass(frozen=True)
class Grid:
    """Per block, the share of weights in each log10 score bin. share: (B, GRID_BINS); edges: (GRID_BINS + 1,);
    median: (B,) log10 of the median score; names: the linear of each row."""

    share: Tensor
    edges: Tensor
    median: Tensor
    names: tuple[str, ...]
    blocks: tuple[int, ...]


@dataclass(frozen=True)
class Disagreement:
    """Where two masks of one linear part. overall, top: share of weights on which they differ, in all columns and
    in the `columns` columns with the largest input norms."""

    overall: float
    top: float
    columns: int


def histogram(S: Tensor, cut: Tensor | None = None) -> Histogram:
    """Histogram of scores S (C_out, C_in) >= 0 with the removed ones, bool of the same shape, told apart."""
    flat = S.detach().float().flatten()
    gone = torch.zeros_like(flat, dtype=torch.bool) if cut is None else cut.flatten()
    positive = flat > 0
    logs = torch.log10(flat[positive])
    edges = _edges(logs.max() if len(logs) else torch.tensor(0.0), BINS)
    kept_logs, cut_logs = logs[~gone[positive]], logs[gone[positive]]
    threshold = float(flat[gone].max()) if bool(gone.any()) else None
    return Histogram(edges, _counts(kept_logs, edges), _counts(cut_logs, edges), int((~positive).sum()), threshold)


def score_grid(linears: list[Linear], norms: Mapping[str, Tensor] | None) -> Grid:
    """One row per linear (the same kind, block after block): Wanda's scores, or |W| where norms is None."""
    logs = []
    for linear in linears:
        S = score_of(linear, norms).float()
        logs.append(torch.log10(S[S > 0]))
    edges = _edges(torch.stack([row.max() for row in logs]).max(), GRID_BINS)
    share = torch.stack(
        [_counts(row, edges) / linear.weight.numel() for row, linear in zip(logs, linears, strict=True)]
    )
    median = torch.stack([row.median() for row in logs]).cpu()
    return Grid(share, edges, median, tuple(x.name for x in linears), tuple(x.block for x in linears))


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


def _edges(highest: Tensor, bins: int) -> Tensor:
    top = float(highest) + 1e-6
    return torch.linspace(top - DECADES, top, bins + 1)


def _counts(logs: Tensor, edges: Tensor) -> Tensor:
    low, high = float(edges[0]), float(edges[-1])
    return torch.histc(logs.clamp(low, high), bins=len(edges) - 1, min=low, max=high).cpu()
