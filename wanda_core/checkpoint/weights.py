"""The weights of a pruned checkpoint: the files they were read from, with the pruned tensors in their places.

Names, files, layout and number formats are those of the dense checkpoint, so that whatever reads that reads this too,
and a weight that was kept has the bits it had. A model whose tensors lie otherwise in memory than in the files (experts
that are stored one by one) is written by transformers first and taken over from there.
"""

import json
import math
import tempfile
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from wanda_core.checkpoint.beside import APART
from wanda_core.checkpoint.carried import add_carried, carried_bytes
from wanda_core.checkpoint.tensor_file import FLOATS, NAMES, Place, file_size, tensor_file
from wanda_core.errors import StorageError
from wanda_core.model.stored_tensors import INDEX, ONE_FILE, StoredTensor, read_tensor, stored_tensors

if TYPE_CHECKING:
    from wanda_core.model.language_model import LanguageModel

SHARD = "5GB"  # weights up to this are one file, where transformers shares them out


def main_dtype(stored: Mapping[str, StoredTensor]) -> str:
    """Return safetensors' name of the number format that most of a checkpoint is held in."""
    held = dict.fromkeys(FLOATS, 0)
    for tensor in stored.values():
        if tensor.dtype in held:
            held[tensor.dtype] += math.prod(tensor.shape)
    return max(held, key=lambda name: held[name])


@dataclass(frozen=True)
class WeightFiles:
    """The files of weights that a save writes.

    stored: the tensors of the dense checkpoint; held: those of the model, by the names of the checkpoint; dtype: what
    tensors of the checkpoint's main number format are saved in.
    """

    stored: Mapping[str, StoredTensor]
    held: Mapping[str, Tensor]
    dtype: torch.dtype

    @property
    def layouts(self) -> dict[str, dict[str, Place]]:
        """The tensors of every file, by its name."""
        main, layouts = main_dtype(self.stored), dict[str, dict[str, Place]]()
        for name, tensor in self.stored.items():
            place = Place(saved_dtype(tensor, main, self.dtype), tensor.shape)
            layouts.setdefault(tensor.file.name, {})[name] = place
        return layouts

    @property
    def nbytes(self) -> int:
        """Bytes of all files."""
        return sum(file_size(layout) for layout in self.layouts.values())

    def value(self, name: str, dtype: str) -> Tensor:
        """Return a tensor as it is saved, on the CPU. Raises StorageError where the format cannot hold it."""
        return as_saved(name, self.stored[name], self.held.get(name), dtype)

    def write(self, folder: Path) -> None:
        """Write all files, and the index where there are several."""
        layouts = self.layouts
        for file in layouts:
            with (folder / file).open("wb") as opened:
                for data in self.bytes_of(file):
                    opened.write(data)
        if set(layouts) == {ONE_FILE}:
            return
        size = sum(place.nbytes for layout in layouts.values() for place in layout.values())
        index = {"metadata": {"total_size": size}, "weight_map": {name: t.file.name for name, t in self.stored.items()}}
        (folder / INDEX).write_text(json.dumps(index, indent=2, sort_keys=True) + "\n", encoding="utf-8")

    def bytes_of(self, file: str) -> Iterator[memoryview | bytes]:
        """Yield the bytes of one file, a tensor at a time."""
        layout = self.layouts[file]
        return tensor_file(layout, lambda name: self.value(name, layout[name].dtype))


def as_saved(name: str, stored: StoredTensor | None, held: Tensor | None, dtype: str) -> Tensor:
    """Return a tensor of the model as it is saved, on the CPU; where it was kept, with the bits it was read with.

    stored: what lies in the file, None where nothing does; held: what the model has, None where it does without; dtype:
    safetensors' name of the number format. Raises StorageError for a number beyond the format.
    """
    if held is None or (stored is not None and stored.dtype not in FLOATS):
        assert stored is not None  # one of the two is there
        value = read_tensor(name, stored)
    else:
        value = held.detach().cpu()
        if stored is not None and value.dtype.itemsize < FLOATS[stored.dtype].itemsize:
            exact = read_tensor(name, stored)  # the model was read into a smaller format
            value = torch.where((exact.to(value.dtype) == value) & (value != 0), exact, value.to(exact.dtype))
    if dtype not in FLOATS or not value.is_floating_point():
        return value
    saved = value.to(FLOATS[dtype])
    if not bool(torch.isfinite(saved).all()) and bool(torch.isfinite(value).all()):
        raise StorageError(
            f"{name} holds numbers beyond {str(FLOATS[dtype]).removeprefix('torch.')}; save it in bfloat16 or float32"
        )
    return saved


def saved_dtype(stored: StoredTensor | None, main: str, dtype: torch.dtype) -> str:
    """Return what a tensor is saved in: what is asked for, where it is of the checkpoint's main number format."""
    return NAMES[dtype] if stored is None or stored.dtype == main else stored.dtype


