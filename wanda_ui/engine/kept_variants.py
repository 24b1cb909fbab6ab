"""The variants a server keeps, within a budget of memory: the one unused longest goes, and can be made again."""

import threading
from collections import OrderedDict

from wanda_ui.engine.loaded import Result

LEAST_BYTES = 2**20  # that a variant is counted as: norms and reports come to its parameters


class KeptVariants:
    """Results by key. budget: bytes that their variants may take together."""

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self._results: OrderedDict[str, Result] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Number of variants that are kept."""
        return len(self._results)

    @property
    def keys(self) -> list[str]:
        """List the keys, the one unused longest first."""
        with self._lock:
            return list(self._results)

    @property
    def nbytes(self) -> int:
        """Bytes that the kept variants take."""
        with self._lock:
            return self._nbytes()

    def get(self, key: str) -> Result | None:
        """Return a result, which counts as used now; None where it is not kept."""
        with self._lock:
            if key in self._results:
                self._results.move_to_end(key)
            return self._results.get(key)

    def put(self, result: Result) -> None:
        """Keep a result; those unused longest go until all fit. It stays itself, whatever it takes."""
        with self._lock:
            self._results[result.key] = result
            self._results.move_to_end(result.key)
            while len(self._results) > 1 and self._nbytes() > self.budget:
                self._results.popitem(last=False)

    def clear(self) -> None:
        """Let all variants go."""
        with self._lock:
            self._results.clear()

    def _nbytes(self) -> int:
        return sum(counted_bytes(result.variant.nbytes) for result in self._results.values())


def counted_bytes(nbytes: int) -> int:
    """Return what a variant counts as against the budget. nbytes: of its parameters."""
    return max(nbytes, LEAST_BYTES)
