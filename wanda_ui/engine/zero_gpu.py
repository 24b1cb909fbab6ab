"""Jobs on a ZeroGPU Space: each runs in a process that has the GPU for a while, forked from this one.

The job goes there pickled and its progress and result come back pickled, by us: torch's own way to hand a tensor to
another process keeps it in memory that goes with the process. The models are those that this process had
when the other was forked, so only the ones loaded at the start can be asked. The weights there are another copy, so
what a job leaves changed would be met by the next one in that process: `laid_over` lifts everything off again.
"""

import os
import pickle
from collections.abc import Callable, Generator, Iterator
from typing import Any

import torch

from wanda_ui.engine.work import Job, Models

SECONDS = 120  # that a job may have the GPU


def has_zero_gpu() -> bool:
    """Whether this is a Space whose GPU is lent job by job."""
    return bool(os.environ.get("SPACES_ZERO_GPU"))


def on_zero_gpu(models: Models) -> Callable[[Job[Any], Models], Generator[Any, None, Any]]:
    """Make the runner of an `AppState`. models: of this process, by name, as they are when a process is forked."""
    import spaces  # of the Space alone

    @spaces.GPU(duration=SECONDS)  # type: ignore[untyped-decorator]
    def lent(job: bytes) -> Iterator[bytes]:
        torch.set_num_threads(
            1
        )  # OpenMP's threads do not come along, and work that is handed to them would wait for ever
        yield from told(pickle.loads(job), models)

    def run(job: Job[Any], _: Models) -> Generator[Any, None, Any]:
        for message in lent(pickle.dumps(job)):
            kind, value = pickle.loads(message)
            if kind == "result":
                return value
            if kind == "error":
                raise value
            yield value
        raise RuntimeError("the process with the GPU ended before the job did")

    return run


def told(job: Job[Any], models: Models) -> Iterator[bytes]:
    """Run a job and tell, pickled, what it yields, returns and raises: only what is yielded comes back."""
    try:
        steps = job(models)
        while True:
            yield pickle.dumps(("step", next(steps)))
    except StopIteration as stop:
        yield pickle.dumps(("result", stop.value))
    except Exception as error:
        yield pickle.dumps(("error", error))
