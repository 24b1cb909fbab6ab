"""Pruning a model that is larger than memory, from safetensors on the disk to a folder on the disk.

The model is built without weights. A walk through its blocks brings each one's weights (`weight_loader.py`), lets the
order work on it as on any block, writes it to a shard of its own and puts it away: one block is in memory, or on the
GPU, at a time. Embeddings and the output head are there while the calibration text is read and while they are copied.
So every order, method and update works unchanged; the preset `best` has the dense block beside the pruned one.

The hidden states of the calibration set pass from block to block in memory, or in a file where they would take more
than an eighth of what is free. After each block they are on the disk in any case, with the shards and the reports so
far (`resume.py`): after a kill the same command goes on from there and writes what an undisturbed run writes.
"""

import contextlib
import json
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import transformers
from accelerate import init_empty_weights
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import GenerationConfig

from wanda_core.calibration.profile import Profile, load_profile, profile_steps, save_profile
from wanda_core.checkpoint import atomic_folder, manifest, save
from wanda_core.checkpoint.carried import CARRIED, INDEX, add_carried, carried_bytes
from wanda_core.errors import ModelError, StorageError, WandaError, first_line
from wanda_core.low_memory.resume import APART, RunState, opened
from wanda_core.low_memory.weight_loader import REST, WeightLoader
from wanda_core.model.block_calls import BlockCall
from wanda_core.model.blocks import BlockWalk, Role
from wanda_core.model.devices import check_memory
from wanda_core.model.language_model import LanguageModel
from wanda_core.model.linears import Linear
from wanda_core.model.loading import locate, skeleton
from wanda_core.progress import Progress, Steps, finish
from wanda_core.pruning import prune
from wanda_core.pruning.variant import Variant
from wanda_core.recipe import PruneSpec
from wanda_core.text.windows import Calibration, calibrate
from wanda_core.version import __version__

PROFILE = "profile.safetensors"


@dataclass(frozen=True)
class LanguageModelOnDisk(LanguageModel):
    """A model whose weights stay on the disk until its blocks are walked through.

    loader: where they lie; place: the device they are brought to; job: the run that prunes it, while there is one.
    """

    loader: WeightLoader
    place: torch.device
    job: RunState | None = None

    @property
    def device(self) -> torch.device:
        """Where a block at hand is."""
        return self.place

    def walk(self, role: Role) -> BlockWalk:
        """A way through the blocks that brings each from the disk."""
        assert self.job is not None  # `prune_steps` begins one
        return _BlockWalkOnDisk(self.model, self.loader, self.job, role)


class _BlockWalkOnDisk(BlockWalk):
    """One that goes on where an earlier run was cut off, unless it only reads."""

    whole = False

    def __init__(self, model: nn.Module, loader: WeightLoader, job: RunState, role: Role) -> None:
        super().__init__(model)
        self.loader, self.job, self.role = loader, job, role
        self.first = 0 if role == "read" else job.done
        self.count = 0
        self.stateful = False
        if role != "read":
            self.tried = job.tried

    def __iter__(self) -> Iterator[tuple[int, nn.Module, list[Linear]]]:
        for index in range(self.first, len(self)):
            with self.loader.at_hand(self.model, index):
                yield index, self.blocks[index], self.linears[index]
                if self.role == "prune":
                    self.job.add_shard(_file(index + 1, len(self) + 1), self.loader.as_saved(self.model, index))
                    if not self.stateful:  # what blocks leave for later ones is gone with the process
                        self.job.commit(index + 1)

    def start(self, ids: Tensor) -> tuple[list[BlockCall], list[Tensor]]:
        self.count = len(ids)
        with self.loader.at_hand(self.model, REST), self.loader.at_hand(self.model, 0):
            calls, hidden = super().start(ids)
        self.stateful = calls[0].stateful
        return calls, self.job.restored(self.role, self.loader.device) if self.first else hidden

    def carry(self, stream: Iterable[Tensor]) -> list[Tensor]:
        return self.job.carry(self.role, stream, self.count, self.loader.device, keep=self.role != "read")


def open_model(
    name: str,
    *,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
    on_progress: Callable[[Progress], object] | None = None,
) -> LanguageModelOnDisk:
    """Everything of a model but its weights, of which one block and the embeddings must fit in memory.

    Raises as `wanda_core.model.loading.load_model` does, for blocks that share weights too.
    """
    found = locate(name, device, dtype, on_progress)
    with init_empty_weights(include_buffers=False):
        model: Any = skeleton(found.config, name, dtype=found.dtype)
    try:
        tokenizer = found.tokenizer()
        with contextlib.suppress(OSError):  # there is none
            model.generation_config = GenerationConfig.from_pretrained(found.folder)
    except Exception as error:  # a stranger's files: their readers raise types of their own
        raise ModelError(f"{name!r} could not be loaded: {first_line(error)}; try another model") from error
    loader = WeightLoader(found.folder, name, model, found.device, found.dtype)
    sizes = loader.sizes(model)
    needed = sizes.pop(REST, 0) + max(sizes.values())
    check_memory(needed, name, [found.device], "its embeddings and one block", "choose a smaller model")
    for module in model.modules():
        for own, buffer in module._buffers.items():
            module._buffers[own] = buffer.to(found.device) if buffer is not None and not buffer.is_meta else buffer
    model.requires_grad_(False)
    return LanguageModelOnDisk(
        model.eval(),
        tokenizer,
        name,
        found.revision,
        loader,
        found.device,
        folder=found.folder,
        carried=loader.carried,
    )


def prune_to_folder(
    lm: LanguageModelOnDisk,
    spec: PruneSpec,
    folder: str | Path,
    calibration: Calibration | None = None,
    on_progress: Callable[[Progress], object] | None = None,
    profile: Profile | None = None,
    say: Callable[[str], object] = lambda sentence: None,
) -> Variant:
    """`prune_steps` to the end."""
    return finish(prune_steps(lm, spec, folder, calibration, profile, say), on_progress)


