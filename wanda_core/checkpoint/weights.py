"""The weights of a pruned checkpoint: the files they were read from, with the pruned tensors in their places.

Names, files, layout and number formats are those of the dense checkpoint, so that whatever reads that reads this too,
and a weight that was kept has the bits it had. A model whose tensors lie otherwise in memory than in the files (experts
that are stored one by one) is written by transformers first and taken over from there.
"""

import json
import math
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from wanda_core.checkpoint.beside import APART
from wanda_core.checkpoint.carried import add_carried, carried_bytes
from wanda_core.checkpoint.manifest import announce
from wanda_core.checkpoint.tensor_file import FLOATS, NAMES, Place, file_size, tensor_file
from wanda_core.checkpoint.tensor_parts import InFile, InModel, Source, parts_of
from wanda_core.errors import StorageError
from wanda_core.model.stored_tensors import INDEX, ONE_FILE, StoredTensor, stored_tensors
from wanda_core.pruning.packed import PackedParameter

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
    held: Mapping[str, Source]
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
    def sizes(self) -> dict[str, int]:
        """The bytes of every file, by its name."""
        return {name: file_size(layout) for name, layout in self.layouts.items()}

    @property
    def nbytes(self) -> int:
        """Bytes of all files."""
        return sum(self.sizes.values())

    @property
    def index(self) -> str | None:
        """The text of the file that lists the others, None where there is but one."""
        layouts = self.layouts
        if set(layouts) == {ONE_FILE}:
            return None
        size = sum(place.nbytes for layout in layouts.values() for place in layout.values())
        index = {"metadata": {"total_size": size}, "weight_map": {name: t.file.name for name, t in self.stored.items()}}
        return json.dumps(index, indent=2, sort_keys=True) + "\n"

    def parts(self, name: str, dtype: str) -> Iterator[Tensor]:
        """Yield a tensor as it is saved, part by part, on the CPU. Raises StorageError where the format cannot hold it.

        dtype: safetensors' name of the number format.
        """
        stored, held = self.stored[name], self.held.get(name)
        parts = list(parts_of(stored.shape))
        with closing(InFile(name, stored).read(parts)) as in_file:
            values = held.read(parts) if held is not None else repeat(None, len(parts))
            for value in values:
                yield as_saved(name, stored, value, dtype, in_file)

    def write(self, folder: Path) -> None:
        """Write all files, whose names are the source's, and the index where there are several."""
        announce(folder, self.layouts)
        for file in self.layouts:
            with (folder / file).open("wb") as opened:
                for data in self.bytes_of(file):
                    opened.write(data)
        index = self.index
        if index is not None:
            (folder / INDEX).write_text(index, encoding="utf-8")

    def bytes_of(self, file: str) -> Iterator[memoryview | bytes]:
        """Yield the bytes of one file, a part of a tensor at a time."""
        layout = self.layouts[file]
        return tensor_file(layout, lambda name: self.parts(name, layout[name].dtype))

    def check(self) -> None:
        """Raise StorageError naming a tensor with a number beyond the format that it is to be saved in."""
        main = main_dtype(self.stored)
        for name, stored in self.stored.items():
            dtype, held = saved_dtype(stored, main, self.dtype), self.held.get(name)
            if stored.dtype not in FLOATS or 0 in stored.shape:
                continue
            if isinstance(held, InModel):
                as_it_was = dtype == stored.dtype and held.changed is None  # each number is one that lies in the file
                if as_it_was or bool(torch.isfinite(held.largest.to(FLOATS[dtype]))):
                    continue
            for _ in self.parts(name, dtype):  # that finds what the number is, and whether it is there after pruning
                pass


def as_saved(
    name: str, stored: StoredTensor | None, held: Tensor | None, dtype: str, in_file: Iterator[Tensor]
) -> Tensor:
    """Return numbers of the model as they are saved, on the CPU; kept ones with the bits they were read with.

    stored: what lies in the file, None where nothing does; held: what the model has of it, None where it does without;
    dtype: safetensors' name of the number format; in_file: yields the same numbers as they lie in the file, asked only
    where they are needed. Raises StorageError for a number beyond the format.
    """
    if held is None or (stored is not None and stored.dtype not in FLOATS):
        value = next(in_file)
    else:
        value = held.detach().cpu()
        if stored is not None and value.dtype.itemsize < FLOATS[stored.dtype].itemsize:
            exact = next(in_file)  # the model was read into a smaller format
            value = torch.where((exact.to(value.dtype) == value) & (value != 0), exact, value.to(exact.dtype))
    if dtype not in FLOATS or not value.is_floating_point():
        return value
    saved = value.to(FLOATS[dtype])
    if bool((torch.isfinite(value) & ~torch.isfinite(saved)).any()):
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
            read = {name: InFile(name, tensor) for name, tensor in theirs.items()}
            files = WeightFiles(stored, read, dtype or FLOATS[main_dtype(stored)])
            return _write_as_in_source(files, folder, dtype)
        wanted = dtype_anew(lm, dtype)
        _write_as_in_source(WeightFiles(theirs, {}, wanted), folder, None)
    add_carried(folder, lm.carried)
    return Written(wanted, False, str(wanted).removeprefix("torch."))


