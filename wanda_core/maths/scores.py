"""Scores, which say how much each weight matters: pure functions of a weight matrix and its input norms."""

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor


def magnitude(W: Tensor) -> Tensor:
    """Score a weight by its size |W|, the classic baseline. W (C_out, C_in) -> (C_out, C_in), same dtype."""
    return W.abs()


def wanda(W: Tensor, X_norm: Tensor) -> Tensor:
    """Score a weight by its size times the norm of its input, S_ij = |W_ij| · ‖X_j‖₂ (Sun et al. 2023, eq. 1).

    W (C_out, C_in), X_norm (C_in,) float32, L2 norms of the input columns -> (C_out, C_in) float32.
    """
    return W.abs() * X_norm


def ria(W: Tensor, X_norm: Tensor, a: float = 0.5) -> Tensor:
    """Score a weight by its relative importance in its column and row, times its input norm to the power a (RIA).

    S_ij = (|W_ij| / Σ_i|W_ij| + |W_ij| / Σ_j|W_ij|) · ‖X_j‖₂^a (Zhang et al. 2024).
    W (C_out, C_in), X_norm (C_in,) float32 -> (C_out, C_in) float32.
    """
    A = W.abs().float()
    per_column, per_row = A.sum(dim=0, keepdim=True), A.sum(dim=1, keepdim=True)
    return (A / per_column.clamp_min(TINY) + A / per_row.clamp_min(TINY)) * X_norm**a


def random(W: Tensor, seed: int) -> Tensor:
    """Draw scores evenly from [0, 1), the same on every device. seed: 0 to 2⁶³ - 1.

    W (C_out, C_in) -> (C_out, C_in) float32.
    """
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(W.shape, generator=generator, dtype=torch.float32).to(W.device)


def dead_columns_by_magnitude(scores: Tensor, W: Tensor, X_norm: Tensor) -> Tensor:
    """Rescore the weights of dead columns, whose input was always zero: by |W|, and below every other weight.

    Their scores all tie at zero, so the score cannot choose among them. scores, W (C_out, C_in), X_norm (C_in,)
    -> (C_out, C_in); the score of a dead column's weight becomes -1/|W|, which is lower for a smaller |W|.
    """
    alive = X_norm > 0
    return scores if bool(alive.all()) else scores.where(alive, -1 / (W.abs().to(scores.dtype) + TINY))


TINY = 1e-30  # keeps a quotient finite when all weights beside it are zero


def seed_of(seed: int, name: str) -> int:
    """Make a seed for one linear from the recipe's seed and the linear's name alone. -> 0 to 2⁶³ - 1.

    So masks differ from linear to linear, and do not depend on what was pruned before.
    """
    digest = hashlib.sha256(f"{seed} {name}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


# By method: (W, ‖X‖ where the score needs norms, a seed of the linear's own) -> S. A method whose mask rule is `sweep`
# has none: the sweep chooses.
SCORES: Mapping[str, Callable[[Tensor, Any, int], Tensor]] = {
    "wanda": lambda W, X_norm, seed: wanda(W, X_norm),
    "wanda-variant": lambda W, X_norm, seed: wanda(W, X_norm),
    "magnitude": lambda W, X_norm, seed: magnitude(W),
    "ria": lambda W, X_norm, seed: ria(W, X_norm),
    "random": lambda W, X_norm, seed: random(W, seed),
}
