"""What becomes of the weights that stay: pure functions of a matrix and the products XᵀX of its inputs."""

from collections.abc import Callable

import torch
from torch import Tensor

from wanda_core.errors import ModelError
from wanda_core.machine.matmul import matmul, times_symmetric

OBS_COLUMNS = 128  # of one block in SparseGPT's sweep
OBS_DAMPING = 0.01  # of the mean diagonal, as published


def damped(gram: Tensor, damping: float, shrinkage: float = 0.0) -> Tensor:
    """H = XᵀX + λI + κ diag(XᵀX), λ a share of the mean diagonal, κ of each entry. (C, C) float32 -> (C, C).

    κ makes correlations between inputs smaller and leaves their ratio to each other: a few thousand tokens overstate
    them (up to a factor this is the estimate of Ledoit & Wolf 2004 with the diagonal as its target).
    """
    H = gram.clone()
    H.diagonal().mul_(1 + shrinkage).add_(damping * gram.diagonal().mean().clamp_min(1e-12))
    return H


def least_squares(W: Tensor, keep: Tensor, H: Tensor, residual: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """Kept weights that minimise tr(W H Wᵀ - 2 B Wᵀ), by conjugate gradients preconditioned with diag H.

    W (C_out, C_in) float32, where to start; keep bool, likewise: everything else becomes zero; H (C_in, C_in)
    positive definite; residual B - W H (C_out, C_in) of that start. All rows take their steps together.
    -> weights and their residual, (C_out, C_in) float32; nothing that is given is written to.
    """
    kept = keep.to(W.dtype)
    dropped = W * (1 - kept)
    W = W - dropped
    R = residual + times_symmetric(dropped, H)
    over = kept / H.diagonal()  # the preconditioner, projected on the mask
    P = R * over
    room = torch.empty_like(W)  # for products that are only summed
    rz = torch.mul(R, P, out=room).sum(dim=1, keepdim=True)
    for step in range(1, steps + 1):
        HP = times_symmetric(P, H)
        alpha = rz / torch.mul(P, HP, out=room).sum(dim=1, keepdim=True).clamp_min(1e-30)  # (C_out, 1)
        W.addcmul_(P, alpha)
        R.addcmul_(HP, alpha, value=-1)
        if step == steps:
            break
        Z = torch.mul(R, over, out=HP)
        rz, before = torch.mul(R, Z, out=room).sum(dim=1, keepdim=True), rz
        P.mul_(rz / before.clamp_min(1e-30)).add_(Z)
    return W, R


def pull(W: Tensor, H: Tensor, residual: Tensor) -> Tensor:
    """Where every weight, cut ones too, would go by a step of its own: W + (B - W H) / diag H. (C_out, C_in)."""
    return W + residual / H.diagonal()


def obs(
    W: Tensor, gram: Tensor, choose: Callable[[Tensor, Tensor, int], Tensor], every: int = OBS_COLUMNS
) -> tuple[Tensor, Tensor]:
    """SparseGPT's sweep (Frantar & Alistarh 2023, algorithm 1): column by column, what a cut weight did is handed to
    the columns right of it.

    W (C_out, C_in) float32; gram XᵀX (C_in, C_in) float32, of any scale; choose: given the weights of the next
    `every` columns as they stand, the diagonal of the inverse's Cholesky factor there and the first of these
    columns, which go, bool.
    -> new weights and mask, (C_out, C_in); columns that were never fed are removed. Raises ModelError when XᵀX cannot
    be inverted.
    """
    W = W.clone()
    H = gram.clone()
    dead = H.diagonal() == 0
    H.diagonal()[dead] = 1
    W[:, dead] = 0
    H.diagonal().add_(OBS_DAMPING * H.diagonal().mean())
    U = _upper_root_of_inverse(H)
    mask = torch.zeros_like(W, dtype=torch.bool)
    columns = W.shape[1]
    for start in range(0, columns, OBS_COLUMNS):
        end = min(start + OBS_COLUMNS, columns)
        inside = U[start:end, start:end]
        part = W[:, start:end].clone()
        error = torch.zeros_like(part)
        for i in range(end - start):
            if i % every == 0:
                here = slice(i, min(i + every, end - start))
                mask[:, start + here.start : start + here.stop] = choose(
                    part[:, here], inside.diagonal()[here], start + i
                )
            lost = part[:, i] * mask[:, start + i]
            error[:, i] = lost / inside[i, i]
            part[:, i:] -= error[:, i : i + 1] * inside[i, i:]
        W[:, start:end] = part.masked_fill(mask[:, start:end], 0)
        W[:, end:] -= matmul(error, U[start:end, end:])
    mask[:, dead] = True
    return W, mask


def _upper_root_of_inverse(H: Tensor) -> Tensor:
    try:
        return torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(H)), upper=True)
    except torch.linalg.LinAlgError as error:
        raise ModelError(
            "the inputs of a linear do not determine its weights (their product cannot be inverted); "
            "give more calibration text or choose update none"
        ) from error
