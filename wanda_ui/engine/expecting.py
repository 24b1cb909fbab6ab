"""How long pruning and measuring will take on this machine, from the jobs before."""

from collections.abc import Hashable
from dataclasses import dataclass

from wanda_core.pruning.sensitivity import sensitivity_passes
from wanda_ui.engine.durations import Durations
from wanda_ui.engine.recipe import Recipe

SHRINK_PASSES = 5.0  # of the dense model over the calibration text, that fit into the time of a shrinking


@dataclass(frozen=True)
class Expected:
    """Seconds, each None where nothing is known. pruning: of a recipe; point: of one point of its curve."""

    pruning: float | None = None
    point: float | None = None


def kind_of(recipe: Recipe | None) -> tuple[Hashable, ...]:
    """Return what decides how long a recipe takes."""
    if recipe is None:
        return ()
    kind: tuple[Hashable, ...] = (recipe.spec.method, recipe.spec.order, recipe.spec.update, recipe.spec.solver)
    smaller = recipe.smaller
    if smaller is None:
        return kind
    return (*kind, smaller.part, smaller.score, smaller.update, smaller.blocks)  # each block takes a pass


def shrink_passes(recipe: Recipe, depth: int) -> float:
    """Return how many passes of a model of so many blocks over the calibration text a shrinking takes about."""
    if recipe.smaller is None:
        return 0.0
    blocks = recipe.smaller.blocks
    if blocks is None:
        return SHRINK_PASSES
    return blocks if isinstance(blocks, int) else blocks * depth


def expected(durations: Durations, model: str, recipe: Recipe, depth: int = 0, sensitive: bool = False) -> Expected:
    """Return what a recipe takes: as long as it took before, else by the pass that analysed the model.

    depth: blocks that the model has; sensitive: whether their sensitivities are to be measured first. A point is pruned
    and then read, which takes about as long as such a pass.
    """
    one_pass = durations.exactly(("pass", model))
    pruning = durations.exactly(("pruning", model, *kind_of(recipe)))
    if pruning is None and one_pass is not None:
        pruning = one_pass * (recipe.spec.passes + shrink_passes(recipe, depth))
    point = durations.exactly(("point", model, *kind_of(recipe)))
    if point is None and pruning is not None and one_pass is not None:
        point = pruning + one_pass
    if sensitive:
        first = durations.exactly(("sensitivity", model))
        if first is None and one_pass is not None:
            first = one_pass * sensitivity_passes(depth, recipe.reading.samples, recipe.reading.seq_len)
        if first is not None:
            pruning = None if pruning is None else pruning + first
            point = None if point is None else point + first
    return Expected(pruning, point)
