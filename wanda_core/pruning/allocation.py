"""The sparsity of each block: the same everywhere, lower where there are more outliers (OWL), or as given."""

from collections.abc import Mapping

from torch import Tensor

from wanda_core.errors import InputError
from wanda_core.maths.owl import outlier_ratio, owl
from wanda_core.model.blocks import BlockWalk
from wanda_core.recipe import PruneSpec


def block_sparsities(
    spec: PruneSpec, blocks: BlockWalk, norms: Mapping[str, Tensor] | None
) -> tuple[list[float], list[float] | None]:
    """Allot a sparsity to every block. -> sparsities 0 to 1, and OWL's outlier ratios, None unless they decided.

    norms: the dense model's input norms by linear name, needed for `owl`. Raises InputError for a given list of
    sparsities that is not as long as the model.
    """
    if isinstance(spec.allocation, tuple):
        if len(spec.allocation) != len(blocks):
            raise InputError(
                f"the allocation lists {len(spec.allocation)} blocks and the model has {len(blocks)}; "
                "give one sparsity for each block"
            )
        return list(spec.allocation), None
    if spec.allocation == "uniform" or norms is None:
        return [spec.target] * len(blocks), None
    ratios = [outlier_ratio([(linear.weight, norms[linear.name]) for linear in linears]) for _, _, linears in blocks]
    return owl(ratios, spec.target), ratios
