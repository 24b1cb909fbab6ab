"""One linear beside what some recipes remove of it: what every figure of single weights is drawn from."""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from wanda_core.errors import InputError, shortened
from wanda_core.maths import scores
from wanda_core.recipe import PruneSpec

# By what a recipe orders the weights: |W|, |W|·‖X‖, RIA's relative importance, or something else that does not show of
# a single weight.
Metric = Literal["size", "score", "importance", "other"]
MOST_CHOICES = 3  # recipes compared at once
BRIGHTEST, FAINTEST = 0.999, 0.02  # quantiles of |W| between which sizes are told apart in a picture
SAMPLED = 1 << 20  # weights that quantiles are taken of, spread evenly


@dataclass(frozen=True)
class Choice:
    """What one recipe removes of a linear.

    spec: the recipe; removed: bool (C_out, C_in), True where a weight goes, or was zero before; X_norm: (C_in,) the
    norms that decided, None where they are those of the `MaskedLinear`; by_magnitude: whether |W| decided instead of
    the recipe's score, as for experts that were sent too few tokens.
    """

    spec: PruneSpec
    removed: Tensor
    X_norm: Tensor | None = None
    by_magnitude: bool = False

    @property
    def metric(self) -> Metric:
        """By what the recipe ordered the weights."""
        if self.by_magnitude:
            return "size"
        if self.spec.needs_gram:
            return "other"  # of weights that moved before the choice
        by: dict[str, Metric] = {"magnitude": "size", "wanda": "score", "wanda-variant": "score", "ria": "importance"}
        return by.get(self.spec.method, "other")

    def compared(self, row: int, column: int) -> tuple[slice, slice]:
        """Return the rows and the columns of the weights that one was compared with.

        Those of N:M, of a row or a column or a part of either; of the matrix also where the whole model was compared.
        """
        rows, columns = self.removed.shape
        if self.spec.n_of_m is not None:
            m = self.spec.n_of_m[1]
            return slice(row, row + 1), slice(column // m * m, column // m * m + m)
        along, _, size = str(self.spec.group).partition(":")
        if along == "row":
            return slice(row, row + 1), _part(column, size, columns)
        if along == "column":
            return _part(row, size, rows), slice(column, column + 1)
        return slice(0, rows), slice(0, columns)


def _part(place: int, size: str, length: int) -> slice:
    """Return the stretch of `size` that a place lies in, all of the length where no size is given."""
    if not size:
        return slice(0, length)
    start = place // int(size) * int(size)
    return slice(start, min(start + int(size), length))


@dataclass(frozen=True)
class MaskedLinear:
    """One linear and what recipes remove of it.

    W: (C_out, C_in) as in the dense model; X_norm: (C_in,) float32 L2 norms of its input columns, up to one common
    factor; choices: of MOST_CHOICES recipes at most. Raises InputError for shapes that do not fit.
    """

    W: Tensor
    X_norm: Tensor
    choices: tuple[Choice, ...]

    def __post_init__(self) -> None:
        """Check the shapes."""
        shapes = {tuple(choice.removed.shape) for choice in self.choices}
        if self.X_norm.shape != self.W.shape[1:] or shapes - {tuple(self.W.shape)} or self.W.ndim != 2:
            raise InputError(
                f"{tuple(self.X_norm.shape)} norms and masks of {sorted(shapes)} are given for weights of "
                f"{tuple(self.W.shape)}; give one norm a column and masks of the weights' shape"
            )
        if len(self.choices) > MOST_CHOICES:
            raise InputError(f"{len(self.choices)} recipes are given and {MOST_CHOICES} compared; leave some out")

    @property
    def pair(self) -> tuple[Choice, Choice]:
        """The first two recipes; of one alone both are it. Raises InputError where there is none."""
        if not self.choices:
            raise InputError("no recipe is laid over this linear; give one or two")
        return self.choices[0], self.choices[min(1, len(self.choices) - 1)]

    @cached_property
    def order(self) -> Tensor:
        """Columns from the quietest to the loudest input, (C_in,) int64; of equal norms the first comes first."""
        return self.X_norm.argsort(stable=True).cpu()

    @cached_property
    def loudness(self) -> Tensor:
        """Place of every column in `order`, (C_in,) int64."""
        places = torch.empty_like(self.order)
        places[self.order] = torch.arange(len(self.order), dtype=torch.int64)
        return places

    @cached_property
    def sizes(self) -> tuple[float, float]:
        """|W| of a faint and of a bright weight: two quantiles of the sizes above zero; (0, 1) where all are zero."""
        flat = self.W.detach().reshape(-1)
        flat = flat[:: flat.numel() // SAMPLED | 1].abs().float()  # odd: an even step would meet only some columns
        flat = flat[flat > 0]
        if not len(flat):
            return 0.0, 1.0
        ordered = flat.sort().values
        low, high = (float(ordered[int(share * (len(ordered) - 1))]) for share in (FAINTEST, BRIGHTEST))
        return low, max(high, low * 1.0001)

    def score_of_row(self, row: int) -> Tensor:
        """|W|·‖X‖ of a row, (C_in,) float32 on the CPU."""
        return scores.wanda(self.W[row].float(), self.X_norm.to(self.W.device)).cpu()

    def norms_of(self, choice: Choice) -> Tensor:
        """The norms by which a recipe chose, (C_in,) float32, where the weights lie."""
        norms = self.X_norm if choice.X_norm is None else choice.X_norm
        return norms.float().to(self.W.device)

    def check_place(self, row: object, column: object) -> tuple[int, int]:
        """Return a place of the matrix. Raises InputError for one that is not there."""
        return _place(row, self.W.shape[0], "row"), _place(column, self.W.shape[1], "column")

    @property
    def nbytes(self) -> int:
        """Bytes of its masks; the weights are the model's."""
        return sum(choice.removed.numel() for choice in self.choices)


def _place(given: object, length: int, what: str) -> int:
    if isinstance(given, bool) or not isinstance(given, int) or not 0 <= given < length:
        raise InputError(f"{what} {shortened(given)} does not exist; this linear has {what}s 0 to {length - 1}")
    return given
