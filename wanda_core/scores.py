"""How much each weight matters: pure functions of tensors."""

from torch import Tensor


def magnitude(W: Tensor) -> Tensor:
    """|W|, the classic baseline. W (C_out, C_in) -> (C_out, C_in), same dtype."""
    return W.abs()


def wanda(W: Tensor, X_norm: Tensor) -> Tensor:
    """S_ij = |W_ij| · ‖X_j‖₂ (Sun et al. 2023, eq. 1).

    W (C_out, C_in), X_norm (C_in,) float32, L2 norms of the input columns -> (C_out, C_in) float32.
    """
    return W.abs() * X_norm


def dead_columns_by_magnitude(scores: Tensor, W: Tensor, X_norm: Tensor) -> Tensor:
    """Order the weights of columns whose input was always zero by |W|, below every live weight.

    Their scores all tie at zero, so the metric cannot choose among them. scores, W (C_out, C_in),
    X_norm (C_in,) -> (C_out, C_in); a dead weight becomes -1/|W|, which is lower for a smaller |W|.
    """
    return scores.where(X_norm > 0, -1 / (W.abs().to(scores.dtype) + TINY))


TINY = 1e-30  # keeps -1/|W| finite for a weight of zero
