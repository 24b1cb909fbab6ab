"""Jobs on a ZeroGPU Space: each runs in a process that has the GPU for a while, forked from this one.

The models of this process stay on the CPU, where the pictures of single weights are drawn from; the process with the
GPU brings its own copy there. The job goes there pickled and its progress and result come back pickled, by us: torch's
own way to hand a tensor to another process keeps it in memory that goes with the process, and this one has no GPU to
put a tensor on. The models there are those that this process had when the other was forked, so only the ones loaded at
the start can be asked. Such a process serves many jobs; what one leaves changed would be met by the next, so
`laid_over` lifts everything off again, whatever ends a job.
"""

import io
import os
import pickle
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from typing import Any

import gradio as gr
import torch
from torch import Tensor

from wanda_core.errors import WandaError
from wanda_core.model.devices import default_device
from wanda_ui.engine.work import Job, Models

SECONDS = 60  # that a job may have the GPU, which is also what it counts as where a visitor's quota is asked
MOST_SAID = 200  # characters of the platform's own words that are shown


class NotLentError(WandaError):
    """The GPU was not lent, or was taken back before the job ended."""


def has_zero_gpu() -> bool:
    """Whether this is a Space whose GPU is lent job by job."""
    return os.environ.get("SPACES_ZERO_GPU", "").lower() in ("1", "t", "true")


def on_zero_gpu(models: Models) -> Callable[[Job[Any], Models], Generator[Any, None, Any]]:
    """Make the runner of an `AppState`. models: of this process, by name, as they are when a process is forked."""
    import spaces  # of the Space alone

    @spaces.GPU(duration=SECONDS)  # type: ignore[untyped-decorator]
    def lent(job: bytes) -> Iterator[bytes]:
        # OpenMP's threads do not come along, and work that is handed to them would wait for ever.
        torch.set_num_threads(1)
        bring(models)
        yield from told(pickle.loads(job), models)

    def run(job: Job[Any], _: Models) -> Generator[Any, None, Any]:
        try:
            with closing(lent(packed(job))) as messages:
                for message in messages:
                    kind, value = pickle.loads(message)
                    if kind == "result":
                        return value
                    if kind == "error":
                        raise value
                    yield value
        except gr.Error as error:  # the platform's: a quota, a process that was ended
            said = " ".join(str(error.message).split()).rstrip(". ")[:MOST_SAID]
            raise NotLentError(
                f"the GPU that this Space borrows for each job was not to be had ({said}); try again later, or run the "
                "lab on your own machine"
            ) from None
        raise RuntimeError("the process with the GPU ended before the job did")

    return run


def bring(models: Models) -> None:
    """Have the models of this process on its GPU, once; nothing happens where it has none."""
    place = default_device()
    for loaded in models.values():
        if loaded.lm.device != place:
            loaded.lm.model.to(place)


def told(job: Job[Any], models: Models) -> Iterator[bytes]:
    """Run a job and tell, pickled, what it yields, returns and raises: only what is yielded comes back."""
    try:
        with closing(job(models)) as steps:
            while True:
                yield packed(("step", next(steps)))
    except StopIteration as stop:
        yield packed(("result", stop.value))
    except Exception as error:
        yield packed(("error", carried(error)))


def carried(error: Exception) -> Exception:
    """Return an exception that survives being pickled: itself, else one that has its name."""
    try:
        pickle.loads(packed(error))
    except Exception:
        return RuntimeError(type(error).__name__)
    return error


def packed(value: object) -> bytes:
    """Pickle a value, its tensors as tensors on the CPU."""
    stream = io.BytesIO()
    _Packer(stream).dump(value)
    return stream.getvalue()


class _Packer(pickle.Pickler):
    """Pickles tensors of any device as those of the CPU."""

    def reducer_override(self, value: Any) -> Any:
        """Return how a tensor that lies elsewhere is pickled; all else as usual."""
        if isinstance(value, Tensor) and value.device.type != "cpu":
            return value.detach().cpu().__reduce_ex__(pickle.HIGHEST_PROTOCOL)
        return NotImplemented
