"""An analysis in a file, so that the next start of a server need not run the model for it.

The file is ours alone and can be made again: one that is missing, broken, or of another model, text or version counts
as none, and one that cannot be written is left unwritten.
"""

import contextlib
import json
import math
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from wanda_core.calibration.profile import Profile, checked_norms, checked_words, source_of
from wanda_core.machine import atomic_file
from wanda_core.machine.json_file import parsed
from wanda_core.model.language_model import LanguageModel
from wanda_core.model.stored_tensors import open_tensors
from wanda_core.outliers.analysis import Analysis
from wanda_core.outliers.features import FeatureCounts
from wanda_core.outliers.massive import TOP
from wanda_core.text.windows import Calibration

FORMAT = "wanda-analysis-3"
NORMS = "norms."  # how the names of the linears' norms begin
TENSORS = tuple(field.name for field in fields(Analysis) if field.name not in ("profile", "features"))
COUNTED = ("over", "positive")  # tensors of the features, whose names begin with
FEATURES = "features."


def save_analysis(analysis: Analysis, path: Path, seconds: float) -> None:
    """Write an analysis, under another name first and then moved: the file is whole or not there.

    seconds: that it took, kept with it.
    """
    profile = analysis.profile
    metadata = {"format": FORMAT, "calibration": profile.calibration, "order": profile.order, "seconds": repr(seconds)}
    metadata |= {"source": json.dumps(dict(profile.source)), "tokens": json.dumps(dict(profile.tokens))}
    tensors = {NORMS + name: norm.contiguous() for name, norm in profile.norms.items()}
    tensors |= {name: getattr(analysis, name).contiguous() for name in TENSORS}
    if analysis.features is not None:
        told = vars(analysis.features)
        tensors |= {FEATURES + name: told[name].contiguous() for name in COUNTED}
        metadata["features"] = json.dumps({name: value for name, value in told.items() if name not in COUNTED})
    # On a full or read-only disk nothing is kept, and the next start measures again.
    with contextlib.suppress(OSError, SafetensorError), atomic_file.written(path) as part:
        save_file(tensors, part, metadata=metadata)


def load_analysis(path: Path, lm: LanguageModel, calibration: Calibration) -> tuple[Analysis, float] | None:
    """Read an analysis and the seconds it took; None unless it was made on this model, this text and these versions."""
    try:
        with open_tensors(path) as file:
            said = file.metadata() or {}
            wanted = {"format": FORMAT, "calibration": calibration.fingerprint}
            if any(said.get(name) != value for name, value in wanted.items()):
                return None
            source, tokens = checked_words(said)
            if source != source_of(lm, calibration):
                return None
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 # no dictionary
            order, seconds = said["order"], float(said["seconds"])
            named = {name: value for name, value in tensors.items() if name.startswith(NORMS)}
            norms = {name.removeprefix(NORMS): checked_norms(name, value) for name, value in named.items()}
            features = _features(said.get("features"), tensors, len(lm.linears))
            stream = {name: tensors[name] for name in TENSORS}
            _check_stream(stream, lm, features)
    except Exception:  # whatever is wrong with it, it is made again
        return None
    widths = {linear.name: (linear.shape[1],) for linear in lm.all_linears}
    if {name: tuple(norm.shape) for name, norm in norms.items()} != widths or not 0 <= seconds < math.inf:
        return None
    profile = Profile(norms, said["calibration"], order, source, tokens)
    return Analysis(profile, **stream, features=features), seconds


def _check_stream(stream: dict[str, Tensor], lm: LanguageModel, features: FeatureCounts | None) -> None:
    """Raise ValueError for tensors of TENSORS that are not of the model's blocks and channels, and for features that
    are not of what its linears read."""
    blocks, channels = len(lm.linears), lm.stream_width
    shapes = {"top": (blocks, TOP), "median": (blocks,), "channel_max": (blocks, channels)}
    shapes["stream_norms"] = (blocks, channels)
    for name, value in stream.items():
        if value.dtype != torch.float32 or tuple(value.shape) != shapes[name]:
            raise ValueError(name)
        if not bool(((value >= 0) & value.isfinite()).all()):
            raise ValueError(name)
    if features is not None and (features.over.shape[1], features.one_stream) != (lm.width, lm.one_stream):
        raise ValueError("channels")


def _features(said: str | None, tensors: dict[str, Tensor], n_blocks: int) -> FeatureCounts | None:
    """Read the counts of features, None where the model has none. said: all of them that is no tensor, as JSON.

    Raises ValueError, KeyError or TypeError for counts that no model of so many blocks has.
    """
    if said is None:
        return None
    told: Any = parsed(said)
    over, positive = (tensors[FEATURES + name] for name in COUNTED)
    fixed: Any = {name: tuple(value) if isinstance(value, list) else value for name, value in told.items()}
    found = FeatureCounts(over=over, positive=positive, **fixed)
    right = [
        type(found.magnitude) is float and 0 < found.magnitude < math.inf,
        isinstance(found.positions, tuple) and all(type(count) is int and count > 0 for count in found.positions),
        type(found.one_stream) is bool,
        type(found.n_blocks) is int and found.n_blocks == n_blocks,
        isinstance(found.kinds, tuple) and all(isinstance(kind, str) for kind in found.kinds),
        isinstance(found.blocks, tuple) and all(type(block) is int and 0 <= block < n_blocks for block in found.blocks),
        over.dtype == positive.dtype == torch.int64 and over.dim() == 2 and over.shape == positive.shape,
        len(over) == len(found.blocks) == len(found.positions) > 0,
    ]
    if not all(right):
        raise ValueError("features")
    most = torch.tensor(found.positions, dtype=torch.int64, device="cpu")[:, None]  # (R, 1)
    if not bool(((positive >= 0) & (positive <= over) & (over <= most)).all()):
        raise ValueError("features")
    return found
