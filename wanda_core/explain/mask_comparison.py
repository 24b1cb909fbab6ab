"""Which input columns a mask protects: the share of weights that magnitude and Wanda cut, column by column.

Magnitude is compared inside every output row, as Wanda is, so that both cut the same number in each row and the input
norm alone makes the difference; `within="matrix"` is the published baseline instead, one threshold for the matrix.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from wanda_core.calibration.input_norms import LEAST_TOKENS
from wanda_core.calibration.profile import Profile, check_matches
from wanda_core.errors import InputError, shortened
from wanda_core.explain.histograms import Disagreement, disagreement
from wanda_core.maths import masks, scores
from wanda_core.model.language_model import LanguageModel
from wanda_core.model.linears import joint_kind
from wanda_core.progress import Progress, Steps, finish
from wanda_core.recipe import PruneSpec

WITHIN = ("row", "matrix")  # what magnitude is compared within
NORM_BINS = 64  # points of a curve; a figure shows no more
TOP_COLUMNS = 64  # told one by one: more than the top 1% of 6,000
MOST_WEIGHTS = 1024  # of one column; some models have ten times as many rows


@dataclass(frozen=True)
class ColumnBins:
    """Input columns from the smallest to the largest norm, in K <= NORM_BINS runs of nearly equal length.

    starts: (K + 1,) int64, run k holds the ranks from starts[k] to before starts[k + 1]; norm: (K,) mean norm;
    magnitude, wanda: (K,) mean share of a column's weights that each cuts; differ: (K,) on which they differ.
    """

    starts: Tensor
    norm: Tensor
    magnitude: Tensor
    wanda: Tensor
    differ: Tensor


@dataclass(frozen=True)
class Column:
    """One input column: its index from 0, its norm, the share of its C_out weights that each mask cuts, and on which
    the two differ."""

    index: int
    norm: float
    magnitude: float
    wanda: float
    differ: float


@dataclass(frozen=True)
class Protection:
    """Two masks of one linear beside its input norms.

    parting: how often they differ, overall and in the 1% of columns with the largest norms; share_of_parting: how
    much of all disagreement lies in those columns, 0 where there is none; top: the columns with the largest norms,
    largest first, TOP_COLUMNS at most.
    """

    sparsity: float
    within: str
    parting: Disagreement
    share_of_parting: float
    bins: ColumnBins
    top: tuple[Column, ...]


@dataclass(frozen=True)
class ColumnDetail:
    """The weights of one input column, of which MOST_WEIGHTS at most are shown: the largest, the smallest, and evenly
    by rank of size between them.

    rank: of its norm, 0 the largest. kept_by_both, cut_by_both, cut_by_magnitude, cut_by_wanda: of all its C_out
    weights, the last two by that one alone. For the K shown, largest |W| first: rows (K,) int64, weights and wanda
    scores (K,) float32, magnitude_cuts and wanda_cuts (K,) bool.
    """

    column: int
    norm: float
    rank: int
    kept_by_both: int
    cut_by_both: int
    cut_by_magnitude: int
    cut_by_wanda: int
    rows: Tensor
    weights: Tensor
    scores: Tensor
    magnitude_cuts: Tensor
    wanda_cuts: Tensor


@dataclass(frozen=True)
class ModelProtection:
    """Where the two masks differ in a whole model. K kinds of linears, B blocks.

    kinds: their names inside a block, experts of one layer together; overall, top: (K, B) float32 share of weights on
    which the masks differ, in all columns and in the 1% with the largest norms; NaN where a block has no such linear.
    left_out: experts that were sent too few tokens for their norms to mean anything.
    """

    kinds: tuple[str, ...]
    overall: Tensor
    top: Tensor
    sparsity: float
    within: str
    left_out: int


def two_masks(W: Tensor, X_norm: Tensor, sparsity: float, within: str = "row") -> tuple[Tensor, Tensor]:
    """Mask by magnitude and mask by Wanda, True where a weight goes, as pruning itself makes them.

    W (C_out, C_in), X_norm (C_in,) -> 2 × bool (C_out, C_in). Raises InputError for a sparsity that is none.
    """
    if within not in WITHIN:
        raise InputError(f"within {shortened(within)} is not one of {', '.join(WITHIN)}; choose one of them")
    if X_norm.shape != (W.shape[1],):
        raise InputError(
            f"{tuple(X_norm.shape)} input norms are given for {W.shape[1]} columns; give one norm a column"
        )
    X_norm = X_norm.to(W.device)
    S = scores.dead_columns_by_magnitude(scores.wanda(W, X_norm), W, X_norm)
    by_magnitude = _removed(scores.magnitude(W), PruneSpec("magnitude", sparsity, group=within))
    return by_magnitude, _removed(S, PruneSpec("wanda", sparsity))


def _removed(S: Tensor, spec: PruneSpec) -> Tensor:
    return masks.removal_mask(S, spec.target, group=str(spec.group), rule=spec.definition.mask_rule)


def protection(W: Tensor, X_norm: Tensor, sparsity: float, within: str = "row") -> Protection:
    """Which columns each mask spares. W (C_out, C_in), X_norm (C_in,) L2 norms of the input columns, any common
    factor; within: what magnitude is compared within, `row` or `matrix`."""
    by_magnitude, by_wanda = two_masks(W, X_norm, sparsity, within)
    parting = disagreement(by_magnitude, by_wanda, X_norm)
    X_norm = X_norm.float().cpu()
    shares = [mask.float().mean(dim=0).cpu() for mask in (by_magnitude, by_wanda, by_magnitude != by_wanda)]
    all_of_it = parting.overall * len(X_norm)
    top = [
        Column(index, float(X_norm[index]), *(float(share[index]) for share in shares))
        for index in X_norm.argsort(descending=True, stable=True)[:TOP_COLUMNS].tolist()
    ]
    return Protection(
        sparsity,
        within,
        parting,
        parting.top * parting.columns / all_of_it if all_of_it else 0.0,
        _bins(X_norm, *shares),
        tuple(top),
    )


def column_detail(W: Tensor, X_norm: Tensor, sparsity: float, column: int, within: str = "row") -> ColumnDetail:
    """One column's weights and what becomes of them. Raises InputError for a column that is not there."""
    if isinstance(column, bool) or not isinstance(column, int) or not 0 <= column < W.shape[1]:
        raise InputError(f"column {shortened(column)} does not exist; this linear has columns 0 to {W.shape[1] - 1}")
    by_magnitude, by_wanda = (mask[:, column].cpu() for mask in two_masks(W, X_norm, sparsity, within))
    weights, norms = W[:, column].float().cpu(), X_norm.float().cpu()
    order = weights.abs().argsort(descending=True, stable=True)
    if len(order) > MOST_WEIGHTS:
        order = order[torch.linspace(0, len(order) - 1, MOST_WEIGHTS, dtype=torch.float64).round().long()]
    return ColumnDetail(
        column=column,
        norm=float(norms[column]),
        rank=int((norms > norms[column]).sum()),
        kept_by_both=int((~by_magnitude & ~by_wanda).sum()),
        cut_by_both=int((by_magnitude & by_wanda).sum()),
        cut_by_magnitude=int((by_magnitude & ~by_wanda).sum()),
        cut_by_wanda=int((by_wanda & ~by_magnitude).sum()),
        rows=order,
        weights=weights[order],
        scores=scores.wanda(weights[order], norms[column]),
        magnitude_cuts=by_magnitude[order],
        wanda_cuts=by_wanda[order],
    )


