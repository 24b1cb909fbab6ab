"""What visitors brought, and whose it is: theirs who brought it, told apart by the cookies that they sent with it."""

import threading
from collections import OrderedDict

Visitors = frozenset[str]  # who sends a request: digests of all its cookies of ours, the empty text alone without one
NOBODY: Visitors = frozenset({""})  # who keeps no cookies
MOST_OWNERS = 10_000  # the latest


class Owned:
    """Names of things, by who brought them; what several brought is of each. It may be asked in any thread.

    most: things of one owner, the latest. Whoever asks has to send all cookies that a thing was brought with: another
    page of the same host can give a browser one more, whose value it knows, but it does not know the others.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._of: OrderedDict[Visitors, OrderedDict[str, None]] = OrderedDict()
        # A thing's owners by one of their cookies: strangers who brought the same are not looked through.
        self._owners: dict[tuple[str, str], dict[Visitors, None]] = {}
        self._lock = threading.Lock()

    def add(self, thing: str, owner: Visitors) -> None:
        """Note who brings a thing."""
        with self._lock:
            self._use(thing, owner)
            while len(self._of[owner]) > self.most:
                self._forget(next(iter(self._of[owner])), owner)
            while len(self._of) > MOST_OWNERS:
                oldest = next(iter(self._of))
                for forgotten in list(self._of[oldest]):
                    self._forget(forgotten, oldest)

    def has(self, thing: str, visitors: Visitors) -> bool:
        """Whether a thing is of these visitors, which counts as used now."""
        with self._lock:
            owners = (owner for cookie in visitors for owner in self._owners.get((thing, cookie), ()))
            owner = next((owner for owner in owners if owner <= visitors), None)
            if owner is not None:
                self._use(thing, owner)
            return owner is not None

    def _use(self, thing: str, owner: Visitors) -> None:
        things = self._of.setdefault(owner, OrderedDict())
        self._of.move_to_end(owner)
        things[thing] = None
        things.move_to_end(thing)
        self._owners.setdefault((thing, min(owner)), {})[owner] = None

    def _forget(self, thing: str, owner: Visitors) -> None:
        del self._of[owner][thing]
        if not self._of[owner]:
            del self._of[owner]
        place = thing, min(owner)
        del self._owners[place][owner]
        if not self._owners[place]:
            del self._owners[place]
