"""Of a visitor's runs of one kind the newest goes on: a handle that moves on needs no answer for where it was."""

from collections import OrderedDict
from itertools import count
from threading import Lock

MOST_VISITORS = 1000  # remembered, the latest


class Newest:
    """Numbers the runs as they come, and tells an older one when a newer has its place in the queue.

    Not sooner: what both wait for, the pruning of one variant, would else be dropped by the one and begun anew by the
    other.
    """

    def __init__(self) -> None:
        self._numbers = count(1)
        self._placed: OrderedDict[str, int] = OrderedDict()
        self._lock = Lock()

    def number(self) -> int:
        """Return the number of a run that begins."""
        return next(self._numbers)

    def place(self, visitor: str, number: int) -> None:
        """Note that a run has its place: it waits or runs, or needs neither."""
        with self._lock:
            self._placed[visitor] = max(number, self._placed.get(visitor, 0))
            self._placed.move_to_end(visitor)
            while len(self._placed) > MOST_VISITORS:
                self._placed.popitem(last=False)

    def is_old(self, visitor: str, number: int) -> bool:
        """Whether a newer run of the visitor has its place."""
        return self._placed.get(visitor, 0) > number
