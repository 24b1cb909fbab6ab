"""What Gradio keeps of each session: of too many, those go first whose page is open in no browser."""

from collections import Counter, OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class States(OrderedDict[str, Any]):
    """States by session, the one unused longest first, from which Gradio takes the first where there are too many."""

    def __init__(self) -> None:
        super().__init__()
        self._open: Counter[str] = Counter()

    @contextmanager
    def opened(self, session: str) -> Iterator[None]:
        """Context manager: a page of the session is open inside, as its heartbeat tells."""
        self._open[session] += 1
        try:
            yield
        finally:
            self._open[session] -= 1
            if not self._open[session]:
                del self._open[session]

    def popitem(self, last: bool = True) -> tuple[str, Any]:
        """Take a state out: for `last=False` the first whose page is closed, and the first of all where none is. The
        last one stays: it begins just now, before its page has told that it is open."""
        closed = None if last else next((session for session in list(self)[:-1] if session not in self._open), None)
        return super().popitem(last) if closed is None else (closed, self.pop(closed))
