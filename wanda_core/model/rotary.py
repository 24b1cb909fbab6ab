"""Settings of rotary positions that no model has: transformers only warns of them, and then a result may depend on the
longest text before."""

import math
from collections.abc import Iterator
from typing import Any

from transformers import PreTrainedConfig

from wanda_core.errors import ModelError, shortened, shortened_path
from wanda_core.model.config_keys import parts_of

KIND, KEY = "rope_type", "rope_parameters"
# What frequencies are divided by, or are powers or logarithms of.
ABOVE_ZERO = (
    *("rope_theta", "factor", "original_max_position_embeddings", "low_freq_factor", "high_freq_factor"),
    *("short_factor", "long_factor"),
)
LENGTH = "max_position_embeddings"  # which these kinds compare a text's length with
BY_LENGTH = ("dynamic", "longrope", "yarn")


def check_rotary(config: PreTrainedConfig, name: str) -> None:
    """Raise ModelError for a configuration, in any part of it, with such a setting."""
    for part in parts_of(config):
        for settings in _settings_in(getattr(part, KEY, None)):
            for key in ABOVE_ZERO:
                given = settings.get(key)
                for value in given if isinstance(given, list) else [given]:
                    _check(key, value, name)
            if any(kind in str(settings.get(KIND)) for kind in BY_LENGTH):  # transformers looks for a part of it too
                _check(LENGTH, getattr(part, LENGTH, None), name)


def _settings_in(given: Any) -> Iterator[dict[str, Any]]:
    """Yield the settings of rotary positions, and all within them: those of kinds of blocks are used wherever they
    stand under such a kind's name, whatever stands beside."""
    waiting = [given]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            yield part
            waiting += part.values()


def _check(key: str, value: object, name: str) -> None:
    if isinstance(value, (int, float)) and not 0 < value < math.inf:
        raise ModelError(
            f"{shortened_path(name)} has {shortened(key)} {shortened(value)} in its config.json, and rotary positions "
            "need a number above 0; repair it or choose another model"
        )
