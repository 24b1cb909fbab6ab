"""The linears that are looked at, under the recipes on the page, kept as long as there is room."""

import threading
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from wanda_core.calibration.profile import Profile
from wanda_core.errors import InputError, in_gb, shortened
from wanda_core.explain.masked_linear import Choice, MaskedLinear
from wanda_core.model.linears import Linear
from wanda_core.pruning.allocation import allotted
from wanda_core.pruning.one_linear import is_decided_alone, norms_of, removed_of
from wanda_core.pruning.packed import needed_bytes
from wanda_core.recipe import PruneSpec
from wanda_ui.app_state import AppState
from wanda_ui.engine.kept_variants import counted_bytes
from wanda_ui.engine.loaded import Loaded
from wanda_ui.engine.recipe import PLAIN, Recipe

MOST_BYTES = 512 * 2**20  # of masks that are kept; the linear unused longest goes
MOST_ALLOCATIONS = 64


class NotMadeError(Exception):
    """What some recipes remove is not known before they are pruned. places: of these recipes in the question."""

    def __init__(self, places: list[int]) -> None:
        super().__init__(str(places))
        self.places = places


@dataclass(frozen=True)
class Place:
    """A linear of a model, by its kind and block."""

    kind: str
    block: int

    def of(self, loaded: Loaded) -> Linear:
        """Return the linear. Raises InputError where the model has none such."""
        if self.kind not in loaded.lm.kinds:
            kinds = ", ".join(loaded.lm.kinds[:8])
            raise InputError(f"{loaded.lm.title} has no linear {shortened(self.kind)}; choose one of {kinds}")
        linear = next((linear for linear in loaded.lm.of_kind(self.kind) if linear.block == self.block), None)
        if linear is None:
            raise InputError(f"block {shortened(self.block)} of {loaded.lm.title} has no {self.kind}; choose another")
        return linear


class Linears:
    """Makes and keeps `MaskedLinear`s. What is asked twice at once is made twice at most; nothing holds the engine."""

    def __init__(self, state: AppState) -> None:
        self.state = state
        self._kept: OrderedDict[Hashable, MaskedLinear] = OrderedDict()
        self._shares: OrderedDict[Hashable, list[float]] = OrderedDict()
        self._lock = threading.Lock()

    @torch.no_grad()
    def get(self, loaded: Loaded, recipes: Sequence[Recipe], place: Place) -> MaskedLinear:
        """Return a linear under some recipes.

        loaded: a model whose analysis is there. Raises NotMadeError where a recipe has to be pruned first, InputError
        for a linear that is not there or a pattern that does not fit it.
        """
        key = (loaded.name, loaded.state, place, tuple(self.state.key_of(loaded, recipe) for recipe in recipes))
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        linear = place.of(loaded)
        choices = [self._choice(loaded, recipe, linear) for recipe in recipes]
        missing = [number for number, choice in enumerate(choices) if choice is None]
        if missing:
            self._check_room(loaded, recipes, missing)
            raise NotMadeError(missing)
        made = _masked(loaded, linear, [choice for choice in choices if choice is not None])
        with self._lock:
            self._kept[key] = made
            while len(self._kept) > 1 and sum(one.nbytes for one in self._kept.values()) > MOST_BYTES:
                self._kept.popitem(last=False)
        return made

    def _check_room(self, loaded: Loaded, recipes: Sequence[Recipe], missing: Sequence[int]) -> None:
        """Raise InputError where the variants of some recipes are not kept together, whichever are made again.

        missing: places of those that are not kept now
        """
        kept = [self.state.variants.get(self.state.key_of(loaded, recipe)) for recipe in recipes]
        sizes = [counted_bytes(result.variant.nbytes) for result in kept if result is not None]
        sizes += [counted_bytes(needed_bytes(loaded.lm, recipes[place].spec)) for place in missing]
        if len(sizes) > 1 and sum(sizes) > self.state.variants.budget:
            takes, has = in_gb(sum(sizes), self.state.variants.budget)
            raise InputError(
                f"the variants of these {len(sizes)} recipes take {takes} GB together and this server keeps {has} GB "
                "of variants; look at fewer recipes, or set WANDA_VARIANT_GB to more"
            )

    def _choice(self, loaded: Loaded, recipe: Recipe, linear: Linear) -> Choice | None:
        """Return what a recipe removes of a linear, None where it is not known before the model is pruned."""
        spec = recipe.spec
        result = self.state.variants.get(self.state.key_of(loaded, recipe))
        if result is not None:
            variant = result.variant
            removed = variant.pruned_weight(loaded.lm, linear.name) == 0
            by_magnitude = any(told.by_magnitude for told in variant.report.linears if told.name == linear.name)
            return Choice(spec, removed, _norms(variant.profile, linear), by_magnitude)
        profile = self._profile(loaded, recipe)
        unread = spec.needs_calibration and profile is None
        unread |= spec.needs_sensitivities and (profile is None or profile.sensitivities is None)
        if not is_decided_alone(spec) or unread:
            return None
        share = self._block_shares(loaded, spec, profile)[linear.block]
        used = profile if spec.needs_norms else None
        by_magnitude = used is not None and norms_of(linear, used) is None
        return Choice(spec, removed_of(linear, spec, share, used), _norms(used, linear), by_magnitude)

    def _profile(self, loaded: Loaded, recipe: Recipe) -> Profile | None:
        """Return the dense model's norms on a recipe's text, None where they were not measured yet."""
        if recipe.reading == PLAIN:
            profile = None if loaded.analysis is None else loaded.analysis.profile
        else:
            with loaded.lock:
                measured = loaded.measurements.get(("profile", recipe.reading))
            profile = measured if isinstance(measured, Profile) else None
        if profile is None or not recipe.spec.needs_sensitivities:
            return profile
        return replace(profile, sensitivities=loaded.sensitivities.get(recipe.reading))

    def _block_shares(self, loaded: Loaded, spec: PruneSpec, profile: Profile | None) -> list[float]:
        """Return the sparsity of every block; that of outliers goes through all weights, and is kept."""
        if spec.allocation != "owl":
            return allotted(spec, loaded.lm.walk("read"), profile).sparsities
        assert profile is not None  # the recipe needs a calibration
        key = (loaded.name, loaded.state, spec, profile.calibration)
        with self._lock:
            known = self._shares.get(key)
        if known is None:
            known = allotted(spec, loaded.lm.walk("read"), profile).sparsities
            with self._lock:
                self._shares[key] = known
                while len(self._shares) > MOST_ALLOCATIONS:
                    self._shares.popitem(last=False)
        return known


def _norms(profile: Profile | None, linear: Linear) -> Tensor | None:
    """Return a linear's norms, None where a profile has none."""
    return None if profile is None or linear.name not in profile.norms else profile.norms[linear.name].float()


def _masked(loaded: Loaded, linear: Linear, choices: list[Choice]) -> MaskedLinear:
    """Lay recipes over a linear. Its columns are ordered by the norms that decided the first recipe which has any, else
    by those of the built-in text."""
    assert loaded.analysis is not None  # the caller waited for it
    first = next((choice.X_norm for choice in choices if choice.X_norm is not None), None)
    norms = loaded.analysis.profile.norms[linear.name].float() if first is None else first
    return MaskedLinear(linear.weight, norms, tuple(choices))
