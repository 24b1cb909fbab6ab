"""The files of weights of a model in memory, whose tensors go out one by one, also where the files hold them otherwise
than the model does, such as experts that transformers joins."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from wanda_core.checkpoint.tensor_file import FLOATS
from wanda_core.checkpoint.tensor_parts import InModel
from wanda_core.checkpoint.weights import WeightFiles, all_have_places, fit, main_dtype, weight_files
from wanda_core.model.stored_tensors import stored_tensors
from wanda_core.pruning.packed import PackedParameter

if TYPE_CHECKING:
    import torch

    from wanda_core.model.language_model import LanguageModel


def files_one_by_one(
    lm: "LanguageModel", dtype: "torch.dtype | None", pruned: Mapping[str, PackedParameter]
) -> WeightFiles | None:
    """Plan the files of weights that `save` writes for a variant, without a second copy of any weight.

    dtype, pruned: as of `weight_files`. None where there is no folder that the model was read from, where its files
    hold what transformers computes from the model's tensors, and where they have no place for a pruned parameter.
    """
    files = weight_files(lm, dtype, pruned)
    if files is not None or lm.folder is None:
        return files
    try:
        from wanda_core.low_memory.conversion import layouts_as_saved
    except (ImportError, AttributeError):  # another version of transformers
        return None
    layouts = layouts_as_saved(lm.model)
    stored = stored_tensors(lm.folder, lm.name)
    if layouts is None or not fit({name: view for name, (_, view) in layouts.items()}, stored, lm.carried):
        return None
    if any(tensor.file.parent != lm.folder for tensor in stored.values()):
        return None
    state = lm.model.state_dict(keep_vars=True)
    if not all_have_places(pruned, state, [own for own, _ in layouts.values()]):
        return None
    held = {name: InModel(state[own], view, pruned.get(own)) for name, (own, view) in layouts.items()}
    if not all(state[own].is_contiguous() for own, _ in layouts.values()):  # what the views speak of
        return None
    return WeightFiles(stored, held, dtype or FLOATS[main_dtype(stored)])
