"""Downloads that were asked for: each keeps a model and a variant in memory for a while, and its address is a secret.

So whoever may ask for a checkpoint can hand its address to the browser's own download, which may begin a little later,
break off and go on. There are few at once, and what is not used any more is let go.
"""

import hashlib
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field

from wanda_core.checkpoint.archive import Archive
from wanda_core.checkpoint.contents import Piece
from wanda_core.errors import WandaError
from wanda_ui.engine.loaded import Loaded

MOST_TICKETS = 4  # each may keep a model in memory that nobody else asks for
MOST_READERS = 8  # of all tickets together: of a download that broke off two may be there for a moment
LIVES_SECONDS = 900  # after it was made or last read from: time to begin, or to go on after a cut
BEGINS_SECONDS = 60  # within which a new ticket does not make way for another


@dataclass(eq=False)
class Ticket:
    """One download. secret: its part of the address; used: when it was last read from; readers: how many read now;
    ended: whether it was read to the end."""

    secret: str
    archive: Archive
    loaded: Loaded
    used: float
    tickets: "Tickets"
    readers: int = 0
    ended: bool = False

    @property
    def file(self) -> str:
        """The name that it is to be saved under."""
        return f"{self.archive.name}.zip"

    @property
    def nbytes(self) -> int:
        """Bytes of the whole."""
        return self.archive.nbytes

    @property
    def tag(self) -> str:
        """What tells its bytes from those of every other download, as HTTP's ETag has it."""
        return f'"{hashlib.sha256(self.secret.encode()).hexdigest()[:32]}"'

    def reading(self, start: int) -> AbstractContextManager[Iterator[Piece]]:
        """Open its bytes from `start` on. Raises WandaError where too many are read already."""
        return self.tickets.reading(self, start)


@dataclass
class Tickets:
    """All downloads of a server. clock: returns seconds."""

    clock: Callable[[], float] = time.monotonic
    _tickets: dict[str, Ticket] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __len__(self) -> int:
        """Number of tickets."""
        return len(self._tickets)

    def make(self, loaded: Loaded, archive: Archive) -> Ticket:
        """Make a ticket; the model stays in memory as long as it lives.

        Raises WandaError where as many as there may be are in use.
        """
        ticket = Ticket(secrets.token_urlsafe(24), archive, loaded, self.clock(), self)
        with self._lock:
            self._sweep()
            if len(self._tickets) >= MOST_TICKETS:
                idle = [one for one in self._tickets.values() if not one.readers and self._may_go(one)]
                if not idle:
                    raise WandaError(
                        f"{MOST_TICKETS} downloads are under way, the most at once; let one of them end, or cancel it "
                        "in the browser"
                    )
                self._drop(min(idle, key=lambda one: (not one.ended, one.used)))
            self._tickets[ticket.secret] = ticket
            loaded.claim()
        return ticket

    def get(self, secret: str, file: str) -> Ticket | None:
        """Find the ticket of an address, None where it lives no more."""
        with self._lock:
            self._sweep()
            ticket = self._tickets.get(secret)
            return ticket if ticket is not None and ticket.file == file else None

    @contextmanager
    def reading(self, ticket: Ticket, start: int) -> Iterator[Iterator[Piece]]:
        """Context manager: the bytes of a ticket from `start` on; it lives while they are read.

        Raises WandaError where too many are read already.
        """
        with self._lock:
            if sum(one.readers for one in self._tickets.values()) >= MOST_READERS:
                raise WandaError(f"{MOST_READERS} downloads are read at once, the most; try again when one has ended")
            ticket.readers += 1
        pieces = ticket.archive.read(start)
        try:
            yield self._to_the_end(ticket, pieces)
        finally:
            pieces.close()  # type: ignore[attr-defined] # a generator
            with self._lock:
                ticket.readers -= 1
                ticket.used = self.clock()

    def sweep(self) -> None:
        """Let go what lives no more."""
        with self._lock:
            self._sweep()

    def _to_the_end(self, ticket: Ticket, pieces: Iterator[Piece]) -> Iterator[Piece]:
        yield from pieces
        ticket.ended = True

    def _may_go(self, ticket: Ticket) -> bool:
        """Whether a ticket that nobody reads from may make way for another."""
        return ticket.ended or self.clock() - ticket.used > BEGINS_SECONDS

    def _sweep(self) -> None:
        now = self.clock()
        for ticket in list(self._tickets.values()):
            if not ticket.readers and now - ticket.used > LIVES_SECONDS:
                self._drop(ticket)

    def _drop(self, ticket: Ticket) -> None:
        del self._tickets[ticket.secret]
        ticket.loaded.claim(-1)
