"""Pruning a model that is larger than memory, from safetensors on the disk to a folder on the disk.

The model is built without weights (`model_on_disk.py`). A walk through its blocks reads each one's weights
(`weight_loader.py`), lets the order work on it as on any block, writes it to a shard of its own and drops it: one block
at a time is in memory, or on the GPU. Embeddings and the output head are there while the calibration text is read and
while they are copied. So every order, method and update works unchanged; the preset `best` holds the dense block beside
the pruned one.

The hidden states of the calibration set pass from block to block in memory, or in a file where they would take more
than an eighth of what is free. After each block they are on the disk in any case, with the shards and the reports so
far (`resume.py`): after a kill the same command goes on from there and writes what an undisturbed run writes.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from wanda_core.calibration.profile import Profile, load_profile, save_profile
from wanda_core.checkpoint import atomic_folder
from wanda_core.checkpoint.carried import carried_bytes
from wanda_core.checkpoint.save import check_free, check_target
from wanda_core.checkpoint.tensor_file import NAMES
from wanda_core.checkpoint.weights import Written
from wanda_core.errors import InputError
from wanda_core.low_memory.job import Say, about_job, begin, finish_folder
from wanda_core.low_memory.model_on_disk import LanguageModelOnDisk, shard_name
from wanda_core.low_memory.resume import RunState
from wanda_core.low_memory.weight_loader import REST
from wanda_core.model.devices import check_memory
from wanda_core.progress import Progress, Steps, finish
from wanda_core.pruning.prune import complete_profile_steps, needs_text
from wanda_core.pruning.prune import prune_steps as prune_blocks
from wanda_core.pruning.sensitivity import sensitivity_tokens
from wanda_core.pruning.variant import Variant
from wanda_core.recipe import PruneSpec
from wanda_core.text.windows import Calibration, calibrate

PROFILE = "profile.safetensors"


def prune_to_folder(
    lm: LanguageModelOnDisk,
    spec: PruneSpec,
    folder: str | Path,
    calibration: Calibration | None = None,
    on_progress: Callable[[Progress], object] | None = None,
    profile: Profile | None = None,
    say: Say = lambda sentence: None,
    dtype: torch.dtype | None = None,
) -> Variant:
    """Run `prune_steps` to the end."""
    return finish(prune_steps(lm, spec, folder, calibration, profile, say, dtype), on_progress)


@torch.no_grad()
def prune_steps(
    lm: LanguageModelOnDisk,
    spec: PruneSpec,
    folder: str | Path,
    calibration: Calibration | None = None,
    profile: Profile | None = None,
    say: Say = lambda sentence: None,
    dtype: torch.dtype | None = None,
) -> Steps[Variant]:
    """Prune a model block by block into the checkpoint that pruning in memory and `save` would write.

    say: called with a sentence that tells whether this run goes on with an earlier one, or can be gone on with; dtype:
    as of `save`.
    -> the variant without its weights, which are in the folder. Raises StorageError when that cannot be written.
    """
    if spec.arrange:
        raise InputError(
            "arrange compares models as wholes, and low memory has one block of them at a time; leave arrange out, or "
            "prune in memory"
        )
    target = check_target(folder, lm.folder)
    calibration = (calibration or calibrate(lm)) if needs_text(spec, profile) else None
    lm = replace(lm, saved_in=dtype)
    with begin(target, _about(lm, spec, calibration, profile), say) as job:
        lm = replace(lm, job=job)
        _check_room(lm, spec, calibration, target)
        return (yield from _pruned(lm, job, spec, target, calibration, profile))


def _pruned(
    lm: LanguageModelOnDisk,
    job: RunState,
    spec: PruneSpec,
    target: Path,
    calibration: Calibration | None,
    profile: Profile | None,
) -> Steps[Variant]:
    """Copy the rest, prune the blocks, finish the folder and let it take the target's place."""
    total = len(lm.walk("read")) + 1
    if shard_name(0, total) not in job.shards:
        yield Progress("embeddings", 0, total - 1, "blocks")
        with lm.loader.at_hand(lm.model, REST):
            job.add_shard(shard_name(0, total), lm.loader.as_saved(lm.model, REST, lm.save_dtype))
    if calibration is not None and spec.needs_profile:
        profile = yield from _profiled(lm, job, spec, calibration, profile)
    variant = yield from prune_blocks(lm, spec, calibration, profile, job.reports)
    variant = replace(variant, profile=None, report=replace(variant.report, seconds=job.lap()))
    finish_folder(variant, job, _written(lm, job))
    atomic_folder.put(job.finished_model(), target)
    return variant


def _profiled(
    lm: LanguageModelOnDisk, job: RunState, spec: PruneSpec, calibration: Calibration, profile: Profile | None
) -> Steps[Profile]:
    """Measure what the recipe needs to know of the dense model in walks of their own, or read it where an earlier run
    measured it."""
    path = job.folder / PROFILE
    if PROFILE in job.others:
        return load_profile(path)
    measured = yield from complete_profile_steps(lm, spec, calibration, profile)
    if measured is not profile:
        save_profile(measured, path)
        job.add(path)
        job.commit(0, "the input norms")
    return measured


def _written(lm: LanguageModelOnDisk, job: RunState) -> Written:
    """Tell how the weights are written."""
    as_in_source = lm.loader.written_all([name for shard in job.shards.values() for name in shard["tensors"]])
    changed = NAMES[lm.save_dtype] != lm.loader.main_dtype
    told = str(lm.save_dtype).removeprefix("torch.") if changed or not as_in_source else None
    return Written(lm.save_dtype, as_in_source, told)


def _about(
    lm: LanguageModelOnDisk, spec: PruneSpec, calibration: Calibration | None, profile: Profile | None
) -> dict[str, Any]:
    """Describe the job, as of `about_job`."""
    known: list[Any] = [[name, float(norm.double().sum())] for name, norm in profile.norms.items()] if profile else []
    if profile is not None and profile.sensitivities is not None:
        known.append([list(pair) for pair in profile.sensitivities.losses])
    return about_job(lm, spec.to_dict(), calibration, profile=known)


def _check_room(lm: LanguageModelOnDisk, spec: PruneSpec, calibration: Calibration | None, target: Path) -> None:
    """Raise ModelError where memory is too small, StorageError where the disk is.

    In memory: two blocks, where the dense one runs beside. On the disk: all shards, and the hidden states that enter a
    block and leave it, of two streams where the dense block runs beside, of many where sensitivities are measured.
    """
    streams = 2 * (1 + spec.solver.beside)
    tokens = calibration.ids.numel() * streams if calibration else 0
    if calibration and spec.needs_sensitivities:
        tokens = max(tokens, 2 * sensitivity_tokens(len(lm.walk("read")), calibration))
    hidden = tokens * lm.stream_width * lm.dtype.itemsize
    assert lm.job is not None
    if spec.solver.beside:
        blocks = [size for part, size in lm.loader.sizes(lm.model).items() if part != REST]
        check_memory(
            2 * max(blocks),
            lm.title,
            [lm.place],
            "one block and the dense one beside",
            "choose another recipe than the preset best",
        )
    weights = sum(lm.loader.sizes(lm.model).values()) + carried_bytes(lm.carried)
    check_free(weights + hidden - lm.job.size, target)
