"""A variant: the dense model with a recipe laid over it, both usable side by side."""

import copy
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from wanda_core.calibration.profile import Profile
from wanda_core.model.language_model import LanguageModel
from wanda_core.recipe import PruneSpec


@dataclass(frozen=True)
class LinearReport:
    """What happened to one linear. zeros counts exact zeros afterwards, of C_out · C_in weights;
    dead_columns: input columns that were always zero, ordered by magnitude instead; by_magnitude: an expert that was
    sent too few tokens to measure, pruned by magnitude as a whole."""

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
class PruneReport:
    """What a pruning did: per linear, in all, and in how many seconds.

    blocks: the sparsity asked of every block; outlier_ratios: what allocation `owl` found in each; processes: of
    several that worked together, the seconds of each and how many of them it exchanged or waited.
    """

    linears: tuple[LinearReport, ...]
    seconds: float
    calibration: dict[str, Any] | None
    blocks: tuple[float, ...] = ()
    outlier_ratios: tuple[float, ...] | None = None
    processes: tuple[tuple[float, ...], ...] = ()

    @property
    def sparsity(self) -> float:
        """Share of exact zeros in all prunable weights, 0 to 1."""
        return sum(linear.zeros for linear in self.linears) / self.n_prunable

    @property
    def by_magnitude(self) -> int:
        """Matrices of experts that were sent too few tokens to measure."""
        return sum(linear.by_magnitude for linear in self.linears)

    @property
    def n_prunable(self) -> int:
        """Number of prunable weights."""
        return sum(linear.shape[0] * linear.shape[1] for linear in self.linears)


@dataclass(frozen=True)
class Variant:
    """A pruned model beside its dense one.

    lm: runs the pruned model; it shares every parameter that was not pruned with the dense model.
    profile: the input norms that decided, None for methods without calibration.
    """

    lm: LanguageModel
    spec: PruneSpec
    report: PruneReport
    profile: Profile | None

    def pruned_weight(self, name: str) -> Tensor:
        """The weight of a linear after pruning, (C_out, C_in)."""
        return next(linear.weight for linear in self.lm.all_linears if linear.name == name)


def twin(lm: LanguageModel) -> LanguageModel:
    """The same model in new modules over the same parameters: replacing one there leaves `lm` untouched."""
    shared: dict[int, Any] = {id(p): p for p in lm.model.parameters()}
    shared.update({id(b): b for b in lm.model.buffers()})
    model: nn.Module = copy.deepcopy(lm.model, shared)
    return replace(lm, model=model)
