"""Counting what a model has lost: the zeros of every linear, the N:M patterns that hold, what else has changed."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from torch import Tensor

from wanda_core.errors import InputError
from wanda_core.model.linears import Linear

MS = (2, 4, 8, 16, 32)  # consecutive input weights among which patterns are looked for


@dataclass(frozen=True)
class Since:
    """What sets a linear apart from the dense model's. zeros: of the dense one; changed: weights that are neither zero
    nor what they were."""

    zeros: int
    changed: int


@dataclass(frozen=True)
class Count:
    """What was counted in one linear.

    shape: (C_out, C_in); zeros: exact zeros; kept: of every M that divides C_in, the most weights that are not zero
    among M consecutive ones of a row; since: against the dense model, None where none was given.
    """

    name: str
    block: int
    shape: tuple[int, int]
    zeros: int
    kept: dict[int, int]
    since: Since | None = None

    @property
    def weights(self) -> int:
        """Number of weights."""
        return self.shape[0] * self.shape[1]

    def holds(self, n: int, m: int) -> bool:
        """Whether at most N of every M consecutive input weights are not zero."""
        return m in self.kept and self.kept[m] <= n


def count(linear: Linear, dense: Linear | None = None, also: int | None = None) -> Count:
    """Count in one linear.

    dense: the same linear of the dense model; also: a further M. Raises InputError where `dense` is another linear.
    """
    W = linear.weight
    since = None
    if dense is not None:
        if (dense.name, dense.shape) != (linear.name, linear.shape):
            raise InputError(
                f"{linear.name} {linear.shape} stands against {dense.name} {dense.shape}, so one model is not the "
                "other pruned; give the model that it was made from"
            )
        before = dense.weight.to(W.device)
        since = Since(int((before == 0).sum()), int(((W != 0) & (before != W)).sum()))
    kept = {m: most_kept(W, m) for m in {*MS, also or MS[0]} if W.shape[1] % m == 0}
    return Count(linear.name, linear.block, linear.shape, int((W == 0).sum()), kept, since)


def most_kept(W: Tensor, m: int) -> int:
    """Return the most weights that are not zero among M consecutive ones of a row. W (C_out, C_in), M divides C_in."""
    return int((W.reshape(-1, m) != 0).sum(dim=1).max())


def count_all(
    blocks: Iterable[Sequence[Linear]],
    dense: Iterable[Sequence[Linear]] | None = None,
    also: int | None = None,
    after: Callable[[int], object] = lambda block: None,
) -> list[Count]:
    """Count in all linears, block after block; of both models one block is asked for at a time.

    also: a further M to look among; after: called with the number of blocks counted. Raises InputError where the models
    do not have the same linears.
    """
    counts: list[Count] = []
    pairs = zip_longest(blocks, dense) if dense is not None else ((block, None) for block in blocks)
    for number, (block, other) in enumerate(pairs, 1):
        if block is None or (dense is not None and (other is None or len(block) != len(other))):
            raise InputError(
                f"block {number} of the two models does not have the same linears, so one is not the other pruned; "
                "give the model that it was made from"
            )
        counts += [count(linear, other[i] if other is not None else None, also) for i, linear in enumerate(block)]
        after(number)
    return counts


def patterns(counts: Sequence[Count]) -> Iterator[tuple[int, int]]:
    """Yield the N:M that hold in every linear, none that follows from a finer one."""
    found: list[tuple[int, int]] = []
    for m in MS:
        if any(m not in linear.kept for linear in counts) or not counts:
            continue
        n = max(linear.kept[m] for linear in counts)
        if n < m and not any(n * other >= kept * m for kept, other in found):
            found.append((n, m))
            yield n, m
