"""Memory that runs out at one call: what asks for a tensor, by the line of ours that does, and jobs run under it."""

import sys
from contextlib import closing, nullcontext
from pathlib import Path

import torch
from torch.utils._python_dispatch import TorchDispatchMode

ROOT = Path(__file__).resolve().parent.parent.parent
OURS = tuple(str(ROOT / name) for name in ("wanda_core", "wanda_ui"))
# What Python raises, what torch raises on a GPU, and what it raises on a CPU.
ERRORS = (
    MemoryError(),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory"),
)


class Allocations(TorchDispatchMode):
    """Notes which lines of ours ask for a tensor, and lets the first call of one of them fail. at: that line, if any.

    sites: the lines, each once, as they came; failed: whether it came to that.
    """

    def __init__(self, at: tuple[str, int] | None = None, error: BaseException = ERRORS[0]) -> None:
        super().__init__()
        self.at, self.error, self.failed = at, error, False
        self.sites: dict[tuple[str, int], None] = {}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if any(made.alias_info is None for made in function._schema.returns):  # no view, nothing done in place
            site = _site()
            self.sites[site] = None
            if site == self.at and not self.failed:
                self.failed = True
                raise self.error
        return function(*args, **(kwargs or {}))


def _site() -> tuple[str, int]:
    """Return the file and the line of ours that is running."""
    frame = sys._getframe(2)
    while frame is not None:
        if frame.f_code.co_filename.startswith(OURS):
            return frame.f_code.co_filename, frame.f_lineno
        frame = frame.f_back
    return "", 0


class Under:
    """Runs the jobs of a server, each step under a mode. mode: None for none."""

    def __init__(self) -> None:
        self.mode: Allocations | None = None

    def __call__(self, job, models):
        with closing(job(models)) as steps:
            while True:
                with self.mode or nullcontext():
                    try:
                        step = next(steps)
                    except StopIteration as stop:
                        return stop.value
                yield step
