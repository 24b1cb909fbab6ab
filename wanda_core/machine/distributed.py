"""Sharing work between processes, on one machine or many, that prune one model together.

Each reads its share of the calibration text and prunes its share of every matrix's rows; what they measured is added
up and the rows are exchanged, so that all hold the same pruned model. Every process must call these functions in the
same order. In a single process, or outside `joining.joined`, each function gives back what it is given.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from wanda_core.errors import InputError, ProcessError


@dataclass
class Group:
    """The processes that work together.

    rank: of this process, from 0; size: how many there are; device: for what they exchange; waited: seconds this
    process spent exchanging and waiting.
    """

    rank: int
    size: int
    device: torch.device
    waited: float = 0.0


_alone = Group(0, 1, torch.device("cpu"))
_group = _alone


@contextmanager
def working_in(group: Group) -> Iterator[None]:
    """Context manager: exchange with the processes of `group`, which torch.distributed has connected."""
    global _group
    _group = group
    try:
        yield
    finally:
        _group = _alone


def size() -> int:
    """Return how many processes work together, 1 outside `joined`."""
    return _group.size


def first() -> bool:
    """Tell whether this process is the first, the only one that speaks and writes."""
    return _group.rank == 0


def waited() -> float:
    """Return how many seconds this process has spent exchanging and waiting since it joined."""
    return _group.waited


def share(samples: Tensor) -> Tensor:
    """Take the calibration windows this process reads, as even as can be. (N, …) -> (about N / size, …).

    Raises InputError when there are fewer windows than processes.
    """
    if len(samples) < _group.size:
        raise InputError(
            f"samples {len(samples)} are too few to be split over {_group.size} processes; "
            "start fewer processes or raise the number of samples"
        )
    return samples[part(len(samples))]


def part(count: int, rank: int | None = None) -> slice:
    """Return which of `count` things in a row belong to the process of that rank, by default to this one."""
    here = _group.rank if rank is None else rank
    return slice(count * here // _group.size, count * (here + 1) // _group.size)


def total(x: Tensor) -> Tensor:
    """Sum over all processes, in x's shape and dtype; x itself may be overwritten."""
    if _group.size > 1:
        with _exchanging():
            dist.all_reduce(x)
    return x


def least(value: int) -> int:
    """Minimum over all processes, so that all take the same branch."""
    return _reduced(value, dist.ReduceOp.MIN)


def sum_of(value: int) -> int:
    """Sum of a whole number over all processes."""
    return _reduced(value, dist.ReduceOp.SUM)


def _reduced(value: int, how: dist.ReduceOp.RedOpType) -> int:
    if _group.size == 1:
        return value
    shared = torch.tensor(value, dtype=torch.int64, device=_group.device)
    with _exchanging():
        dist.all_reduce(shared, how)
        return int(shared)


def each(*values: float) -> tuple[tuple[float, ...], ...]:
    """Collect the values of every process, by rank; () in a single process."""
    if _group.size == 1:
        return ()
    table = torch.zeros(_group.size, len(values), dtype=torch.float64, device=_group.device)
    table[_group.rank] = torch.tensor(values, dtype=torch.float64)
    return tuple(tuple(row) for row in total(table).tolist())


def whole(rows: Tensor, height: int) -> Tensor:
    """Build the matrix of which each process holds its `part` of `height` rows, bit for bit.

    rows: those of this process, (about R / size, C) -> (R, C).
    """
    if _group.size == 1:
        return rows
    matrix = rows.new_empty((height, *rows.shape[1:]))
    matrix[part(height)] = rows
    with _exchanging():
        for rank in range(_group.size):
            if (theirs := matrix[part(height, rank)]).numel():
                dist.broadcast(theirs, rank)
    return matrix


@dataclass(frozen=True)
class RowShare:
    """Splits the rows of a matrix between processes; called with this process's rows, it builds the whole matrix.

    height: C_out of the whole. In a single process the rows are the whole.
    """

    height: int

    def own(self, matrix: Tensor) -> Tensor:
        """Take the rows of this process. (C_out, C) -> about (C_out / size, C), a view."""
        return matrix[part(self.height)]

    def __call__(self, rows: Tensor) -> Tensor:
        """Build the whole from the rows of every process. -> (C_out, C), bit for bit."""
        return whole(rows, self.height)


@contextmanager
def _exchanging() -> Iterator[None]:
    """Context manager: add the seconds that exchanging and waiting take to the group's `waited`."""
    started = time.perf_counter()
    with others_may_be_gone():
        yield
    _group.waited += time.perf_counter() - started


@contextmanager
def others_may_be_gone() -> Iterator[None]:
    """Context manager: raise ProcessError for whatever torch.distributed raises when another process has gone."""
    try:
        yield
    except (RuntimeError, ValueError) as error:  # dist's own errors are such
        raise ProcessError(
            "another process ended or could not be reached before the work was done, so this one stops and nothing "
            "is written; see what the other said and start all again"
        ) from error
