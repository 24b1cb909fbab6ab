"""Tensors part by part, so that a checkpoint can be written, or sent, without a second copy of any of them.

A part is some consecutive rows of a tensor, or of one of its matrices, so it lies in one piece both in a file and in a
pruned parameter's bits.
"""

import math
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from safetensors import safe_open
from torch import Tensor

from wanda_core.maths import masks
from wanda_core.model.stored_tensors import StoredTensor
from wanda_core.pruning.packed import PackedParameter

PART_NUMBERS = 2**18  # of one part; a megabyte of float32, which the processor holds beside itself

Part = tuple[int | slice, ...]  # what a tensor is indexed by


def parts_of(shape: tuple[int, ...], most: int = PART_NUMBERS) -> Iterator[Part]:
    """Cut a tensor of some shape into parts of `most` numbers each, in the order in which they are stored."""
    if math.prod(shape) <= most:
        yield ()
        return
    row = math.prod(shape[1:])
    if row > most:
        for index in range(shape[0]):
            for part in parts_of(shape[1:], most):
                yield (index, *part)
        return
    rows = most // row
    for start in range(0, shape[0], rows):
        yield (slice(start, min(start + rows, shape[0])),)


class Source(Protocol):
    """A tensor that is read part by part."""

    def read(self, parts: Iterable[Part]) -> Generator[Tensor, None, None]:
        """Yield the parts one after the other, on the CPU."""


@dataclass(frozen=True)
class InFile:
    """A tensor in a file of a checkpoint, which is open while parts are read."""

    name: str
    stored: StoredTensor

    def read(self, parts: Iterable[Part]) -> Generator[Tensor, None, None]:
        """Yield the parts one after the other."""
        with safe_open(self.stored.file, framework="pt", backend="pread") as opened:  # mapped, it would count as memory
            for part in parts:
                yield opened.get_slice(self.name)[part] if part else opened.get_tensor(self.name)


@dataclass(frozen=True)
class InModel:
    """A tensor of a checkpoint as a model holds it: a parameter, or a view of one.

    parameter: of the dense model; layout: the tensor as a view of a contiguous one of the parameter's shape, on the
    meta device; pruned: what became of the parameter, None where it stayed as it is.
    """

    parameter: Tensor
    layout: Tensor
    pruned: PackedParameter | None = None

    @classmethod
    def whole(cls, parameter: Tensor, pruned: PackedParameter | None = None) -> "InModel":
        """A parameter as it is."""
        return cls(parameter, torch.empty(parameter.shape, dtype=parameter.dtype, device="meta"), pruned)

    @property
    def changed(self) -> Tensor | None:
        """The parameter after pruning, where weights that stay were changed."""
        return self.pruned.changed if self.pruned is not None else None

    @property
    def largest(self) -> Tensor:
        """A number, in its own format, that none of the tensor's is beyond in size; dense, where weights only went."""
        held = self.parameter if self.changed is None else self.changed
        low, high = torch.aminmax(self._of(held, (), self.layout))
        return torch.maximum(-low, high)

    def read(self, parts: Iterable[Part]) -> Generator[Tensor, None, None]:
        """Yield the parts one after the other; of a pruned parameter no more than the part is unpacked."""
        for part in parts:
            place = self.layout[part]
            if self.changed is not None:
                yield self._of(self.changed, part, place)
                continue
            dense = self._of(self.parameter, part, place).cpu()
            yield dense if self.pruned is None else masks.without(dense, ~self.pruned.kept_at(place))

    def _of(self, held: Tensor, part: Part, place: Tensor) -> Tensor:
        """Return the part of what has the parameter's shape, a view of it."""
        held = held.detach()
        if held.shape == self.layout.shape and self.layout.is_contiguous():  # as it is, in whatever order it lies
            return held[part]
        assert held.is_contiguous()  # what the layout speaks of
        return held.as_strided(place.shape, place.stride(), held.storage_offset() + place.storage_offset())
