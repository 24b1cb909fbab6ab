"""The dense model's input norms, measured once and kept, so that recipes which need no more can prune from them."""

import importlib.metadata
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from wanda_core.calibration.batching import Batches, regrouped, singly
from wanda_core.calibration.input_norms import InputNorms
from wanda_core.calibration.norm_recorder import NormRecorder
from wanda_core.errors import InputError, StorageError, first_line, shortened, shortened_path
from wanda_core.machine import atomic_file, distributed
from wanda_core.machine.json_file import parsed
from wanda_core.machine.paths import path_of
from wanda_core.maths.sensitivity import Sensitivities
from wanda_core.model import experts
from wanda_core.model.block_calls import BlockCall, sequences_in
from wanda_core.model.language_model import LanguageModel
from wanda_core.model.stored_tensors import open_tensors
from wanda_core.progress import Progress, Steps, finish
from wanda_core.recipe import ORDERS
from wanda_core.text.windows import Calibration
from wanda_core.version import __version__

FORMAT = "wanda-profile-2"
# What a file tells of the model and the text, where it tells it.
SOURCE = {"model": str, "revision": str, "text": str, "samples": int, "seq_len": int, "seed": int, "bos": bool}
SOURCE |= {"packed": bool}
MOST_TOKENS = 2**63


@dataclass(frozen=True)
class Profile:
    """Input norms of every linear over one calibration set.

    norms: linear name -> (C_in,) float32 on the CPU, ‖X_j‖₂ / sqrt(N): the root of Σ‖x‖²/N over N sequences.
    calibration: fingerprint of the tokens; order: in which the norms were measured; source: which model and text;
    tokens: how many each expert was sent, by linear name; sensitivities: of the blocks, for allocation `measured`, None
    where they were not measured.
    """

    norms: Mapping[str, Tensor]
    calibration: str
    order: str
    source: Mapping[str, Any] = field(default_factory=dict)
    tokens: Mapping[str, int] = field(default_factory=dict)
    sensitivities: Sensitivities | None = None


def profile(
    lm: LanguageModel, calibration: Calibration, on_progress: Callable[[Progress], object] | None = None
) -> Profile:
    """Measure the dense model's input norms. Raises ModelError when values are not finite."""
    return finish(profile_steps(lm, calibration), on_progress)


@torch.no_grad()
def profile_steps(lm: LanguageModel, calibration: Calibration) -> Steps[Profile]:
    """Measure a profile as a generator that yields progress per block."""
    lm.check_windows(calibration.ids)
    with experts.apart(lm.model):
        return (yield from _measure(lm, calibration))


def _measure(lm: LanguageModel, calibration: Calibration) -> Steps[Profile]:
    blocks = lm.walk("read")
    calls, hidden = blocks.start(distributed.share(calibration.ids).to(lm.device))
    input_norms: dict[str, InputNorms] = {}
    batches = Batches(blocks.tried)
    for index, block, linears in blocks:
        call = calls[index]
        yield Progress("profile", index, len(blocks), "blocks")
        recorder = NormRecorder(linears)
        inputs = regrouped(hidden, batches.size(block, call, linears, singly(hidden)))
        with recorder.recording():
            hidden = blocks.carry(_outputs(block, call, inputs, recorder))
        input_norms.update(recorder.join().input_norms())
    yield Progress("profile", len(blocks), len(blocks), "blocks")
    return profile_of(lm, calibration, input_norms)


def _outputs(block: nn.Module, call: BlockCall, inputs: list[Tensor], recorder: NormRecorder) -> Iterator[Tensor]:
    """Run a block over all sequences while `recorder` records. inputs: calls (B, L, D) -> outputs, likewise."""
    for number, x in enumerate(inputs):
        recorder.sequences = sequences_in(x)
        yield call.run(block, x, number)


def profile_of(lm: LanguageModel, calibration: Calibration, input_norms: Mapping[str, InputNorms]) -> Profile:
    """Make a profile of what a pass of the dense model measured. input_norms: of every linear, by name."""
    norms = {name: measured.norms.cpu() for name, measured in input_norms.items()}
    routed = [linear.name for linear in lm.all_linears if linear.routed]
    tokens = {name: input_norms[name].tokens for name in routed}
    return Profile(norms, calibration.fingerprint, "one-shot", source_of(lm, calibration), tokens)


def check_profile_target(path: str | Path) -> Path:
    """Return the absolute path of a file that `save_profile` may write: a new one, or an earlier profile.

    Whether its name can be written is tried. Raises StorageError where it cannot, and for a file of any other kind,
    which would be lost.
    """
    target = path_of(path, "profile").absolute()
    try:
        atomic_file.check_writable(target)
    except (OSError, ValueError) as error:
        raise _not_written(path, error) from error
    if not os.path.lexists(target):
        return target
    try:
        with open_tensors(target) as file:
            ours = str((file.metadata() or {}).get("format", "")).startswith("wanda-profile-")
    except (OSError, SafetensorError, ValueError):
        ours = False
    if not ours:
        raise StorageError(
            f"{shortened_path(path)} is no profile, and writing one there would lose what it is; choose another name"
        )
    return target


