"""Which tensor of a model each tensor of a checkpoint becomes, and which of them cannot be: two in one's place, and
numbers in a form or shape that weights do not have; and which of a model's are in none of its files.

transformers renames tensors, puts or leaves out the name of the base model before them, and joins some (experts). Where
two come out under one name the last it reads wins, and it casts whatever it is given to the model's own format.
"""

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from wanda_core.errors import ModelError, shortened_path
from wanda_core.model.stored_tensors import (
    NUMBERS,
    RECOMPUTED,
    StoredTensor,
    carried_tensors,
    check_complete,
    check_shapes,
)

FEW = 1_000  # tensors without a place that may be left to transformers to tell
# Numbers that a model may make itself, in Python, two microseconds each: of sinusoidal positions, which its files may
# lack. 1.6 million are met, 1,536 positions of 1,024 features.
MOST_MADE = 2**22


def check_places(model: Any, name: str, tensors: Mapping[str, StoredTensor]) -> None:
    """Raise ModelError for tensors that the model has one place for, for numbers in it that are none of floating point
    where it computes with such, for thousands that it has no place for, and for places that nothing fills.

    model: as transformers makes it, with or without memory; name: for messages; tensors: of the checkpoint, by name.
    """
    held, parameters = model.state_dict(), {own for own, _ in model.named_parameters(remove_duplicate=False)}
    taken: dict[str, str] = {}
    placed: dict[str, str] = {}
    for tensor, own, place in places_in(model, tensors, held):
        placed[tensor] = place
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
    _check_filled(model, name, tensors, {place: tensor for tensor, place in placed.items()})
    others = tensors.keys() - placed.keys()
    if len(others) > FEW:  # each costs transformers as much as one that has a place
        carried_tensors(model, name, tensors, others)


def _check_filled(model: Any, name: str, tensors: Mapping[str, StoredTensor], filled: Mapping[str, str]) -> None:
    """Raise ModelError for weights that the files lack or hold in another shape, before any is read, where that can be
    told from their names; and for more numbers than are computed in place of those that may lack.

    filled: a tensor for each place that has one.
    """
    mapping = _mapping(model)
    if mapping is None or any(len(converter.target_patterns) > 1 for converter in mapping[1]):
        return
    held = model.state_dict()
    if not mapping[1]:  # a converter may turn what it is given
        stored = ((place, tensors[tensor].shape, held[place].shape) for place, tensor in filled.items())
        check_shapes(name, [(place, had, asked) for place, had, asked in stored if had != tuple(asked)])
    lacking = held.keys() - _shared(model, filled.keys())
    patterns = [re.compile(pattern) for pattern in model._keys_to_ignore_on_load_missing or ()]
    made = {place for place in lacking if any(pattern.search(place) for pattern in patterns)}
    check_complete(name, {place for place in lacking - made if not RECOMPUTED.search(place)})
    made |= held.keys() & _computed(model)
    numbers = sum(held[place].numel() for place in made)
    if numbers > MOST_MADE:
        raise ModelError(
            f"{shortened_path(name)} has a config.json that makes {numbers:,} numbers of {min(made)} that are computed "
            f"in place of being read, and at most {MOST_MADE:,} are; repair it, such as its number of positions, or "
            "choose another model"
        )


def _computed(model: Any) -> set[str]:
    """Return the places that a model computes while it is loaded, whatever its files hold."""
    made = {f"{own}.weight" for own, module in model.named_modules() if hasattr(module, "create_weight")}
    if getattr(model.config, "sinusoidal_embeddings", False):  # of XLM and Flaubert
        made |= {place for place, _ in model.named_parameters() if place.endswith("position_embeddings.weight")}
    return made


def _shared(model: Any, filled: Collection[str]) -> set[str]:
    """Return the places that are filled, with those that share a weight with one of them or are tied to it."""
    groups: dict[str, list[str]] = {}  # of each place, those that are one with it
    same: dict[int, list[str]] = {}
    for place, parameter in model.named_parameters(remove_duplicate=False):
        groups[place] = same.setdefault(id(parameter), [])
        groups[place].append(place)
    for one, other in (model.all_tied_weights_keys or {}).items():
        first, second = groups.get(one, [one]), groups.get(other, [other])
        if first is not second:
            first += second
            groups |= dict.fromkeys(first, first)
    return {place for own in filled for place in groups.get(own, [own])}


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
    mapping = _mapping(model)
    if mapping is None:
        return lambda name: (name, name)
    from transformers.core_model_loading import rename_source_key

    renamings, converters = mapping

    def renamed(name: str) -> tuple[str, str]:
        own, _ = rename_source_key(name, renamings, [])
        return own, rename_source_key(own, [], converters)[0]

    return renamed


def _mapping(model: Any) -> tuple[list[Any], list[Any]] | None:
    """Return what renames tensors for a model and what converts them, None for a version of transformers that does it
    otherwise."""
    try:
        from transformers.conversion_mapping import get_model_conversion_mapping
        from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key

        mapping = get_model_conversion_mapping(model)
        renamings = [entry for entry in mapping if isinstance(entry, WeightRenaming)]
        converters = [entry for entry in mapping if isinstance(entry, WeightConverter)]
        rename_source_key("", renamings, converters)
        return renamings, converters
    except Exception:
        return None
