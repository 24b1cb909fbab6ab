"""Ending a job within a step, at the next of a model's modules: a step may be long, as of a whole block's linears."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook

from wanda_core.progress import still_wanted


@contextmanager
def ended_between_modules() -> Iterator[None]:
    """Context manager: raise GivenUpError where this thread calls a module and nobody wants the job any more by then.

    One hook for all modules, of whatever model the job runs; what other threads call is not looked at.
    """
    thread = threading.get_ident()

    def before(module: nn.Module, args: tuple[Any, ...]) -> None:
        if threading.get_ident() == thread:
            still_wanted()

    handle = register_module_forward_pre_hook(before)
    try:
        yield
    finally:
        handle.remove()