@torch.no_grad()
def prune_steps(
    lm: LanguageModelOnDisk,
    spec: PruneSpec,
    folder: str | Path,
    calibration: Calibration | None = None,
    profile: Profile | None = None,
    say: Callable[[str], object] = lambda sentence: None,
) -> Steps[Variant]:
    """Prune a model into a checkpoint that `save.save` would write too, block by block.

    say: told in a sentence whether an earlier run is gone on with, and when this one can be.
    -> the variant without its weights: they are in the folder. Raises StorageError when that cannot be written.
    """
    target = save.check_target(folder, lm.folder)
    calibration = (calibration or calibrate(lm)) if prune.needs_text(spec, profile) else None
    try:
        with opened(target, _about(lm, spec, calibration, profile)) as job:
            if job.note:
                say(f"note: {job.note}")
            lm = replace(lm, job=job)
            _check_room(lm, spec, calibration, target)
            try:
                return (yield from _pruned(lm, job, spec, target, calibration, profile))
            except (KeyboardInterrupt, StorageError, OSError, SafetensorError, MemoryError, RuntimeError):
                if job.done:
                    say(f"note: {job.done} blocks are finished; the same command goes on from there ({job.folder})")
                raise
    except WandaError:
        raise
    except (OSError, SafetensorError) as error:
        raise save.not_written(error, target) from error


def _pruned(
    lm: LanguageModelOnDisk,
    job: RunState,
    spec: PruneSpec,
    target: Path,
    calibration: Calibration | None,
    profile: Profile | None,
) -> Steps[Variant]:
    total = len(lm.walk("read")) + 1
    if _file(0, total) not in job.shards:
        yield Progress("embeddings", 0, total - 1, "blocks")
        with lm.loader.at_hand(lm.model, REST):
            job.add_shard(_file(0, total), lm.loader.as_saved(lm.model, REST))
    if profile is None and calibration is not None and (spec.order == "one-shot" or spec.allocation == "owl"):
        profile = yield from _profiled(lm, job, calibration)
    variant = yield from prune.prune_steps(lm, spec, calibration, profile, job.reports)
    variant = replace(variant, profile=None, report=replace(variant.report, seconds=job.lap()))
    _finish_folder(variant, job)
    atomic_folder.put(job.finished_model(), target)
    return variant


def _profiled(lm: LanguageModelOnDisk, job: RunState, calibration: Calibration) -> Steps[Profile]:
    """The dense model's norms, taken in a walk of their own; once, also if the run is cut off afterwards."""
    path = job.folder / PROFILE
    if PROFILE in job.others:
        return load_profile(path)
    found = yield from profile_steps(lm, calibration)
    save_profile(found, path)
    job.add(path)
    job.commit(0)
    return found


def _finish_folder(variant: Variant, job: RunState) -> None:
    """Everything but the shards."""
    model: Any = variant.lm.model
    record = save.record(variant)
    with tempfile.TemporaryDirectory(dir=job.folder, prefix=APART) as apart:  # transformers clears a folder of shards
        save.write_beside_weights(variant, Path(apart), record)
        for path in sorted(Path(apart).rglob("*")):
            if path.is_file():
                job.take(path, path.relative_to(apart).as_posix())
    places = {name: file for file, shard in job.shards.items() for name in shard["tensors"]}
    size = {"total_parameters": model.num_parameters(), "total_size": sum(x["bytes"] for x in job.shards.values())}
    text = json.dumps({"metadata": size, "weight_map": places}, indent=2, sort_keys=True)
    (job.model / INDEX).write_text(text + "\n", encoding="utf-8")
    add_carried(job.model, variant.lm.carried)
    job.written |= {INDEX, CARRIED, manifest.RECORD}
    manifest.seal(job.model, record, job.written, {file: shard["sha256"] for file, shard in job.shards.items()})


def _file(number: int, total: int) -> str:
    """A shard's name, number from 0: the rest first, then the blocks."""
    return f"model-{number + 1:05d}-of-{total:05d}.safetensors"


def _about(
    lm: LanguageModelOnDisk, spec: PruneSpec, calibration: Calibration | None, profile: Profile | None
) -> dict[str, Any]:
    """What two runs must have in common to go on with each other's work, by the word that names a difference."""
    files = [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in lm.loader.files]
    norms = [[name, float(norm.double().sum())] for name, norm in profile.norms.items()] if profile else []
    return {
        "model": [lm.name, lm.revision, files],
        "recipe": spec.to_dict(),
        "calibration": calibration.fingerprint if calibration else None,
        "profile": norms,
        "dtype or device": [str(lm.dtype), lm.place.type],
        "version": [__version__, torch.__version__, transformers.__version__],
    }


def _check_room(lm: LanguageModelOnDisk, spec: PruneSpec, calibration: Calibration | None, target: Path) -> None:
    """In memory two blocks, where the dense one runs beside. On the disk all shards, and the hidden states that enter a
    block and leave it, of two streams with the dense one beside."""
    streams = 2 * (1 + bool(spec.solver.dense_share))
    hidden = calibration.ids.numel() * lm.width * lm.dtype.itemsize * streams if calibration else 0
    assert lm.job is not None
    if spec.solver.dense_share:
        blocks = [size for part, size in lm.loader.sizes(lm.model).items() if part != REST]
        check_memory(
            2 * max(blocks), lm.title, [lm.place], "one block and the dense one beside", "choose no preset best"
        )
    save.check_free(sum(lm.loader.sizes(lm.model).values()) + carried_bytes(lm.carried) + hidden - lm.job.size, target)
