"""The content of `wanda.json`: all that is needed to make a checkpoint again, and what was done to its model."""

import importlib.metadata
import math
import platform
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from wanda_core.version import __version__

if TYPE_CHECKING:  # checking a target must not wait for torch
    import torch

    from wanda_core.evaluation.perplexity import Perplexity
    from wanda_core.model.language_model import LanguageModel
    from wanda_core.pruning.variant import Variant
    from wanda_core.shrinking.report import Shrunk

FORMAT = 1  # of that file; raise it when a key changes its meaning


def record(
    variant: "Variant | Shrunk",
    dtype: "torch.dtype | None" = None,
    dense: "Perplexity | None" = None,
    pruned: "Perplexity | None" = None,
) -> dict[str, Any]:
    """Return the record of a pruned model, of a shrunk one, or of one that was pruned after it was shrunk.

    dtype: that the weights are saved in, the model's own by default; dense, pruned: noted where they were measured.
    """
    from wanda_core.shrinking.report import Shrunk

    lm = variant.lm
    labels = [step["label"] for step in lm.shrunk]
    zeros: dict[str, Any] = {}
    if not isinstance(variant, Shrunk):
        labels.append(variant.label)
        zeros = _zeros(variant)
    return {
        "format": FORMAT,
        "label": ", ".join(labels),
        "base": _base(lm),
        **({"shrunk": list(lm.shrunk)} if lm.shrunk else {}),
        **zeros,
        "dtype": str(dtype or lm.dtype).removeprefix("torch."),
        "perplexity": {"dense": _perplexity(dense), "pruned": _perplexity(pruned)},
        "versions": {
            "wanda_core": __version__,
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in ("torch", "transformers")},
        },
    }


def _zeros(variant: "Variant") -> dict[str, Any]:
    """Describe what a pruning did."""
    report = variant.report
    return {
        "recipe": variant.spec.to_dict(),
        "calibration": report.calibration,
        "training": None if report.training is None else asdict(report.training),
        "sparsity": report.sparsity,
        "prunable_weights": report.n_prunable,
        "zeros": sum(linear.zeros for linear in report.linears),
        "seconds": round(report.seconds, 3),
        "processes": [{"seconds": round(spent, 3), "waited": round(lost, 3)} for spent, lost in report.processes],
        "blocks": [
            {"sparsity": share, **({"outlier_ratio": ratio} if ratio is not None else {})}
            for share, ratio in zip(report.blocks, report.outlier_ratios or [None] * len(report.blocks), strict=True)
        ],
        "sensitivities": None if report.sensitivities is None else asdict(report.sensitivities),
        "linears": [
            {
                "name": linear.name,
                "shape": list(linear.shape),
                "zeros": linear.zeros,
                "sparsity": linear.sparsity,
                "dead_columns": linear.dead_columns,
                "by_magnitude": linear.by_magnitude,
            }
            for linear in report.linears
        ],
    }


def _base(lm: "LanguageModel") -> dict[str, str]:
    """Name the dense model; of a local folder its name alone, for checkpoints travel and paths of a machine do not."""
    local = lm.revision == "local"
    return {"name": lm.title if local else lm.name, "title": lm.title, "revision": lm.revision}


def _perplexity(measured: "Perplexity | None") -> dict[str, Any] | None:
    """Return a measurement as plain values; null stands for infinity, which JSON does not have."""
    if measured is None:
        return None
    finite = math.isfinite(measured.perplexity)
    return {**measured.to_dict(), "perplexity": measured.perplexity if finite else None}
