"""What a recipe removes of one linear, found without pruning the rest of the model."""

import torch
from torch import Tensor

from wanda_core.calibration.input_norms import LEAST_TOKENS
from wanda_core.calibration.profile import Profile
from wanda_core.errors import InputError
from wanda_core.model.linears import Linear
from wanda_core.pruning.linear_pruner import choose_mask
from wanda_core.recipe import PruneSpec


def is_decided_alone(spec: PruneSpec) -> bool:
    """Whether a recipe's mask of a linear follows from that linear's weights and the dense model's norms."""
    return not spec.needs_gram and spec.group != "model" and (spec.order == "one-shot" or not spec.needs_norms)


def removed_of(linear: Linear, spec: PruneSpec, share: float, profile: Profile | None) -> Tensor:
    """Find what a recipe removes of a linear: all that is zero in it once the whole model is pruned.

    share: the sparsity of its block, 0 to 1; profile: the dense model's norms, where the recipe needs any.
    -> bool (C_out, C_in), True where a weight goes, or was zero before. Raises InputError for a recipe that is not
    decided alone, for one whose pattern does not divide the columns, and for norms that it needs and are not given.
    """
    if not is_decided_alone(spec):
        raise InputError(f"what {spec.label} removes of one linear follows from the whole model; prune it")
    if spec.n_of_m is not None and linear.shape[1] % spec.n_of_m[1]:
        raise InputError(
            f"pattern {spec.pattern} needs a number of input columns divisible by {spec.n_of_m[1]}, and {linear.name} "
            f"has {linear.shape[1]}; choose another pattern"
        )
    if spec.needs_norms and (profile is None or linear.name not in profile.norms):
        raise InputError(f"{spec.label} needs the norms of {linear.name}'s inputs; give a profile of this model")
    norms = norms_of(linear, profile)
    mask = choose_mask(linear.weight, X_norm=norms, spec=spec, share=share, name=linear.name)
    return mask | (linear.weight == 0)  # what a pruned model tells, whose zeros do not say since when they are there


def norms_of(linear: Linear, profile: Profile | None) -> Tensor | None:
    """Return a linear's norms from a profile, (C_in,) float32; None for an expert that was sent too few tokens."""
    if profile is None or linear.name not in profile.norms:
        return None
    if linear.routed and profile.tokens.get(linear.name, 0) < LEAST_TOKENS:
        return None
    squares = torch.square(profile.norms[linear.name].to(linear.weight.device))
    return torch.sqrt(squares)  # as one-shot pruning has them, to the last bit