def dtype_anew(lm: "LanguageModel", dtype: torch.dtype | None) -> torch.dtype:
    """Return what a model's weights are saved in where they are written anew: by default as in the folder it was read
    from. dtype: as of `save`."""
    if dtype is not None or lm.folder is None:
        return dtype or lm.dtype
    return FLOATS[main_dtype(stored_tensors(lm.folder, lm.name))]


def fit(tensors: Mapping[str, Any], stored: Mapping[str, StoredTensor], carried: Collection[str]) -> bool:
    """Whether tensors are those of a folder, but for the ones that are carried. tensors: with a shape, by name."""
    return tensors.keys() == stored.keys() - set(carried) and all(
        tuple(tensor.shape) == stored[name].shape for name, tensor in tensors.items()
    )


def _write_as_in_source(files: WeightFiles, folder: Path, dtype: torch.dtype | None) -> Written:
    files.write(folder)
    return written_as_in_source(files, dtype)


def written_as_in_source(files: WeightFiles, dtype: torch.dtype | None) -> Written:
    """Tell how weights are written under the names of their source. dtype: as of `save`."""
    changed = dtype is not None and NAMES[dtype] != main_dtype(files.stored)
    return Written(files.dtype, True, str(dtype).removeprefix("torch.") if changed else None)


def weight_files(
    lm: "LanguageModel", dtype: torch.dtype | None, pruned: Mapping[str, PackedParameter] | None = None
) -> WeightFiles | None:
    """Plan the files of weights of a model that was read from a folder, None where they cannot be those of the folder:
    it was made or changed in memory, or holds its tensors otherwise than the files do.

    dtype: to save in; by default as the checkpoint is; pruned: what became of parameters, by their names in the model,
    None too where the folder has no place for one of them.
    """
    if lm.folder is None:
        return None
    stored = stored_tensors(lm.folder, lm.name)
    names = _names_in_model(lm.model, stored)
    if names is None or any(tensor.file.parent != lm.folder for tensor in stored.values()):
        return None
    unknown = stored.keys() - names.keys() - lm.carried.keys()
    if unknown:
        return None
    state = lm.model.state_dict(keep_vars=True)
    if not all_have_places(pruned or {}, state, names.values()):
        return None
    held = {name: InModel.whole(state[own], (pruned or {}).get(own)) for name, own in names.items()}
    return WeightFiles(stored, held, dtype or FLOATS[main_dtype(stored)])


def all_have_places(
    pruned: Mapping[str, PackedParameter], state: Mapping[str, Tensor], written: Collection[str]
) -> bool:
    """Whether every pruned parameter is written, or is the same as one that is written and that it is tied to.

    Blocks that share their weights are pruned each by its own inputs, while their files have one place for all.
    state: the dense model's parameters and buffers, tied ones the same tensor; written: names of what is written.
    """
    places = {id(state[name]): pruned.get(name) for name in written}
    others = pruned.keys() - set(written)
    return all(pruned[name].is_same(places.get(id(state[name]))) for name in others)


def _names_in_model(model: Any, stored: Mapping[str, StoredTensor]) -> dict[str, str] | None:
    """Return the names that the model has for the tensors of the files, with or without the name of the base model
    before them; None where one of its own has no like there."""
    prefix = f"{getattr(model, 'base_model_prefix', '')}."
    own: dict[str, str] = {}
    taken: set[int] = set()  # tied weights are one parameter, also where it has no memory yet
    left: list[Tensor] = []
    for name, value in model.state_dict(keep_vars=True).items():
        names = (name, name.removeprefix(prefix), prefix + name)
        like = next((other for other in names if other in stored and stored[other].shape == tuple(value.shape)), None)
        if like is None:
            left.append(value)
        else:
            own[like] = name
            taken |= {id(value), value.data_ptr()} - {0}
    return (
        None if any(not {id(value), value.data_ptr()} & taken for value in left) else own
    )  # tied ones are stored once
