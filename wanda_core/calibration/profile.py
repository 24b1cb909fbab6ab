"""The dense model's input norms, taken once and kept: what recipes that need norms alone prune from."""

import importlib.metadata
import json
import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from wanda_core.calibration.batching import Batches, regrouped, singly
from wanda_core.calibration.input_norms import InputNorms, NormRecorder
from wanda_core.errors import InputError, StorageError
from wanda_core.machine import distributed
from wanda_core.model import experts
from wanda_core.model.block_calls import BlockCall, sequences_in
from wanda_core.model.language_model import LanguageModel
from wanda_core.progress import Progress, Steps, finish
from wanda_core.text.windows import Calibration
from wanda_core.version import __version__

FORMAT = "wanda-profile-1"


@dataclass(frozen=True)
class Profile:
    """Input norms of every linear over one calibration set.

    norms: linear name -> (C_in,) float32 on the CPU, ‖X_j‖₂ / sqrt(N): the root of Σ‖x‖²/N over N sequences.
    calibration: fingerprint of the tokens; order: when the statistics were taken; source: which model and text;
    tokens: how many each expert was sent, by linear name.
    """

    norms: Mapping[str, Tensor]
    calibration: str
    order: str
    source: Mapping[str, Any] = field(default_factory=dict)
    tokens: Mapping[str, int] = field(default_factory=dict)


def profile(
    lm: LanguageModel, calibration: Calibration, on_progress: Callable[[Progress], object] | None = None
) -> Profile:
    """The dense model's input norms. Raises ModelError when values are not finite."""
    return finish(profile_steps(lm, calibration), on_progress)


@torch.no_grad()
def profile_steps(lm: LanguageModel, calibration: Calibration) -> Steps[Profile]:
    """`profile` as a generator that yields progress per block."""
    lm.check_length(calibration.seq_len)
    with experts.apart(lm.model):
        return (yield from _profiled(lm, calibration))


def _profiled(lm: LanguageModel, calibration: Calibration) -> Steps[Profile]:
    blocks = lm.walk("read")
    calls, hidden = blocks.start(distributed.share(calibration.ids).to(lm.device))
    found: dict[str, InputNorms] = {}
    batches = Batches(blocks.tried)
    for index, block, linears in blocks:
        call = calls[index]
        yield Progress("profile", index, len(blocks), "blocks")
        recorder = NormRecorder(linears)
        inputs = regrouped(hidden, batches.size(block, call, linears, singly(hidden)))
        with recorder.recording():
            hidden = blocks.carry(_outputs(block, call, inputs, recorder))
        found.update(recorder.join().found())
    yield Progress("profile", len(blocks), len(blocks), "blocks")
    return profile_of(lm, calibration, found)


def _outputs(block: nn.Module, call: BlockCall, inputs: list[Tensor], recorder: NormRecorder) -> Iterator[Tensor]:
    """A block over all sequences, its linears' inputs recorded. inputs: calls (B, L, D) -> likewise."""
    for number, x in enumerate(inputs):
        recorder.sequences = sequences_in(x)
        yield call.run(block, x, number)


def profile_of(lm: LanguageModel, calibration: Calibration, found: Mapping[str, InputNorms]) -> Profile:
    """What a pass of the dense model found, by linear name, as a profile."""
    norms = {name: one.norms.cpu() for name, one in found.items()}
    routed = [linear.name for linear in lm.all_linears if linear.routed]
    tokens = {name: found[name].tokens for name in routed}
    return Profile(norms, calibration.fingerprint, "one-shot", source_of(lm, calibration), tokens)


def check_profile_target(path: str | Path) -> Path:
    """The absolute path of a file that `save_profile` may write: a new one, or an earlier profile.

    Raises StorageError for a file of any other kind, which would be lost.
    """
    target = Path(path).expanduser().absolute()
    if not os.path.lexists(target):
        return target
    try:
        with safe_open(target, framework="pt") as file:
            ours = str((file.metadata() or {}).get("format", "")).startswith("wanda-profile-")
    except (OSError, SafetensorError):
        ours = False
    if not ours:
        raise StorageError(
            f"{str(path)!r} is no profile, and writing one there would lose what it is; choose another name"
        )
    return target


def save_profile(found: Profile, path: str | Path) -> Path:
    """Write a profile as one safetensors file, beside and moved into place. Raises StorageError when it cannot be."""
    target = check_profile_target(path)
    part = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    about = {"format": FORMAT, "calibration": found.calibration, "order": found.order}
    try:
        norms = {name: norm.contiguous() for name, norm in found.norms.items()}
        json_parts = {"source": json.dumps(dict(found.source)), "tokens": json.dumps(dict(found.tokens))}
        save_file(norms, part, metadata=about | json_parts)
        part.replace(target)
    except (OSError, SafetensorError, ValueError) as error:
        raise StorageError(f"the profile cannot be written to {str(path)!r} ({error}); choose another place") from error
    finally:
        part.unlink(missing_ok=True)
    return target


def load_profile(path: str | Path) -> Profile:
    """Read what `save_profile` wrote. Raises InputError for anything else."""
    try:
        with safe_open(Path(path).expanduser(), framework="pt") as file:
            about = file.metadata() or {}
            if about.get("format") != FORMAT:
                raise InputError(f"{str(path)!r} is no profile of this version; make one with `wanda-lab profile`")
            norms = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
            source, tokens = json.loads(about["source"]), json.loads(about["tokens"])
            return Profile(norms, about["calibration"], about["order"], source, tokens)
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise InputError(
            f"profile {str(path)!r} cannot be read ({error}); make one with `wanda-lab profile`"
        ) from error


def check_matches(found: Profile, lm: LanguageModel) -> None:
    """Raise InputError unless the profile was taken on this model."""
    made_on = (found.source.get("model"), found.source.get("revision"))
    if found.source and made_on != (lm.name, lm.revision):
        raise InputError(
            f"the profile was taken on {made_on[0]!r} and the model is {lm.name!r} (or another state of it); "
            "make a profile of this model"
        )
    for linear in lm.all_linears:
        norm = found.norms.get(linear.name)
        if norm is None or norm.shape != (linear.shape[1],):
            raise InputError(
                f"the profile has no norms that fit {linear.name} {linear.shape}; make a profile of this model"
            )


def source_of(lm: LanguageModel, calibration: Calibration) -> dict[str, Any]:
    """Which model, text and versions statistics were taken with, as plain values."""
    return {
        "model": lm.name,
        "revision": lm.revision,
        "text": calibration.source,
        "samples": calibration.samples,
        "seq_len": calibration.seq_len,
        "seed": calibration.seed,
        "dtype": str(lm.dtype).removeprefix("torch."),
        "wanda_lab": __version__,
        "torch": torch.__version__,
        "transformers": importlib.metadata.version("transformers"),
    }
