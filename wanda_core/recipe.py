"""`PruneSpec`: the whole recipe of a pruning, checked once, when made."""

import math
import re
from dataclasses import asdict, dataclass
from numbers import Real
from typing import Any

from wanda_core.errors import InputError

MAX_SPARSITY = 0.95  # beyond it every method leaves noise; a slip of the slider is likelier than intent
MAX_GROUP_SIZE = 32  # M of N:M; hardware and the literature stop well below
METHODS = ("wanda", "magnitude")
GROUPS = {"wanda": ("row", "matrix"), "magnitude": ("matrix", "row", "model")}  # the first is the default
ORDERS = ("faithful",)


@dataclass(frozen=True)
class PruneSpec:
    """A recipe: which weights go, compared with which others.

    method: `wanda` (|W|·‖X‖₂) or `magnitude` (|W|).
    sparsity: share of zeros, 0 to 0.95; left out, 0.5, or what an N:M pattern implies.
    pattern: `unstructured`, or `N:M`, which keeps N of every M consecutive input weights.
    group: what scores are compared within: `row` (one output), `matrix` (one linear), `model`;
        left out, the method's default (`row` for wanda, `matrix` for magnitude). N:M compares within M.
    order: when statistics are taken; `faithful` is the reference protocol, block by block.

    Raises InputError for any value outside these rules.
    """

    method: str = "wanda"
    sparsity: float | None = None
    pattern: str = "unstructured"
    group: str | None = None
    order: str = "faithful"

    def __post_init__(self) -> None:
        """Check every field and fill in what follows from the others."""
        _one_of("method", self.method, METHODS)
        _one_of("order", self.order, ORDERS)
        n_of_m = parse_pattern(self.pattern)
        if n_of_m is None:
            sparsity = _checked_sparsity(0.5 if self.sparsity is None else self.sparsity)
            group = GROUPS[self.method][0] if self.group is None else self.group
            _one_of(f"group for {self.method}", group, GROUPS[self.method])
        else:
            n, m = n_of_m
            implied = 1 - n / m
            if self.sparsity is not None and not math.isclose(_checked_sparsity(self.sparsity, 1.0), implied):
                raise InputError(
                    f"sparsity {self.sparsity} contradicts pattern {self.pattern}, which sets {implied:.4g}; "
                    "leave the sparsity out"
                )
            if self.group not in (None, "row"):
                raise InputError(
                    f"group {self.group!r} cannot be combined with pattern {self.pattern}, "
                    f"which compares within every {m} weights; leave the group out"
                )
            sparsity, group = implied, "row"
        object.__setattr__(self, "sparsity", sparsity)
        object.__setattr__(self, "group", group)

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
    def needs_calibration(self) -> bool:
        """Whether the method looks at activations."""
        return self.method != "magnitude"

    @property
    def label(self) -> str:
        """A short name for people: `Wanda 50%`, `Magnitude 2:4`."""
        amount = f"{self.target:.0%}" if self.n_of_m is None else self.pattern
        return f"{self.method.capitalize()} {amount}"

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain values, for JSON."""
        return asdict(self)


def parse_pattern(pattern: str) -> tuple[int, int] | None:
    """`"2:4"` -> (2, 4); `"unstructured"` -> None.

    Raises InputError unless 0 < N < M <= 32.
    """
    if pattern == "unstructured":
        return None
    match = re.fullmatch(r"(\d{1,3}):(\d{1,3})", pattern) if isinstance(pattern, str) else None
    if match:
        n, m = int(match[1]), int(match[2])
        if 0 < n < m <= MAX_GROUP_SIZE:
            return n, m
    raise InputError(
        f"pattern {pattern!r} is neither 'unstructured' nor N:M with 0 < N < M <= {MAX_GROUP_SIZE}, "
        "N weights kept of every M; try 2:4 or 4:8"
    )


def _checked_sparsity(value: Any, most: float = MAX_SPARSITY) -> float:
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 <= float(value) <= most:
        raise InputError(
            f"sparsity {value!r} is not a number from 0 to {most}; it is the share of weights to remove, try 0.5"
        )
    return float(value)


def _one_of(what: str, value: Any, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise InputError(f"{what} {value!r} is not offered; choose one of {', '.join(allowed)}")
