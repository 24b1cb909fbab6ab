"""Joining the processes that `torchrun` started, and leaving them, as one, when any of them fails."""

import itertools
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from types import FrameType
from typing import Any

import torch
import torch.distributed as dist

from wanda_core.errors import InputError, ProcessError, shortened
from wanda_core.machine.distributed import Group, others_may_be_gone, working_in
from wanda_core.machine.process import rank_and_size

# A process that died is noticed at once; this is for one that hangs. The slowest may load its model so much later.
TIMEOUT = timedelta(minutes=10)

_times_joined = itertools.count()


@contextmanager
def joined(
    device: str | None = None, on_failure: Callable[[bool], object] = lambda first: None
) -> Iterator[str | None]:
    """Context manager: work with the other processes `torchrun` started, if it did. -> the device to use.

    On GPUs every process gets its own, by its number on the machine; otherwise the device is `device` as given.
    on_failure: called before an exception leaves, with whether this process is the first of all that failed; the
    others fail because it did. Raises InputError for a device that processes cannot share, and ProcessError inside
    when another process has gone.
    """
    rank, size = rank_and_size()
    if size == 1:
        yield device
        return
    store = None
    handler = _stop_on_term()
    try:
        with others_may_be_gone():
            # Under a name of its own each time: what an earlier group left there means nothing now.
            name = f"wanda-{next(_times_joined)}"
            store = dist.PrefixStore(name, next(dist.rendezvous("env://", timeout=TIMEOUT))[0])
        place = _own_device(device)
        backend = "nccl" if place.type == "cuda" else "gloo"
        with others_may_be_gone():
            dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=TIMEOUT)
        with working_in(Group(rank, size, place)):
            yield str(place)
    except BaseException:
        on_failure(_first_to_fail(store))
        raise
    finally:
        if dist.is_initialized():
            with suppress(RuntimeError):  # of processes that have gone
                dist.destroy_process_group()
        if handler is not None:
            signal.signal(signal.SIGTERM, handler)


def _own_device(device: str | None) -> torch.device:
    """Choose a GPU of its own for each process of a machine, else the CPU. Raises InputError where that cannot be."""
    name = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if name not in ("cpu", "cuda"):
        raise InputError(
            f"device {shortened(name)} cannot be shared by several processes; choose cpu or cuda, or leave it out"
        )
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
    """Tell whether no process failed before this one; also true when nobody can be asked."""
    if store is None:
        return True
    try:
        return store.add("failed", 1) == 1
    except RuntimeError:
        return True


def _stop_on_term() -> Any:
    """Let SIGTERM raise ProcessError, so that this process leaves through every `finally` and nothing half written
    stays: torchrun sends it to the others when one dies. -> the handler before, None where none can be set."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise ProcessError(
            "stopped, because another process ended or the whole run was told to; nothing is written, start all again"
        )

    if threading.current_thread() is not threading.main_thread():
        return None
    return signal.signal(signal.SIGTERM, stop)
