"""A variant, which is the pruned model beside its dense one, and the report of how it came about."""

import copy
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from wanda_core.calibration.profile import Profile
from wanda_core.maths.sensitivity import Sensitivities
from wanda_core.model.language_model import LanguageModel
from wanda_core.recipe import PruneSpec


@dataclass(frozen=True)
class LinearReport:
    """Report of one pruned linear.

    shape: (C_out, C_in); zeros: exact zeros afterwards, of C_out · C_in weights; dead_columns: input columns that
    were always zero, whose weights were ordered by magnitude instead; by_magnitude: whether it belongs to an expert
    that was sent too few tokens to measure and was pruned by magnitude as a whole.
    """

    name: str
    shape: tuple[int, int]
    zeros: int
    dead_columns: int = 0
    by_magnitude: bool = False

    @property
    def sparsity(self) -> float:
        """Share of exact zeros, 0 to 1."""
        return self.zeros / (self.shape[0] * self.shape[1])


@dataclass(frozen=True)
class TrainingReport:
    """Report of a training of the kept weights towards the dense model.

    settings: of the training; calibration: the text that was read; tokens: read in all, those that came again counted
    again; seconds: it took, in all runs; held_out: name of a text that training does not see; windows, seq_len: read of
    it; kl, top1: how far the pruned model's predictions there are from the dense one's, as in `Agreement`, before and
    after.
    """

    settings: dict[str, Any]
    calibration: dict[str, Any]
    tokens: int
    seconds: float
    held_out: str
    windows: int
    seq_len: int
    kl: tuple[float, float]
    top1: tuple[float, float]


@dataclass(frozen=True)
class PruneReport:
    """Report of a whole pruning.

    linears: one report each, in the order they were pruned; seconds: it took; calibration: which text was read, None
    if none was; blocks: the sparsity asked of every block; outlier_ratios: of every block, measured for allocation
    `owl`; processes: for each of several that worked together, its seconds and how many of them it spent exchanging
    and waiting; sensitivities: of the blocks, where allocation `measured` went by them; training: of the kept weights,
    None for a model that was pruned alone.
    """

    linears: tuple[LinearReport, ...]
    seconds: float
    calibration: dict[str, Any] | None
    blocks: tuple[float, ...] = ()
    outlier_ratios: tuple[float, ...] | None = None
    processes: tuple[tuple[float, ...], ...] = ()
    sensitivities: Sensitivities | None = None
    training: TrainingReport | None = None

    @property
    def sparsity(self) -> float:
        """Share of exact zeros in all prunable weights, 0 to 1."""
        return sum(linear.zeros for linear in self.linears) / self.n_prunable

    @property
    def by_magnitude(self) -> int:
        """Number of matrices of experts that were sent too few tokens to measure."""
        return sum(linear.by_magnitude for linear in self.linears)

    @property
    def n_prunable(self) -> int:
        """Number of prunable weights."""
        return sum(linear.shape[0] * linear.shape[1] for linear in self.linears)


@dataclass(frozen=True)
class Variant:
    """A pruned model beside its dense one.

    lm: the pruned model, which shares every parameter that was not pruned with the dense one; profile: the input norms
    that decided, None for methods without calibration.
    """

    lm: LanguageModel
    spec: PruneSpec
    report: PruneReport
    profile: Profile | None

    @property
    def label(self) -> str:
        """The recipe's short name for people, and whether the kept weights were trained."""
        return self.spec.label + (", then trained" if self.report.training else "")

    def pruned_weight(self, name: str) -> Tensor:
        """Return the weight of a linear after pruning, (C_out, C_in). name: the linear's full name."""
        return next(linear.weight for linear in self.lm.all_linears if linear.name == name)


def twin(lm: LanguageModel) -> LanguageModel:
    """Build the same model from new modules over the same parameters: replacing one there leaves `lm` untouched."""
    shared: dict[int, Any] = {id(p): p for p in lm.model.parameters()}
    shared.update({id(b): b for b in lm.model.buffers()})
    model: nn.Module = copy.deepcopy(lm.model, shared)
    return replace(lm, model=model)
