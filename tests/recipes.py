"""Masks by whole recipes, as pruning itself asks for them, and a matrix worked by hand under two of them."""

from dataclasses import replace

import torch
from torch import Tensor

from wanda_core.explain.masked_linear import Choice, MaskedLinear
from wanda_core.maths import masks, scores
from wanda_core.recipe import PruneSpec

WANDA = PruneSpec("wanda", order="one-shot")
MAGNITUDE = PruneSpec("magnitude")

# Two rows of very different scale. The last column's input is large: it is small by |W| and large by |W|·‖X‖.
W = torch.tensor([[4.0, -3.0, 2.0, 1.0], [0.2, 0.3, 0.4, -0.1]])
X_NORM = torch.tensor([1.0, 1.0, 1.0, 100.0])
# Wanda cuts the two lowest scores of each row: 3 and 2, 0.2 and 0.3. Magnitude keeps 4, 3 and 2.
BY_WANDA = torch.tensor([[False, True, True, False], [True, True, False, False]])
BY_MAGNITUDE = torch.tensor([[False, False, False, True], [True, True, True, True]])


def removal_mask(S: Tensor, spec: PruneSpec) -> Tensor:
    return masks.removal_mask(S, spec.target, spec.n_of_m, str(spec.group), spec.definition.mask_rule)


def removed_by(spec: PruneSpec, W: Tensor, X_norm: Tensor) -> Tensor:
    """What a recipe removes of a matrix whose inputs have these norms, of a model that has no other."""
    if spec.group == "model":
        spec = replace(spec, group="matrix")
    S = scores.SCORES[spec.method](W, X_norm, spec.seed)
    return removal_mask(scores.dead_columns_by_magnitude(S, W, X_norm) if spec.needs_norms else S, spec)


def masked(W: Tensor, X_norm: Tensor, *specs: PruneSpec) -> MaskedLinear:
    """A matrix under some recipes."""
    return MaskedLinear(W, X_norm, tuple(Choice(spec, removed_by(spec, W, X_norm)) for spec in specs))


def by_hand() -> MaskedLinear:
    """The matrix above."""
    return MaskedLinear(W, X_NORM, (Choice(WANDA, BY_WANDA), Choice(MAGNITUDE, BY_MAGNITUDE)))
