"""The order in which requests arrived, which the gate writes on each of them."""

import itertools
from typing import Any

HEADER = b"x-wanda-arrival"
_count = itertools.count(1)


def next_arrival() -> int:
    """Return a number larger than every one before; `next` of a counter is one step for all threads."""
    return next(_count)


def arrival_of(request: Any) -> int:
    """Return an event's place in the order of arrival; an event that did not come through the gate arrives now.

    request: the event's `gr.Request`, or None.
    """
    headers = getattr(request, "headers", None) or {}
    written = headers.get(HEADER.decode()) if hasattr(headers, "get") else None
    return int(written) if written else next_arrival()
