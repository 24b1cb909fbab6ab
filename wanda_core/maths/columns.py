"""Scores of input columns, and the columns that stay solved anew: pure functions of W and what is known of its inputs.

A neuron of an MLP is one input column of the matrix that reads it, an attention head several; whoever removes some
removes whole columns of that matrix.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from wanda_core.machine.matmul import matmul


def gathered(W: Tensor, X_norm: Tensor) -> Tensor:
    """Score a column by Wanda's scores of its weights together, Σᵢ |Wᵢⱼ| · ‖Xⱼ‖₂ (after Sun et al. 2023, eq. 1).

    W (C_out, C_in), X_norm (C_in,) float32, L2 norms of the input columns -> (C_in,) float32.
    """
    return W.float().abs().sum(dim=0) * X_norm


def fluctuation(W: Tensor, variance: Tensor) -> Tensor:
    """Score a column by how much of the output moves with it, Var(Xⱼ) · ‖W:ⱼ‖₂² (FLAP, An et al. 2024).

    What an input adds on average a bias can stand for; what it varies by is lost. W (C_out, C_in), variance (C_in,) of
    the inputs over the tokens -> (C_in,) float32.
    """
    return W.float().square().sum(dim=0) * variance


def size(W: Tensor) -> Tensor:
    """Score a column by the size of its weights, Σᵢ |Wᵢⱼ|, whatever its input. W (C_out, C_in) -> (C_in,) float32."""
    return W.float().abs().sum(dim=0)


def drawn(W: Tensor, seed: int) -> Tensor:
    """Draw a column's score evenly from [0, 1), the same on every device. seed: 0 to 2⁶³ - 1. -> (C_in,) float32."""
    return torch.rand(W.shape[1], generator=torch.Generator().manual_seed(seed), dtype=torch.float32).to(W.device)


# By score: (W, ‖X‖, Var X, a seed of the matrix's own) -> (C_in,). The first two need inputs.
COLUMN_SCORES: Mapping[str, Callable[[Tensor, Tensor, Tensor, int], Tensor]] = {
    "wanda": lambda W, X_norm, variance, seed: gathered(W, X_norm),
    "flap": lambda W, X_norm, variance, seed: fluctuation(W, variance),
    "magnitude": lambda W, X_norm, variance, seed: size(W),
    "random": lambda W, X_norm, variance, seed: drawn(W, seed),
}


def highest(scores: Tensor, units: int, kept: int) -> Tensor:
    """Choose the units with the highest scores; of equal ones the leftmost go first, as masks have it.

    scores (C_in,), finite; units: in how many runs of equally many neighbouring columns they come, whose scores are
    added; kept: how many units stay. -> their numbers, int64 (kept,), ascending.
    """
    of_units = scores.double().reshape(units, -1).sum(dim=1)
    return of_units.sort(stable=True).indices[units - kept :].sort().values


def resolved(W: Tensor, keep: Tensor, H: Tensor, residual: Tensor) -> Tensor:
    """Find the columns that stay so that they minimise tr(W H Wᵀ - 2 B Wᵀ) with all others gone.

    Every row keeps the same columns, so that one Cholesky factor of H there serves all of them, and the minimum is met
    exactly: W_K + (B - W_K H)_K (H_KK)⁻¹. W: (C_out, C_in) float32; keep: the columns that stay, int64 (K,); H:
    (C_in, C_in), positive definite; residual: B - W H, (C_out, C_in). -> (C_out, K) float32.
    """
    gone = W.clone()
    gone[:, keep] = 0
    missing = residual[:, keep] + matmul(gone, H[:, keep])
    factor = torch.linalg.cholesky(H[keep][:, keep])
    return W[:, keep] + torch.cholesky_solve(missing.t().contiguous(), factor).t()
