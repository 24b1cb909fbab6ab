"""Runs with one value in another's place: what both readers, the engine's and the page's, must judge alike."""

import copy
from collections.abc import Iterator
from typing import Any

from small_run import RUN

Place = tuple[str | int, ...]
# Of every kind that JSON has, and numbers beside all bounds.
JUNK: list[Any] = [None, True, -1, 0.5, 97.5, 2e300, "\ud800", [], {"a": 1}]


def places_in(value: Any, above: Place = ()) -> Iterator[Place]:
    """Every place in a run, of lists the first item."""
    if above:
        yield above
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from places_in(inner, (*above, name))
    elif isinstance(value, list):
        for number, inner in enumerate(value[:1]):
            yield from places_in(inner, (*above, number))


def mutated(place: Place, value: Any) -> dict[str, Any]:
    """The small run with another value in a place."""
    run = copy.deepcopy(RUN)
    *above, last = place
    inner: Any = run
    for name in above:
        inner[name] = copy.copy(inner[name])  # which may stand elsewhere too
        inner = inner[name]
    inner[last] = value
    return run
