"""What every job from the disk to the disk has in common: how it is known again, how it ends, the folder it leaves."""

import contextlib
import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import torch
import transformers
from safetensors import SafetensorError

from wanda_core.checkpoint import manifest
from wanda_core.checkpoint.carried import CARRIED, INDEX, add_carried
from wanda_core.checkpoint.records import record
from wanda_core.checkpoint.save import not_written, write_beside_weights
from wanda_core.checkpoint.weights import Written
from wanda_core.errors import InputError, ModelError, WandaError
from wanda_core.low_memory.model_on_disk import LanguageModelOnDisk
from wanda_core.low_memory.resume import APART, RunState, open_run
from wanda_core.pruning.variant import Variant
from wanda_core.shrinking.report import Shrunk
from wanda_core.text.windows import Calibration
from wanda_core.version import __version__

Say = Callable[[str], object]  # called with a sentence for people


@contextlib.contextmanager
def begin(target: Path, about: dict[str, Any], say: Say) -> Iterator[RunState]:
    """Context manager: begin a job, or go on with what an earlier run of it left, and say so.

    about: as of `about_job`. Raises StorageError where the folder cannot be written; it is said whether the job can be
    gone on with.
    """
    try:
        with open_run(target, about) as job:
            if job.note:
                say(f"note: {job.note}")
            try:
                yield job
            except (InputError, ModelError):  # of no use to go on with
                raise
            except (KeyboardInterrupt, Exception):
                if job.last:
                    finished = f"{job.done} blocks are" if job.done else f"{job.last} is"
                    say(f"note: {finished} finished; the same command goes on from there ({job.folder})")
                raise
    except WandaError:
        raise
    except (OSError, SafetensorError) as error:
        raise not_written(error, target) from error


def about_job(
    lm: LanguageModelOnDisk, recipe: dict[str, Any], calibration: Calibration | None, **others: Any
) -> dict[str, Any]:
    """Describe a job: what two runs must have in common so that one may go on with the other's work.

    recipe: as plain values; others: further plain values. The keys are the words in which a difference is told.
    """
    files = [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in lm.loader.files]
    return {
        "model": [lm.name, lm.revision, files, lm.state[0]],
        "recipe": recipe,
        "calibration": calibration.fingerprint if calibration else None,
        **others,
        "dtype or device": [str(lm.dtype), str(lm.save_dtype), lm.place.type],
        "version": [__version__, torch.__version__, transformers.__version__],
    }


def finish_folder(made: Variant | Shrunk, job: RunState, written: Written) -> None:
    """Write every file of the checkpoint but the shards, which are there already. written: how these are."""
    lm = cast(LanguageModelOnDisk, made.lm)
    model: Any = lm.model
    about = record(made, written.dtype)
    with tempfile.TemporaryDirectory(dir=job.folder, prefix=APART) as apart:  # transformers clears a folder of shards
        write_beside_weights(lm, Path(apart), about, written)
        for path in sorted(Path(apart).rglob("*")):
            if path.is_file():
                job.take(path, path.relative_to(apart).as_posix())
    weight_map = {name: file for file, shard in job.shards.items() for name in shard["tensors"]}
    bytes_in_all = sum(shard["bytes"] for shard in job.shards.values())
    size = {"total_parameters": model.num_parameters(), "total_size": bytes_in_all}
    text = json.dumps({"metadata": size, "weight_map": weight_map}, indent=2, sort_keys=True)
    (job.model / INDEX).write_text(text + "\n", encoding="utf-8")
    add_carried(job.model, lm.carried)
    job.written |= {INDEX, CARRIED, manifest.RECORD}
    manifest.seal(job.model, about, job.written, {file: shard["sha256"] for file, shard in job.shards.items()})
