"""Saving a pruned model as an ordinary Hugging Face folder that tells how it was made."""

import contextlib
import copy
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError

from wanda_core.checkpoint import atomic_folder, manifest
from wanda_core.checkpoint.beside import APART, CARD, OF_THE_MODEL, bytes_beside, copy_beside
from wanda_core.checkpoint.model_card import card
from wanda_core.checkpoint.records import record
from wanda_core.errors import ModelError, StorageError, WandaError, first_line, in_gb, shortened_path
from wanda_core.machine.disk_faults import disk_faults_told
from wanda_core.machine.temporary import temporary_folder

if TYPE_CHECKING:  # checking a target must not wait for torch
    import torch

    from wanda_core.checkpoint.weights import Written
    from wanda_core.evaluation.perplexity import Perplexity
    from wanda_core.model.language_model import LanguageModel
    from wanda_core.pruning.variant import Variant
    from wanda_core.shrinking.report import Shrunk

TRYING = "wanda-trying-"  # how temporary folders' names begin
ROOM = 64 * 2**20  # bytes for everything but weights; large tokenizers take half of it


def check_target(folder: str | Path, source: Path | None = None) -> Path:
    """Return the absolute path of a folder that `save` may write: a new or empty one, or a checkpoint as it was saved.

    source: the folder of the model that is read, which must not lie in it; it may be it, a checkpoint that is pruned
    again. Raises InputError for a name that is no path, StorageError for anything that replacing the folder would lose.
    """
    target = atomic_folder.checked_target(folder)
    if source is None or not source.is_dir() or source.resolve() == target:
        return target
    if any(_lies_in(path, target) for path in (source, *source.iterdir())):
        raise StorageError(
            f"the model {shortened_path(source)} that is read lies in {shortened_path(target)}, which would be "
            "replaced; choose another folder"
        )
    return target


def _lies_in(path: Path, folder: Path) -> bool:
    """Tell whether a path, or what it is a link to, is that folder or in it."""
    return Path(os.path.realpath(path)).is_relative_to(folder)  # also of a link to itself


def check_room(lm: "LanguageModel", target: Path, dtype: "torch.dtype | None" = None) -> None:
    """Raise StorageError when the disk of `target` has no room for the model's files. dtype: as of `save`."""
    from wanda_core.checkpoint.weights import needed_bytes

    check_free(needed_bytes(lm, dtype) + (bytes_beside(lm.folder) if lm.folder is not None else 0), target)


def check_free(weights: int, target: Path) -> None:
    """Raise StorageError when the disk of `target` has no room for so many bytes of weights and the other files."""
    needed = weights + ROOM
    parent = atomic_folder.existing_parent(target)
    free = shutil.disk_usage(parent).free
    if needed > free:
        takes, has = in_gb(needed, free)
        raise StorageError(
            f"the checkpoint takes {takes} GB and {has} GB are free in {shortened_path(parent)}; "
            "free some space or choose another folder"
        )


def save(
    variant: "Variant | Shrunk",
    folder: str | Path,
    *,
    dtype: "torch.dtype | None" = None,
    dense_perplexity: "Perplexity | None" = None,
    pruned_perplexity: "Perplexity | None" = None,
) -> Path:
    """Write a variant as a checkpoint that `AutoModelForCausalLM.from_pretrained` loads; return its absolute path.

    It is the folder of the dense model with other weights: its files, names and number formats. Of a model that was
    shrunk the weights and their configuration are written anew.
    dtype: float32, bfloat16 or float16, to save the weights in instead; a model that was made in memory is saved in its
        own by default.
    folder: made if missing, with the folders above it; replaced in one step if it is empty or an earlier checkpoint in
        which nobody has added or changed a file. Anything else is refused.
    dense_perplexity, pruned_perplexity: noted in `wanda.json` and the model card when given.
    Raises StorageError when the folder must not be replaced or cannot be written; it is then as before.
    """
    target = check_target(folder, variant.lm.folder)
    try:
        variant.lm.check_unchanged()
        check_room(variant.lm, target, dtype)
        with atomic_folder.replacement(target) as fresh:
            _write(variant, fresh, dtype, (dense_perplexity, pruned_perplexity))
    except WandaError:
        raise
    except (OSError, SafetensorError, RuntimeError, ValueError) as error:
        raise not_written(error, target) from error
    return target


