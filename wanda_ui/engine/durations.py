"""How long jobs take, learned from those that ran."""

import threading
from collections import OrderedDict, deque
from collections.abc import Hashable
from dataclasses import dataclass, field
from statistics import median

REMEMBERED = 5  # durations of a kind, the latest
MOST_KINDS = 500
LEAST_LEFT = 0.1  # of its expected duration, for a job that takes longer than that


@dataclass
class Durations:
    """Seconds that jobs took, by kind: `(what, model, …)`, from the general to the particular. Threads share it."""

    _seconds: "OrderedDict[tuple[Hashable, ...], deque[float]]" = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, kind: tuple[Hashable, ...], seconds: float) -> None:
        """Remember how long a job took, also as one of the more general kinds."""
        with self._lock:
            for length in range(1, len(kind) + 1):
                known = self._seconds.setdefault(kind[:length], deque(maxlen=REMEMBERED))
                known.append(seconds)
                self._seconds.move_to_end(kind[:length])
            while len(self._seconds) > MOST_KINDS:
                self._seconds.popitem(last=False)

    def expected(self, kind: tuple[Hashable, ...]) -> float | None:
        """Return the seconds a job will take, by the most particular kind that is known; None where none is."""
        for length in range(len(kind), 0, -1):
            known = self.exactly(kind[:length])
            if known is not None:
                return known
        return None

    def exactly(self, kind: tuple[Hashable, ...]) -> float | None:
        """Return the seconds that jobs of just this kind took; None where none was seen."""
        with self._lock:
            known = list(self._seconds.get(kind, ()))
        return median(known) if known else None

    def left(self, kind: tuple[Hashable, ...], spent: float) -> float | None:
        """Return the seconds that are left of a job. spent: seconds that it ran so far."""
        expected = self.expected(kind)
        return None if expected is None else max(expected - spent, LEAST_LEFT * expected)
