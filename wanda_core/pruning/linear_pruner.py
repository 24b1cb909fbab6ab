"""The heart: `prune_weight` prunes one matrix by a recipe, as a pure function; `LinearPruner` applies it to a model."""

from functools import partial

import torch
from torch import Tensor

from wanda_core.calibration.input_norms import LEAST_TOKENS, Moments
from wanda_core.errors import ModelError
from wanda_core.machine.distributed import RowShare
from wanda_core.machine.matmul import matmul
from wanda_core.maths import masks, scores, updates
from wanda_core.maths.selection import how_many, kth_smallest
from wanda_core.model.linears import Linear
from wanda_core.pruning.variant import LinearReport
from wanda_core.recipe import PruneSpec

FALLBACK_SCORE = "magnitude"  # where a score needs input norms and there are none: it needs none itself


def prune_weight(
    W: Tensor,
    moments: Moments | None,
    spec: PruneSpec,
    share: float,
    gather: RowShare | None = None,
    name: str = "the matrix",
) -> tuple[Tensor, Tensor]:
    """Prune one weight matrix by a recipe. Pure: nothing that is given is written to.

    W: (C_out, C_in), or only the rows this process has; moments: of the matrix's inputs, None for methods that do not
    look at them; share: of weights to remove, 0 to 1; gather: builds the whole matrix from the rows of each process,
    None when W already is the whole; name: of the linear, for error messages and as part of `random`'s seed.
    -> the new weight, in W's dtype, or in float32 where the recipe updates the kept weights; and the mask, bool, True
    where a weight was removed; both of W's shape. Raises ModelError for scores or new weights that are not finite.
    """
    X_norm = moments.norms.norms if moments is not None else None
    choose = partial(choose_mask, X_norm=X_norm, spec=spec, share=share, gather=gather, name=name)
    if moments is None or moments.gram is None:
        mask = choose(W)
        return masks.without(W, mask), mask
    W = W.float()
    if spec.update == "obs":
        weight, mask = _obs(W, moments.gram, choose, spec, share, gather)
    else:
        weight, mask = _least_squares(W, moments, choose, spec, share, gather)
    return require_finite(weight, name), mask


def choose_mask(
    W: Tensor, *, X_norm: Tensor | None, spec: PruneSpec, share: float, gather: RowShare | None = None, name: str
) -> Tensor:
    """Choose the weights to remove by the recipe's score, or by magnitude if the score needs norms and has none.

    W, share, gather, name: as of `prune_weight`; X_norm: (C_in,) norms of the inputs.
    -> bool, of W's shape, True where a weight is to be removed. Raises ModelError for scores that are not finite.
    """
    across_rows = gather if not spec.by_row else None  # only then do the rows of other processes matter
    if across_rows is not None:
        W = across_rows(W)
    score = score_function(spec, X_norm is not None)
    S = scores.SCORES[score](W, X_norm, scores.seed_of(spec.seed, name))
    if X_norm is not None and spec.needs_norms:
        S = scores.dead_columns_by_magnitude(S, W, X_norm)
    mask = masks.removal_mask(require_finite(S, name), share, spec.n_of_m, str(spec.group), spec.definition.mask_rule)
    return mask if across_rows is None else across_rows.own(mask)


def score_function(spec: PruneSpec, measured: bool) -> str:
    """Name the score that decides, a key of `SCORES`. measured: whether input norms are known."""
    return spec.method if measured or not spec.needs_norms else FALLBACK_SCORE


def _obs(
    W: Tensor, gram: Tensor, choose: partial[Tensor], spec: PruneSpec, share: float, gather: RowShare | None
) -> tuple[Tensor, Tensor]:
    """Run SparseGPT's sweep, which either chooses its own mask or keeps to the recipe's.

    -> new weight float32 and mask, of W's shape.
    """
    if not spec.definition.sweeps:
        fixed = choose(W)
        return updates.obs(W, gram, lambda part, root, start: fixed[:, start : start + part.shape[1]])

    def choose_in_part(part: Tensor, root: Tensor, start: int) -> Tensor:
        S = (part / root) ** 2
        if spec.n_of_m:
            return masks.lowest_n_of_m(S, *spec.n_of_m)
        all_rows = gather(S) if gather is not None else S  # one threshold for the rows of all processes
        k = int(all_rows.numel() * share)
        if not k:
            return torch.zeros_like(S, dtype=torch.bool)
        return masks.at_or_below(S, kth_smallest(all_rows.reshape(1, -1), k + 1))

    return updates.obs(W, gram, choose_in_part, spec.n_of_m[1] if spec.n_of_m else updates.OBS_COLUMNS)


