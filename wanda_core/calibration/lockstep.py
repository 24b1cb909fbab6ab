"""Moving several batches through one block in lockstep: all arrive at a linear before any passes it.

So a linear can be pruned when its inputs for the whole calibration set are known and before it is used, though the
set is run in batches that fit in memory. Every batch has a thread of its own, but only one runs at any time. A set
that fits in one call needs no threads, and is a third faster without: each thread has its own workers on the cores. On
a GPU a new thread costs a handle of the library that multiplies matrices, so threads serve block after block.
"""

import threading
from collections.abc import Callable, Collection, Generator
from concurrent.futures import Executor, wait
from typing import Any

import torch
from torch import Tensor, nn

from wanda_core.calibration.stream import keep_outputs
from wanda_core.machine import distributed, matmul
from wanda_core.model.block_calls import BlockCall, StopForward
from wanda_core.model.linears import Linear

Arrive = Callable[[Linear, list[Tensor]], object]


def at_once(
    block: nn.Module, call: BlockCall, linears: list[Linear], x: Tensor, arrive: Arrive, sequence: int = 0
) -> list[Tensor]:
    """Run one block over the whole set in one call; `arrive` gets each linear and its input before it is used.

    x (N, L, D) -> the block's output in a list of one, as `Lockstep.outputs` has one per batch. sequence: which
    one x is, where it is one alone.
    """

    def before_use(linear: Linear) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def hook(module: nn.Module, args: tuple[Tensor, ...]) -> None:
            with matmul.unwatched():
                arrive(linear, [args[0]])

        return hook

    handles = [linear.module.register_forward_pre_hook(before_use(linear)) for linear in linears]
    try:
        return [call.run(block, x, sequence)]
    finally:
        for handle in handles:
            handle.remove()


class Lockstep:
    """Runs one block over many batches. Iterate it for (linear, its inputs, a tensor per batch), in the order linears
    are reached; a linear is used only when the iteration goes on. `outputs` holds the block's outputs afterwards.

    Several processes stop at the same linears: one with no batch waiting there hands out an empty list of inputs.
    threads: has room for one thread a batch. Leaving the iteration early frees them; the hooks are gone in any case.
    at: the batches that wait at the linear handed out; kept: linears whose outputs are kept in `added`, batch by batch
    and by name, once they were used.
    """

    def __init__(
        self,
        block: nn.Module,
        call: BlockCall,
        linears: list[Linear],
        inputs: list[Tensor],
        threads: Executor,
        kept: Collection[str] = (),
    ) -> None:
        self.block, self.call, self.linears, self.inputs, self.threads = block, call, linears, inputs, threads
        self.outputs: list[Tensor] = []
        self.at: list[int] = []
        self.added: list[dict[str, Tensor]] = [{} for _ in inputs]
        self._kept = [linear for linear in linears if linear.name in kept]
        self._own = threading.local()  # of a thread: which batch it runs
        self._turns = [threading.Semaphore(0) for _ in inputs]  # released to let a batch run
        self._paused = threading.Semaphore(0)  # released by a batch that waits at a linear or has finished
        self._waiting: dict[int, tuple[int, Tensor]] = {}  # batch -> (place of its linear in `linears`, the input)
        self._leaving = False

    def __iter__(self) -> Generator[tuple[Linear, list[Tensor]], None, None]:
        """Run every batch until it waits, hand out the earliest linear that any waits at, and so on to the end."""
        handles = [
            linear.module.register_forward_pre_hook(self._wait_at(place)) for place, linear in enumerate(self.linears)
        ]
        handles += keep_outputs(self._kept, lambda linear, y: self.added[self._own.batch].update({linear.name: y}))
        jobs = [self.threads.submit(self._run, batch) for batch in range(len(self.inputs))]
        try:
            running = list(range(len(jobs)))
            while True:
                for batch in running:
                    self._turns[batch].release()
                    self._paused.acquire()
                    if batch not in self._waiting:
                        jobs[batch].result()  # raises what the block raised
                finished = len(self.linears)
                place = distributed.least(min((at for at, _ in self._waiting.values()), default=finished))
                if place == finished:
                    break
                running = self.at = [batch for batch, (at, _) in self._waiting.items() if at == place]
                yield self.linears[place], [self._waiting[batch][1] for batch in running]
                for batch in running:
                    del self._waiting[batch]
            self.outputs = [output for job in jobs if (output := job.result()) is not None]
        finally:
            self._leaving = True
            for turn in self._turns:
                turn.release()
            wait(jobs)
            for handle in handles:
                handle.remove()

    def _run(self, batch: int) -> Tensor | None:
        """Run one batch in a thread of its own, whenever it is its turn. -> the block's output, None when stopped."""
        self._own.batch = batch
        self._turns[batch].acquire()
        try:
            with torch.no_grad():
                return None if self._leaving else self.call.run(self.block, self.inputs[batch], batch)
        except StopForward:
            return None
        finally:
            self._paused.release()

    def _wait_at(self, place: int) -> Any:
        """Make the hook that stops each batch before the linear at `place` until the batch has its next turn."""

        def hook(module: nn.Module, args: tuple[Tensor, ...]) -> None:
            batch = self._own.batch
            self._waiting[batch] = (place, args[0])
            self._paused.release()
            self._turns[batch].acquire()
            if self._leaving:
                raise StopForward

        return hook
