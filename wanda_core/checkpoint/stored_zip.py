"""The parts of a zip file whose members are stored as they are and go out in one pass: what stands before, between and
behind their bytes, and how long the whole will be.

A member's checksum is known only when its last byte has gone, so it stands behind it ("data descriptor"). Sizes and
places beyond 32 bits are written as zip64 has them
(https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT, 4.3 and 4.5.3).
"""

import datetime
import struct
from collections.abc import Sequence
from dataclasses import dataclass

LARGEST = 0xFFFFFFFF  # of 32 bits; stands for "see zip64"
MOST_MEMBERS = 0xFFFF  # the same, of 16 bits
STREAMED, UTF8 = 0x08, 0x800  # flags: the checksum stands behind; the name is UTF-8
PLAIN, ZIP64 = 20, 45  # version of the format that a reader needs
UNIX = 3
FILE_MODE = 0o100644 << 16  # an ordinary file that everybody may read


@dataclass(frozen=True)
class Member:
    """One file of an archive. name: with its folders; size: bytes; made: its date."""

    name: str
    size: int
    made: datetime.datetime

    @property
    def large(self) -> bool:
        """Whether its size takes more than 32 bits."""
        return self.size >= LARGEST

    @property
    def header(self) -> bytes:
        """What stands before its bytes."""
        name, flags, version, time, date = self._common
        extra = struct.pack("<HHQQ", 1, 16, 0, 0) if self.large else b""
        size = LARGEST if self.large else 0
        fixed = struct.pack("<4s5H3L2H", b"PK\3\4", version, flags, 0, time, date, 0, size, size, len(name), len(extra))
        return fixed + name + extra

    def descriptor(self, checksum: int) -> bytes:
        """Return what stands behind its bytes. checksum: their CRC-32."""
        return struct.pack("<4sLQQ" if self.large else "<4s3L", b"PK\7\10", checksum, self.size, self.size)

    def entry(self, checksum: int, offset: int) -> bytes:
        """Return what the directory at the end tells. offset: where its header begins."""
        name, flags, version, time, date = self._common
        wide = [value for value in (self.size, self.size, offset) if value >= LARGEST]
        extra = struct.pack(f"<HH{len(wide)}Q", 1, 8 * len(wide), *wide) if wide else b""
        version = ZIP64 if wide else version
        size, place = min(self.size, LARGEST), min(offset, LARGEST)
        fixed = struct.pack(
            "<4sBB5H3L5H2L",
            b"PK\1\2",
            *(version, UNIX, version, flags, 0, time, date),
            *(checksum, size, size, len(name), len(extra), 0, 0, 0, FILE_MODE, place),
        )
        return fixed + name + extra

    @property
    def span(self) -> int:
        """Bytes of it with what stands before and behind."""
        return len(self.header) + self.size + len(self.descriptor(0))

    @property
    def _common(self) -> tuple[bytes, int, int, int, int]:
        """-> name, flags, version, time, date; times have two seconds' steps, and years begin with 1980."""
        name, when = self.name.encode("utf-8"), self.made
        time = when.hour << 11 | when.minute << 5 | when.second // 2
        date = (when.year - 1980) << 9 | when.month << 5 | when.day
        return name, STREAMED | (0 if name.isascii() else UTF8), ZIP64 if self.large else PLAIN, time, date


def directory(members: Sequence[Member], checksums: Sequence[int]) -> bytes:
    """Return what stands at the end of an archive. checksums: CRC-32 of every member."""
    offset, entries = 0, []
    for member, checksum in zip(members, checksums, strict=True):
        entries.append(member.entry(checksum, offset))
        offset += member.span
    listed, count = b"".join(entries), len(members)
    wide = b""
    if offset >= LARGEST or len(listed) >= LARGEST or count >= MOST_MEMBERS:
        told = (ZIP64, ZIP64, 0, 0, count, count, len(listed), offset)
        wide = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, *told)
        wide += struct.pack("<4sLQL", b"PK\6\7", 0, offset + len(listed), 1)
    few, place = min(count, MOST_MEMBERS), min(offset, LARGEST)
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, few, few, min(len(listed), LARGEST), place, 0)
    return listed + wide + end


def archive_size(members: Sequence[Member]) -> int:
    """Return the bytes of an archive with these members."""
    return sum(member.span for member in members) + len(directory(members, [0] * len(members)))
