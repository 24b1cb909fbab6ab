"""Why inputs matter, on matrices small enough to look at: what each metric cuts, and what that costs the output.

The example of Sun et al. 2023, section 3: for y = w₁x₁ + w₂x₂ with |w₁| < |w₂| magnitude removes w₁, and where
|w₁x₁| > |w₂x₂| that is the wrong one.
"""

import math
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from wanda_core.errors import InputError, shortened
from wanda_core.maths import scores
from wanda_core.maths.masks import removal_mask, without
from wanda_core.recipe import PruneSpec

METRICS = ("magnitude", "wanda")
GROUPS = ("matrix", "row")


@dataclass(frozen=True)
class Choice:
    """The effect of pruning by one metric on y = Wx at one sparsity, with scores compared within `group`.

    S: (C_out, C_in) scores; cut: bool (C_out, C_in), True is removed; errors: (C_out,) what the removal changes in
    each output, ‖y - y'‖₂ over the N inputs; shares: (C_out,) the same as a share of ‖y‖₂, NaN where y is zero.
    """

    metric: str
    group: str
    S: Tensor
    cut: Tensor
    errors: Tensor
    shares: Tensor

    @property
    def error(self) -> float:
        """‖Y - Y'‖ over all outputs and inputs (Frobenius)."""
        return float(self.errors.norm())

    @property
    def mean_share(self) -> float:
        """The mean of `shares` over the outputs that are not zero: every output counts alike, loud or quiet."""
        return float(self.shares.nanmean())

    @property
    def silenced(self) -> int:
        """Outputs that have lost all their weights."""
        return int(self.cut.all(dim=1).sum())


def choose(W: Tensor, X: Tensor, metric: str, group: str = "row", sparsity: float = 0.5) -> Choice:
    """Prune W by a metric and compare the outputs. W (C_out, C_in), X (N, C_in), float32.

    Raises InputError for values that are not finite.
    """
    if not bool(torch.isfinite(W).all()) or not bool(torch.isfinite(X).all()):
        raise InputError("a weight or an input is not a finite number; choose numbers")
    S = score(W, X, metric)
    # Wanda's rule for both, so that both cut equally many: published magnitude cuts one more per matrix
    spec = PruneSpec(method="wanda", sparsity=sparsity, group=group)
    cut = removal_mask(S, spec.target, group=group, rule=spec.definition.mask_rule)
    errors, shares = output_errors(W, without(W, cut), X)
    return Choice(metric, group, S, cut, errors, shares)


def score(W: Tensor, X: Tensor, metric: str) -> Tensor:
    """|W| or |W| · ‖X‖₂, the norm over the N inputs. W (C_out, C_in), X (N, C_in) -> (C_out, C_in)."""
    if metric not in METRICS:
        raise InputError(f"metric {shortened(metric)} is not one of {', '.join(METRICS)}; choose one of them")
    return scores.magnitude(W) if metric == "magnitude" else scores.wanda(W, X.norm(dim=0))


def output_errors(W: Tensor, pruned: Tensor, X: Tensor) -> tuple[Tensor, Tensor]:
    """Measure what each output loses over the N inputs: ‖y - y'‖₂, and that as a share of ‖y‖₂ (NaN where y is zero).

    W, pruned (C_out, C_in), X (N, C_in) -> (C_out,), (C_out,).
    """
    Y = X @ W.T  # (N, C_out)
    errors, size = (Y - X @ pruned.T).norm(dim=0), Y.norm(dim=0)
    return errors, torch.where(size > 0, errors / size, math.nan)


@dataclass(frozen=True)
class TwoWeights:
    """y = w₁x₁ + w₂x₂, one weight to go. y: the output; errors: |change of y| when w₁, or w₂, goes; magnitude, wanda:
    0 or 1, the weight each cuts, None where its two scores are equal and it has no reason to choose."""

    y: float
    errors: tuple[float, float]
    magnitude: int | None
    wanda: int | None

    @property
    def cheaper(self) -> int | None:
        """The weight whose loss changes y less, None where both cost the same."""
        return None if _alike(*self.errors) else int(self.errors[1] < self.errors[0])


def two_weights(w1: float, w2: float, x1: float, x2: float) -> TwoWeights:
    """Which of two weights magnitude and Wanda would cut, and what each choice costs."""
    W = torch.tensor([[float(w1), float(w2)]], dtype=torch.float32)
    X = torch.tensor([[float(x1), float(x2)]], dtype=torch.float32)
    choices = {metric: choose(W, X, metric) for metric in METRICS}
    picks = {m: None if _alike(*c.S[0].tolist()) else int(c.cut[0, 1]) for m, c in choices.items()}
    first, second = (
        float(output_errors(W, without(W, torch.tensor([gone], dtype=torch.bool)), X)[0]) for gone in ONE_GONE
    )
    return TwoWeights(float((X @ W.T).item()), (first, second), picks["magnitude"], picks["wanda"])


def _alike(first: float, second: float) -> bool:
    """Equal but for the rounding of float32: 0.3 · 4 and 1.2 · 1."""
    return math.isclose(first, second, rel_tol=1e-6)


ONE_GONE = ([True, False], [False, True])


def example_matrix() -> Tensor:
    """Four outputs of six inputs, (4, 6); the last output is a quiet one, with weights a tenth of the others'."""
    return torch.tensor(
        [
            [0.9, -0.4, 0.2, 1.1, -0.7, 0.5],
            [-1.2, 0.8, 0.3, -0.6, 1.0, -0.5],
            [0.6, -1.0, -0.3, 0.9, 0.5, 1.3],
            [0.08, 0.11, 0.04, -0.06, -0.12, 0.09],
        ],
        dtype=torch.float32,
    )


LOUD_INPUT = 2  # the column of `example_inputs` whose size can be chosen: its weights are among the smallest


def example_inputs(size: float, samples: int = 64) -> Tensor:
    """Inputs for `example_matrix`, (samples, 6): every column has norm 1, only column LOUD_INPUT has norm `size`.

    Columns are orthogonal where samples >= 6, so what several weights cost together is the root of their squares.
    """
    generator = torch.Generator().manual_seed(0)
    X = torch.linalg.qr(torch.randn(samples, 6, generator=generator, dtype=torch.float64)).Q.float()
    X[:, LOUD_INPUT] *= size
    return cast(Tensor, X)
