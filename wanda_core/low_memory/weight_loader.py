"""A checkpoint on the disk and a model without weights: parts of one are brought into the other and put away again.

A part is a decoder block, or the rest: embeddings, last norm, output head. transformers' own code says which tensor
goes where, renames it, joins or splits it (experts), casts it, and undoes all that for saving.
"""

import re
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import (
    WeightConverter,
    WeightRenaming,
    convert_and_load_state_dict_in_model,
    rename_source_key,
    revert_weight_conversion,
)
from transformers.modeling_utils import LoadStateDictConfig, remove_tied_weights_from_state_dict
from transformers.utils import logging

from wanda_core.errors import ModelError, StorageError, first_line
from wanda_core.model import experts
from wanda_core.model.linears import decoder_blocks
from wanda_core.model.stored_tensors import (
    carried_tensors,
    check_complete,
    check_finite,
    check_numbers,
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
        check_numbers(name, self._stored)
        self.mapping = get_model_conversion_mapping(model)
        plan = model._get_dtype_plan(dtype)
        self._how: dict[str, Any] = {"dtype": dtype, "dtype_plan": plan, "weight_mapping": self.mapping}
        self._tensors, unexpected = self._by_part(model)
        self.carried = carried_tensors(model, name, self._stored, unexpected)
        self._missing = self._rehearse(model)
        self._empty = dict(_held(model))
        self._check_apart(model)
        check_finite(name, pieces(self._stored))  # a pass over the files, before an hour's work on them

    @property
    def files(self) -> list[Path]:
        """The files that tensors are read from."""
        return sorted({stored.file for stored in self._stored.values()})

    def part(self, name: str) -> int:
        """Which part a parameter of the model belongs to: the index of its block, or `REST`."""
        found = self._prefix.match(name)
        return int(found[1]) if found else REST

    def sizes(self, model: nn.Module) -> dict[int, int]:
        """Bytes of each part in memory, tied parameters once."""
        found: dict[int, int] = defaultdict(int)
        for name, parameter in model.named_parameters():
            found[self.part(name)] += parameter.nbytes
        return dict(found)

    @contextmanager
    def at_hand(self, model: nn.Module, part: int) -> Iterator[None]:
        """Inside, the part's weights are in the model, on the device; afterwards they are as if never read."""
        try:
            self._bring(model, part)
            yield
        finally:
            self._put_away(model, part)

    def as_saved(self, model: Any, part: int) -> dict[str, Tensor]:
        """The part at hand as a checkpoint holds it: transformers' names and layout, tied tensors once, on the CPU."""
        state = {name: value for name, value in model.state_dict().items() if self.part(name) == part}
        for name in model._keys_to_ignore_on_save or ():
            state.pop(name, None)
        state = revert_weight_conversion(model, remove_tied_weights_from_state_dict(state, model))
        return {name: value.cpu().contiguous() for name, value in state.items()}

    def _by_part(self, model: Any) -> tuple[dict[int, list[str]], list[str]]:
        """Names in the checkpoint, by the part they end up in; and those that the model has no place for."""
        wanted = model.state_dict()
        renamings = [entry for entry in self.mapping if isinstance(entry, WeightRenaming)]
        converters = [entry for entry in self.mapping if isinstance(entry, WeightConverter)]
        found: dict[int, list[str]] = defaultdict(list)
        unexpected = []
        for name in self._stored:
            target, _ = rename_source_key(name, renamings, converters, model.base_model_prefix, wanted)
            if target not in wanted and name in wanted:
                target = name
            if target in wanted:
                found[self.part(target)].append(name)
            else:
                unexpected.append(name)
        return found, unexpected

    def _rehearse(self, model: Any) -> set[str]:
        """Load everything as shapes alone, so that what is wrong with a checkpoint is known before an hour's work.

        -> the parameters it holds under another's name, because they are tied.
        """
        shapes = {name: value for part in self._tensors for name, value in self._shapes(part)}
        told = self._converted(model, shapes, torch.device("meta"))
        missing = set(told.missing_keys)
        model.tie_weights(missing_keys=told.missing_keys, recompute_mapping=False)
        model._adjust_missing_and_unexpected_keys(told)
        check_complete(self.name, told.missing_keys)
        return missing

    def _shapes(self, part: int) -> Iterator[tuple[str, Tensor]]:
        for name in self._tensors[part]:
            yield name, torch.empty(self._stored[name].shape, dtype=self._how["dtype"], device="meta")

    def _bring(self, model: Any, part: int) -> None:
        with self._open(part) as files:
            pieces = {name: files[self._stored[name].file].get_slice(name) for name in self._tensors[part]}
            self._converted(model, pieces, self.device)
        if part == REST:
            model.tie_weights(missing_keys=set(self._missing), recompute_mapping=False)
        for name, module in model.named_modules():
            if self.part(f"{name}.") == part:
                module.requires_grad_(False)
                experts.adopt(module)

    def _converted(self, model: Any, tensors: dict[str, Any], device: torch.device) -> Any:
        """transformers' own loading of these tensors, and what it has to say."""
        shown = logging.is_progress_bar_enabled()
        logging.disable_progress_bar()  # one for every block
        try:
            told, _ = convert_and_load_state_dict_in_model(
                model, tensors, LoadStateDictConfig(device_map={"": device}, **self._how)
            )
        finally:
            if shown:
                logging.enable_progress_bar()
        if told.mismatched_keys or told.conversion_errors:
            strange = min([key[0] for key in told.mismatched_keys] or told.conversion_errors)
            raise ModelError(
                f"{self.name!r} could not be loaded: {strange} has another shape than its configuration says; "
                "try another model"
            )
        return told

    def _put_away(self, model: nn.Module, part: int) -> None:
        for name, empty in self._empty.items():
            if self.part(name) == part:
                owner, _, own = name.rpartition(".")
                module = model.get_submodule(owner)
                held: dict[str, Any] = module._parameters if own in module._parameters else module._buffers
                held[own] = empty
                experts.disown(module)

    @contextmanager
    def _open(self, part: int) -> Iterator[dict[Path, Any]]:
        """The files that hold a part. They are read, not mapped: a map would count as memory, all of it at once."""
        try:
            with ExitStack() as stack:
                paths = {self._stored[name].file for name in self._tensors[part]}
                yield {path: stack.enter_context(safe_open(path, framework="pt", backend="pread")) for path in paths}
        except OSError as error:  # of a disk that may answer again; what is finished stays
            raise StorageError(
                f"the weights of {self.name!r} could not be read: {first_line(error)}; check the disk and start again"
            ) from error
        except SafetensorError as error:
            raise ModelError(
                f"the weights of {self.name!r} could not be read: {first_line(error)}; give a complete checkpoint"
            ) from error

    def _check_apart(self, model: Any) -> None:
        """Every block must have weights of its own."""
        parts: dict[int, set[int]] = defaultdict(set)
        names = {}
        for name, parameter in model.named_parameters(remove_duplicate=False):
            parts[id(parameter)].add(self.part(name))
            names[id(parameter)] = name
        shared = [names[one] for one, among in parts.items() if len(among) > 1]
        shared += [
            x for pair in model.all_tied_weights_keys.items() if any(self.part(y) != REST for y in pair) for x in pair
        ]
        if shared:
            raise ModelError(
                f"{self.name!r} has blocks that share weights ({min(shared)}), so they cannot be pruned one by one; "
                "leave --low-memory out"
            )


def _held(model: nn.Module) -> Iterator[tuple[str, Tensor | None]]:
    """Every parameter and saved buffer by name, the objects themselves."""
    saved = model.state_dict().keys()
    for prefix, module in model.named_modules(remove_duplicate=False):
        for own, value in (*module._parameters.items(), *module._buffers.items()):
            name = f"{prefix}.{own}" if prefix else own
            if name in saved:
                yield name, value
