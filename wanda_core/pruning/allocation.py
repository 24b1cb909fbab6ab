"""The sparsity of each block: the same everywhere, by outliers (OWL), by measured sensitivity, or as given."""

from dataclasses import dataclass

from wanda_core.calibration.profile import Profile
from wanda_core.errors import InputError
from wanda_core.maths.owl import outlier_ratio, owl
from wanda_core.maths.sensitivity import Sensitivities
from wanda_core.model.blocks import BlockWalk
from wanda_core.recipe import PruneSpec


@dataclass(frozen=True)
class Allotment:
    """The sparsity of every block, 0 to 1, and what decided: OWL's outlier ratios, or sensitivities; None else."""

    sparsities: list[float]
    outlier_ratios: list[float] | None = None
    sensitivities: Sensitivities | None = None


def allotted(spec: PruneSpec, blocks: BlockWalk, profile: Profile | None) -> Allotment:
    """Allot a sparsity to every block.

    profile: of the dense model, needed for `owl`; with sensitivities for `measured`. Raises InputError for a given list
    of sparsities that is not as long as the model, and for a profile without what is needed.
    """
    if isinstance(spec.allocation, tuple):
        if len(spec.allocation) != len(blocks):
            raise InputError(
                f"the allocation lists {len(spec.allocation)} blocks and the model has {len(blocks)}; "
                "give one sparsity for each block"
            )
        return Allotment(list(spec.allocation))
    if spec.allocation == "uniform" or not spec.target:
        return Allotment([spec.target] * len(blocks))
    if profile is None or (spec.needs_sensitivities and profile.sensitivities is None):
        what = "sensitivities" if spec.needs_sensitivities else "norms"
        raise InputError(f"allocation {spec.allocation} needs a profile of the dense model with {what}; measure one")
    if profile.sensitivities is not None and spec.needs_sensitivities:
        weights = [
            sum(rows * columns for rows, columns in (linear.shape for linear in part)) for part in blocks.linears
        ]
        # A block without linears has nothing to remove, whatever it is allotted.
        shares = profile.sensitivities.sparsities([max(count, 1) for count in weights], spec.target)
        return Allotment(shares, sensitivities=profile.sensitivities)
    ratios = [
        outlier_ratio([(linear.weight, profile.norms[linear.name]) for linear in linears]) for _, _, linears in blocks
    ]
    return Allotment(owl(ratios, spec.target), ratios)
