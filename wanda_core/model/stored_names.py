"""Which tensor of a model each tensor of a checkpoint becomes, and which of them cannot be: two in one's place, and
numbers in a form that weights do not have.

transformers renames tensors, puts or leaves out the name of the base model before them, and joins some (experts). Where
two come out under one name the last it reads wins, and it casts whatever it is given to the model's own format.
"""

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from wanda_core.errors import ModelError, shortened_path
from wanda_core.model.stored_tensors import NUMBERS, RECOMPUTED, StoredTensor, carried_tensors

FEW = 1_000  # tensors without a place that may be left to transformers to tell


def check_places(model: Any, name: str, tensors: Mapping[str, StoredTensor]) -> None:
    """Raise ModelError for tensors that the model has one place for, for numbers in it that are none of floating point
    where it computes with such, and for thousands that it has no place for.

    model: as transformers makes it, with or without memory; name: for messages; tensors: of the checkpoint, by name.
    """
    held, parameters = model.state_dict(), {own for own, _ in model.named_parameters(remove_duplicate=False)}
    taken: dict[str, str] = {}
    placed = set()
    for tensor, own, place in places_in(model, tensors, held):
        placed.add(tensor)
        if own in taken:
            raise ModelError(
                f"{shortened_path(name)} holds {taken[own]} and {tensor}, which are one weight of its model, and which "
                "of them is meant is told nowhere; give a checkpoint that holds it once"
            )
        taken[own] = tensor
        stored = tensors[tensor].dtype
        computed = place not in parameters and RECOMPUTED.search(tensor)  # old masks may be bits or bytes
        if held[place].is_floating_point() and stored not in NUMBERS and not computed:
            raise ModelError(
                f"{shortened_path(name)} holds {tensor} as {stored}, and weights are read from "
                f"{', '.join(sorted(NUMBERS))} only; give the original checkpoint"
            )
    others = tensors.keys() - placed
    if len(others) > FEW:  # each costs transformers as much as one that has a place
        carried_tensors(model, name, tensors, others)


def places_in(model: Any, names: Collection[str], held: Collection[str]) -> Iterator[tuple[str, str, str]]:
    """Yield the tensors of a checkpoint that have a place in a model: the name there, the one that it is given, and the
    name in the model; the second differs for parts that are joined into one, the third does not.

    names: in the checkpoint; held: in the model.
    """
    base = getattr(model, "base_model_prefix", "")
    before = re.compile(f"^{base}.")
    renamed = _renaming(model)

    def placed(name: str) -> str:
        without = before.sub("", name, count=1)
        if name.startswith(base) and without in held:
            return without
        return f"{base}.{name}" if f"{base}.{name}" in held else name

    for name in names:
        own, joined = renamed(name)
        place = placed(joined)
        if place not in held and name in held:
            own, joined, place = name, name, placed(name)
        if place not in held:
            continue
        if place == f"{base}.{joined}":
            own = f"{base}.{own}"
        elif place != joined:
            own = before.sub("", own, count=1)
        yield name, own, place


def _renaming(model: Any) -> Callable[[str], tuple[str, str]]:
    """Return what gives a tensor of a checkpoint its name in a model, and that of what it is joined into there.

    transformers promises nothing of what tells both; where it lacks that, tensors keep their names.
    """
    try:
        from transformers.conversion_mapping import get_model_conversion_mapping
        from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key

        mapping = get_model_conversion_mapping(model)
        renamings = [entry for entry in mapping if isinstance(entry, WeightRenaming)]
        converters = [entry for entry in mapping if isinstance(entry, WeightConverter)]
        rename_source_key("", renamings, converters)
    except Exception:  # another version's
        return lambda name: (name, name)

    def renamed(name: str) -> tuple[str, str]:
        own, _ = rename_source_key(name, renamings, [])
        return own, rename_source_key(own, [], converters)[0]

    return renamed
