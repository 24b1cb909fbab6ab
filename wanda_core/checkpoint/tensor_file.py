"""Writing a safetensors file tensor by tensor: the format tells where each lies before the first, so none has to wait
in memory for the others.

The format: eight bytes with the length of a header, the header in JSON, then the tensors' bytes one after the other
(https://github.com/huggingface/safetensors#format).
"""

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from wanda_core.model.stored_tensors import BYTES

FLOATS = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
NAMES = {dtype: name for name, dtype in FLOATS.items()}


@dataclass(frozen=True)
class Place:
    """What a tensor of a file is. dtype: safetensors' name of its number format."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Bytes it takes."""
        return math.prod(self.shape) * BYTES.get(self.dtype, 1)


def file_size(layout: Mapping[str, Place]) -> int:
    """Return the bytes of a file with these tensors."""
    return len(_header(layout)) + sum(place.nbytes for place in layout.values())


def tensor_file(layout: Mapping[str, Place], parts: Callable[[str], Iterable[Tensor]]) -> Iterator[memoryview | bytes]:
    """Yield the bytes of a file, the header and then every tensor, each asked for when its turn comes.

    parts: gives the tensor of a name in parts, in the order of its numbers, on the CPU, of the type that the layout
    says. Raises ValueError for another length in all: the file would be broken.
    """
    yield _header(layout)
    for name in _order(layout):
        if not layout[name].nbytes:
            continue
        length = 0
        for part in parts(name):
            numbers: Any = part.detach().contiguous().reshape(-1).view(torch.uint8).numpy()
            length += numbers.nbytes
            yield memoryview(numbers)
        if length != layout[name].nbytes:
            raise ValueError(f"{name} takes {length} bytes and {layout[name].nbytes} were announced")


def _order(layout: Mapping[str, Place]) -> list[str]:
    """Order by the size of a number, the largest first, so that each lies where its numbers may lie, then by name."""
    return sorted(layout, key=lambda name: (-BYTES.get(layout[name].dtype, 1), name))


def _header(layout: Mapping[str, Place]) -> bytes:
    """Return the length of the header and the header, filled up with blanks to a multiple of eight bytes."""
    told: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name in _order(layout):
        place = layout[name]
        told[name] = {
            "dtype": place.dtype,
            "shape": list(place.shape),
            "data_offsets": [offset, offset + place.nbytes],
        }
        offset += place.nbytes
    text = json.dumps(told, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text
