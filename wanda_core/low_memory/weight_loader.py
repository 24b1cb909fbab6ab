"""Reading the weights of one part of a model from its checkpoint on the disk, and dropping them again.

A part is a decoder block, or the rest: embeddings, last norm, output head. Which tensor goes where, and how it is
converted, is the business of `conversion.py`.
"""

import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from wanda_core.checkpoint.tensor_file import NAMES
from wanda_core.checkpoint.tensor_parts import InFile
from wanda_core.checkpoint.weights import as_saved, main_dtype, saved_dtype
from wanda_core.errors import ModelError, StorageError, first_line, shortened_path
from wanda_core.low_memory.conversion import Conversion, tie, tied_pairs
from wanda_core.model import experts
from wanda_core.model.linears import decoder_blocks
from wanda_core.model.stored_tensors import (
    carried_tensors,
    check_complete,
    check_finite,
    check_shapes,
    pieces,
    stored_tensors,
)

REST = -1  # the part that is no block


class WeightLoader:
    """The tensors of a checkpoint folder, by parts of a model.

    model: built by transformers with every parameter on the meta device and every buffer computed; it stays so.
    Raises ModelError for a checkpoint that is not whole or does not fit the model, and for blocks that share weights.
    """

    def __init__(self, folder: Path, name: str, model: Any, device: torch.device, dtype: torch.dtype) -> None:
        self.name, self.device = name, device
        self._prefix = re.compile(rf"{re.escape(decoder_blocks(model)[0])}\.(\d+)\.")
        self._stored = stored_tensors(folder, name)
        self._conversion = Conversion(model, dtype)
        self._tensors, unexpected = self._by_part(model)
        self.carried = carried_tensors(model, name, self._stored, unexpected)
        self._missing = self._rehearse(model)
        self._empty = dict(held_in(model))
        self._check_apart(model)
        check_finite(name, pieces(self._stored))  # a pass over the files, before an hour's work on them

    @property
    def files(self) -> list[Path]:
        """The files that tensors are read from."""
        return sorted({stored.file for stored in self._stored.values()})

    def part(self, name: str) -> int:
        """Return which part a parameter of the model belongs to: the index of its block, or `REST`."""
        match = self._prefix.match(name)
        return int(match[1]) if match else REST

    def sizes(self, model: nn.Module) -> dict[int, int]:
        """Return the bytes that each part takes in memory, tied parameters counted once."""
        sizes: dict[int, int] = defaultdict(int)
        for name, parameter in model.named_parameters():
            sizes[self.part(name)] += parameter.nbytes
        return dict(sizes)

    @contextmanager
    def at_hand(self, model: nn.Module, part: int) -> Iterator[None]:
        """Context manager: read the part's weights into the model, on the device, and drop them at the end."""
        try:
            self._bring(model, part)
            yield
        finally:
            self._put_away(model, part)

    def as_saved(self, model: Any, part: int, dtype: torch.dtype) -> dict[str, Tensor]:
        """Return the part at hand as it is saved: names and layout of the checkpoint, tied tensors once, on the CPU.

        dtype: to save in, what is stored in the checkpoint's main number format.
        """
        state = {name: value for name, value in model.state_dict().items() if self.part(name) == part}
        saved = {}
        for name, value in self._conversion.as_saved(model, state).items():
            stored = self._stored.get(name)
            in_file = InFile(name, stored).read([()]) if stored is not None else iter(())
            saved_as = saved_dtype(stored, self.main_dtype, dtype)
            saved[name] = as_saved(name, stored, value, saved_as, in_file).contiguous()
        return saved

    def saved_anew(self, model: Any, part: int, dtype: torch.dtype) -> dict[str, Tensor]:
        """Return a part of a model of other sizes than the checkpoint's as it is saved, when its weights are at hand.

        The names and the layout are those of a checkpoint of its own; tied tensors once, on the CPU.

        dtype: to save in, what is held in the number format that weights are loaded in.
        """
        state = {name: value for name, value in model.state_dict().items() if self.part(name) == part}
        saved = {}
        for name, value in self._conversion.as_saved(model, state).items():
            saved_as = NAMES[dtype] if value.dtype == self._conversion.dtype else NAMES.get(value.dtype, "")
            saved[name] = as_saved(name, None, value, saved_as, iter(())).contiguous()
        return saved

    @property
    def main_dtype(self) -> str:
        """Safetensors' name of the number format that most of the checkpoint is held in."""
        return main_dtype(self._stored)

    def written_all(self, names: Collection[str]) -> bool:
        """Whether these are the names of all tensors of the checkpoint, but for those that are carried."""
        return set(names) == self._stored.keys() - self.carried.keys()

    def _by_part(self, model: Any) -> tuple[dict[int, list[str]], list[str]]:
        """Return the names in the checkpoint by the part they end up in, and those the model has no place for."""
        names: dict[int, list[str]] = defaultdict(list)
        targets = self._conversion.names_in_model(model, self._stored)
        for name, target in targets.items():
            names[self.part(target)].append(name)
        return names, [name for name in self._stored if name not in targets]

    def _rehearse(self, model: Any) -> set[str]:
        """Load everything as shapes alone, so that a defect of the checkpoint is known before an hour's work.

        -> the parameters that the checkpoint holds under another's name, because they are tied.
        """
        shapes = {name: value for part in self._tensors for name, value in self._shapes(part)}
        info = self._load(model, shapes, torch.device("meta"))
        not_loaded = set(info.missing_keys)
        check_complete(self.name, self._conversion.still_missing(model, info))
        return not_loaded

    def _shapes(self, part: int) -> Iterator[tuple[str, Tensor]]:
        for name in self._tensors[part]:
            yield name, torch.empty(self._stored[name].shape, dtype=self._conversion.dtype, device="meta")

    def _bring(self, model: Any, part: int) -> None:
        """Read a part's weights from the disk into the model."""
        with self._open(part) as files:
            slices = {name: files[self._stored[name].file].get_slice(name) for name in self._tensors[part]}
            self._load(model, slices, self.device)
        if part == REST:
            tie(model, set(self._missing))
        for name, module in model.named_modules():
            if self.part(f"{name}.") == part:
                module.requires_grad_(False)
                experts.adopt(module)

    def _load(self, model: Any, tensors: dict[str, Any], device: torch.device) -> Any:
        """Load tensors into the model; return transformers' loading info. Raises ModelError for a wrong shape."""
        try:
            info = self._conversion.load(model, tensors, device)
        except NotImplementedError as error:  # transformers wants a weight itself where it is given shapes
            raise ModelError(
                f"{shortened_path(self.name)} has weights that cannot be read part by part ({first_line(error)}); "
                "leave --low-memory out"
            ) from error
        check_shapes(self.name, info.mismatched_keys)
        if info.conversion_errors:
            raise ModelError(
                f"{shortened_path(self.name)} holds tensors that do not fit together as {min(info.conversion_errors)}, "
                "which its configuration makes of them; give the files that belong together"
            )
        return info

    def _put_away(self, model: nn.Module, part: int) -> None:
        """Put the part's empty parameters back into the model, which frees its weights."""
        put_back(model, {name: empty for name, empty in self._empty.items() if self.part(name) == part})

    @contextmanager
    def _open(self, part: int) -> Iterator[dict[Path, Any]]:
        """Context manager: open the files that hold a part.

        They are read, not mapped into memory: a mapped file would count as memory in use, all of it at once.
        """
        try:
            with ExitStack() as stack:
                paths = {self._stored[name].file for name in self._tensors[part]}
                yield {path: stack.enter_context(safe_open(path, framework="pt", backend="pread")) for path in paths}
        except OSError as error:  # the disk may answer again, so what is finished stays
            raise StorageError(
                f"the weights of {shortened_path(self.name)} could not be read: {first_line(error)}; check the disk "
                "and start again"
            ) from error
        except SafetensorError as error:
            raise ModelError(
                f"the weights of {shortened_path(self.name)} could not be read: {first_line(error)}; give a complete "
                "checkpoint"
            ) from error

    def _check_apart(self, model: Any) -> None:
        """Raise ModelError unless every block has weights of its own."""
        parts: dict[int, set[int]] = defaultdict(set)
        names = {}
        for name, parameter in model.named_parameters(remove_duplicate=False):
            parts[id(parameter)].add(self.part(name))
            names[id(parameter)] = name
        shared = [names[key] for key, used_in in parts.items() if len(used_in) > 1]
        shared += [name for pair in tied_pairs(model) if any(self.part(tied) != REST for tied in pair) for name in pair]
        if shared:
            raise ModelError(
                f"{shortened_path(self.name)} has blocks that share weights ({min(shared)}), so they cannot be pruned "
                "one by one; leave --low-memory out"
            )


def put_back(model: nn.Module, empty: Mapping[str, Tensor | None]) -> None:
    """Give a model these parameters and buffers instead of what it holds under their names, which frees that."""
    for name, value in empty.items():
        owner, _, own = name.rpartition(".")
        module = model.get_submodule(owner)
        held: dict[str, Any] = module._parameters if own in module._parameters else module._buffers
        held[own] = value
        experts.disown(module)


def held_in(model: nn.Module) -> Iterator[tuple[str, Tensor | None]]:
    """Yield every parameter and saved buffer, the objects themselves, with their names."""
    saved = model.state_dict().keys()
    for prefix, module in model.named_modules(remove_duplicate=False):
        for own, value in (*module._parameters.items(), *module._buffers.items()):
            name = f"{prefix}.{own}" if prefix else own
            if name in saved:
                yield name, value
