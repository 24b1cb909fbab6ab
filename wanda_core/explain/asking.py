"""Why a weight is kept, and what becomes of a row or a column: the numbers behind the answer."""

from dataclasses import dataclass

import torch
from torch import Tensor

from wanda_core.explain.masked_linear import Choice, MaskedLinear, Metric
from wanda_core.maths import scores
from wanda_core.maths.scores import TINY


@dataclass(frozen=True)
class Fate:
    """What one recipe does to a weight, and what it was compared with.

    metric: by which the recipe orders; rank: by it among `of` weights, 1 the largest, as many of them as
    `removed_there` went; cut: the largest value of the metric that went there, 0 where none did; scope: those weights,
    as recipes name a group, or `N:M`. Rank and cut are None for the metric `other`.
    """

    removed: bool
    metric: Metric
    scope: str
    of: int
    removed_there: int
    rank: int | None
    cut: float | None


@dataclass(frozen=True)
class WeightTold:
    """A weight and its fates. value: W; norm: ‖X‖ of its column; loudness: the column's place by norm, 1 the loudest;
    median: of all columns' norms; score: |W|·‖X‖; by_size, by_score: its rank in its row of `columns`, 1 the largest.
    """

    row: int
    column: int
    columns: int
    value: float
    norm: float
    loudness: int
    median: float
    score: float
    by_size: int
    by_score: int
    fates: tuple[Fate, ...]


@dataclass(frozen=True)
class ColumnTold:
    """A column: its input's norm, its place by norm, 1 the loudest of `columns`, and of its `rows` weights the share
    that each recipe keeps, 0 to 1."""

    column: int
    columns: int
    rows: int
    norm: float
    loudness: int
    median: float
    kept: tuple[float, ...]


@dataclass(frozen=True)
class RowTold:
    """A row: of its `columns` weights the share that each recipe keeps, 0 to 1, and of each recipe the largest |W| and
    the largest |W|·‖X‖ that it removes there, 0 where it removes none; the median of |W| and of |W|·‖X‖."""

    row: int
    columns: int
    size: float
    score: float
    kept: tuple[float, ...]
    size_cuts: tuple[float, ...]
    score_cuts: tuple[float, ...]


def ask_weight(linear: MaskedLinear, row: int, column: int) -> WeightTold:
    """Tell of one weight. Raises InputError for a place that is not there."""
    row, column = linear.check_place(row, column)
    sizes, scored = linear.W[row].abs().float().cpu(), linear.score_of_row(row)
    norms = linear.X_norm.float().cpu()
    return WeightTold(
        row,
        column,
        len(norms),
        float(linear.W[row, column]),
        float(norms[column]),
        _rank(norms, norms[column]),
        float(norms.median()),
        float(scored[column]),
        _rank(sizes, sizes[column]),
        _rank(scored, scored[column]),
        tuple(_fate(linear, choice, row, column) for choice in linear.choices),
    )


def ask_column(linear: MaskedLinear, column: int) -> ColumnTold:
    """Tell of one column. Raises InputError for one that is not there."""
    _, column = linear.check_place(0, column)
    norms = linear.X_norm.float().cpu()
    kept = tuple(1 - float(choice.removed[:, column].float().mean()) for choice in linear.choices)
    rows, columns = linear.W.shape
    return ColumnTold(
        column, columns, rows, float(norms[column]), _rank(norms, norms[column]), float(norms.median()), kept
    )


def ask_row(linear: MaskedLinear, row: int) -> RowTold:
    """Tell of one row. Raises InputError for one that is not there."""
    row, _ = linear.check_place(row, 0)
    sizes, scored = linear.W[row].abs().float().cpu(), linear.score_of_row(row)
    gone = [choice.removed[row].cpu() for choice in linear.choices]
    return RowTold(
        row,
        len(sizes),
        float(sizes.median()),
        float(scored.median()),
        tuple(1 - float(removed.float().mean()) for removed in gone),
        tuple(_largest(sizes, removed) for removed in gone),
        tuple(_largest(scored, removed) for removed in gone),
    )


def telling_weight(linear: MaskedLinear) -> tuple[int, int]:
    """Find the weight that best shows how two metrics part: of those in the loudest column which the first recipe keeps
    and the second removes, the first in its row by |W|·‖X‖, and of several the last by |W|; any one where none is."""
    column = int(linear.X_norm.argmax())
    sizes = linear.W.detach().float().abs()
    scored = scores.wanda(sizes, linear.X_norm.to(sizes.device))
    by_size, by_score = ((values > values[:, column : column + 1]).sum(dim=1) for values in (sizes, scored))
    kept, other = (choice.removed[:, column] for choice in linear.pair)
    worth = by_size - sizes.shape[1] * by_score
    return int(worth.where(~kept & other, torch.full_like(worth, torch.iinfo(worth.dtype).min)).argmax()), column


def weight_near(linear: MaskedLinear, norm: float, size: float) -> tuple[int, int]:
    """Find the weight nearest to a place of the plane: in the column whose norm is nearest, the one whose |W| is.

    norm, size: log10 of ‖X‖ and of |W|.
    """
    column = int((linear.X_norm.float().cpu().clamp_min(TINY).log10() - norm).abs().argmin())
    sizes = linear.W[:, column].abs().float().clamp_min(TINY).log10()
    return int((sizes - size).abs().argmin()), column


def next_disagreement(linear: MaskedLinear, row: int, column: int) -> tuple[int, int] | None:
    """Find the weight on which the first two recipes differ that a person should look at next, None where none is.

    In the same row first, the loudest column before the others, then in the rows after it and, at the end, from the
    first row on.
    """
    row, column = linear.check_place(row, column)
    if len(linear.choices) < 2:
        return None
    first, second = (choice.removed for choice in linear.choices[:2])
    loudest_first = linear.order.flip(0)
    rows = first.shape[0]
    here = (first[row] != second[row]).cpu()[loudest_first]
    here[: int((loudest_first == column).nonzero()) + 1] = False
    if bool(here.any()):
        return row, int(loudest_first[int(here.nonzero()[0])])
    differing = (first != second).any(dim=1).cpu().nonzero().flatten()
    if not len(differing):
        return None
    after = differing[differing > row]
    other = int(after[0]) if len(after) else int(differing[0])
    there = (first[other] != second[other]).cpu()[loudest_first]
    assert other < rows
    return other, int(loudest_first[int(there.nonzero()[0])])


def _fate(linear: MaskedLinear, choice: Choice, row: int, column: int) -> Fate:
    rows, columns = choice.compared(row, column)
    removed = choice.removed[rows, columns]
    scope = choice.spec.pattern if choice.spec.n_of_m is not None else str(choice.spec.group)
    rank = cut = None
    if choice.metric != "other":
        if choice.metric == "importance":  # relative to all of the row and of the column
            values = scores.ria(linear.W, linear.norms_of(choice))[rows, columns]
        else:
            values = linear.W[rows, columns].abs().float()
            if choice.metric == "score":
                values = values * linear.norms_of(choice)[columns]
        own = values[row - (rows.start or 0), column - (columns.start or 0)]
        rank, cut = _rank(values, own), _largest(values, removed)
    count = int(removed.sum())
    return Fate(bool(choice.removed[row, column]), choice.metric, scope, removed.numel(), count, rank, cut)


def _rank(values: Tensor, own: Tensor) -> int:
    """Return the place of a value among others, 1 for the largest, the same for equal ones."""
    return 1 + int((values > own).sum())


def _largest(values: Tensor, removed: Tensor) -> float:
    """Return the largest of the values that are removed, 0 where none is."""
    return float(values.where(removed, torch.zeros_like(values)).max())
