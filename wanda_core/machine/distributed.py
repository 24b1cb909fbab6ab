"""Several processes, on one machine or many, that prune one model together, as `torchrun` starts them.

Each reads its share of the calibration text and prunes its share of every matrix's rows; what they found is added up
and exchanged, so that all hold the same pruned model. Every process must call these functions in the same order.
Outside `joined`, and in a single process, they give back what they are given.
"""

import itertools
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from types import FrameType
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from wanda_core.errors import InputError, ProcessError
from wanda_core.machine.process import rank_and_size

# A process that died is noticed at once; this is for one that hangs. The slowest may load its model so much later.
TIMEOUT = timedelta(minutes=10)


@dataclass
class Group:
    """The processes that work together. rank: this one, from 0; waited: seconds it spent exchanging and waiting."""

    rank: int
    size: int
    device: torch.device
    waited: float = 0.0


_times = itertools.count()
_alone = Group(0, 1, torch.device("cpu"))
_group = _alone


def size() -> int:
    """How many processes work together; 1 outside `joined`."""
    return _group.size


def first() -> bool:
    """Whether this process is the one that speaks and writes."""
    return _group.rank == 0


def waited() -> float:
    """Seconds this process has spent exchanging and waiting since it joined."""
    return _group.waited


@contextmanager
def joined(
    device: str | None = None, on_failure: Callable[[bool], object] = lambda first: None
) -> Iterator[str | None]:
    """Inside, this process works with the others `torchrun` started, if it did. Gives the device to use: on a GPU
    every process has its own, by its number on the machine; otherwise `device` as it was given.

    on_failure: told, before an exception leaves, whether this process is the first of all that failed; the others
    fail because it did. Raises InputError for a device that processes cannot share, ProcessError inside when another
    process has gone.
    """
    global _group
    rank, count = rank_and_size()
    if count == 1:
        yield device
        return
    store = None
    before = _stop_on_term()
    try:
        with _others_may_be_gone():
            # Under a name of its own each time: what an earlier group left there means nothing now.
            store = dist.PrefixStore(f"wanda-{next(_times)}", next(dist.rendezvous("env://", timeout=TIMEOUT))[0])
        place = _own_device(device)
        backend = "nccl" if place.type == "cuda" else "gloo"
        with _others_may_be_gone():
            dist.init_process_group(backend, store=store, rank=rank, world_size=count, timeout=TIMEOUT)
        _group = Group(rank, count, place)
        yield str(place)
    except BaseException:
        on_failure(_first_to_fail(store))
        raise
    finally:
        _group = _alone
        if dist.is_initialized():
            with suppress(RuntimeError):  # of processes that have gone
                dist.destroy_process_group()
        if before is not None:
            signal.signal(signal.SIGTERM, before)


def share(samples: Tensor) -> Tensor:
    """The calibration windows this process reads, as even as can be. (N, …) -> (about N / size, …).

    Raises InputError when there are fewer windows than processes.
    """
    if len(samples) < _group.size:
        raise InputError(
            f"samples {len(samples)} are too few to be split over {_group.size} processes; "
            "start fewer processes or raise the number of samples"
        )
    return samples[part(len(samples))]


def part(count: int, rank: int | None = None) -> slice:
    """Which of `count` things in a row are this process's, or another's."""
    here = _group.rank if rank is None else rank
    return slice(count * here // _group.size, count * (here + 1) // _group.size)


def total(x: Tensor) -> Tensor:
    """The sum over all processes, in x's shape and dtype; x itself may be overwritten."""
    if _group.size > 1:
        with _exchanging():
            dist.all_reduce(x)
    return x


def least(value: int) -> int:
    """The smallest of the values the processes have: how they agree on a way to go."""
    return _agreed(value, dist.ReduceOp.MIN)


def sum_of(value: int) -> int:
    """The sum of the values the processes have."""
    return _agreed(value, dist.ReduceOp.SUM)


def _agreed(value: int, how: dist.ReduceOp.RedOpType) -> int:
    if _group.size == 1:
        return value
    found = torch.tensor(value, device=_group.device)
    with _exchanging():
        dist.all_reduce(found, how)
        return int(found)


def each(*values: float) -> tuple[tuple[float, ...], ...]:
    """The values of every process, by rank; nothing where there is one alone."""
    if _group.size == 1:
        return ()
    found = torch.zeros(_group.size, len(values), dtype=torch.float64, device=_group.device)
    found[_group.rank] = torch.tensor(values, dtype=torch.float64)
    return tuple(tuple(row) for row in total(found).tolist())


def whole(rows: Tensor, height: int) -> Tensor:
    """The matrix whose `part` of `height` rows each process holds. (about R / size, C) -> (R, C), bit for bit."""
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
    """The rows of a matrix that are this process's; called with them, it gives the whole matrix.

    height: C_out of the whole. In a single process both are the matrix itself.
    """

    height: int

    def own(self, matrix: Tensor) -> Tensor:
        """(C_out, C) -> the rows of this process, about (C_out / size, C), a view."""
        return matrix[part(self.height)]

    def __call__(self, rows: Tensor) -> Tensor:
        """The rows of every process -> (C_out, C), bit for bit."""
        return whole(rows, self.height)


@contextmanager
def _exchanging() -> Iterator[None]:
    started = time.perf_counter()
    with _others_may_be_gone():
        yield
    _group.waited += time.perf_counter() - started


@contextmanager
def _others_may_be_gone() -> Iterator[None]:
    try:
        yield
    except (RuntimeError, ValueError) as error:  # dist's own errors are such
        raise ProcessError(
            "another process ended or could not be reached before the work was done, so this one stops and nothing "
            "is written; see what the other said and start all again"
        ) from error


def _own_device(given: str | None) -> torch.device:
    """A GPU for each process of a machine, else the CPU."""
    name = given or ("cuda" if torch.cuda.is_available() else "cpu")
    if name not in ("cpu", "cuda"):
        raise InputError(f"device {name!r} cannot be shared by several processes; choose cpu or cuda, or leave it out")
    if name == "cpu":
        return torch.device("cpu")
    number, present = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if number >= present:
        raise InputError(
            f"process {number} of this machine has no GPU of its own, torch sees {present} here; "
            "start one process per GPU, or choose device cpu"
        )
    torch.cuda.set_device(number)
    return torch.device("cuda", number)


def _first_to_fail(store: dist.Store | None) -> bool:
    """Whether no process failed before this one; true as well when nobody can be asked."""
    if store is None:
        return True
    try:
        return store.add("failed", 1) == 1
    except RuntimeError:
        return True


def _stop_on_term() -> Any:
    """torchrun ends the others with SIGTERM when one dies; they leave through every `finally`, so nothing half
    written stays. -> the handler that was there."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise ProcessError(
            "stopped, because another process ended or the whole run was told to; nothing is written, start all again"
        )

    if threading.current_thread() is not threading.main_thread():
        return None
    return signal.signal(signal.SIGTERM, stop)
