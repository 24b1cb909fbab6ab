"""What the tests of real figures share: the built-in model's norms, which take half a minute to measure."""

import pytest

from wanda_core.calibration.profile import Profile, profile
from wanda_core.text.windows import calibrate


@pytest.fixture(scope="session")
def builtin_profile(builtin_lm) -> Profile:
    """Of the default calibration."""
    return profile(builtin_lm, calibrate(builtin_lm))
