"""Long jobs as generators, which yield `Progress` between units of work and return their result.

Closing the generator between two steps cancels the job; nothing it did is visible afterwards. Within a long step
`still_wanted` ends it. Progress is numbers and names; whoever shows it adds the words.
"""

from collections.abc import Callable, Generator
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Literal, TypeVar, cast, get_args

T = TypeVar("T")

# The step at work. `dense` and `pruned` are the perplexities of these two models; a `line` is one continued prompt.
Stage = Literal[
    "asking",
    "downloading",
    "bringing",
    "checking",
    "converting",
    "loading",
    "waiting",
    "reading",
    "profile",
    "sensitivity",
    "threshold",
    "arranging",
    "embeddings",
    "pruning",
    "shrinking",
    "training",
    "analysis",
    "perplexity",
    "dense",
    "pruned",
    "agreement",
    "speed",
    "answering",
    "line",
    "channel-means",
    "sentence",
    "features",
    "ablation",
    "super-weight",
    "masks",
    "recipes",
    "saving",
    "uploading",
]
Unit = Literal["blocks", "windows", "tokens", "samples", "bytes", "settings", "parts", "jobs"]
STAGES: tuple[Stage, ...] = get_args(Stage)
UNITS: tuple[Unit, ...] = get_args(Unit)


@dataclass(frozen=True)
class Progress:
    """How far a long job is: `done` of `total` units of a stage are finished.

    detail: a name that is the same in every language (a linear, a model, a setting), never a sentence; inner: how far
    the unit at work is, where that is a job of its own; seconds: that are left of this stage, where somebody can know.
    """

    stage: Stage
    done: int
    total: int
    unit: Unit
    detail: str = ""
    inner: "Progress | None" = None
    seconds: float | None = None

    @property
    def fraction(self) -> float:
        """Share finished, 0 to 1."""
        of_unit = self.inner.fraction if self.inner is not None else 0.0
        return min((self.done + of_unit) / self.total, 1.0) if self.total else 1.0

    @property
    def number(self) -> int:
        """Number of the unit at work, from 1."""
        return min(self.done + 1, self.total)

    @property
    def innermost(self) -> "Progress":
        """The progress of the innermost job, which is the one at work."""
        return self if self.inner is None else self.inner.innermost


Steps = Generator[Progress, None, T]


class GivenUpError(BaseException):
    """Nobody waits any more for the job that runs. No fault, so nothing that catches those takes it for one."""


_given_up: ContextVar[Callable[[], bool] | None] = ContextVar("given_up", default=None)


def end_when(given_up: Callable[[], bool]) -> None:
    """Have what runs in this context from now on end where `still_wanted` is called and this says so."""
    _given_up.set(given_up)


def unwanted() -> Callable[[], bool]:
    """Return what tells, in any thread, whether nobody waits any more for the job of this context."""
    return _given_up.get() or bool


def still_wanted() -> None:
    """Raise GivenUpError where nobody waits any more for the job of this context; called within long steps."""
    if unwanted()():
        raise GivenUpError


def finish(steps: Steps[T], on_progress: Callable[[Progress], object] | None = None) -> T:
    """Run a job to its end and return its result. on_progress: gets each step; an exception from it cancels the job."""
    try:
        while True:
            step = next(steps)
            if on_progress is not None:
                on_progress(step)
    except StopIteration as stop:
        return cast(T, stop.value)
    finally:
        steps.close()


def relabelled(steps: Steps[T], label: Callable[[Progress], Progress]) -> Steps[T]:
    """Run a job with its progress changed. label: makes the progress to yield from the job's own."""
    try:
        while True:
            try:
                step = next(steps)
            except StopIteration as stop:
                return cast(T, stop.value)
            yield label(step)
    finally:
        steps.close()


def as_stage(steps: Steps[T], stage: Stage) -> Steps[T]:
    """Run a job under the name of another stage."""
    return relabelled(steps, lambda step: replace(step, stage=stage))


def inside(steps: Steps[T], outer: Progress) -> Steps[T]:
    """Run a job as one unit of another job. outer: the other job's progress when the unit begins."""
    return relabelled(steps, lambda step: replace(outer, inner=step))
