"""Updates of the weights that stay, to make up for those that go: pure functions of W and the products XᵀX."""

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor

from wanda_core.errors import ModelError
from wanda_core.machine.matmul import matmul, times_symmetric

OBS_COLUMNS = 128  # columns of one block in SparseGPT's sweep, as published
OBS_DAMPING = 0.01  # share of the mean diagonal added to it, as published


def damped(gram: Tensor, damping: float, shrinkage: float = 0.0) -> Tensor:
    """Compute H = XᵀX + λI + κ diag(XᵀX), with λ = `damping` · mean diagonal and κ = `shrinkage`. (C, C) -> (C, C).

    κ makes correlations between inputs smaller and keeps their ratios to each other, because a few thousand tokens
    overstate them. Up to a factor this is the estimate of Ledoit & Wolf 2004 with the diagonal as its target.
    gram: XᵀX, float32.
    """
    H = gram.clone()
    H.diagonal().mul_(1 + shrinkage).add_(damping * gram.diagonal().mean().clamp_min(1e-12))
    return H


def least_squares(W: Tensor, keep: Tensor, H: Tensor, residual: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """Find the kept weights that minimise tr(W H Wᵀ - 2 B Wᵀ), by conjugate gradients preconditioned with diag H.

    W: where to start, (C_out, C_in) float32; keep: which weights stay, bool (C_out, C_in), all others become zero;
    H: (C_in, C_in), positive definite; residual: B - W H of the start, (C_out, C_in); steps: at least 1. All rows take
    their steps together. -> weights and their residual, (C_out, C_in) float32; nothing that is given is written to.
    """
    kept = keep.to(W.dtype)
    dropped = W * (1 - kept)
    W = W - dropped
    R = residual + times_symmetric(dropped, H)
    preconditioner = kept / H.diagonal()  # zero for weights that go, so that they stay where they are
    P = R * preconditioner
    scratch = torch.empty_like(W)  # for products that are only summed
    rz = torch.mul(R, P, out=scratch).sum(dim=1, keepdim=True)
    for step in range(1, steps + 1):
        HP = times_symmetric(P, H)
        alpha = rz / torch.mul(P, HP, out=scratch).sum(dim=1, keepdim=True).clamp_min(1e-30)  # (C_out, 1)
        W.addcmul_(P, alpha)
        R.addcmul_(HP, alpha, value=-1)
        if step == steps:
            break
        Z = torch.mul(R, preconditioner, out=HP)
        rz, before = torch.mul(R, Z, out=scratch).sum(dim=1, keepdim=True), rz
        P.mul_(rz / before.clamp_min(1e-30)).add_(Z)
    return W, R


def pull(W: Tensor, H: Tensor, residual: Tensor) -> Tensor:
    """Take one Jacobi step: where each weight, removed ones included, would move if re-solved alone.

    W + (B - W H) / diag H; W, residual B - W H: (C_out, C_in), H: (C_in, C_in) -> (C_out, C_in).
    """
    return W + residual / H.diagonal()


def obs(
    W: Tensor, gram: Tensor, choose: Callable[[Tensor, Tensor, int], Tensor], every: int = OBS_COLUMNS
) -> tuple[Tensor, Tensor]:
    """Sweep over the columns from left to right; for each removed weight, change those to its right to make up for it.

    SparseGPT's sweep (Frantar & Alistarh 2023, algorithm 1), by the inverse of H = XᵀX + λI.
    W: (C_out, C_in) float32; gram: XᵀX (C_in, C_in) float32, of any scale; choose: returns which weights of the next
    `every` columns go, bool; it is given these weights as they stand (C_out, every), the diagonal of the Cholesky
    factor of H⁻¹ there (every,), and the index of the first of these columns.
    -> new weights and mask, (C_out, C_in); columns whose inputs were always zero are removed. Raises ModelError when H
    cannot be inverted.
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
        U_block = U[start:end, start:end]
        part = W[:, start:end].clone()
        error = torch.zeros_like(part)
        for i in range(end - start):
            if i % every == 0:
                chosen = slice(i, min(i + every, end - start))
                mask[:, start + chosen.start : start + chosen.stop] = choose(
                    part[:, chosen], U_block.diagonal()[chosen], start + i
                )
            lost = part[:, i] * mask[:, start + i]
            error[:, i] = lost / U_block[i, i]
            part[:, i:] -= error[:, i : i + 1] * U_block[i, i:]
        W[:, start:end] = part.masked_fill(mask[:, start:end], 0)
        W[:, end:] -= matmul(error, U[start:end, end:])
    mask[:, dead] = True
    return W, mask


def _upper_root_of_inverse(H: Tensor) -> Tensor:
    """Compute the upper triangular U with H⁻¹ = Uᵀ U, (C, C) -> (C, C). Raises ModelError when there is none."""
    try:
        return cast(Tensor, torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(H)), upper=True))
    except torch.linalg.LinAlgError as error:
        raise ModelError(
            "the inputs of a linear do not determine its weights (their products XᵀX cannot be inverted); "
            "give more calibration text or choose update none"
        ) from error
