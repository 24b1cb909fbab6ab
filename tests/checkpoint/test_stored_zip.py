"""The arithmetic of a zip file that is written in one pass, against Python's own, and far beyond four gigabytes."""

import datetime
import io
import zipfile
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wanda_core.checkpoint import stored_zip
from wanda_core.checkpoint.stored_zip import LARGEST, Member, archive_size, directory

MADE = datetime.datetime(2031, 12, 3, 23, 59, 58)
NAMES = st.text("abc/별é_.-", min_size=1, max_size=12)
FILES = st.dictionaries(NAMES, st.binary(max_size=40), max_size=6)


def zipped(files):
    members = [Member(name, len(data), MADE) for name, data in files.items()]
    sums = [zlib.crc32(data) for data in files.values()]
    parts = [
        member.header + data + member.descriptor(checksum)
        for member, data, checksum in zip(members, files.values(), sums, strict=True)
    ]
    whole = b"".join(parts) + directory(members, sums)
    assert archive_size(members) == len(whole)
    return whole


class OneWay(io.RawIOBase):
    """What cannot be gone back in, as a connection."""

    def __init__(self):
        self.written = b""

    def writable(self):
        return True

    def write(self, data):
        self.written += bytes(data)
        return len(data)


@given(FILES)
def test_it_is_what_pythons_own_writes_into_a_connection(files):
    sink = OneWay()
    with zipfile.ZipFile(sink, "w") as written:
        for name, data in files.items():
            about = zipfile.ZipInfo(name, MADE.timetuple()[:6])
            about.external_attr, about.create_system = stored_zip.FILE_MODE, stored_zip.UNIX
            with written.open(about, "w") as member:
                member.write(data)
    assert zipped(files) == sink.written


@given(FILES)
def test_every_reader_finds_what_was_written(files):
    with zipfile.ZipFile(io.BytesIO(zipped(files))) as read:
        assert read.testzip() is None
        assert {entry.filename: read.read(entry) for entry in read.infolist()} == files


class Sparse(io.RawIOBase):
    """A file of some pieces with zeros between them. pieces: place -> bytes."""

    def __init__(self, pieces, size):
        self.pieces, self.size, self.place = pieces, size, 0

    def readable(self):
        return True

    def seekable(self):
        return True

    def tell(self):
        return self.place

    def seek(self, offset, whence=io.SEEK_SET):
        self.place = offset + (0, self.place, self.size)[whence]
        return self.place

    def read(self, count=-1):
        count = self.size - self.place if count < 0 else min(count, self.size - self.place)
        found = bytearray(count)
        for start, data in self.pieces.items():
            first, last = max(start, self.place), min(start + len(data), self.place + count)
            if first < last:
                found[first - self.place : last - self.place] = data[first - start : last - start]
        self.place += count
        return bytes(found)


@pytest.mark.parametrize("size", [LARGEST - 1, LARGEST, LARGEST + 1, 14 * 10**9])
def test_beyond_32_bits_sizes_and_places_are_told_as_zip64(size):
    small = b"a last one"
    members = [Member("p/first", 3, MADE), Member("p/large", size, MADE), Member("p/last", len(small), MADE)]
    sums = [zlib.crc32(b"one"), 7, zlib.crc32(small)]
    pieces, place = {}, 0
    for member, checksum, data in zip(members, sums, (b"one", None, small), strict=True):
        pieces[place] = member.header + (data or b"")
        pieces[place + len(member.header) + member.size] = member.descriptor(checksum)
        place += member.span
    pieces[place] = directory(members, sums)
    whole = archive_size(members)
    assert whole == place + len(pieces[place])
    with zipfile.ZipFile(Sparse(pieces, whole)) as read:
        assert [(entry.filename, entry.file_size, entry.CRC) for entry in read.infolist()] == [
            (member.name, member.size, checksum) for member, checksum in zip(members, sums, strict=True)
        ]
        assert (read.read("p/first"), read.read("p/last")) == (b"one", small)
        with read.open("p/large") as opened:  # its header is where it is said to be
            assert opened.read(1000) == bytes(1000)
    wide = size >= LARGEST
    assert (len(members[1].descriptor(0)), len(members[1].header)) == ((24, 30 + 7 + 20) if wide else (16, 30 + 7))


def test_more_files_than_16_bits_count_are_told_too():
    members = [Member(f"{number}", 0, MADE) for number in range(stored_zip.MOST_MEMBERS + 1)]
    whole = b"".join(member.header + member.descriptor(0) for member in members) + directory(
        members, [0] * len(members)
    )
    with zipfile.ZipFile(io.BytesIO(whole)) as read:
        assert len(read.namelist()) == len(members)
