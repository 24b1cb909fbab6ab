"""The presets: whole recipes by name, each a row of a table, which other fields of a recipe may change."""

from dataclasses import dataclass, field, replace
from typing import Any

from wanda_core.checks import DEFAULT_SAMPLES, DEFAULT_SEQ_LEN
from wanda_core.methods import METHODS
from wanda_core.recipe import PruneSpec, Solver, one_of


@dataclass(frozen=True)
class Preset:
    """A whole recipe.

    name: in commands and on the page; order, update, solver: as in `PruneSpec`; group, allocation: those of an
    unstructured recipe whose method offers the group, None for the recipe's own: N:M compares within its M weights and
    fixes every block's sparsity; draw: windows and tokens each of the calibration text that commands draw; like: the
    preset whose recipe it has, on a draw of its own.
    """

    name: str
    order: str = "faithful"
    update: str | None = None
    group: str | None = None
    allocation: str | None = None
    solver: Solver = field(default_factory=Solver)
    draw: tuple[int, int] = (DEFAULT_SAMPLES, DEFAULT_SEQ_LEN)
    like: str | None = None

    def fields(self, method: str, unstructured: bool) -> dict[str, Any]:
        """Return the fields of its recipe with that method of `METHODS`, or with an unknown one, which is refused
        later; unstructured: whether no N:M pattern is asked for."""
        known = METHODS.get(method)
        solver = replace(self.solver, rounds=0) if known and known.sweeps else self.solver  # a sweep chooses once
        found = {"order": self.order, "update": self.update, "solver": solver}
        if unstructured and known and self.group in known.groups:
            found["group"] = self.group
        if unstructured:
            found["allocation"] = self.allocation
        return {name: value for name, value in found.items() if value is not None}


# Wanda's mask in flight, compared within the matrix, the kept weights re-solved, the mask chosen twice more; how much a
# block loses goes by what that does to the output.
BEST = Preset(
    "best",
    order="in-flight",
    update="least-squares",
    group="matrix",
    allocation="measured",
    solver=Solver(steps=8, damping=0.01, shrinkage=0.3, rounds=2, dense_share=0.5, stream_share=0.25),
)
PAPER = Preset("paper", draw=(128, 2048))  # Wanda as published
FINEST = replace(BEST, name="finest", draw=(32, 512), like="best")  # longer windows help more than as many short ones
PRESETS = {each.name: each for each in (PAPER, BEST, FINEST)}
RECIPES = tuple(each.name for each in PRESETS.values() if each.like is None)  # those that are recipes of their own


def preset(name: str, **given: Any) -> PruneSpec:
    """Make a recipe from a preset's name. given: fields of PruneSpec, which take precedence unless they are None.

    Raises InputError for an unknown name or a combination that means nothing.
    """
    one_of("preset", name, tuple(PRESETS))
    given = {"method": "wanda"} | {key: value for key, value in given.items() if value is not None}
    unstructured = given.get("pattern", "unstructured") == "unstructured"
    return PruneSpec(**PRESETS[name].fields(str(given["method"]), unstructured) | given)
