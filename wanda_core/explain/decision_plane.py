"""The plane on which both metrics are a straight cut: log10‖X_j‖ to the right, log10|W_ij| upwards.

Magnitude's cut is level, at one |W|. Wanda's, |W|·‖X‖ at one score, slants down by one decade a decade. What lies in
the wedges between them one metric keeps and the other cuts.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from wanda_core.errors import InputError
from wanda_core.maths import scores

BINS = 48  # on either side: finer than a small picture shows
LOUD_SHARE = 0.1  # of the columns, those with the largest norms
LEFT_BELOW = 0.005  # share of columns, and of weights, beyond the lower ends: one dead column would take half the plane


@dataclass(frozen=True)
class Kept:
    """What both masks keep of the weights that read some columns.

    columns: how many, or of one its index from 0; wanda, magnitude: share that each keeps, 0 to 1.
    """

    columns: int
    wanda: float
    magnitude: float


@dataclass(frozen=True)
class DecisionPlane:
    """Counts of one linear's C_out · C_in weights in Y rows by X columns of equal width.

    x_edges: (X + 1,) log10‖X‖; y_edges: (Y + 1,) log10|W|, both float32 and rising; both, wanda, magnitude, cut: (Y, X)
    int64, how many weights of a cell both masks keep, Wanda alone, magnitude alone, and neither; level: log10 of the
    largest |W| that magnitude cuts; slant: c of Wanda's cut log10|W| = c - log10‖X‖, the median over the rows of log10
    of the largest score that is cut in each; None where nothing is cut; differ: share of weights on which the masks
    differ; loudest_tenth: of the tenth of the columns with the largest norms; loudest: of the one with the largest,
    whose index `columns` is.
    """

    x_edges: Tensor
    y_edges: Tensor
    both: Tensor
    wanda: Tensor
    magnitude: Tensor
    cut: Tensor
    level: float | None
    slant: float | None
    differ: float
    loudest_tenth: Kept
    loudest: Kept


def decision_plane(
    W: Tensor, X_norm: Tensor, by_magnitude: Tensor, by_wanda: Tensor, bins: int = BINS
) -> DecisionPlane:
    """Lay a linear's weights out on the plane, told apart by what two masks do to them.

    W (C_out, C_in); X_norm (C_in,) L2 norms of the input columns; by_magnitude, by_wanda: bool (C_out, C_in), True
    where a weight goes; bins: of either side. The quietest columns and the smallest weights, LEFT_BELOW of either, and
    those that are zero join the leftmost column and the lowest row. Raises InputError for shapes that do not fit.
    """
    if X_norm.shape != W.shape[1:] or by_magnitude.shape != W.shape or by_wanda.shape != W.shape:
        raise InputError(
            f"{tuple(X_norm.shape)} norms and masks of {tuple(by_magnitude.shape)} and {tuple(by_wanda.shape)} are "
            f"given for weights of {tuple(W.shape)}; give one norm a column and masks of the weights' shape"
        )
    A, norms = W.detach().float().abs().cpu(), X_norm.detach().float().cpu()
    by_magnitude, by_wanda = by_magnitude.cpu(), by_wanda.cpu()
    x, y = torch.log10(norms), torch.log10(A)
    x_edges, y_edges = _edges(x, bins), _edges(y, bins)
    cells = _bin(y, y_edges) * bins + _bin(x, x_edges)  # (C_out, C_in)
    fates = 2 * by_wanda.long() + by_magnitude.long()  # kept by both, by Wanda alone, by magnitude alone, by neither
    counts = torch.bincount((fates * bins * bins + cells).flatten(), minlength=4 * bins * bins)
    both, wanda, magnitude, cut = counts.reshape(4, bins, bins)
    order = norms.argsort(descending=True, stable=True)
    loud, loudest = order[: max(1, round(LOUD_SHARE * len(order)))], order[:1]
    return DecisionPlane(
        x_edges,
        y_edges,
        both,
        wanda,
        magnitude,
        cut,
        magnitude_cut(A, by_magnitude),
        wanda_cut(A, norms, by_wanda),
        float((by_magnitude != by_wanda).float().mean()),
        Kept(len(loud), _kept(by_wanda, loud), _kept(by_magnitude, loud)),
        Kept(int(loudest), _kept(by_wanda, loudest), _kept(by_magnitude, loudest)),
    )


def magnitude_cut(W: Tensor, removed: Tensor) -> float | None:
    """Find log10 of the largest |W| that a mask cuts, None where it cuts none but zeros. W, removed (C_out, C_in)."""
    largest = float(scores.magnitude(W)[removed].max()) if bool(removed.any()) else 0.0
    return math.log10(largest) if largest > 0 else None


def wanda_cut(W: Tensor, X_norm: Tensor, removed: Tensor) -> float | None:
    """Find log10 of the largest |W|·‖X‖ that a mask cuts in each row, the median over the rows; None where all are 0.

    W, removed (C_out, C_in), X_norm (C_in,). Rows in which no positive score is cut do not count.
    """
    S = scores.wanda(W.float(), X_norm)
    thresholds = S.where(removed, torch.zeros_like(S)).amax(dim=1)
    thresholds = thresholds[thresholds > 0]
    return math.log10(float(thresholds.median())) if len(thresholds) else None


def _edges(logs: Tensor, bins: int) -> Tensor:
    """Divide the range of what is finite evenly, but for the share LEFT_BELOW at its lower end. -> (bins + 1,)."""
    finite = logs[torch.isfinite(logs)].sort().values
    low, high = (float(finite[int(LEFT_BELOW * len(finite))]), float(finite[-1])) if len(finite) else (0.0, 0.0)
    if high - low < 1e-3:  # all alike: give them a cell in the middle
        low, high = low - 0.5, high + 0.5
    return torch.linspace(low, high, bins + 1)


def _bin(logs: Tensor, edges: Tensor) -> Tensor:
    """Find the bin of each; what lies outside joins the nearest. -> int64 of the same shape."""
    return (torch.bucketize(logs, edges, right=True) - 1).clamp(0, len(edges) - 2)


def _kept(removed: Tensor, columns: Tensor) -> float:
    return 1 - float(removed[:, columns].float().mean())
