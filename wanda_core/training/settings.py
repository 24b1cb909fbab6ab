"""`Training`, the settings of a training, checked once, when it is made. Without torch."""

import math
from dataclasses import asdict, dataclass
from numbers import Real
from typing import Any, cast

from wanda_core.checks import DEFAULT_SEQ_LEN, MAX_SEED, check_whole
from wanda_core.errors import InputError, shortened

MAX_STEPS, MAX_BATCH = 1_000_000, 1024
WARM_UP = 0.05  # share of the steps in which the rate rises to its full height
DEFAULT_WINDOWS = 64  # of calibration text
SEQ_LEN = DEFAULT_SEQ_LEN


@dataclass(frozen=True)
class Training:
    """How kept weights are trained: Adam, a rate that rises for a twentieth of the steps and falls along a cosine to 0.

    steps: of Adam; batch: windows in each; learning_rate: at its height, 1e-7 to 0.1; seed: of the order of windows,
    which all come once before any comes again. Raises InputError for any value outside these ranges.
    """

    steps: int = 100
    batch: int = 2
    learning_rate: float = 1e-4
    seed: int = 0

    def __post_init__(self) -> None:
        """Check every field."""
        check_whole("steps", self.steps, 1, MAX_STEPS)
        check_whole("batch", self.batch, 1, MAX_BATCH)
        check_whole("seed", self.seed, 0, MAX_SEED)
        rate = self.learning_rate
        if isinstance(rate, bool) or not isinstance(rate, Real) or not 1e-7 <= cast(Any, rate) <= 0.1:
            raise InputError(
                f"learning_rate {shortened(rate)} is not a number from 1e-07 to 0.1; leave it out for "
                f"{Training.learning_rate:g}"
            )

    def rate(self, step: int) -> float:
        """Return the learning rate of a step, counted from 0."""
        rising = min(1.0, (step + 1) / max(1.0, self.steps * WARM_UP))
        return self.learning_rate * rising * (1 + math.cos(math.pi * step / self.steps)) / 2

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values, for JSON."""
        return asdict(self)
