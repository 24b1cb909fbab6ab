"""What some models keep in their modules from one pass to the next, where others have a cache for each text."""

import contextlib
from collections.abc import Iterator
from typing import Any

from torch import nn

# RecurrentGemma's; tests/model/test_every_architecture.py finds others.
NAMES = ("conv1d_state", "recurrent_states")


class ModuleState:
    """What the passes over one text leave in a model's modules, which is there in its own passes alone.

    Between two, the modules hold what they held before, so that other texts may be read in turns with it.
    """

    def __init__(self, model: nn.Module) -> None:
        self.places = _places(model)
        self.others: list[object] = [None] * len(self.places)  # what is in place while this text's is not, or reversed

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """Context manager: one pass over this text, of which nothing is there before its first."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def _swap(self) -> None:
        for index, (attributes, name) in enumerate(self.places):
            attributes[name], self.others[index] = self.others[index], attributes[name]


@contextlib.contextmanager
def fresh_for_each_text(model: nn.Module) -> Iterator[None]:
    """Context manager: a pass whose cache is empty finds nothing of the text before, whoever calls the model."""

    def clear(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        cache = kwargs.get("past_key_values")
        if cache is None or not cache.get_seq_length():
            for attributes, name in places:
                attributes[name] = None

    places = _places(model)
    hook = model.register_forward_pre_hook(clear, with_kwargs=True) if places else None
    try:
        yield
    finally:
        if hook is not None:
            hook.remove()


def _places(model: nn.Module) -> list[tuple[dict[str, Any], str]]:
    return [(vars(module), name) for module in model.modules() for name in NAMES if name in vars(module)]
