"""What a GGUF file says of itself, walked through before its own reader, which believes every length it is given.

The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
"""

import math
import os
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from wanda_core.machine.ordinary_file import open_ordinary
from wanda_core.model.tokenizer_vocabulary import MOST_BYTES

MAGIC = b"GGUF"
BYTES_OF = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}  # of the types of fixed size
WHOLE = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 10: "Q", 11: "q"}  # of the whole numbers, as `struct` has them
STRING, ARRAY = 8, 9
MOST_FIELDS, MOST_DIMENSIONS = 2_000, 8  # fewer than 100 fields are met
# Tensors of any file, and beside some one for so many of its bytes; 1,800 are met, for experts lie in one together.
MOST_TENSORS, MORE_TENSORS, BYTES_OF_ONE = 10_000, 1_000, 1_000
# Bytes of all texts outside of lists, chat templates among them, of each of which transformers makes an object of 40:
# below 100,000 are met. Of a name of a field or tensor: below 64 are met.
MOST_OF_TEXTS, LONGEST_NAME = 10**6, 200
MOST_ENTRIES = 3_000_000  # of all lists; the largest vocabularies, with merges, scores and types, have 1,300,000
MORE_ENTRIES = 10_000  # of all lists that are none of a vocabulary's, and of one of these beside what follows
# Entries of a vocabulary's lists for each row of the embeddings, which each token has; 2.2 merges for each are met.
VOCABULARY, EMBEDDINGS = "tokenizer.ggml.", "token_embd.weight"
ENTRIES_OF_ROW = {"tokens": 1, "scores": 1, "token_type": 1, "merges": 4}
CHARSMAP, MOST_OF_CHARSMAP = "precompiled_charsmap", 2**21  # bytes, a list as well; 500,000 are met
COUNTED = ("gpt2", "starcoder2")  # architectures whose size of vocabulary transformers counts itself
# Of all strings of the lists, each cut in two at every place where the merges of a vocabulary are looked for: the sum
# of the squares of their lengths. 262,144 tokens of ten letters, with 514,906 merges, have 90 million.
MOST_CUTS = 10**9
MOST_STRINGS = 1_000_000  # of the lists; 262,144 tokens with 514,906 merges are met
NUMBERS_IN_BYTE = 6  # at most; the smallest type that is met has one and a half bits
PIECE = 2**20  # bytes of the file that are in memory at once
ALIGNMENT = 32  # bytes, where a file tells none
# The types of tensors that gguf dequantises: how many numbers are in a block, and the bytes of one.
BLOCKS = {
    **{0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 10: (256, 84)},
    **{11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 16: (256, 66), 17: (256, 74), 18: (256, 98)},
    **{19: (256, 50), 20: (32, 18), 21: (256, 110), 22: (256, 82), 23: (256, 136), 29: (256, 56), 30: (1, 2)},
    **{34: (256, 54), 35: (256, 66), 39: (32, 17), 40: (64, 36)},
}


class HeaderError(Exception):
    """A file that says of itself what cannot be."""


@dataclass
class Header:
    """What a file says of itself.

    architecture: its name; tokenizer: the name of its tokenizer's kind; fields: its whole numbers, by name; entries: of
    all its lists; lists: of each, by name; begins: of the last of each name, its type, entries and first byte; tensors:
    how many it has; shapes: of each, by name, its last dimension first; numbers: of all of them; rows: of its
    embeddings; kinds: the types of tensors with more than one dimension; unread: types that are not dequantised; kept:
    where all that is no list of the vocabulary's stands, from a byte to another, at last the tensors' names and places;
    ends: at which byte the head does; order: of bytes, as `struct` has it.
    """

    architecture: str = ""
    tokenizer: str = ""
    fields: dict[str, int] = field(default_factory=dict)
    entries: int = 0
    lists: dict[str, int] = field(default_factory=dict)
    begins: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    rows: int = 0
    kept: list[tuple[int, int]] = field(default_factory=list)
    ends: int = 0
    order: str = "<"
    tensors: int = 0
    shapes: dict[str, list[int]] = field(default_factory=dict)
    numbers: int = 0
    kinds: set[int] = field(default_factory=set)
    unread: set[int] = field(default_factory=set)


def read_header(file: Path) -> Header:
    """Walk through a file's head. Raises HeaderError where it is no GGUF file's, or promises more than is there."""
    with open_ordinary(file) as opened:
        size = os.fstat(opened.fileno()).st_size
        if size < 24:
            raise HeaderError(f"it has {size} bytes")
        return _Head(opened, size).read()


