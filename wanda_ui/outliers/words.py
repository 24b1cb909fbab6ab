"""How the lab writes perplexities, channels, weights, generated lines and the names of log axes."""

import math
import re
from collections.abc import Sequence

from wanda_ui.language import Say


def perplexity(value: float) -> str:
    """Write a perplexity or a ratio of two: draws differ in the second decimal, ruined models by orders of ten."""
    if not math.isfinite(value):
        return "∞"
    return f"{value:.2f}" if value < 1000 else f"{value:,.0f}"


def weight_name(linear: str, row: int, column: int) -> str:
    """Name a weight by its block, its linear and its place: `11.mlp.down_proj[507, 1229]`."""
    inside = re.search(r"\d+\..*", linear)
    return f"{inside[0] if inside else linear}[{row}, {column}]"


def channel_list(channels: Sequence[int], most: int = 8) -> str:
    """List channels; of many the first few and how many there are."""
    more = f" … ({len(channels)})" if len(channels) > most else ""
    return ", ".join(map(str, channels[:most])) + more


def generated_line(line: str | None) -> str:
    """Write a generated text as one line; a dash for none and for an empty one."""
    return "–" if line is None else " ".join(line.split()) or "–"


def on_log_scale(axis: str, say: Say) -> str:
    """Name an axis of `outliers.axis` and say that its scale is logarithmic."""
    return say("outliers.axis.log", axis=say(f"outliers.axis.{axis}"))
