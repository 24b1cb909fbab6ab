"""What training towards another model needs: how far two predictions are apart, and a step of Adam. Pure functions."""

import torch
from torch import Tensor

CHUNK = 64  # positions whose float32 softmax is held at once
BETAS = (0.9, 0.95)  # of Adam's two means; the second forgets sooner than usual, since there are few steps
EPSILON = 1e-8


def divergence(logits: Tensor, target: Tensor) -> tuple[float, Tensor]:
    """Compute KL(target ‖ logits) in nats, summed over positions, and its gradient with respect to `logits`.

    Σ_t Σ_v p log(p / q) with p, q the softmaxes of target and logits; the gradient is q - p (Hinton et al. 2015, with
    temperature 1). logits, target: (T, V), of any float type -> the sum, and (T, V) in the type of `logits`.
    """
    gradient = torch.empty_like(logits)
    total = 0.0
    for start in range(0, len(logits), CHUNK):
        part = slice(start, start + CHUNK)
        q, p = logits[part].float().log_softmax(-1), target[part].float().log_softmax(-1)
        likely = p.exp()
        total += float((likely * (p - q)).sum())
        gradient[part] = q.exp_().sub_(likely).to(logits.dtype)
    return total, gradient


def adam(
    w: Tensor, gradient: Tensor, mean: Tensor, square: Tensor, step: int, rate: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Take one step of Adam (Kingma & Ba 2015, algorithm 1), without weight decay.

    w, gradient, mean (of gradients so far), square (mean of their squares): float32 of one shape; step: its number,
    from 1, for the correction of both means, which begin at 0; rate: the learning rate.
    -> w, mean and square after the step; nothing that is given is written to.
    """
    mean = mean.lerp(gradient, 1 - BETAS[0])
    square = torch.addcmul(square * BETAS[1], gradient, gradient, value=1 - BETAS[1])
    size = square.div(1 - BETAS[1] ** step).sqrt_().add_(EPSILON)
    return torch.addcdiv(w, mean, size, value=-rate / (1 - BETAS[0] ** step)), mean, square
