"""`PruneSpec`, the whole recipe of a pruning, which is checked once, when it is made."""

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from numbers import Real
from typing import Any, cast

from wanda_core.checks import MAX_SEED, MAX_SPARSITY
from wanda_core.errors import InputError, shortened
from wanda_core.methods import METHODS, Method

MAX_GROUP_SIZE = 32  # M of N:M; hardware and the literature stop well below
ORDERS = ("faithful", "in-flight", "one-shot")
ALLOCATIONS = ("uniform", "owl", "measured")
UPDATES = ("none", "obs", "least-squares")


@dataclass(frozen=True)
class Solver:
    """Settings of the update `least-squares`, which re-solves the kept weights: min tr(W H Wᵀ - 2 B Wᵀ) on the mask.

    steps: conjugate-gradient steps, 1 to 1000; damping: share of the mean diagonal of XᵀX added to its whole diagonal,
    1e-6 to 1; shrinkage: share of each diagonal entry added to itself, 0 to 1; rounds: how often the mask is chosen
    afresh from the solution so far, 0 to 20; dense_share: share of the target taken from the dense model's own
    activations, 0 to 1; stream_share: share of what the pruned residual stream lacks, beside the dense one, that the
    linears adding to it make up for, 0 to 1. Both need the order `in-flight`. Raises InputError for any value outside
    these ranges.
    """

    steps: int = 10
    damping: float = 0.05
    shrinkage: float = 0.0
    rounds: int = 0
    dense_share: float = 0.0
    stream_share: float = 0.0

    def __post_init__(self) -> None:
        """Check every field."""
        for name, fewest, most in (("steps", 1, 1000), ("rounds", 0, 20)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not fewest <= value <= most:
                raise InputError(
                    f"{name} {shortened(value)} is not a whole number from {fewest} to {most}; "
                    f"leave it out for {getattr(Solver, name)}"
                )
        for name, least in (("damping", 1e-6), ("shrinkage", 0.0), ("dense_share", 0.0), ("stream_share", 0.0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, Real) or not least <= cast(Any, value) <= 1:
                raise InputError(
                    f"{name} {shortened(value)} is not a number from {least:g} to 1; leave it out for "
                    f"{getattr(Solver, name):g}"
                )

    @property
    def beside(self) -> bool:
        """Whether the dense model's own stream is needed beside the pruned one."""
        return bool(self.dense_share or self.stream_share)


@dataclass(frozen=True)
class PruneSpec:
    """A recipe: which weights go, compared with which others, and what becomes of those that stay.

    method: `wanda` (|W|·‖X‖), `wanda-variant` (per row, up to a share of the row's sum), `magnitude` (|W|),
        `ria` (relative importance · ‖X‖^½), `sparsegpt` (by the inverse Hessian, updating as it goes), `random`.
    sparsity: share of zeros, 0 to 0.95; by default 0.5, or what an N:M pattern implies.
    pattern: `unstructured`, or `N:M`, which keeps N of every M consecutive input weights.
    group: what scores are compared within: `row` (one output), `matrix` (one linear), `column` (one input), rows or
        columns in blocks of 128 (`row:128`, `column:128`), `model`; by default the method's first. N:M compares
        within M.
    order: when inputs are measured: `faithful`, the reference protocol, block by block; `in-flight`, each linear as
        soon as its inputs are known; `one-shot`, once, on the dense model.
    allocation: `uniform`, `owl` (blocks with more outliers keep more), `measured` (blocks whose pruning alone harms the
        model's output more keep more), or the sparsity of every block.
    update: what becomes of the kept weights: `none`, `obs` (SparseGPT's), `least-squares` (see `solver`); by default
        the method's own.
    seed: of the method `random`, 0 to 2⁶³ - 1.
    arrange: for an N:M pattern, whether the neurons of every MLP, and the values within attention heads where they can
        be told apart, first come into an order in which the pattern costs least; the model computes the same in it.

    Raises InputError for any value outside these rules, or a combination that means nothing.
    """

    method: str = "wanda"
    sparsity: float | None = None
    pattern: str = "unstructured"
    group: str | None = None
    order: str = "faithful"
    allocation: str | tuple[float, ...] = "uniform"
    update: str | None = None
    solver: Solver = field(default_factory=Solver)
    seed: int = 0
    arrange: bool = False

    def __post_init__(self) -> None:
        """Check every field and fill in what follows from the others."""
        one_of("method", self.method, tuple(METHODS))
        one_of("order", self.order, ORDERS)
        update = self.update or self.definition.default_update
        one_of("update", update, UPDATES)
        object.__setattr__(self, "update", update)
        if isinstance(self.solver, Mapping):  # as it comes back from JSON
            object.__setattr__(self, "solver", Solver(**self.solver))
        if isinstance(self.allocation, (list, tuple)):
            object.__setattr__(self, "allocation", tuple(_checked_sparsity(share) for share in self.allocation))
        else:
            one_of("allocation", self.allocation, ALLOCATIONS)
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or not 0 <= self.seed <= MAX_SEED:
            raise InputError(
                f"seed {shortened(self.seed)} is not a whole number from 0 to {MAX_SEED}; choose one in that range"
            )
        sparsity, group = self._amount()
        object.__setattr__(self, "sparsity", sparsity)
        object.__setattr__(self, "group", group)
        self._check_combination()

    def _amount(self) -> tuple[float, str]:
        """Work out sparsity and group from what was given and the pattern."""
        n_of_m = parse_pattern(self.pattern)
        if n_of_m is None:
            groups = self.definition.groups
            group = groups[0] if self.group is None else self.group
            one_of(f"group for {self.method}", group, groups)
            return _checked_sparsity(0.5 if self.sparsity is None else self.sparsity), group
        n, m = n_of_m
        implied = 1 - n / m
        if self.sparsity is not None and not math.isclose(_checked_sparsity(self.sparsity, 1.0), implied):
            raise InputError(
                f"sparsity {self.sparsity} contradicts pattern {self.pattern}, which sets {implied:.4g}; "
                "leave the sparsity out"
            )
        if self.group not in (None, "row"):
            raise InputError(
                f"group {shortened(self.group)} cannot be combined with pattern {self.pattern}, "
                f"which compares within every {m} weights; leave the group out"
            )
        if not self.definition.takes_patterns:
            raise InputError(
                f"{self.method} cuts rows unevenly, so pattern {self.pattern} cannot be asked of it; choose wanda"
            )
        if self.allocation != "uniform":
            raise InputError(
                f"allocation {shortened(self.allocation)} cannot be combined with pattern {self.pattern}, "
                "which fixes every block's sparsity; leave the allocation out"
            )
        return implied, "row"

    def _check_combination(self) -> None:
        """Raise InputError for fields that are each in order and mean nothing together."""
        if self.definition.sweeps and self.update == "none":
            raise InputError(
                f"{self.method} updates the kept weights as it goes, so update 'none' does not apply; leave it out"
            )
        if self.definition.sweeps and self.solver.rounds:
            raise InputError(
                f"rounds {self.solver.rounds} choose the mask afresh by a score, and {self.method} has its own sweep "
                "for that; leave the rounds out or choose wanda"
            )
        if self.order == "one-shot" and self.update != "none":
            raise InputError(
                f"update {shortened(self.update)} needs the inputs themselves, and order one-shot has their norms "
                "alone; choose in-flight or faithful"
            )
        if self.group == "model" and (self.update != "none" or self.allocation != "uniform"):
            raise InputError(
                "group model sets one threshold for all blocks, so neither an allocation nor an update goes with it; "
                "leave them out or choose another group"
            )
        for share in ("dense_share", "stream_share"):
            asked = getattr(self.solver, share)
            if asked and (self.order != "in-flight" or self.update != "least-squares"):
                raise InputError(
                    f"{share} {asked} needs order in-flight and update least-squares; choose these or leave it out"
                )
        if not isinstance(self.arrange, bool):
            raise InputError(f"arrange {shortened(self.arrange)} is neither true nor false; leave it out for false")
        if self.arrange and (self.n_of_m is None or self.definition.seeded):
            raise InputError(
                "arrange looks for neighbours that an N:M pattern costs least, by their scores; choose a pattern such "
                "as 2:4 and a method other than random, or leave it out"
            )
        if self.allocation == "owl" and not self.target:
            raise InputError("allocation owl has nothing to allot at sparsity 0; choose a sparsity above 0")

    @property
    def definition(self) -> Method:
        """The method's row of the table `METHODS`."""
        return METHODS[self.method]

    @property
    def target(self) -> float:
        """The share of zeros asked for, 0 to 1."""
        assert self.sparsity is not None  # filled in when made
        return self.sparsity

    @property
    def n_of_m(self) -> tuple[int, int] | None:
        """(N, M) of an N:M pattern, None when unstructured."""
        return parse_pattern(self.pattern)

    @property
    def needs_norms(self) -> bool:
        """Whether the score needs input norms."""
        return self.definition.needs_norms

    @property
    def needs_gram(self) -> bool:
        """Whether XᵀX is needed besides the norms: whenever kept weights are updated."""
        return self.update != "none"

    @property
    def needs_calibration(self) -> bool:
        """Whether anything needs a text to run through the model."""
        return self.needs_norms or self.needs_gram or self.allocation == "owl" or self.needs_sensitivities

    @property
    def needs_profile(self) -> bool:
        """Whether the dense model's norms decide anything, the sparsities of blocks included."""
        allots = self.allocation == "owl" or self.needs_sensitivities
        return self.needs_calibration and (self.order == "one-shot" or allots or self.arrange)

    @property
    def needs_sensitivities(self) -> bool:
        """Whether it must be known how much each block's pruning harms the model's output: where anything is pruned."""
        return self.allocation == "measured" and self.target > 0

    @property
    def by_row(self) -> bool:
        """Whether a row's mask follows from that row alone."""
        return self.definition.by_row and str(self.group).startswith("row")

    @property
    def passes(self) -> float:
        """How often a pass of the dense model over the calibration text would fit into the time that pruning takes, as
        measured on the built-in model."""
        if self.update != "none":
            return 3.0 * (1 + self.solver.rounds)
        if not self.needs_calibration or self.order == "one-shot":
            return 0.15
        return {"faithful": 2.1, "in-flight": 1.3}[self.order]

    @property
    def label(self) -> str:
        """A short name for people: `Wanda 50%`, `Magnitude 2:4`, `Wanda 60% + least squares`."""
        amount = f"{self.target:.0%}" if self.n_of_m is None else self.pattern
        allotted = {"owl": " OWL", "measured": " measured"}.get(str(self.allocation), "")
        extra = {"obs": " + OBS", "least-squares": " + least squares"}.get(str(self.update), "")
        if self.update == self.definition.default_update:
            extra = ""
        return f"{self.definition.title} {amount}{' arranged' * self.arrange}{allotted}{extra}"

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values, for JSON."""
        fields = asdict(self)
        if not self.arrange:  # most recipes have no pattern
            del fields["arrange"]
        return fields | ({} if isinstance(self.allocation, str) else {"allocation": list(self.allocation)})


def parse_pattern(pattern: str) -> tuple[int, int] | None:
    """Read a pattern: `"2:4"` -> (2, 4); `"unstructured"` -> None.

    Raises InputError unless 0 < N < M <= 32.
    """
    if pattern == "unstructured":
        return None
    match = re.fullmatch(r"([1-9][0-9]?):([1-9][0-9]?)", pattern) if isinstance(pattern, str) else None
    if match:
        n, m = int(match[1]), int(match[2])
        if 0 < n < m <= MAX_GROUP_SIZE:
            return n, m
    raise InputError(
        f"pattern {shortened(pattern)} is neither 'unstructured' nor N:M with 0 < N < M <= {MAX_GROUP_SIZE}, "
        "N weights kept of every M; try 2:4 or 4:8"
    )


def _checked_sparsity(value: Any, most: float = MAX_SPARSITY) -> float:
    """Return a sparsity as a plain float. Raises InputError for anything but a number from 0 to `most`."""
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 <= cast(Any, value) <= most:
        raise InputError(
            f"sparsity {shortened(value)} is not a number from 0 to {most}; it is the share of weights to remove, try "
            "0.5"
        )
    return float(value)


def one_of(what: str, value: Any, allowed: tuple[str, ...]) -> None:
    """Raise InputError unless the value is one of those allowed. what: the field's name, for the message."""
    if value not in allowed:
        raise InputError(f"{what} {shortened(value)} is not offered; choose one of {', '.join(allowed)}")
