"""How far one model's predictions are from another's, position by position."""

import torch
from torch import Tensor
from torch.nn.functional import kl_div

CHUNK = 64  # positions at once: two models' logits in float32 take 100 MB at a vocabulary of 200,000


def divergence_along(dense: Tensor, other: Tensor) -> Tensor:
    """KL(dense ‖ other) of the next token at every position, in nats.

    dense, other: logits (L, V) of any dtype, on the same device -> (L,) float32 on the CPU, at least 0.
    """
    parts = []
    for start in range(0, len(dense), CHUNK):
        p, q = (logits[start : start + CHUNK].float().log_softmax(-1) for logits in (dense, other))
        parts.append(kl_div(q, p, log_target=True, reduction="none").sum(-1).clamp_min(0).cpu())
    return torch.cat(parts) if parts else torch.zeros(0, dtype=torch.float32)
