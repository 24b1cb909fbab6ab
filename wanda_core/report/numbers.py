"""Numbers as a file keeps them: no digit that says nothing."""

from collections.abc import Iterable

from torch import Tensor

from wanda_core.report.form import LARGEST


def significant(value: float, digits: int = 5) -> float:
    """Round to significant digits."""
    return float(f"{value:.{digits}g}")


def finite(value: float) -> float:
    """Round a perplexity to significant digits; infinity, for which JSON has no word, is LARGEST."""
    return significant(min(value, LARGEST))


def rounded(value: float, places: int = 4) -> float:
    """Round to decimal places, without a negative zero."""
    return round(float(value), places) + 0.0


def all_significant(values: Tensor) -> list[float]:
    """Round every element of a tensor (N,) to significant digits."""
    return [significant(value) for value in values.tolist()]


def logs(values: Iterable[float | None]) -> list[float | None]:
    """Round logarithms, of which some may be missing, to four places."""
    return [None if value is None else rounded(value) for value in values]
