"""How the lab writes perplexities, channels, weights and generated lines."""

import math
import re
from collections.abc import Sequence


def perplexity(value: float) -> str:
    """A perplexity or a ratio of two: draws differ in the second decimal, ruined models by orders of magnitude."""
    if not math.isfinite(value):
        return "∞"
    return f"{value:.2f}" if value < 1000 else f"{value:,.0f}"


def weight_name(linear: str, row: int, column: int) -> str:
    """A weight by its block, its linear and its place: `11.mlp.down_proj[507, 1229]`."""
    inside = re.search(r"\d+\..*", linear)
    return f"{inside[0] if inside else linear}[{row}, {column}]"


def channel_list(channels: Sequence[int], most: int = 8) -> str:
    """Channels as text; of many the first few."""
    more = f" … ({len(channels)})" if len(channels) > most else ""
    return ", ".join(map(str, channels[:most])) + more
