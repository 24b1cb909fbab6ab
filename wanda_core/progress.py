"""Long jobs are generators: they yield `Progress` between blocks and return their result.

Closing the generator between two steps cancels the job; nothing it did is visible afterwards.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Progress:
    """Where a long job stands: `done` of `total` units of `stage` are finished."""

    stage: str
    done: int
    total: int
    detail: str = ""

    @property
    def fraction(self) -> float:
        """Share finished, 0 to 1."""
        return self.done / self.total if self.total else 1.0


Steps = Generator[Progress, None, T]


def finish(steps: Steps[T], on_progress: Callable[[Progress], object] | None = None) -> T:
    """Run a job to its end and return its result; an exception from `on_progress` cancels it."""
    try:
        while True:
            step = next(steps)
            if on_progress is not None:
                on_progress(step)
    except StopIteration as stop:
        return stop.value
    finally:
        steps.close()
