"""A training's state in one file, enough to go on after a kill as if there had been none.

It is written in one step, so that the file under its own name is always whole: the state after some step. It names the
job it belongs to, and is used for no other.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from wanda_core.errors import InputError, StorageError, shortened_path
from wanda_core.machine import atomic_file
from wanda_core.machine.json_file import parsed
from wanda_core.model.stored_tensors import open_tensors

KEY = "wanda_training"  # of the file's metadata


def save_state(
    path: Path, about: dict[str, Any], progress: dict[str, Any], tensors: Iterable[tuple[str, Tensor]]
) -> None:
    """Write a state in one step. about: the job; progress: where it is; both plain values. tensors: by name.

    Raises StorageError where that cannot be done; what was there before is then still there.
    """
    held = {name: tensor.contiguous() for name, tensor in tensors}
    told = {"about": about, "progress": progress, "sha256": _digest(about, progress, held)}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file.written(path) as part:
            save_file(held, part, metadata={KEY: json.dumps(told)})
    except (OSError, SafetensorError) as error:
        raise StorageError(
            f"the state of the training could not be written to {shortened_path(path)} ({error}); free some space or "
            "choose another place"
        ) from error


def read_state(path: Path, about: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
    """Read the state that an earlier run of the same job left. -> its progress and tensors, None where there is none.

    Raises InputError for a state of another job, a damaged one and a file that is none: none of them is overwritten.
    """
    atomic_file.sweep(path)
    if not os.path.lexists(path):
        return None
    try:
        with open_tensors(path) as file:
            told = parsed((file.metadata() or {})[KEY])
            theirs, progress, expected = told["about"], told["progress"], told["sha256"]
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dict
        whole = isinstance(theirs, dict) and _digest(theirs, progress, tensors) == expected
    except (OSError, SafetensorError, KeyError, TypeError, ValueError):
        whole = False
    if not whole:
        raise InputError(
            f"{shortened_path(path)} is no whole state of a training, so there is nothing to go on from; move it away "
            "to begin afresh"
        )
    ours = json.loads(json.dumps(about))
    other = [key for key in ours if theirs.get(key) != ours[key]]
    if other:
        raise InputError(
            f"{shortened_path(path)} is the state of a training with another {' and another '.join(other)}; give the "
            "same again to go on from it, or move it away to begin afresh"
        )
    return progress, tensors


def discard_state(path: Path) -> None:
    """Remove a state that nobody needs any more, and what a killed process left of one."""
    atomic_file.sweep(path)
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)


def _digest(about: dict[str, Any], progress: dict[str, Any], tensors: dict[str, Tensor]) -> str:
    found = hashlib.sha256(json.dumps([about, progress], sort_keys=True).encode())
    for name in sorted(tensors):
        found.update(name.encode())
        data: Any = tensors[name].reshape(-1).view(torch.uint8).numpy()
        found.update(data)
    return found.hexdigest()
