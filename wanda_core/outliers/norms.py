"""Wanda's input norms ‖X_j‖₂, told briefly: for every kind of linear the column that stands out most."""

from dataclasses import dataclass

from wanda_core.calibration.profile import Profile, check_matches
from wanda_core.model.language_model import LanguageModel
from wanda_core.model.linears import joint_kind


@dataclass(frozen=True)
class LargestNorm:
    """The column with the largest norm of one linear. ratio: as a multiple of the linear's median norm, infinite where
    that is zero."""

    kind: str
    block: int
    column: int
    norm: float
    ratio: float


def largest_norms(lm: LanguageModel, profile: Profile) -> list[LargestNorm]:
    """Per kind of linear, experts of a layer together, where a column is the largest multiple of its linear's median.

    Raises InputError for the profile of another model.
    """
    check_matches(profile, lm)
    largest_of: dict[str, LargestNorm] = {}
    for linear in lm.all_linears:
        norms = profile.norms[linear.name]
        median, column = float(norms.median()), int(norms.argmax())
        largest = float(norms[column])
        ratio = largest / median if median else float("inf") if largest else 0.0
        kind = joint_kind(linear.kind)
        if kind not in largest_of or ratio > largest_of[kind].ratio:
            largest_of[kind] = LargestNorm(kind, linear.block, column, largest, ratio)
    return list(largest_of.values())
