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
PARTS = ("neurons", "heads", "blocks")
MAX_BLOCKS = 1000
UPDATES = ("none", "least-squares")
SOLVER = Solver(damping=0.01, shrinkage=0.3, dense_share=0.5)  # as the preset best


@dataclass(frozen=True)
class ShrinkSpec:
    """A recipe of a shrinking: what goes, by which score, and what becomes of the weights that read the rest.

    One of the first three:
    neurons: share of every MLP's neurons to remove, above 0 and up to 0.9; as many stay in every block.
    heads: the same of the attention heads, in groups that share their keys and values.
    blocks: how many whole blocks to remove, those that change the hidden state least; or the share of them, below 1.

    score: which neurons or heads go: `wanda` (Σᵢ |Wᵢⱼ|·‖Xⱼ‖₂ over the columns that read one), `flap` (Var Xⱼ · ‖W:ⱼ‖²),
        `magnitude` (Σᵢ |Wᵢⱼ|), `random`.
    update: what becomes of the columns that stay: `least-squares` solves them anew (see `solver`), `none`.
    multiple: of what the number of neurons that stay is a multiple, 1 to 1024; hardware likes 8 and more.
    solver: `damping`, `shrinkage` and `dense_share` of the update; it takes no steps, the minimum is met exactly.
    seed: of the score `random`, 0 to 2⁶³ - 1.

    Raises InputError for any value outside these rules.
    """

    neurons: float | None = None
    heads: float | None = None
    blocks: float | None = None
    score: str = "wanda"
    update: str = "least-squares"
    multiple: int = 8
    solver: Solver = SOLVER
    seed: int = 0

    def __post_init__(self) -> None:
        """Check every field."""
        if isinstance(self.solver, Mapping):  # as it comes back from JSON
            object.__setattr__(self, "solver", Solver(**self.solver))
        given = [name for name in PARTS if getattr(self, name) is not None]
        if len(given) != 1:
            raise InputError(
                f"{' and '.join(given) + ' are' if given else 'nothing is'} to be removed, and a shrinking removes "
                f"one of {', '.join(PARTS)}; shrink what comes out once more for another"
            )
        for name in ("neurons", "heads"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, _share(name, getattr(self, name)))
        if self.blocks is not None:
            object.__setattr__(self, "blocks", _blocks(self.blocks))
        for what, value, offered in (("score", self.score, tuple(SCORES)), ("update", self.update, UPDATES)):
            if value not in offered:
                raise InputError(f"{what} {shortened(value)} is not offered; choose one of {', '.join(offered)}")
        if self.blocks is not None and self.score != "wanda":
            raise InputError(
                f"score {self.score} is of neurons and heads, and blocks go by how little they change; leave it out"
            )
        if self.solver.stream_share:
            raise InputError(
                f"stream_share {self.solver.stream_share} is for pruning, and a shrinking does not follow the stream; "
                "leave it out"
            )
        check_whole("multiple", self.multiple, 1, MAX_MULTIPLE)
        check_whole("seed", self.seed, 0, MAX_SEED)

    @property
    def part(self) -> str:
        """What is removed: `neurons`, `heads` or `blocks`."""
        return next(name for name in PARTS if getattr(self, name) is not None)

    @property
    def needs_inputs(self) -> bool:
        """Whether anything depends on what enters the matrices or blocks, so that calibration text is read."""
        return self.blocks is not None or SCORES[self.score][1] or self.update != "none"

    def label(self, gone: int, of: int) -> str:
        """Name it for people: `20% of the neurons gone`, `2 of 30 blocks gone`. gone, of: how many, and of how many."""
        if self.blocks is not None:
            return f"{gone} of {of} blocks gone"
        by = "" if self.score == "wanda" else f" by {self.score}"
        return f"{gone / of:.0%} of the {self.part} gone{by}{'' if self.update != 'none' else ', not solved anew'}"

    def kept_neurons(self, width: int, title: str) -> int:
        """Return how many of so many neurons stay. title: of the model, for the message.

        Raises InputError where the share and the multiple leave all of them, or none.
        """
        assert self.neurons is not None
        stay = round(width * (1 - self.neurons) / self.multiple) * self.multiple
        if not 0 < stay < width:
            raise InputError(
                f"{self.neurons:.0%} of the {width} neurons of {title} cannot be removed in steps of {self.multiple}; "
                "choose another share or a smaller multiple"
            )
        return stay

    def kept_groups(self, groups: int, title: str) -> int:
        """Return how many of so many groups of heads stay. Raises InputError where it is all of them, or none."""
        assert self.heads is not None
        stay = round(groups * (1 - self.heads))
        if not 0 < stay < groups:
            raise InputError(
                f"{self.heads:.0%} of the attention heads of {title} cannot be removed, since they come in groups "
                f"that share keys and values, {groups} in all; choose another share or remove neurons"
            )
        return stay

    def kept_blocks(self, blocks: int, title: str) -> int:
        """Return how many of so many blocks stay. Raises InputError for over nine of ten and for a share of none."""
        assert self.blocks is not None
        gone = self.blocks if isinstance(self.blocks, int) else round(self.blocks * blocks)
        if not gone:
            raise InputError(
                f"{self.blocks:.1%} of the {blocks} blocks of {title} is less than half a block; choose a larger "
                "share or a number of blocks"
            )
        if gone > blocks * MAX_SHARE:
            raise InputError(
                f"{gone} of the {blocks} blocks of {title} are more than {MAX_SHARE:.0%}; choose "
                f"{int(blocks * MAX_SHARE)} or fewer"
            )
        return blocks - gone

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values, for JSON."""
        return asdict(self)


def _blocks(given: Any) -> float:
    """Return a number of blocks as an int, a share of them as a float. Raises InputError for what is neither."""
    number = isinstance(given, Real) and not isinstance(given, bool)
    if number and 1 <= cast(Any, given) <= MAX_BLOCKS and int(given) == given:
        return int(given)
    if number and 0 < cast(Any, given) <= MAX_SHARE:
        return float(given)
    raise InputError(
        f"blocks {shortened(given)} is neither a whole number from 1 to {MAX_BLOCKS} nor a share above 0 and up to "
        f"{MAX_SHARE}; try 2 or 0.1"
    )


def _share(what: str, value: Any) -> float:
    """Return a share as a plain float. Raises InputError for anything but a number above 0 and up to `MAX_SHARE`."""
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 < cast(Any, value) <= MAX_SHARE:
        raise InputError(
            f"{what} {shortened(value)} is not a share above 0 and up to {MAX_SHARE}; it is the part to remove, try 0.2"
        )
    return float(cast(Any, value))
