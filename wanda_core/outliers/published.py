"""Outlier features in larger models, as the paper that defined them counted them. Nothing here was measured here.

Dettmers et al. 2022, LLM.int8() (arXiv 2208.07339), table 4: features with |x| ≥ 6 in at least 25% of the layers and 6%
of the positions, the definition that `features` counts by.
"""

from dataclasses import dataclass

SOURCE = "Dettmers et al. 2022, arXiv 2208.07339, table 4"
EMERGENCE = (6.0e9, 6.7e9)  # parameters, between which the paper sees features come to reach all layers (section 4.2)


@dataclass(frozen=True)
class Published:
    """One row of the table. parameters: as the paper rounds them; features: how many; layers, positions: the shares of
    layers and of positions that they reach."""

    model: str
    parameters: float
    features: int
    layers: float
    positions: float


ROWS = (
    Published("GPT-2", 117e6, 1, 0.25, 0.06),
    Published("Fairseq", 125e6, 2, 0.25, 0.22),
    Published("GPT-2", 345e6, 2, 0.29, 0.18),
    Published("GPT-2", 762e6, 2, 0.31, 0.16),
    Published("Fairseq", 1.3e9, 4, 0.64, 0.47),
    Published("GPT-2", 1.5e9, 2, 0.41, 0.35),
    Published("Fairseq", 2.7e9, 5, 0.52, 0.18),
    Published("GPT-J", 6.0e9, 6, 0.62, 0.28),
    Published("Fairseq", 6.7e9, 6, 1.0, 0.75),
    Published("Fairseq", 13e9, 7, 1.0, 0.73),
)
