"""Reading a checkpoint that was saved earlier as the variant it was."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from wanda_core.checkpoint import manifest
from wanda_core.errors import InputError, shortened_path
from wanda_core.recipe import PruneSpec

TRAINED = {"settings", "calibration", "tokens", "seconds", "held_out", "windows", "seq_len", "kl", "top1"}
MOST = 2**63  # of any number in a record

if TYPE_CHECKING:  # what a folder tells must be known before torch is imported
    from wanda_core.model.language_model import LanguageModel
    from wanda_core.pruning.variant import Variant


def read_record(folder: Path) -> dict[str, Any]:
    """Return what `wanda.json` tells of a checkpoint. Raises InputError for a folder without one that can be read."""
    try:
        record = manifest.told(folder)
        _check(record)
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise InputError(
            f"{shortened_path(folder)} has no {manifest.RECORD} that tells how it was pruned; give a folder that "
            "`prune` wrote"
        ) from error
    return record


def _check(record: dict[str, Any]) -> None:
    """Raise ValueError, LookupError, TypeError or AttributeError for a record that tells of no pruning."""
    from wanda_core.maths.sensitivity import Sensitivities

    json.dumps(record, ensure_ascii=False, allow_nan=False).encode()  # it is written into the next one's record
    PruneSpec(**record["recipe"])
    if not record["linears"]:
        raise ValueError("linears")
    for linear in record["linears"]:
        rows, columns = linear["shape"]
        sizes = (rows, columns, linear["zeros"], linear["dead_columns"])
        whole = all(type(size) is int for size in sizes) and min(rows, columns) > 0
        if not whole or not (0 <= linear["zeros"] <= rows * columns and 0 <= linear["dead_columns"] <= columns):
            raise ValueError("shape")
        if not isinstance(linear["name"], str) or not isinstance(linear["by_magnitude"], bool):
            raise TypeError("name")
    numbers = [record["sparsity"], record["seconds"]]
    for block in record["blocks"]:
        numbers += [block["sparsity"], block.get("outlier_ratio", 0)]
    for process in record["processes"]:
        numbers += [process["seconds"], process["waited"]]
    texts = [record["base"][name] for name in ("name", "title", "revision")]
    if record["calibration"] is not None:
        counts = [record["calibration"][name] for name in ("samples", "seq_len", "seed")]
        numbers += [count for count in counts if count is not None]  # not told by every profile
        texts += [record["calibration"][name] for name in ("source", "fingerprint")]
    if not all(map(_is_number, numbers)) or not all(isinstance(text, str) for text in texts):
        raise ValueError("numbers")
    if record.get("sensitivities"):
        Sensitivities.read(record["sensitivities"])
    training = record.get("training")
    if training is not None:
        _check_training(training)


def _check_training(told: dict[str, Any]) -> None:
    """Raise ValueError, or what a wrong type leads to, for what tells no training. told: of a `TrainingReport`."""
    if told.keys() != TRAINED or type(told["settings"]["steps"]) is not int:
        raise ValueError("training")
    numbers = [told[name] for name in ("tokens", "seconds", "windows", "seq_len")]
    for pair in (told["kl"], told["top1"]):
        before, after = pair
        numbers += [abs(before), abs(after)]  # a KL of next to nothing may be summed up to less
    if not all(map(_is_number, numbers)) or not isinstance(told["held_out"], str):
        raise ValueError("training")


def _is_number(value: object) -> bool:
    """Whether a value is a number that can have been counted or measured."""
    return type(value) in (int, float) and 0 <= cast(float, value) < MOST


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