def model_protection(lm: LanguageModel, profile: Profile, sparsity: float, within: str = "row") -> ModelProtection:
    """Where magnitude's and Wanda's masks differ in every linear of a model, by the dense model's input norms."""
    return finish(model_protection_steps(lm, profile, sparsity, within))


@torch.no_grad()
def model_protection_steps(
    lm: LanguageModel, profile: Profile, sparsity: float, within: str = "row"
) -> Steps[ModelProtection]:
    """`model_protection` as a generator that yields progress per block. Raises InputError for another's profile."""
    check_matches(profile, lm)
    by_kind: dict[str, list[list[Disagreement]]] = {}
    left_out = 0
    for index, linears in enumerate(lm.linears):
        yield Progress("masks", index, len(lm.linears), "blocks")
        for linear in linears:
            if linear.routed and profile.tokens.get(linear.name, 0) < LEAST_TOKENS:
                left_out += 1
                continue
            X_norm = profile.norms[linear.name]
            pair = two_masks(linear.weight, X_norm, sparsity, within)
            rows = by_kind.setdefault(joint_kind(linear.kind), [[] for _ in lm.linears])
            rows[index].append(disagreement(*pair, X_norm))
    yield Progress("masks", len(lm.linears), len(lm.linears), "blocks")
    return ModelProtection(
        tuple(by_kind),
        torch.stack([_means([[parting.overall for parting in row] for row in rows]) for rows in by_kind.values()]),
        torch.stack([_means([[parting.top for parting in row] for row in rows]) for rows in by_kind.values()]),
        sparsity,
        within,
        left_out,
    )


def _means(rows: list[list[float]]) -> Tensor:
    """NaN for a block without a value. -> (B,)."""
    return torch.tensor([sum(row) / len(row) if row else float("nan") for row in rows], dtype=torch.float32)


def _bins(X_norm: Tensor, *shares: Tensor) -> ColumnBins:
    """All (C_in,)."""
    order = X_norm.argsort(stable=True)
    bins = min(NORM_BINS, len(order))
    starts = torch.arange(bins + 1, dtype=torch.int64) * len(order) // bins
    sizes = starts.diff().tolist()
    means = [torch.stack([run.mean() for run in values[order].split(sizes)]) for values in (X_norm, *shares)]
    return ColumnBins(starts, *means)
