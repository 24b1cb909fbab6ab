"""The plane on which both metrics are a straight cut: log10‖X_j‖ to the right, log10|W_ij| upwards.

Magnitude's cut is level, at one |W|. Wanda's, |W|·‖X‖ at one score, slants down by one decade a decade. What lies in
the wedges between them one recipe keeps and the other removes.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from wanda_core.explain.masked_linear import Choice, MaskedLinear, Metric
from wanda_core.maths import scores

BINS = 48  # on either side: finer than a small picture shows
LOUD_SHARE = 0.1  # of the columns, those with the largest norms
LEFT_BELOW = 0.005  # share of columns, and of weights, beyond the lower ends: one dead column would take half the plane
WHOLE = ("matrix", "model")  # groups with one threshold for all rows of a linear
BAND = (0.1, 0.9)  # quantiles of the rows' thresholds


@dataclass(frozen=True)
class Kept:
    """What two recipes keep of the weights that read some columns.

    columns: how many, or of one its index from 0; first, second: share that each keeps, 0 to 1.
    """

    columns: int
    first: float
    second: float


@dataclass(frozen=True)
class Cut:
    """Where a recipe's cut lies: log10 of its metric, below which it removes; the median over the rows, and between
    `low` and `high` eight rows of ten. Of one threshold for the whole matrix all three are the same."""

    metric: Metric
    median: float
    low: float
    high: float


@dataclass(frozen=True)
class DecisionPlane:
    """Counts of one linear's C_out · C_in weights in Y rows by X columns of equal width, under two recipes.

    x_edges: (X + 1,) log10‖X‖; y_edges: (Y + 1,) log10|W|, both float32 and rising; both, first, second, neither:
    (Y, X) int64, how many weights of a cell both recipes keep, the first alone, the second alone, and neither; cuts: of
    the first and the second, None where a recipe removes nothing but zeros, or by another metric than the two axes
    have; differ: share of weights on which the recipes differ; loudest_tenth: of the tenth of the columns with the
    largest norms; loudest: of the one with the largest, whose index `columns` is.
    """

    x_edges: Tensor
    y_edges: Tensor
    both: Tensor
    first: Tensor
    second: Tensor
    neither: Tensor
    cuts: tuple[Cut | None, Cut | None]
    differ: float
    loudest_tenth: Kept
    loudest: Kept


def decision_plane(linear: MaskedLinear, bins: int = BINS) -> DecisionPlane:
    """Lay a linear's weights out on the plane, told apart by what its first two recipes do to them.

    bins: of either side. The quietest columns and the smallest weights, LEFT_BELOW of either, and those that are zero
    join the leftmost column and the lowest row. Of a linear with one recipe the second is the same.
    """
    choices = linear.pair
    A, norms = linear.W.detach().float().abs().cpu().contiguous(), linear.X_norm.detach().float().cpu()
    gone = [choice.removed.cpu() for choice in choices]
    x, y = torch.log10(norms), torch.log10(A)
    x_edges, y_edges = _edges(x, bins), _edges(y, bins)
    cells = _bin(y, y_edges) * bins + _bin(x, x_edges)  # (C_out, C_in)
    fates = 2 * gone[0].long() + gone[1].long()  # kept by both, by the first alone, by the second alone, by neither
    counts = torch.bincount((fates * bins * bins + cells).flatten(), minlength=4 * bins * bins)
    both, second_gone, first_gone, neither = counts.reshape(4, bins, bins)
    loud = linear.order.flip(0)[: max(1, round(LOUD_SHARE * len(norms)))]
    loudest = int(norms.argmax())  # of equal ones the first
    return DecisionPlane(
        x_edges,
        y_edges,
        both,
        second_gone,
        first_gone,
        neither,
        (cut_of(linear, choices[0]), cut_of(linear, choices[1])),
        float((gone[0] != gone[1]).float().mean()),
        Kept(len(loud), *(_kept(mask, loud) for mask in gone)),
        Kept(loudest, *(_kept(mask, torch.tensor([loudest], dtype=torch.int64)) for mask in gone)),
    )


def cut_of(linear: MaskedLinear, choice: Choice) -> Cut | None:
    """Find where a recipe cuts a linear, None where it removes nothing but zeros, goes by another metric, or compares
    within less than a row or along columns, so that no line parts what it keeps from what it removes.

    It is the largest |W|, or |W|·‖X‖, that is removed in each row; of a recipe with one threshold for the matrix, the
    largest of all.
    """
    if (
        choice.metric not in ("size", "score")
        or choice.spec.n_of_m is not None
        or choice.spec.group not in ("row", *WHOLE)
    ):
        return None
    W = linear.W.detach().float()
    values = scores.magnitude(W) if choice.metric == "size" else scores.wanda(W, linear.norms_of(choice))
    thresholds = values.where(choice.removed, torch.zeros_like(values)).amax(dim=1)
    if choice.spec.group in WHOLE:
        thresholds = thresholds.amax().reshape(1)
    logs = thresholds[thresholds > 0].log10().sort().values.cpu()
    if not len(logs):
        return None
    low, high = (float(logs[int(share * (len(logs) - 1) + 0.5)]) for share in BAND)
    return Cut(choice.metric, float(logs.median()), low, high)


def _edges(logs: Tensor, bins: int) -> Tensor:
    """Divide the range of what is finite evenly, but for the share LEFT_BELOW at its lower end. -> (bins + 1,)."""
    finite = logs[torch.isfinite(logs)].sort().values
    low, high = (float(finite[int(LEFT_BELOW * len(finite))]), float(finite[-1])) if len(finite) else (0.0, 0.0)
    if high - low < 1e-3:  # all alike: give them a cell in the middle
        low, high = low - 0.5, high + 0.5
    return torch.linspace(low, high, bins + 1, dtype=torch.float32)


def _bin(logs: Tensor, edges: Tensor) -> Tensor:
    """Find the bin of each; what lies outside joins the nearest. -> int64 of the same shape."""
    return (torch.bucketize(logs, edges, right=True) - 1).clamp(0, len(edges) - 2)


def _kept(removed: Tensor, columns: Tensor) -> float:
    return 1 - float(removed[:, columns].float().mean())
