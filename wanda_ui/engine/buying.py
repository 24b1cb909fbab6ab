"""What a variant buys: its weights and tokens a second beside the dense model's, measured in turns."""

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import torch

from wanda_core.assets import BUILTIN_EVALUATION
from wanda_core.evaluation.footprint import Footprint, footprint
from wanda_core.evaluation.speed import Speed, speed_steps
from wanda_core.model.language_model import LanguageModel
from wanda_core.progress import Progress, Steps
from wanda_core.pruning.packed import PackedVariant, fits_a_copy, laid_over
from wanda_core.text.files import read_text
from wanda_ui.engine.loaded import Loaded
from wanda_ui.engine.recipe import Recipe
from wanda_ui.engine.smaller import base_steps

if TYPE_CHECKING:
    from wanda_ui.app_state import AppState

PROMPT, NEW, ROUNDS = 128, 24, 3  # tokens and turns: some ten seconds of the built-in model on two cores


@dataclass(frozen=True)
class Bought:
    """What the dense model and a variant take and how fast they are, in this order.

    speeds: None where the variant runs without copies of its weights, which would time their unpacking.
    """

    footprints: tuple[Footprint, Footprint]
    speeds: tuple[Speed, Speed] | None


def buys(loaded: Loaded, base: LanguageModel | None, variant: PackedVariant) -> Steps[Bought]:
    """Measure what a variant buys beside a model. base: the smaller one that it is of, None where it is of the same."""
    lm, of = loaded.lm, base or loaded.lm
    yield Progress("speed", 0, 1, "parts")
    dense, own = footprint(lm.model), footprint(of.model)
    footprints = (dense, replace(own, nonzero=own.nonzero - _zeroed(of, variant)))
    if not fits_a_copy(of):
        return Bought(footprints, None)
    most = PROMPT if lm.longest is None else max(1, min(PROMPT, lm.longest - NEW))
    ids = torch.tensor([lm.encode(read_text(BUILTIN_EVALUATION)[: 20 * PROMPT])[:most]], dtype=torch.int64)
    with laid_over(of, variant, copied=True) as pruned:
        first, second = yield from speed_steps([lm, pruned], ids, new=NEW, rounds=ROUNDS)
    return Bought(footprints, (first, second))


@torch.no_grad()
def _zeroed(lm: LanguageModel, variant: PackedVariant) -> int:
    """Count the weights that are zero in a variant and not in the dense model."""
    zeroed = 0
    for name, parameter in variant.parameters.items():
        dense = lm.model.get_parameter(name)
        zeroed += int(torch.count_nonzero(dense)) - int(torch.count_nonzero(parameter.over(dense)))
    return zeroed


def bought_steps(state: "AppState", name: str, recipe: Recipe) -> Steps[Bought]:
    """Return what a recipe buys, which is made first where it is not kept. What was measured is kept with the model."""
    loaded = yield from state.model_steps(name)
    (variant,) = yield from state.made_steps(name, [recipe])
    smaller = yield from base_steps(state, loaded, recipe)
    loaded.check_unchanged()
    make = partial(buys, base=None if smaller is loaded else smaller.lm, variant=variant)
    return (yield from state.measurement_steps(name, ("buys", state.key_of(loaded, recipe)), make))
