"""Building one model at a time.

While transformers and accelerate build a model they put functions of their own in the place of torch's and of their
classes', in all threads, and put back what they found. Of two that overlap the later would find the earlier's, and
leave it there for good: models whose weights are tied would then lack them.
"""

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from wanda_core.machine.waiting import turn_at

REPLACED: tuple[tuple[Any, str], ...] = (
    *((PreTrainedModel, "tie_weights"), (torch, "linspace")),
    *((nn.Module, "register_parameter"), (nn.Module, "register_buffer")),
)

_turn = threading.RLock()


@contextlib.contextmanager
def one_at_a_time() -> Iterator[None]:
    """Context manager: within it no other thread builds a model, and after it all is in its place again, whatever ended
    it. Enter it before a clock begins. Raises GivenUpError where nobody waits any more for this one's turn."""
    with turn_at(_turn):
        theirs = [(place, name, getattr(place, name)) for place, name in REPLACED]
        default = torch.get_default_dtype()
        try:
            yield
        finally:
            for place, name, value in theirs:
                setattr(place, name, value)
            torch.set_default_dtype(default)
