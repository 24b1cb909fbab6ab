"""The files of weights of a model in memory, whose tensors go out one by one, also where the files hold them otherwise
than the model does, such as experts that transformers joins."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from huggingface_hub import split_torch_state_dict_into_shards

from wanda_core.checkpoint.tensor_file import FLOATS, NAMES
from wanda_core.checkpoint.tensor_parts import InModel
from wanda_core.checkpoint.weights import (
    SHARD,
    WeightFiles,
    all_have_places,
    dtype_anew,
    fit,
    main_dtype,
    weight_files,
)
from wanda_core.model.stored_tensors import StoredTensor, stored_tensors
from wanda_core.pruning.packed import PackedParameter

if TYPE_CHECKING:
    from wanda_core.model.language_model import LanguageModel


def files_one_by_one(
    lm: "LanguageModel", dtype: torch.dtype | None, pruned: Mapping[str, PackedParameter]
) -> WeightFiles | None:
    """Plan the files of weights that `save` writes for a variant, without a second copy of any weight.

    dtype, pruned: as of `weight_files`. None where there is no folder that the model was read from, where its files
    hold what transformers computes from the model's tensors, and where they have no place for a pruned parameter.
    """
    files = weight_files(lm, dtype, pruned)
    if files is not None or lm.folder is None:
        return files
    held = _held(lm, pruned)
    stored = stored_tensors(lm.folder, lm.name)
    if held is None or not fit({name: source.layout for name, source in held.items()}, stored, lm.carried):
        return None
    if any(tensor.file.parent != lm.folder for tensor in stored.values()):
        return None
    return WeightFiles(stored, held, dtype or FLOATS[main_dtype(stored)])


def files_anew(
    lm: "LanguageModel", dtype: torch.dtype | None, pruned: Mapping[str, PackedParameter]
) -> WeightFiles | None:
    """Plan the files of weights that `save` writes for a variant of a model that no folder holds, such as a shrunk one.

    dtype, pruned: as of `weight_files`. None where transformers computes new tensors for saving, and where these are no
    plain numbers.
    """
    held = _held(lm, pruned)
    if held is None or any(source.layout.dtype not in NAMES for source in held.values()):
        return None
    empty = {name: torch.empty_like(source.layout).contiguous() for name, source in held.items()}  # no views of another
    shards = split_torch_state_dict_into_shards(
        empty, filename_pattern="model{suffix}.safetensors", max_shard_size=SHARD
    )
    stored = {
        name: StoredTensor(Path(file), NAMES[empty[name].dtype], tuple(empty[name].shape))
        for file, names in shards.filename_to_tensors.items()
        for name in names
    }
    return WeightFiles(stored, held, dtype_anew(lm, dtype))


def _held(lm: "LanguageModel", pruned: Mapping[str, PackedParameter]) -> dict[str, InModel] | None:
    """Find the tensors of a checkpoint in those of a model. None where they are not all views of them in one piece, and
    where a pruned parameter has no place."""
    try:
        from wanda_core.low_memory.conversion import layouts_as_saved
    except (ImportError, AttributeError):  # another version of transformers
        return None
    layouts = layouts_as_saved(lm.model)
    if layouts is None:
        return None
    state = lm.model.state_dict(keep_vars=True)
    owners = [own for own, _ in layouts.values()]
    if not all_have_places(pruned, state, owners) or not all(state[own].is_contiguous() for own in owners):
        return None
    return {name: InModel(state[own], view, pruned.get(own)) for name, (own, view) in layouts.items()}
