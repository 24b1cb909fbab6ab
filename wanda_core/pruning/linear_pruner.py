"""The heart: one weight matrix pruned by a recipe, as a pure function, and what does so to every linear of a model."""

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


def prune_weight(
    W: Tensor,
    moments: Moments | None,
    spec: PruneSpec,
    share: float,
    gather: RowShare | None = None,
    name: str = "the matrix",
) -> tuple[Tensor, Tensor]:
    """Prune one weight matrix by a recipe. Pure: nothing that is given is written to.

    W: (C_out, C_in), or the rows of it that this process has; moments: of its inputs, None for methods that do not
    look at them; share: of weights to remove, 0 to 1; gather: gives the whole matrix from the rows that each process
    has, None where one has them all; name: of the linear, for messages and for the seed of the method `random`.
    -> the new weight, W's dtype, float32 where the recipe updates; and the mask, bool, True where a weight was
    removed; both of W's shape. Raises ModelError for values that are not finite.
    """
    X_norm = moments.norms.norms if moments is not None else None
    choose = partial(_mask, X_norm=X_norm, spec=spec, share=share, gather=gather, name=name)
    if moments is None or moments.gram is None:
        mask = choose(W)
        return masks.without(W, mask), mask
    W = W.float()
    if spec.update == "obs":
        return _obs(W, moments.gram, choose, spec, share, gather)
    return _least_squares(W, moments, choose, spec, share, gather)


def _mask(
    W: Tensor, *, X_norm: Tensor | None, spec: PruneSpec, share: float, gather: RowShare | None, name: str
) -> Tensor:
    """Which weights go by the recipe's score, or by magnitude where that needs norms and there are none. -> bool."""
    together = gather if gather is not None and not spec.by_row else None
    if together is not None:
        W = together(W)
    score = score_function(spec, X_norm is not None)
    S = scores.SCORES[score](W, X_norm, scores.seed_of(spec.seed, name))
    if X_norm is not None and spec.needs_norms:
        S = scores.dead_columns_by_magnitude(S, W, X_norm)
    mask = masks.removal_mask(finite(S, name), share, spec.n_of_m, str(spec.group), spec.definition.mask_rule)
    return mask if together is None else together.own(mask)


def score_function(spec: PruneSpec, measured: bool) -> str:
    """The name of the score that decides. measured: whether there are input norms to look at."""
    return spec.method if measured or not spec.needs_norms else "magnitude"


def _obs(
    W: Tensor, gram: Tensor, choose: partial[Tensor], spec: PruneSpec, share: float, gather: RowShare | None
) -> tuple[Tensor, Tensor]:
    """SparseGPT's sweep, with its own mask or the recipe's. -> weight float32 and mask, as W."""
    if not spec.definition.sweeps:
        fixed = choose(W)
        return updates.obs(W, gram, lambda part, root, start: fixed[:, start : start + part.shape[1]])

    def choose_here(part: Tensor, root: Tensor, start: int) -> Tensor:
        S = (part / root) ** 2
        if spec.n_of_m:
            return masks.lowest_n_of_m(S, *spec.n_of_m)
        everywhere = gather(S) if gather is not None else S  # one threshold for all rows
        k = int(everywhere.numel() * share)
        if not k:
            return torch.zeros_like(S, dtype=torch.bool)
        return masks.at_or_below(S, kth_smallest(everywhere.reshape(1, -1), k + 1))

    return updates.obs(W, gram, choose_here, spec.n_of_m[1] if spec.n_of_m else updates.OBS_COLUMNS)


def _least_squares(
    W: Tensor, moments: Moments, choose: partial[Tensor], spec: PruneSpec, share: float, gather: RowShare | None
) -> tuple[Tensor, Tensor]:
    """Solve the kept weights anew; then, round by round, choose the mask afresh and solve again."""
    gram, cross, solver = moments.gram, moments.cross, spec.solver
    assert gram is not None  # the caller looked
    H = updates.damped(gram, solver.damping, solver.shrinkage)
    # B - W H, B being W H and, in part, what the dense model's own inputs add to it
    R = torch.zeros_like(W) if cross is None else matmul(W, (cross - gram) * solver.dense_share)
    mask = _obs(W, gram, choose, spec, share, gather)[1] if spec.definition.sweeps else choose(W)
    for _ in range(solver.rounds):
        W, R = updates.least_squares(W, ~mask, H, R, (solver.steps + 1) // 2)  # only the mask is taken from it
        mask = choose(updates.pull(W, H, R))
    return updates.least_squares(W, ~mask, H, R, solver.steps)[0], mask


class LinearPruner:
    """Prunes the linears of a model one by one, as an order visits them, and keeps the report of each.

    shares: the sparsity of every block; reports: of linears that an earlier run pruned, to which this one's are added.
    Of several processes each prunes its part of every matrix's rows, and all end with the whole.
    """

    def __init__(self, spec: PruneSpec, shares: list[float], reports: list[LinearReport] | None = None) -> None:
        self.spec, self.shares = spec, shares
        self.reports: list[LinearReport] = [] if reports is None else reports

    def visit(self, linear: Linear, moments: Moments | None) -> None:
        """Prune one linear. moments: of its inputs; None for methods that do not look at them."""
        few = moments is not None and linear.routed and moments.norms.tokens < LEAST_TOKENS
        measured = None if few else moments
        rows = RowShare(linear.shape[0])
        weight, _ = prune_weight(
            rows.own(linear.weight), measured, self.spec, self.shares[linear.block], rows, linear.name
        )
        by_magnitude = few and score_function(self.spec, False) == "magnitude"
        self._put(linear, rows(self._as_stored(weight, linear)), measured, by_magnitude)

    def put_masked(self, linear: Linear, mask: Tensor) -> None:
        """Prune by a mask that was chosen elsewhere, (C_out, C_in) bool."""
        rows = RowShare(linear.shape[0])
        self._put(linear, rows(masks.without(rows.own(linear.weight), rows.own(mask))), None, False)

    def _as_stored(self, weight: Tensor, linear: Linear) -> Tensor:
        if weight.dtype != linear.weight.dtype or self.spec.needs_gram:
            weight = finite(weight, linear.name).to(linear.weight.dtype)
        return weight

    def _put(self, linear: Linear, weight: Tensor, moments: Moments | None, by_magnitude: bool) -> None:
        dead = int((moments.norms.norms == 0).sum()) if moments is not None else 0
        linear.replace(weight)
        self.reports.append(LinearReport(linear.name, linear.shape, how_many(weight == 0), dead, by_magnitude))


def finite(S: Tensor, name: str) -> Tensor:
    """S as it is. Raises ModelError for a NaN, which would sort last and be kept without a word, or an infinity."""
    if not (bool(torch.isfinite(S.sum())) or bool(torch.isfinite(S).all())):  # the sum alone may overflow
        raise ModelError(f"{name} has weights or inputs that are not finite, so it cannot be scored; check the model")
    return S
