"""A smaller model made from one whose weights stay on the disk: each part of it is there while the dense one's is."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from wanda_core.low_memory.weight_loader import REST, WeightLoader, held_in, put_back
from wanda_core.model.block_calls import forwards
from wanda_core.model.language_model import LanguageModel
from wanda_core.model.linears import decoder_blocks
from wanda_core.shrinking.smaller_model import renumbered, share_parameters


@dataclass(frozen=True)
class Lending:
    """How a smaller model gets what it shares with the dense one.

    dense: the model on the disk, loader: brings its parts; smaller: has no memory but what it is lent; kept: which of
    the dense blocks its own are made of.
    """

    dense: LanguageModel
    loader: WeightLoader
    smaller: nn.Module
    kept: Sequence[int]

    @contextlib.contextmanager
    def part(self, place: int) -> Iterator[None]:
        """Context manager: bring what a part is made of and let the smaller model share it; at the end both are empty.

        place: the part in the smaller model, a block or `REST`.
        """
        prefix, _ = decoder_blocks(self.dense.model)

        def own(name: str) -> bool:
            return self.loader.part(name) == place

        empty = {name: value for name, value in held_in(self.smaller) if own(name)}
        try:
            with self.loader.at_hand(self.dense.model, place if place == REST else self.kept[place]):
                share_parameters(self.dense, self.smaller, renumbered(prefix, self.kept), own)
                yield
        finally:
            put_back(self.smaller, empty)

    @contextlib.contextmanager
    def whole(self) -> Iterator[None]:
        """Context manager: let the smaller model be called, where all its weights are shared."""
        _, blocks = decoder_blocks(self.smaller)

        def brought(place: int, forward: Callable[..., Any]) -> Callable[..., Any]:
            def run(*args: Any, **kwargs: Any) -> Any:
                with self.part(place):
                    return forward(*args, **kwargs)

            return run

        with self.part(REST), forwards(blocks, brought):
            yield
