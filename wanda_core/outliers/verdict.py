"""What a trial shows: a change that was chosen, held against the same change made at random.

Without the size of its effect no verdict: one perplexity is always the largest of a handful, if only by a hair.
"""

from collections.abc import Sequence
from typing import Literal

HARM = 2.0  # perplexity at least so many times as high is harm; draws of harmless changes lie within a few percent

Verdict = Literal["these", "any", "others", "harmless"]


def verdict(untouched: float, chosen: float, others: Sequence[float]) -> Verdict:
    """Say what perplexities show, infinite ones included.

    - `these`: the chosen change harms, and none of the others does, or it takes perplexity HARM times as high as any;
    - `any`: it harms, and so does another about as much or more, so that it does not matter which was changed;
    - `others`: it does no harm, and one of the others does;
    - `harmless`: neither it nor any other does harm.
    """
    worst = max(others)
    if harms(untouched, chosen):
        alone = not harms(untouched, worst) or (chosen > worst and harms(worst, chosen))
        return "these" if alone else "any"
    return "others" if harms(untouched, worst) else "harmless"


def harms(untouched: float, changed: float) -> bool:
    """Whether a perplexity is at least HARM times as high as another."""
    return changed >= HARM * untouched
