"""How many jobs an address may ask for: a bucket of tokens each, filled at a steady rate."""

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable

from wanda_ui.gate.refusal import RefusedError


class Rate:
    """Buckets by address, of `a_minute` tokens each, which fill within a minute; 0 means no limit.

    clock: returns seconds.
    """

    MOST_ADDRESSES = 10_000  # remembered, the latest; a bucket that is forgotten was the one unused longest

    def __init__(self, a_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.a_minute, self._clock = a_minute, clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # (tokens, when that was)

    def take(self, address: str, count: int = 1) -> None:
        """Take tokens, more than there are too, so that who asked for much waits longer. Raises RefusedError, with the
        seconds until there is one, where the bucket is empty."""
        if not self.a_minute:
            return
        tokens, now = self._left(address)
        enough = tokens >= 1
        self._put(address, tokens - count if enough else tokens, now)
        if not enough:
            seconds = math.ceil((1 - tokens) * 60 / self.a_minute)
            raise RefusedError(429, "rate", most=self.a_minute, seconds=max(1, seconds))

    def charge(self, address: str, count: int) -> None:
        """Take tokens for what turned out to cost more than was taken for it."""
        if self.a_minute and count > 0:
            tokens, now = self._left(address)
            self._put(address, tokens - count, now)

    def _left(self, address: str) -> tuple[float, float]:
        """Take a bucket out. -> tokens in it, and what the clock says"""
        now = self._clock()
        tokens, since = self._buckets.pop(address, (float(self.a_minute), now))
        return min(float(self.a_minute), tokens + (now - since) * self.a_minute / 60), now

    def _put(self, address: str, tokens: float, now: float) -> None:
        self._buckets[address] = (tokens, now)
        while len(self._buckets) > self.MOST_ADDRESSES:
            self._buckets.popitem(last=False)


def address_of(client: tuple[str, int] | None, headers: Iterable[tuple[bytes, bytes]], trusted: str | None) -> str:
    """Return the address that a request comes from.

    client: of the connection; headers: all lines; trusted: the header in which the proxy in front puts the visitor's
    address. Of several addresses in it, in one line or more, the last counts: the others were sent by the visitor.
    """
    if trusted:
        lines = [value for name, value in headers if name.lower() == trusted.encode("latin-1")]
        value = b",".join(lines).decode("latin-1").split(",")[-1].strip()
        if value:
            return value[:64]
    return client[0] if client else ""