def light_head(file: Path, header: Header) -> bytes:
    """Return a file's head without the lists of its vocabulary, in whose place stands how many tokens there are: what
    reads it knows the model as it would from the whole, and has no million of words to walk through."""
    tokens = header.lists.get(f"{VOCABULARY}tokens")
    given = {} if tokens is None else {f"{VOCABULARY}tokens": tokens, f"{header.architecture}.vocab_size": tokens}

    def text(value: bytes) -> bytes:
        return struct.pack(f"{header.order}Q", len(value)) + value

    def written(name: str, number: int) -> bytes:
        if header.architecture in COUNTED and name.startswith(VOCABULARY):
            return text(name.encode()) + struct.pack(f"{header.order}I", STRING) + text(b"." * number)
        return text(name.encode()) + struct.pack(f"{header.order}II", 4, number)

    fields = [written(name, number) for name, number in given.items() if name not in header.fields]
    with open_ordinary(file) as opened:
        start, pieces = opened.read(8), []
        for begin, end in header.kept:
            opened.seek(begin)
            pieces.append(opened.read(end - begin))
    counts = struct.pack(f"{header.order}QQ", header.tensors, len(pieces) - 1 + len(fields))
    return b"".join([start, counts, *pieces[:-1], *fields, pieces[-1]])


def head_without_tensors(file: Path, header: Header) -> bytes:
    """Return a file's head as that of one without tensors, which has the whole of its vocabulary."""
    tensors, _ = header.kept[-1]
    with open_ordinary(file) as opened:
        head = opened.read(tensors)
    return head[:8] + struct.pack(f"{header.order}Q", 0) + head[16:]


