"""KL divergence with its gradient, and Adam: by hand, then against torch's own."""

import math

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import kl_div

from wanda_core.maths import distillation


def test_the_divergence_of_two_positions_by_hand():
    # Probabilities 3/4, 1/4 and 1/2, 1/2 at the first position, the same at the second.
    target = torch.tensor([[math.log(3.0), 0.0], [5.0, 5.0]])
    logits = torch.tensor([[0.0, 0.0], [1.0, 1.0]])
    total, gradient = distillation.divergence(logits, target)
    assert math.isclose(total, 0.75 * math.log(1.5) + 0.25 * math.log(0.5), rel_tol=1e-6)
    assert torch.allclose(gradient, torch.tensor([[-0.25, 0.25], [0.0, 0.0]]), atol=1e-7)


@given(st.integers(0, 10_000), st.integers(1, 2 * distillation.CHUNK + 3), st.integers(1, 40))
def test_the_divergence_is_torchs_and_its_gradient_that_of_autograd(seed, positions, tokens):
    generator = torch.Generator().manual_seed(seed)
    logits, target = torch.randn(2, positions, tokens, generator=generator) * 4
    given_logits, given_target = logits.clone(), target.clone()
    total, gradient = distillation.divergence(logits, target)
    ours = logits.clone().double().requires_grad_(True)
    expected = kl_div(ours.log_softmax(-1), target.double().log_softmax(-1), log_target=True, reduction="sum")
    expected.backward()
    assert math.isclose(total, expected.item(), rel_tol=1e-4, abs_tol=1e-4)
    assert torch.allclose(gradient.double(), ours.grad, atol=1e-6)
    assert torch.equal(logits, given_logits)
    assert torch.equal(target, given_target)


def test_the_first_step_of_adam_moves_each_weight_by_the_rate_against_its_gradient():
    w, gradient = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([5.0, -0.001, 0.0])
    moved, mean, square = distillation.adam(w, gradient, torch.zeros(3), torch.zeros(3), 1, 0.1)
    assert torch.allclose(moved, torch.tensor([0.9, 2.1, 3.0]), atol=1e-5)
    assert torch.allclose(mean, gradient * 0.1)
    assert torch.allclose(square, gradient**2 * 0.05)
    assert w.tolist() == [1.0, 2.0, 3.0]


def test_many_steps_of_adam_are_torchs():
    generator = torch.Generator().manual_seed(3)
    w = torch.randn(50, generator=generator)
    theirs = torch.nn.Parameter(w.clone())
    optimizer = torch.optim.Adam([theirs], lr=0.01, betas=distillation.BETAS, eps=distillation.EPSILON)
    mean = square = torch.zeros(50)
    for step in range(1, 21):
        gradient = torch.randn(50, generator=generator)
        theirs.grad = gradient.clone()
        optimizer.step()
        w, mean, square = distillation.adam(w, gradient, mean, square, step, 0.01)
    assert torch.allclose(w, theirs.detach(), atol=1e-6)
