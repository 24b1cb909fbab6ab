"""Conversion between the tensors of a checkpoint and those of a model, by transformers' own functions.

They rename tensors, join or split them (experts), cast them, and undo all that for saving. transformers makes no
promise about these functions, so this file alone uses them, and importing it checks that each exists and takes the
arguments it is given below: ImportError or AttributeError otherwise.
"""

import inspect
from collections.abc import Callable, Collection
from typing import Any, cast

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from transformers import PreTrainedModel
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

# Number of arguments by position, and names of the others.
_CALLS: list[tuple[Callable[..., Any], int, tuple[str, ...]]] = [
    (get_model_conversion_mapping, 1, ()),
    (convert_and_load_state_dict_in_model, 3, ()),
    (rename_source_key, 5, ()),
    (revert_weight_conversion, 2, ()),
    (remove_tied_weights_from_state_dict, 2, ()),
    (LoadStateDictConfig, 0, ("device_map", "dtype", "dtype_plan", "weight_mapping")),
    (PreTrainedModel._get_dtype_plan, 2, ()),
    (PreTrainedModel._adjust_missing_and_unexpected_keys, 2, ()),
    (PreTrainedModel.tie_weights, 1, ("missing_keys", "recompute_mapping")),
]
_ATTRIBUTES = (PreTrainedModel._keys_to_ignore_on_save, PreTrainedModel.base_model_prefix)  # looked up now


def _check_calls() -> None:
    """Raise ImportError for a function that cannot be called as it is here."""
    for function, positions, names in _CALLS:
        try:
            inspect.signature(function).bind(*[None] * positions, **dict.fromkeys(names))
        except TypeError as error:
            raise ImportError(f"{function.__qualname__}: {error}") from error


_check_calls()


class Conversion:
    """How the tensors of a checkpoint become those of a model, and back.

    model: built by transformers with every parameter on the meta device; dtype: what its weights will be held in.
    """

    def __init__(self, model: Any, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self._mapping = get_model_conversion_mapping(model)
        plan = model._get_dtype_plan(dtype)
        self._settings: dict[str, Any] = {"dtype": dtype, "dtype_plan": plan, "weight_mapping": self._mapping}

    def names_in_model(self, model: Any, names: Collection[str]) -> dict[str, str]:
        """Return which tensor of the model each tensor of the checkpoint ends up in; those without one are left out."""
        wanted = model.state_dict()
        renamings = [entry for entry in self._mapping if isinstance(entry, WeightRenaming)]
        converters = [entry for entry in self._mapping if isinstance(entry, WeightConverter)]
        targets = {}
        for name in names:
            target, _ = rename_source_key(name, renamings, converters, model.base_model_prefix, wanted)
            if target not in wanted and name in wanted:
                target = name
            if target in wanted:
                targets[name] = target
        return targets

    def load(self, model: Any, tensors: dict[str, Any], device: torch.device) -> Any:
        """Put tensors of the checkpoint (or slices of its files) into the model; return transformers' loading info."""
        shown = logging.is_progress_bar_enabled()
        logging.disable_progress_bar()  # there would be one for every block
        try:
            info, _ = convert_and_load_state_dict_in_model(
                model, tensors, LoadStateDictConfig(device_map={"": device}, **self._settings)
            )
        finally:
            if shown:
                logging.enable_progress_bar()
        return info

    def still_missing(self, model: Any, info: Any) -> set[str]:
        """Tie the weights of a model that everything was loaded into; return the names of those it still lacks."""
        tie(model, info.missing_keys)
        model._adjust_missing_and_unexpected_keys(info)
        return cast(set[str], info.missing_keys)

    def as_saved(self, model: Any, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return tensors of the model under the names and in the layout of a checkpoint, tied ones once."""
        for name in model._keys_to_ignore_on_save or ():
            state.pop(name, None)
        return cast(
            dict[str, Tensor], revert_weight_conversion(model, remove_tied_weights_from_state_dict(state, model))
        )


def layouts_as_saved(model: Any) -> dict[str, tuple[str, Tensor]] | None:
    """Tell where the tensors of a checkpoint lie in those of a model, without touching a number.

    -> by its name in the checkpoint, the parameter or buffer that a tensor is a view of, and that view of a contiguous
    tensor of the same shape, on the meta device. None where transformers computes new tensors for saving.
    """
    state = dict(model.state_dict())
    for name in model._keys_to_ignore_on_save or ():
        state.pop(name, None)
    own = remove_tied_weights_from_state_dict(state, model)
    empty = {name: torch.empty(value.shape, dtype=value.dtype, device="meta") for name, value in own.items()}
    owners = {StorageWeakRef(value.untyped_storage()): name for name, value in empty.items()}
    with _Uncopied():
        saved = revert_weight_conversion(model, empty)
    found = {name: (owners.get(StorageWeakRef(value.untyped_storage()), ""), value) for name, value in saved.items()}
    return found if all(owner for owner, _ in found.values()) else None


class _Uncopied(TorchFunctionMode):
    """Context manager: leave views as they are where a copy in order is asked for."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return args[0] if func is Tensor.contiguous else func(*args, **(kwargs or {}))


def tie(model: Any, missing: set[str]) -> None:
    """Let tied parameters share their tensor again. missing: parameters not loaded; the tied ones are taken out."""
    model.tie_weights(missing_keys=missing, recompute_mapping=False)


def tied_pairs(model: Any) -> list[tuple[str, str]]:
    """Return the parameters that are tied, each with the name of the one it shares its tensor with."""
    return list(model.all_tied_weights_keys.items())