@dataclass(frozen=True)
class Written:
    """How weights were written. dtype: the main number format; as_in_source: whether under the names of the folder the
    model was read from; told_dtype: what the configuration is to tell instead of what it tells, None to leave it."""

    dtype: torch.dtype
    as_in_source: bool
    told_dtype: str | None = None


def needed_bytes(lm: "LanguageModel", dtype: torch.dtype | None) -> int:
    """Return the bytes that the weights of a model will take on the disk, at most for a moment. dtype: as of `save`."""
    files = weight_files(lm, dtype)
    if files is not None:
        return files.nbytes
    tensors = {tensor.data_ptr(): tensor.nbytes for tensor in lm.model.state_dict().values()}  # tied ones once
    share = (dtype or lm.dtype).itemsize / lm.dtype.itemsize
    whole = int(sum(tensors.values()) * share) + carried_bytes(lm.carried)
    return whole if lm.folder is None else 2 * whole


def write_weights(lm: "LanguageModel", folder: Path, dtype: torch.dtype | None) -> Written:
    """Write all weights of a model into a new folder. dtype: as of `save`."""
    files = weight_files(lm, dtype)
    if files is not None:
        return _write_as_in_source(files, folder, dtype)
    with tempfile.TemporaryDirectory(dir=folder, prefix=APART) as name:
        apart = Path(name)
        model: Any = lm.model
        model.save_pretrained(apart, max_shard_size=SHARD)
        theirs = stored_tensors(apart, lm.name)
        stored = stored_tensors(lm.folder, lm.name) if lm.folder is not None else {}
        if stored and fit(theirs, stored, lm.carried):
            held = _Read(theirs)
            files = WeightFiles(stored, held, dtype or FLOATS[main_dtype(stored)])
            return _write_as_in_source(files, folder, dtype)
        wanted = dtype or (FLOATS[main_dtype(stored)] if stored else lm.dtype)
        _write_as_in_source(WeightFiles(theirs, {}, wanted), folder, None)
    add_carried(folder, lm.carried)
    return Written(wanted, False, str(wanted).removeprefix("torch."))


def fit(tensors: Mapping[str, Any], stored: Mapping[str, StoredTensor], carried: Collection[str]) -> bool:
    """Whether tensors are those of a folder, but for the ones that are carried. tensors: with a shape, by name."""
    return tensors.keys() == stored.keys() - set(carried) and all(
        tuple(tensor.shape) == stored[name].shape for name, tensor in tensors.items()
    )


def _write_as_in_source(files: WeightFiles, folder: Path, dtype: torch.dtype | None) -> Written:
    files.write(folder)
    changed = dtype is not None and NAMES[dtype] != main_dtype(files.stored)
    return Written(files.dtype, True, str(dtype).removeprefix("torch.") if changed else None)


class _Read(Mapping[str, Tensor]):
    """Tensors that are read from their files when they are asked for."""

    def __init__(self, stored: Mapping[str, StoredTensor]) -> None:
        self.stored = stored

    def __getitem__(self, name: str) -> Tensor:
        return read_tensor(name, self.stored[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self.stored)

    def __len__(self) -> int:
        return len(self.stored)


def weight_files(lm: "LanguageModel", dtype: torch.dtype | None) -> WeightFiles | None:
    """Plan the files of weights of a model that was read from a folder, None where they cannot be those of the folder:
    it was made or changed in memory, or holds its tensors otherwise than the files do.

    dtype: to save in; by default as the checkpoint is.
    """
    if lm.folder is None:
        return None
    stored = stored_tensors(lm.folder, lm.name)
    held = _by_stored_name(lm.model, stored)
    if held is None or any(tensor.file.parent != lm.folder for tensor in stored.values()):
        return None
    unknown = stored.keys() - held.keys() - lm.carried.keys()
    if unknown:
        return None
    return WeightFiles(stored, held, dtype or FLOATS[main_dtype(stored)])


def _by_stored_name(model: Any, stored: Mapping[str, StoredTensor]) -> dict[str, Tensor] | None:
    """Return the model's tensors by the names they have in the files, with or without the name of the base model before
    them; None where one has no like there."""
    state = model.state_dict(keep_vars=True)
    prefix = f"{getattr(model, 'base_model_prefix', '')}."
    held: dict[str, Tensor] = {}
    taken: set[int] = set()  # tied weights are one parameter, also where it has no memory yet
    left: list[Tensor] = []
    for name, value in state.items():
        names = (name, name.removeprefix(prefix), prefix + name)
        like = next((other for other in names if other in stored and stored[other].shape == tuple(value.shape)), None)
        if like is None:
            left.append(value)
        else:
            held[like] = value
            taken |= {id(value), value.data_ptr()} - {0}
    return (
        None if any(not {id(value), value.data_ptr()} & taken for value in left) else held
    )  # tied ones are stored once
