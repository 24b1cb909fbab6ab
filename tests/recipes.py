"""Masks by whole recipes, as pruning itself asks for them."""

from torch import Tensor

from wanda_core.maths import masks
from wanda_core.recipe import PruneSpec


def removal_mask(S: Tensor, spec: PruneSpec) -> Tensor:
    return masks.removal_mask(S, spec.target, spec.n_of_m, str(spec.group), spec.definition.mask_rule)
