"""Several batches going through one block together: all arrive at a linear before any passes it.

So a linear can be pruned when its inputs for the whole calibration set are known and before it is used, though the
set is run in batches that fit in memory. Every batch has a thread of its own, but only one runs at any time. A set
that fits in one call needs no threads, and goes a third faster without: each thread has its own workers on the cores.
"""

import threading
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor, nn

from wanda_core.machine import distributed, matmul
from wanda_core.model.block_calls import BlockCall, StopForward
from wanda_core.model.linears import Linear

Arrive = Callable[[Linear, list[Tensor]], object]


def at_once(
    block: nn.Module, call: BlockCall, linears: list[Linear], x: Tensor, arrive: Arrive, sequence: int = 0
) -> list[Tensor]:
    """One block over the whole set in one call; `arrive` is told of each linear before it is used.

    x (N, L, D) -> the outputs, as `Lockstep` has them. sequence: which one x is, where it is one.
    """

    def hook(linear: Linear) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def told(module: nn.Module, args: tuple[Tensor, ...]) -> None:
            with matmul.unwatched():
                arrive(linear, [args[0]])

        return told

    handles = [linear.module.register_forward_pre_hook(hook(linear)) for linear in linears]
    try:
        return [call.run(block, x, sequence)]
    finally:
        for handle in handles:
            handle.remove()


class Lockstep:
    """One block over many inputs. Iterate it for (linear, its inputs, a tensor per batch), in the order they are
    reached; the linear is used only after the next step. `outputs` holds the block's outputs afterwards.

    Several processes stop at the same linears: one whose batches are elsewhere hands out no inputs there.
    Leaving the iteration early ends all threads; the hooks are gone in any case.
    """

    def __init__(self, block: nn.Module, call: BlockCall, linears: list[Linear], inputs: list[Tensor]) -> None:
        self.block, self.call, self.linears, self.inputs = block, call, linears, inputs
        self.outputs: list[Tensor] = []
        self._here = threading.local()
        self._turns = [threading.Semaphore(0) for _ in inputs]
        self._back = threading.Semaphore(0)
        self._parked: dict[int, tuple[int, Tensor]] = {}  # batch -> (place of its linear, what it read)
        self._leaving = False

    def __iter__(self) -> Generator[tuple[Linear, list[Tensor]], None, None]:
        """Run every batch as far as it goes, hand out the earliest linear that any waits at, and again."""
        handles = [
            linear.module.register_forward_pre_hook(self._stop(place)) for place, linear in enumerate(self.linears)
        ]
        with ThreadPoolExecutor(len(self.inputs), "lockstep") as threads:
            jobs = [threads.submit(self._run, batch) for batch in range(len(self.inputs))]
            try:
                running = list(range(len(jobs)))
                while True:
                    for batch in running:
                        self._turns[batch].release()
                        self._back.acquire()
                        if batch not in self._parked:
                            jobs[batch].result()  # raises what the block raised
                    place = distributed.least(min((at for at, _ in self._parked.values()), default=len(self.linears)))
                    if place == len(self.linears):
                        break
                    running = [batch for batch, (at, _) in self._parked.items() if at == place]
                    yield self.linears[place], [self._parked[batch][1] for batch in running]
                    for batch in running:
                        del self._parked[batch]
                self.outputs = [output for job in jobs if (output := job.result()) is not None]
            finally:
                self._leaving = True
                for turn in self._turns:
                    turn.release()
                for handle in handles:
                    handle.remove()

    def _run(self, batch: int) -> Tensor | None:
        self._here.batch = batch
        self._turns[batch].acquire()
        try:
            with torch.no_grad():
                return None if self._leaving else self.call.run(self.block, self.inputs[batch], batch)
        except StopForward:
            return None
        finally:
            self._back.release()

    def _stop(self, place: int) -> Any:
        def arrive(module: nn.Module, args: tuple[Tensor, ...]) -> None:
            batch = self._here.batch
            self._parked[batch] = (place, args[0])
            self._back.release()
            self._turns[batch].acquire()
            if self._leaving:
                raise StopForward

        return arrive