def _write(
    variant: "Variant | Shrunk",
    folder: Path,
    dtype: "torch.dtype | None",
    perplexities: "tuple[Perplexity | None, ...]",
) -> None:
    """Write a whole checkpoint, its record last of all."""
    from wanda_core.checkpoint.weights import write_weights

    written = write_weights(variant.lm, folder, dtype)
    about = record(variant, written.dtype, *perplexities)
    write_beside_weights(variant.lm, folder, about, written)
    manifest.seal(folder, about)


def write_beside_weights(lm: "LanguageModel", folder: Path, record: dict[str, Any], weights: "Written") -> None:
    """Write every file of a checkpoint but its weights and the record. Raises ModelError where the dense model's files
    have changed since it was read."""
    if not weights.as_in_source:
        _write_anew(lm, lm.model, folder)
    if lm.folder is not None:
        copy_beside(lm.folder, folder, weights.told_dtype, () if weights.as_in_source else OF_THE_MODEL)
    (folder / CARD).write_text(card(record), encoding="utf-8")
    lm.check_unchanged()


def _write_anew(lm: "LanguageModel", model: Any, folder: Path) -> None:
    """Write a model's configurations and tokenizer with transformers. model: with a configuration of its own."""
    model.config._name_or_path = lm.title  # it would name a folder of this machine
    with tempfile.TemporaryDirectory(dir=folder, prefix=APART) as apart:  # transformers clears a folder of shards
        model.save_pretrained(apart, state_dict={})
        for name in OF_THE_MODEL:
            if (Path(apart) / name).exists():
                (Path(apart) / name).replace(folder / name)
    manifest.announce(folder, lm.tokenizer.vocab_files_names.values())
    with disk_faults_told():
        lm.tokenizer.save_pretrained(folder)


def check_saveable(lm: "LanguageModel") -> None:
    """Raise ModelError for a model that cannot be saved as it was read and that transformers does not write either, by
    writing all but its weights: after the work would be too late to say so."""
    from wanda_core.checkpoint.weights import weight_files

    if weight_files(lm, None) is not None:
        return
    model: Any = copy.copy(lm.model)
    model.config, model.generation_config = copy.deepcopy((model.config, getattr(model, "generation_config", None)))
    with contextlib.suppress(OSError), temporary_folder(TRYING) as folder:  # the target's disk may have room
        try:
            _write_anew(lm, model, folder)
        except OSError:
            raise
        except Exception as error:  # a stranger's files: their writers raise types of their own
            raise ModelError(
                f"{lm.title} could be read, but cannot be saved once it is pruned ({first_line(error)}); correct its "
                "config.json, generation_config.json or tokenizer_config.json"
            ) from error


def not_written(error: Exception, target: Path) -> StorageError:
    """Return the StorageError that tells in one sentence why a checkpoint could not be written."""
    if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error):
        return StorageError(
            f"the disk became full while writing {shortened_path(target)}; free some space or choose another folder"
        )
    return StorageError(
        f"{shortened_path(target)} could not be written ({_reason(error)}); "
        "check that you may write there or choose another folder"
    )


@contextlib.contextmanager
def folder_for_a_moment(prefix: str) -> Iterator[Path]:
    """Context manager: a temporary folder that a checkpoint is written into, to be sent or read at once.

    prefix: of its name, as of `temporary_folder`. Raises StorageError for what the disk refuses within it.
    """
    try:
        with temporary_folder(prefix) as folder:
            yield folder
    except OSError as error:
        place = tempfile.tempdir or os.environ.get("TMPDIR") or "/tmp"  # where none can be found there is no first one
        raise StorageError(
            f"the checkpoint could not be written to {shortened_path(place)}, where it lies for a moment "
            f"({_reason(error)}); free some space there, or set TMPDIR to another folder and start again"
        ) from error


def _reason(error: Exception) -> str:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error) or type(error).__name__
    return " ".join(reason.split())[:300].rstrip(".")
