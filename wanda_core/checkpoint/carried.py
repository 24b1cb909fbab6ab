"""Tensors that a checkpoint holds and its model does without, such as layers that predict further tokens: handed on,
unchanged, in a file of their own."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wanda_core.machine.json_file import read_json

if TYPE_CHECKING:  # checking a target must not wait for torch
    from wanda_core.model.stored_tensors import StoredTensor

CARRIED = "model-carried.safetensors"
ONE_FILE, FIRST_OF_ONE = "model.safetensors", "model-00001-of-00001.safetensors"
INDEX = "model.safetensors.index.json"


def carried_bytes(carried: "Mapping[str, StoredTensor]") -> int:
    """Return how many bytes these tensors take."""
    return sum(stored.nbytes for stored in carried.values())


def add_carried(folder: Path, carried: "Mapping[str, StoredTensor]") -> None:
    """Write these tensors, as they lie in the files they come from, into a checkpoint that transformers has written.

    The index lists them; it is made where there was one file of weights.
    """
    if not carried:
        return
    from safetensors.torch import save_file

    from wanda_core.model.stored_tensors import read_tensors, stored_tensors

    values = read_tensors(carried)
    save_file(values, folder / CARRIED, metadata={"format": "pt"})
    index: dict[str, Any] = {"metadata": {"total_size": 0}, "weight_map": {}}
    if (folder / ONE_FILE).is_file():
        index["weight_map"] = dict.fromkeys(stored_tensors(folder, folder.name), FIRST_OF_ONE)
        (folder / ONE_FILE).rename(folder / FIRST_OF_ONE)
        index["metadata"]["total_size"] = (folder / FIRST_OF_ONE).stat().st_size
    else:
        index = read_json(folder / INDEX)
    index["metadata"]["total_size"] += sum(value.nbytes for value in values.values())
    index["weight_map"] |= dict.fromkeys(values, CARRIED)
    (folder / INDEX).write_text(json.dumps(index, indent=2, sort_keys=True) + "\n", encoding="utf-8")
