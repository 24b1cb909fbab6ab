"""Where the masks of several recipes differ in a whole model, block by block and kind by kind."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor

from wanda_core.maths.selection import how_many
from wanda_core.model.language_model import LanguageModel
from wanda_core.model.linears import Linear, joint_kind
from wanda_core.progress import Progress, Steps


@dataclass(frozen=True)
class MaskAgreement:
    """Where masks differ. P pairs of recipes, K kinds of linears, B blocks.

    kinds: their names inside a block, experts of one layer together; pairs: places of the recipes; differ: (P, K, B)
    float32, the share of weights on which a pair differs, NaN where a block has no such linear; overall: (P,) of all
    weights.
    """

    kinds: tuple[str, ...]
    pairs: tuple[tuple[int, int], ...]
    differ: Tensor
    overall: Tensor


@torch.no_grad()
def mask_agreement_steps(
    lm: LanguageModel, count: int, removed_of: Callable[[Linear], Sequence[Tensor]]
) -> Steps[MaskAgreement]:
    """Compare masks, and yield progress by block.

    count: of recipes; removed_of: makes their masks of a linear, each bool (C_out, C_in), True where a weight goes.
    """
    pairs = tuple(combinations(range(count), 2))
    blocks = len(lm.linears)
    counted: dict[str, Tensor] = {}  # (P + 1, B) float64: weights that differ, and all of them
    for index, linears in enumerate(lm.linears):
        yield Progress("masks", index, blocks, "blocks")
        for linear in linears:
            masks = removed_of(linear)
            kind = counted.setdefault(joint_kind(linear.kind), torch.zeros(len(pairs) + 1, blocks, dtype=torch.float64))
            for place, (first, second) in enumerate(pairs):
                kind[place, index] += how_many(masks[first] != masks[second])
            kind[-1, index] += masks[0].numel()
    yield Progress("masks", blocks, blocks, "blocks")
    all_counts = torch.stack(list(counted.values()))  # (K, P + 1, B)
    differ = (all_counts[:, :-1] / all_counts[:, -1:]).transpose(0, 1).float()
    sums = all_counts.sum(dim=(0, 2))
    return MaskAgreement(tuple(counted), pairs, differ, (sums[:-1] / sums[-1]).float())
