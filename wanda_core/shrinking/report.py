"""A shrunk model, and the report of how it came about."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from wanda_core.model.language_model import LanguageModel
from wanda_core.shrinking.spec import ShrinkSpec


@dataclass(frozen=True)
class ShrinkReport:
    """Report of a whole shrinking.

    label: a short name for people; settings: what the configuration says now, by name: value before and after;
    parameters: of the dense and of the shrunk model, tied ones once; removed: neurons, groups of heads or blocks gone,
    and there before, over all blocks; influences: of the blocks that went, in the order they went, how much each
    changed the hidden state, from 0 to 2; by_magnitude: of experts that were sent too few tokens to measure; seconds:
    it took; calibration: which text was read, None if none was.
    """

    label: str
    settings: Mapping[str, tuple[Any, Any]]
    parameters: tuple[int, int]
    removed: tuple[int, int]
    influences: tuple[float, ...]
    by_magnitude: int
    seconds: float
    calibration: dict[str, Any] | None

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values, for JSON."""
        return {
            "label": self.label,
            "settings": {name: {"before": before, "after": after} for name, (before, after) in self.settings.items()},
            "parameters": {"before": self.parameters[0], "after": self.parameters[1]},
            "removed": {"units": self.removed[0], "of": self.removed[1]},
            "influences": list(self.influences),
            "by_magnitude": self.by_magnitude,
            "seconds": round(self.seconds, 3),
            "calibration": self.calibration,
        }

    @property
    def share_left(self) -> float:
        """Share of the parameters that are left, 0 to 1."""
        return self.parameters[1] / self.parameters[0]


@dataclass(frozen=True)
class Shrunk:
    """A shrunk model, an ordinary one of other sizes, which shares with the dense one what has the same size.

    kept: which columns stayed, by the name of the matrix that reads them, int64; or under `blocks`, which blocks did.
    """

    lm: LanguageModel
    spec: ShrinkSpec
    report: ShrinkReport
    kept: Mapping[str, Tensor]

    def lasting(self, seconds: float) -> "Shrunk":
        """Return the same, whose report tells other seconds."""
        report = replace(self.report, seconds=seconds)
        told = {**self.lm.shrunk[-1], **report.to_dict()}
        return replace(self, report=report, lm=replace(self.lm, shrunk=(*self.lm.shrunk[:-1], told)))
