"""Reading a checkpoint that was saved earlier as the variant it was."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from wanda_core.checkpoint import manifest
from wanda_core.errors import InputError, shortened_path
from wanda_core.recipe import PruneSpec

if TYPE_CHECKING:  # what a folder tells must be known before torch is imported
    from wanda_core.model.language_model import LanguageModel
    from wanda_core.pruning.variant import Variant


def read_record(folder: Path) -> dict[str, Any]:
    """Return what `wanda.json` tells of a checkpoint. Raises InputError for a folder without one that can be read."""
    try:
        record = manifest.told(folder)
        PruneSpec(**record["recipe"])
        if not {"base", "calibration", "sparsity", "linears", "blocks"} <= record.keys():
            raise KeyError("linears")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{shortened_path(folder)} has no {manifest.RECORD} that tells how it was pruned; give a folder that "
            "`prune` wrote"
        ) from error
    return record


def variant_of(lm: "LanguageModel", record: dict[str, Any]) -> "Variant":
    """Return the variant that a checkpoint was saved from. lm: loaded from it; record: of `read_record`."""
    from wanda_core.maths.sensitivity import Sensitivities
    from wanda_core.pruning.variant import LinearReport, PruneReport, TrainingReport, Variant

    linears = [
        LinearReport(
            each["name"],
            (each["shape"][0], each["shape"][1]),
            each["zeros"],
            each["dead_columns"],
            each["by_magnitude"],
        )
        for each in record["linears"]
    ]
    ratios = tuple(block["outlier_ratio"] for block in record["blocks"] if "outlier_ratio" in block)
    told, trained = record.get("sensitivities"), record.get("training")
    report = PruneReport(
        tuple(linears),
        record["seconds"],
        record["calibration"],
        tuple(block["sparsity"] for block in record["blocks"]),
        ratios or None,
        tuple((each["seconds"], each["waited"]) for each in record["processes"]),
        Sensitivities.read(told) if told else None,
        TrainingReport(**trained) if trained else None,
    )
    return Variant(lm, PruneSpec(**record["recipe"]), report, None)


def was_trained(folder: Path) -> bool:
    """Tell whether a folder is a checkpoint that says its kept weights were trained."""
    try:
        return bool(manifest.told(folder).get("training"))
    except (OSError, ValueError, AttributeError):  # a folder of somebody else's
        return False


def dense_name(record: dict[str, Any]) -> str | None:
    """Return the name of the model that a checkpoint was pruned from; None where only its own folder's name is told."""
    base = record["base"]
    return None if base["revision"] == "local" else str(base["name"])
