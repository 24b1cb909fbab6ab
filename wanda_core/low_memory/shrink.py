"""Shrinking a model that is larger than memory, from safetensors on the disk to a folder on the disk.

As in `prune.py` one block at a time is in memory. What a walk writes is the smaller model's block: it shares what keeps
its size with the dense one while that is there, and has what was cut for itself (`lending.py`). Neurons and heads take
one pass. Blocks take a pass for every one that goes, to measure what is left, and one that writes what stays; each
choice is kept, so that a kill costs no more than the pass at work.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from wanda_core.checkpoint import atomic_folder
from wanda_core.checkpoint.save import check_free, check_target
from wanda_core.checkpoint.weights import Written
from wanda_core.low_memory.job import Say, about_job, begin, finish_folder
from wanda_core.low_memory.model_on_disk import LanguageModelOnDisk
from wanda_core.low_memory.resume import RunState
from wanda_core.low_memory.weight_loader import REST
from wanda_core.model.devices import check_memory
from wanda_core.progress import Progress, Steps, finish
from wanda_core.shrinking.report import ShrinkReport
from wanda_core.shrinking.shrink import shrink_steps as shrink_blocks
from wanda_core.shrinking.spec import ShrinkSpec
from wanda_core.text.windows import Calibration, calibrate


def shrink_to_folder(
    lm: LanguageModelOnDisk,
    spec: ShrinkSpec,
    folder: str | Path,
    calibration: Calibration | None = None,
    on_progress: Callable[[Progress], object] | None = None,
    say: Say = lambda sentence: None,
    dtype: torch.dtype | None = None,
) -> ShrinkReport:
    """Run `shrink_steps` to the end."""
    return finish(shrink_steps(lm, spec, folder, calibration, say, dtype), on_progress)


@torch.no_grad()
def shrink_steps(
    lm: LanguageModelOnDisk,
    spec: ShrinkSpec,
    folder: str | Path,
    calibration: Calibration | None = None,
    say: Say = lambda sentence: None,
    dtype: torch.dtype | None = None,
) -> Steps[ShrinkReport]:
    """Shrink a model block by block into the checkpoint that shrinking in memory and `save` would write.

    say: called with a sentence that tells whether this run goes on with an earlier one, or can be gone on with; dtype:
    as of `save`.
    Raises what `wanda_core.shrinking.shrink.shrink` raises, and StorageError when the folder cannot be written.
    """
    target = check_target(folder, lm.folder)
    calibration = (calibration or calibrate(lm)) if spec.needs_inputs else None
    lm = replace(lm, saved_in=dtype)
    with begin(target, about_job(lm, spec.to_dict(), calibration), say) as job:
        lm = replace(lm, job=job)
        _check_room(lm, job, spec, calibration, target)
        return (yield from _shrunk(lm, job, spec, target, calibration))


def _shrunk(
    lm: LanguageModelOnDisk, job: RunState, spec: ShrinkSpec, target: Path, calibration: Calibration | None
) -> Steps[ShrinkReport]:
    """Shrink the blocks, copy the rest, finish the folder and let it take the target's place."""
    shrunk = yield from shrink_blocks(lm, spec, calibration)
    yield Progress("embeddings", 0, 1, "parts")
    lm.save_rest(shrunk.lm.model, job)
    shrunk = shrunk.lasting(job.lap())
    finish_folder(shrunk, job, Written(lm.save_dtype, False, str(lm.save_dtype).removeprefix("torch.")))
    atomic_folder.put(job.finished_model(), target)
    return shrunk.report


def _check_room(
    lm: LanguageModelOnDisk, job: RunState, spec: ShrinkSpec, calibration: Calibration | None, target: Path
) -> None:
    """Raise ModelError where memory is too small, StorageError where the disk is.

    In memory: a block and the smaller one that is cut from it. On the disk: all shards, no larger than the dense
    model's, and the hidden states that enter a block and leave it, of two streams where the dense one runs beside.
    """
    sizes = lm.loader.sizes(lm.model)
    if spec.blocks is None:
        largest = max(size for part, size in sizes.items() if part != REST)
        check_memory(
            2 * largest,
            lm.title,
            [lm.place],
            "one block and the smaller one cut from it",
            "choose a smaller model or remove whole blocks",
        )
    beside = spec.blocks is None and spec.update != "none" and spec.solver.dense_share > 0
    tokens = calibration.ids.numel() * 2 * (1 + beside) if calibration else 0
    check_free(sum(sizes.values()) + tokens * lm.stream_width * lm.dtype.itemsize - job.size, target)
