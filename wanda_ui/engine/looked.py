"""What a look at a model has brought so far, and going through one."""

from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass, replace
from typing import cast

from wanda_core.evaluation.generation import Generated
from wanda_core.progress import Progress, Steps
from wanda_ui.engine.loaded import Measured, Result
from wanda_ui.engine.look import Seen


@dataclass(frozen=True)
class Look:
    """A model as far as it was looked at. result, measured: of the variant, None for the dense model and until known;
    seen: the answer and the perplexities; kept: whether its perplexity was known before."""

    result: Result | None
    measured: Measured | None
    seen: Seen
    kept: bool = False


Looking = Generator[Progress | Look, None, Look]


def only_progress(looking: Looking) -> Steps[Look]:
    """Go through a look, and pass on how far it is: again where there is something else to see, since only between
    two yields can it be given up."""
    progress: Progress | None = None
    with closing(looking):
        try:
            while True:
                step = next(looking)
                if isinstance(step, Progress):
                    progress = step
                if progress is not None:
                    yield progress
        except StopIteration as stop:
            return cast(Look, stop.value)


def with_answer(looking: Looking, answer: Generated) -> Looking:
    """Go through a look that measures alone, for several visitors it may be, and put one's own answer into it."""

    def own(look: Look) -> Look:
        return replace(look, seen=replace(look.seen, answer=answer))

    with closing(looking):
        try:
            while True:
                step = next(looking)
                yield own(step) if isinstance(step, Look) else step
        except StopIteration as stop:
            return own(stop.value)
