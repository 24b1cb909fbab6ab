"""A page that is the same for everybody but for the server's own address, which is put into it as it is sent.

To make such a page takes a tenth of a second and to compress it as long again, and anybody can name a new address with
every request. So it is made once, for an address that stands for all of them, and compressed in pieces between which
the real one is laid as it is.
"""

import re
import secrets
import zlib
from collections.abc import Sequence
from functools import cached_property

GRADIOS, OWN = (f"{secrets.token_hex(12)}.invalid" for _ in range(2))  # hosts that stand for the real ones
# As of RFC 1951 and 1952: gzip's head, an empty last block; a stored block holds 2 bytes of length at most.
HEAD, LAST, MOST_STORED = b"\x1f\x8b\x08" + bytes(6) + b"\xff", b"\x03\x00", 2**16 - 1


class Addressed:
    """A page cut where addresses stand. places: what stands there for the real ones, none a beginning of another."""

    def __init__(self, page: bytes, places: Sequence[bytes], level: int) -> None:
        self._places, self._level = list(places), level
        cut = re.split(b"(" + b"|".join(re.escape(place) for place in places) + b")", page)
        self._texts, self._between = cut[::2], cut[1::2]

    def plain(self, addresses: Sequence[bytes]) -> bytes:
        """Write the page with the real addresses, in the order of their places."""
        return b"".join(self._woven(self._texts, addresses))

    def zipped(self, addresses: Sequence[bytes]) -> bytes:
        """Write it for a browser that takes gzip."""
        body = self.plain(addresses)
        ending = zlib.crc32(body).to_bytes(4, "little") + (len(body) % 2**32).to_bytes(4, "little")
        return b"".join([HEAD, *self._woven(self._small, [_stored(each) for each in addresses]), LAST, ending])

    @cached_property
    def _small(self) -> list[bytes]:
        """Each text as blocks that end with a whole byte and look back at no other's."""
        return [_deflated(text, self._level) for text in self._texts]

    def _woven(self, texts: Sequence[bytes], addresses: Sequence[bytes]) -> list[bytes]:
        """List the texts with an address between each two of them."""
        real = dict(zip(self._places, addresses, strict=True))
        woven = [texts[0]]
        for place, text in zip(self._between, texts[1:], strict=True):
            woven += [real[place], text]
        return woven


def _deflated(text: bytes, level: int) -> bytes:
    coder = zlib.compressobj(level, zlib.DEFLATED, -zlib.MAX_WBITS)
    return coder.compress(text) + coder.flush(zlib.Z_FULL_FLUSH)


def _stored(text: bytes) -> bytes:
    """Write a text as blocks that hold it as it is."""
    pieces = [text[start : start + MOST_STORED] for start in range(0, len(text), MOST_STORED)]
    return b"".join(
        b"\x00" + len(piece).to_bytes(2, "little") + (len(piece) ^ MOST_STORED).to_bytes(2, "little") + piece
        for piece in pieces
    )