class _Head:
    """A place in the file that moves on with what is read."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self.file, self.size, self.at = file, size, 0
        self.piece, self.start = b"", 0  # of the file, from a byte on; a map of it would end this process with the file
        self.strings, self.squares, self.texts = 0, 0, 0
        self.order = "<"
        self.places: list[tuple[int, int, str]] = []  # of tensors: their first bytes, the bytes after them, their names
        self.found = Header()

    def read(self) -> Header:
        """Walk through everything before the weights."""
        if self.bytes_of(4) != MAGIC:
            raise HeaderError("it does not begin with GGUF")
        if self.number("I") & 0xFFFF == 0:  # a version, in the other order of bytes
            self.order = ">"
        tensors, fields = self.number("Q"), self.number("Q")
        self.at_most(fields, MOST_FIELDS, "fields")
        self.at_most(tensors, min(MOST_TENSORS, MORE_TENSORS + self.size // BYTES_OF_ONE), "tensors")
        found = self.found
        for _ in range(fields):
            begin, name = self.at, self.name()
            kind = self.number("I")
            if kind in WHOLE:
                found.fields[name] = self.number(WHOLE[kind])
            elif kind == STRING and name == "general.architecture":
                found.architecture = self.name()
            elif kind == STRING and name == f"{VOCABULARY}model":
                found.tokenizer = self.name()
            else:
                self.skip_value(kind, name)
            if not (kind == ARRAY and name.startswith(VOCABULARY)):
                found.kept.append((begin, self.at))
        begin = self.at
        for _ in range(tensors):
            self.read_tensor()
        found.kept.append((begin, self.at))
        found.tensors, found.ends, found.order = tensors, self.at, self.order
        self.check_lists()
        self.check_places()
        return found

    def check_places(self) -> None:
        """Raise HeaderError for tensors that lie over each other, of which a small file could have any number, or reach
        beyond its end."""
        alignment = self.found.fields.get("general.alignment", 0)
        alignment = alignment if alignment > 0 else ALIGNMENT
        room, last, before = self.size - -(-self.at // alignment) * alignment, 0, ""
        for begin, end, name in sorted(self.places):
            if begin < last:
                raise HeaderError(f"its tensors {before!r} and {name!r} lie over each other")
            if end > room:
                raise HeaderError(f"its tensor {name!r} ends {end - room:,} bytes after the file")
            last, before = end, name

    def check_lists(self) -> None:
        """Raise HeaderError for lists that are longer than the file's embeddings let a vocabulary be."""
        others = 0
        for name, entries in self.found.lists.items():
            own = name.removeprefix(VOCABULARY) if name.startswith(VOCABULARY) else ""
            if own in ENTRIES_OF_ROW:
                self.at_most(entries, ENTRIES_OF_ROW[own] * self.found.rows + MORE_ENTRIES, f"entries of {name}")
            elif own == CHARSMAP:
                self.at_most(entries, MOST_OF_CHARSMAP, f"entries of {name}")
            else:
                others += entries
        self.at_most(others, MORE_ENTRIES, "entries of lists")

    def read_tensor(self) -> None:
        """Count a tensor's numbers, which must be able to lie in the file."""
        name, dimensions = self.name(), self.number("I")
        self.at_most(dimensions, MOST_DIMENSIONS, "dimensions of a tensor")
        shape = [self.number("Q") for _ in range(dimensions)]
        numbers, last = math.prod(shape), shape[-1] if shape else 0
        kind, offset = self.number("I"), self.number("Q")
        if numbers > NUMBERS_IN_BYTE * self.size or offset > self.size:
            raise HeaderError(
                f"it names a tensor of {numbers:,} numbers at byte {offset:,}, and has {self.size:,} bytes"
            )
        if numbers < 1:
            raise HeaderError("it names a tensor of no numbers")
        self.found.shapes[name] = shape
        self.found.numbers += numbers
        if kind in BLOCKS:
            of_block, its_bytes = BLOCKS[kind]
            self.places.append((offset, offset + -(-numbers // of_block) * its_bytes, name))
        else:
            self.found.unread.add(kind)
        if name == EMBEDDINGS:
            self.found.rows = last
        if dimensions > 1:
            self.found.kinds.add(kind)

    def skip_value(self, kind: int, name: str) -> None:
        """Go behind a value of a type, of the field of a name."""
        if kind == STRING:
            length = self.number("Q")
            self.bytes_of(length)
            self.texts += length
            self.at_most(self.texts, MOST_OF_TEXTS, "bytes in the texts of its fields")
        elif kind == ARRAY:
            of, length = self.number("I"), self.number("Q")
            self.found.entries += length
            self.found.lists[name] = self.found.lists.get(name, 0) + length
            self.found.begins[name] = of, length, self.at
            self.at_most(self.found.entries, MOST_ENTRIES, "entries of lists")
            if of == STRING:
                self.strings += length
                self.at_most(self.strings, MOST_STRINGS, "strings in lists")
                begin = self.at
                self.skip_strings(length)
                if name == f"{VOCABULARY}tokens":
                    self.at_most(self.at - begin - 8 * length, MOST_BYTES, "bytes of tokens")
                self.at_most(self.squares, MOST_CUTS, "squares of the lengths of its strings")
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
            if not self.start <= at <= self.start + len(self.piece) - 8:
                self.fetch(at, 8)
            (letters,) = length_at(self.piece, at - self.start)
            at += 8 + letters
            self.squares += letters**2
        else:
            self.bytes_of(at - self.at)
            return
        raise HeaderError(f"it names {count:,} strings at byte {self.at:,}, and has {self.size:,} bytes")

    def name(self) -> str:
        """Read the name of a field, a tensor or an architecture."""
        length, begin = self.number("Q"), self.at
        self.bytes_of(length)
        self.at_most(length, LONGEST_NAME, "bytes in a name")
        return self.read_at(begin, length).decode(errors="replace")

    def number(self, form: str) -> int:
        """Read a whole number of a form of `struct`."""
        value: Any = struct.unpack(self.order + form, self.bytes_of(struct.calcsize("=" + form)))[0]
        return int(value)

    def bytes_of(self, length: int) -> bytes:
        """Go on by so many bytes, of which the first eight are returned."""
        if length > self.size - self.at:
            raise HeaderError(f"it names {length:,} bytes at byte {self.at:,}, and has {self.size:,}")
        found = self.read_at(self.at, min(length, 8))
        self.at += length
        return found

    def read_at(self, at: int, length: int) -> bytes:
        """Return so many bytes from one on."""
        if not self.start <= at <= self.start + len(self.piece) - length:
            self.fetch(at, length)
        return self.piece[at - self.start : at - self.start + length]

    def fetch(self, at: int, length: int) -> None:
        """Have a piece of the file in memory that holds so many bytes from one on."""
        self.file.seek(at)
        self.piece, self.start = self.file.read(max(PIECE, length)), at
        if len(self.piece) < length:
            raise HeaderError("it was cut short while it was read")

    def at_most(self, value: int, most: int, what: str) -> None:
        """Raise HeaderError for more than can be."""
        if value > most:
            raise HeaderError(f"it has {value:,} {what}, and at most {most:,} are read")
