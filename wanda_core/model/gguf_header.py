"""What a GGUF file says of itself, walked through before its own reader, which believes every length it is given.

The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
"""

import mmap
import os
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wanda_core.machine.ordinary_file import open_ordinary

MAGIC = b"GGUF"
BYTES_OF = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}  # of the types of fixed size
WHOLE = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 10: "Q", 11: "q"}  # of the whole numbers, as `struct` has them
STRING, ARRAY = 8, 9
MOST_FIELDS, MOST_TENSORS, MOST_DIMENSIONS = 10_000, 100_000, 8
MOST_ENTRIES = 3_000_000  # of all lists; the largest vocabularies, with merges, scores and types, have 1,300,000
MORE_ENTRIES = 10_000  # of lists beside one for each number of the tensors: each token has a row of embeddings
# Of all strings of the lists, each cut in two at every place where the merges of a vocabulary are looked for: the sum
# of the squares of their lengths. 262,144 tokens of ten letters, with 514,906 merges, have 90 million.
MOST_SQUARES = 10**9
MOST_STRINGS = 1_000_000  # of the lists; 262,144 tokens with 514,906 merges are met
NUMBERS_IN_BYTE = 6  # at most; the smallest type that is met has one and a half bits


class HeaderError(Exception):
    """A file that says of itself what cannot be."""


@dataclass
class Header:
    """What a file says of itself. fields: its whole numbers, by name; entries: of all its lists; tensors: how many it
    has; numbers: of all of them; kinds: the types of those with more than one dimension."""

    fields: dict[str, int] = field(default_factory=dict)
    entries: int = 0
    tensors: int = 0
    numbers: int = 0
    kinds: set[int] = field(default_factory=set)


def read_header(file: Path) -> Header:
    """Walk through a file's head. Raises HeaderError where it is no GGUF file's, or promises more than is there."""
    with open_ordinary(file) as opened:
        size = os.fstat(opened.fileno()).st_size
        if size < 24:
            raise HeaderError(f"it has {size} bytes")
        with mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return _Head(content, size).read()


class _Head:
    """A place in the file that moves on with what is read."""

    def __init__(self, content: mmap.mmap, size: int) -> None:
        self.content, self.size, self.at = content, size, 0
        self.strings, self.squares = 0, 0
        self.order = "<"
        self.found = Header()

    def read(self) -> Header:
        """Walk through everything before the weights."""
        if self.bytes_of(4) != MAGIC:
            raise HeaderError("it does not begin with GGUF")
        if self.number("I") & 0xFFFF == 0:  # a version, in the other order of bytes
            self.order = ">"
        tensors, fields = self.number("Q"), self.number("Q")
        self.at_most(fields, MOST_FIELDS, "fields")
        self.at_most(tensors, MOST_TENSORS, "tensors")
        for _ in range(fields):
            name = self.text()
            kind = self.number("I")
            if kind in WHOLE:
                self.found.fields[name] = self.number(WHOLE[kind])
            else:
                self.skip_value(kind)
        for _ in range(tensors):
            self.read_tensor()
        self.found.tensors = tensors
        self.at_most(self.found.entries, self.found.numbers + MORE_ENTRIES, "entries of lists")
        return self.found

    def read_tensor(self) -> None:
        """Count a tensor's numbers, which must be able to lie in the file."""
        self.bytes_of(self.number("Q"))
        dimensions = self.number("I")
        self.at_most(dimensions, MOST_DIMENSIONS, "dimensions of a tensor")
        numbers = 1
        for _ in range(dimensions):
            numbers *= self.number("Q")
        kind, offset = self.number("I"), self.number("Q")
        if numbers > NUMBERS_IN_BYTE * self.size or offset > self.size:
            raise HeaderError(
                f"it names a tensor of {numbers:,} numbers at byte {offset:,}, and has {self.size:,} bytes"
            )
        if numbers < 1:
            raise HeaderError("it names a tensor of no numbers")
        self.found.numbers += numbers
        if dimensions > 1:
            self.found.kinds.add(kind)

    def skip_value(self, kind: int) -> None:
        """Go behind a value of a type."""
        if kind == STRING:
            self.bytes_of(self.number("Q"))
        elif kind == ARRAY:
            of, length = self.number("I"), self.number("Q")
            self.found.entries += length
            self.at_most(self.found.entries, MOST_ENTRIES, "entries of lists")
            if of == STRING:
                self.strings += length
                self.at_most(self.strings, MOST_STRINGS, "strings in lists")
                self.skip_strings(length)
                self.at_most(self.squares, MOST_SQUARES, "squares of the lengths of its strings")
            elif of in BYTES_OF:
                self.bytes_of(length * BYTES_OF[of])
            else:
                raise HeaderError(f"it has a list of type {of}")
        elif kind in BYTES_OF:
            self.bytes_of(BYTES_OF[kind])
        else:
            raise HeaderError(f"it has a field of type {kind}")

    def skip_strings(self, count: int) -> None:
        """Go behind so many strings; a vocabulary has a million."""
        at, length_at = self.at, struct.Struct(self.order + "Q").unpack_from
        for _ in range(count):
            if at > self.size - 8:
                break
            (letters,) = length_at(self.content, at)
            at += 8 + letters
            self.squares += letters**2
        else:
            self.bytes_of(at - self.at)
            return
        raise HeaderError(f"it names {count:,} strings at byte {self.at:,}, and has {self.size:,} bytes")

    def text(self) -> str:
        """Read a string."""
        length, begin = self.number("Q"), self.at
        self.bytes_of(length)
        return self.content[begin : self.at].decode(errors="replace")

    def number(self, form: str) -> int:
        """Read a whole number of a form of `struct`."""
        value: Any = struct.unpack(self.order + form, self.bytes_of(struct.calcsize("=" + form)))[0]
        return int(value)

    def bytes_of(self, length: int) -> bytes:
        """Go on by so many bytes, of which the first eight are returned."""
        if length > self.size - self.at:
            raise HeaderError(f"it names {length:,} bytes at byte {self.at:,}, and has {self.size:,}")
        found = self.content[self.at : self.at + min(length, 8)]
        self.at += length
        return found

    def at_most(self, value: int, most: int, what: str) -> None:
        """Raise HeaderError for more than can be."""
        if value > most:
            raise HeaderError(f"it has {value:,} {what}, and at most {most:,} are read")