def _least_squares(
    W: Tensor, moments: Moments, choose: partial[Tensor], spec: PruneSpec, share: float, gather: RowShare | None
) -> tuple[Tensor, Tensor]:
    """Re-solve the kept weights; in each round of the solver choose the mask afresh and solve again.

    -> new weight float32 and mask, of W's shape.
    """
    gram, cross, solver = moments.gram, moments.cross, spec.solver
    assert gram is not None  # the caller checked
    H = updates.damped(gram, solver.damping, solver.shrinkage)
    # The residual B - W H. The target B is W H, plus shares of two things: what the dense model's own inputs add to it,
    # and what the stream lacks where the linear adds to it.
    R = torch.zeros_like(W) if cross is None else matmul(W, (cross - gram) * solver.dense_share)
    if moments.drift is not None:
        R += (moments.drift if gather is None else gather.own(moments.drift)) * solver.stream_share
    mask = _obs(W, gram, choose, spec, share, gather)[1] if spec.definition.sweeps else choose(W)
    for _ in range(solver.rounds):
        W, R = updates.least_squares(W, ~mask, H, R, (solver.steps + 1) // 2)  # half the steps: only to choose a mask
        mask = choose(updates.pull(W, H, R))
    return updates.least_squares(W, ~mask, H, R, solver.steps)[0], mask


class LinearPruner:
    """Prunes the linears of a model one by one, as an order visits them, and keeps a report of each.

    shares: the sparsity of each block; reports: of linears that an earlier run pruned, to which this run adds its own.
    With several processes each prunes its share of a matrix's rows, and all end up with the whole matrix.
    """

    def __init__(self, spec: PruneSpec, shares: list[float], reports: list[LinearReport] | None = None) -> None:
        self.spec, self.shares = spec, shares
        self.reports: list[LinearReport] = [] if reports is None else reports

    def visit(self, linear: Linear, moments: Moments | None) -> None:
        """Prune one linear. moments: of its inputs; None for methods that do not look at them."""
        too_few = moments is not None and linear.routed and moments.norms.tokens < LEAST_TOKENS
        measured = None if too_few else moments
        rows = RowShare(linear.shape[0])
        weight, _ = prune_weight(
            rows.own(linear.weight), measured, self.spec, self.shares[linear.block], rows, linear.name
        )
        by_magnitude = too_few and score_function(self.spec, False) == FALLBACK_SCORE
        self._put(linear, rows(weight.to(linear.weight.dtype)), measured, by_magnitude)

    def put_masked(self, linear: Linear, mask: Tensor) -> None:
        """Prune one linear by a mask that was chosen elsewhere, (C_out, C_in) bool."""
        rows = RowShare(linear.shape[0])
        self._put(linear, rows(masks.without(rows.own(linear.weight), rows.own(mask))), None, False)

    def _put(self, linear: Linear, weight: Tensor, moments: Moments | None, by_magnitude: bool) -> None:
        dead = int((moments.norms.norms == 0).sum()) if moments is not None else 0
        linear.replace(weight)
        self.reports.append(LinearReport(linear.name, linear.shape, how_many(weight == 0), dead, by_magnitude))


def require_finite(S: Tensor, name: str) -> Tensor:
    """Return S unchanged. Raises ModelError for an infinity, or a NaN, which would sort last and be kept unnoticed.

    name: of the linear, for the message.
    """
    if not (bool(torch.isfinite(S.sum())) or bool(torch.isfinite(S).all())):  # the sum alone may overflow
        raise ModelError(f"{name} has weights or inputs that are not finite, so it cannot be scored; check the model")
    return S
