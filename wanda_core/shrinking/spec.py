"""`ShrinkSpec`, the whole recipe of a shrinking, which is checked once, when it is made. Without torch."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from numbers import Real
from typing import Any, cast

from wanda_core.checks import MAX_SEED, check_whole
from wanda_core.errors import InputError, shortened
from wanda_core.recipe import Solver

MAX_SHARE = 0.9  # beyond it nothing is left of a model; a slip of the hand is likelier than intent
MAX_MULTIPLE = 1024  # hardware asks for 256 at most
# By name: what people read, and whether calibration text must be read for it.
SCORES: dict[str, tuple[str, bool]] = {
    "wanda": ("Wanda's scores of the weights that read it, added up", True),
    "flap": ("FLAP's fluctuation (An et al., 2024): the variance of its input times the squared weights", True),
    "magnitude": ("the size of the weights that read it", False),
    "random": ("at random, for comparison", False),
}
UPDATES = ("none", "least-squares")
SOLVER = Solver(damping=0.05, dense_share=0.5)


@dataclass(frozen=True)
class ShrinkSpec:
    """A recipe of a shrinking: what goes, by which score, and what becomes of the weights that read the rest.

    neurons: share of every MLP's neurons to remove, above 0 and up to 0.9; as many stay in every block.
    score: which go: `wanda` (Σᵢ |Wᵢⱼ|·‖Xⱼ‖₂ over the column that reads a neuron), `flap` (Var Xⱼ · ‖W:ⱼ‖²), `magnitude`
        (Σᵢ |Wᵢⱼ|), `random`.
    update: what becomes of the columns that stay: `least-squares` solves them anew (see `solver`), `none`.
    multiple: of what the number of neurons that stay is a multiple, 1 to 1024; hardware likes 8 and more.
    solver: `damping`, `shrinkage` and `dense_share` of the update; it takes no steps, the minimum is met exactly.
    seed: of the score `random`, 0 to 2⁶³ - 1.

    Raises InputError for any value outside these rules.
    """

    neurons: float
    score: str = "wanda"
    update: str = "least-squares"
    multiple: int = 8
    solver: Solver = SOLVER
    seed: int = 0

    def __post_init__(self) -> None:
        """Check every field."""
        if isinstance(self.solver, Mapping):  # as it comes back from JSON
            object.__setattr__(self, "solver", Solver(**self.solver))
        object.__setattr__(self, "neurons", _share("neurons", self.neurons))
        for what, value, offered in (("score", self.score, tuple(SCORES)), ("update", self.update, UPDATES)):
            if value not in offered:
                raise InputError(f"{what} {shortened(value)} is not offered; choose one of {', '.join(offered)}")
        check_whole("multiple", self.multiple, 1, MAX_MULTIPLE)
        check_whole("seed", self.seed, 0, MAX_SEED)

    @property
    def needs_inputs(self) -> bool:
        """Whether the score or the update looks at the inputs of the columns, so that calibration text is read."""
        return SCORES[self.score][1] or self.update != "none"

    @property
    def label(self) -> str:
        """A short name for people: `20% of the neurons gone`."""
        by = "" if self.score == "wanda" else f" by {self.score}"
        return f"{self.neurons:.0%} of the neurons gone{by}{'' if self.update != 'none' else ', not solved anew'}"

    def kept(self, width: int, what: str) -> int:
        """Return how many of so many neurons stay. what: has them, for the message.

        Raises InputError where the share and the multiple leave all of them, or none.
        """
        stay = round(width * (1 - self.neurons) / self.multiple) * self.multiple
        if not 0 < stay < width:
            raise InputError(
                f"{self.neurons:.0%} of the {width} neurons of {what} cannot be removed in steps of {self.multiple}; "
                f"choose another share or a smaller multiple than {self.multiple}"
            )
        return stay

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values, for JSON."""
        return asdict(self)


def _share(what: str, value: Any) -> float:
    """Return a share as a plain float. Raises InputError for anything but a number above 0 and up to `MAX_SHARE`."""
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 < cast(Any, value) <= MAX_SHARE:
        raise InputError(
            f"{what} {shortened(value)} is not a share above 0 and up to {MAX_SHARE}; it is the part to remove, try 0.2"
        )
    return float(cast(Any, value))