def save_profile(profile: Profile, path: str | Path) -> Path:
    """Write a profile as one safetensors file. -> its absolute path. Raises StorageError when it cannot be written.

    The file is written under another name beside `path` and then moved, so that it is never there half written.
    """
    target = check_profile_target(path)
    metadata = {"format": FORMAT, "calibration": profile.calibration, "order": profile.order}
    try:
        metadata |= {"source": json.dumps(dict(profile.source)), "tokens": json.dumps(dict(profile.tokens))}
        if profile.sensitivities is not None:
            metadata["sensitivities"] = json.dumps(asdict(profile.sensitivities))
        with atomic_file.written(target) as part:
            save_file({name: norm.contiguous() for name, norm in profile.norms.items()}, part, metadata=metadata)
    except (OSError, SafetensorError, ValueError) as error:
        raise _not_written(path, error) from error
    return target


def _not_written(path: str | Path, error: Exception) -> StorageError:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else first_line(error)
    return StorageError(f"the profile cannot be written to {shortened_path(path)} ({reason}); choose another place")


def load_profile(path: str | Path) -> Profile:
    """Read a profile that `save_profile` wrote. Raises InputError for any other file."""
    try:
        place = path_of(path, "profile")
        with open_tensors(place) as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise InputError(
                    f"{shortened_path(path)} is no profile of this version; make one with `wanda-lab profile`"
                )
            norms = {name: checked_norms(name, file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118
            source, tokens = checked_words(metadata)
            told = metadata.get("sensitivities")
            sensitivities = Sensitivities.read(parsed(told)) if told is not None else None
            return Profile(norms, metadata["calibration"], metadata["order"], source, tokens, sensitivities)
    except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
        raise InputError(
            f"profile {shortened_path(path)} cannot be read ({first_line(error)}); make one with `wanda-lab profile`"
        ) from error


def checked_norms(name: str, norms: Tensor) -> Tensor:
    """Return norms as they lie in a file. Raises ValueError for what no measuring gives. name: of their linear."""
    if norms.dtype != torch.float32 or norms.dim() != 1:
        kind = str(norms.dtype).removeprefix("torch.")
        raise ValueError(f"{shortened(name)} has {norms.dim()} dimensions of {kind}, and norms are one of float32")
    if not bool(((norms >= 0) & norms.isfinite()).all()):
        raise ValueError(f"{shortened(name)} has norms that are negative or not finite")
    return norms


def checked_words(told: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, int]]:
    """Return a profile's source and its tokens from the words of a file, whose order is looked at too. Raises
    ValueError, or KeyError, for words that `save_profile` does not write."""
    source, tokens = parsed(told["source"]), parsed(told["tokens"])
    if told["order"] not in ORDERS:
        raise ValueError(f"{shortened(told['order'])} is no order")
    if not isinstance(source, dict) or any(type(source[key]) is not SOURCE[key] for key in SOURCE.keys() & source):
        raise ValueError("its source is none")
    json.dumps(source, ensure_ascii=False, allow_nan=False).encode()  # it is written into a checkpoint's record
    counts = tokens.values() if isinstance(tokens, dict) else [None]
    if not all(type(count) is int and 0 <= count < MOST_TOKENS for count in counts):
        raise ValueError("its numbers of tokens are none")
    return source, tokens


def check_matches(profile: Profile, lm: LanguageModel) -> None:
    """Raise InputError unless the profile was taken on this model."""
    taken_on = (profile.source.get("model"), profile.source.get("revision"))
    if profile.source and taken_on != (lm.name, lm.revision):
        raise InputError(
            f"the profile was taken on {shortened_path(taken_on[0])} and the model is {shortened_path(lm.name)} (or "
            "another state of it); make a profile of this model"
        )
    measured, blocks = profile.sensitivities, len(lm.linears)
    if measured is not None and len(measured.losses) != blocks:
        raise InputError(
            f"the profile has the sensitivities of {len(measured.losses)} blocks and the model has {blocks}; make a "
            "profile of this model"
        )
    for linear in lm.all_linears:
        norm = profile.norms.get(linear.name)
        if norm is None or norm.shape != (linear.shape[1],):
            raise InputError(
                f"the profile has no norms that fit {linear.name} {linear.shape}; make a profile of this model"
            )


def source_of(lm: LanguageModel, calibration: Calibration) -> dict[str, Any]:
    """Describe with which model, text and versions norms are measured, as plain values for files."""
    return {
        "model": lm.name,
        "revision": lm.revision,
        "text": calibration.source,
        "samples": calibration.samples,
        "seq_len": calibration.seq_len,
        "seed": calibration.seed,
        "bos": calibration.bos,
        "packed": calibration.packed,
        "dtype": str(lm.dtype).removeprefix("torch."),
        "wanda_lab": __version__,
        "torch": torch.__version__,
        "transformers": importlib.metadata.version("transformers"),
    }
