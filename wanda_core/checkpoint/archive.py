"""A pruned checkpoint as one zip file that goes out piece by piece, and from any byte on again after a cut."""

import datetime
import hashlib
import zlib
from collections.abc import Iterator

from wanda_core.checkpoint.contents import Contents, Piece
from wanda_core.checkpoint.manifest import RECORD
from wanda_core.checkpoint.stored_zip import Member, archive_size, directory


class Archive:
    """The zip file of a checkpoint, inside a folder of its own.

    name: of that folder; made: the date of all files. The bytes are the same whenever they are read; of files that
    have gone out whole once, a later reading that begins behind them needs no more than their checksums.
    """

    def __init__(self, name: str, contents: Contents, made: datetime.datetime) -> None:
        self.name, self._contents = name, contents
        sizes = {file.name: file.size for file in contents.files} | {RECORD: contents.record_size}
        self._members = [Member(f"{name}/{file}", size, made) for file, size in sizes.items()]
        self._known: dict[str, tuple[int, str]] = {}  # CRC-32 and sha256, by file
        self.nbytes = archive_size(self._members)

    def read(self, start: int = 0) -> Iterator[Piece]:
        """Yield the bytes from `start` on.

        Raises StorageError where what they are made of has changed, or holds what cannot be saved.
        """
        position = 0

        def behind(piece: Piece) -> Iterator[Piece]:
            """Yield what of a piece lies behind the start."""
            nonlocal position
            position += len(piece)
            if position > start:
                yield piece if position - len(piece) >= start else piece[start - position :]

        files = [*self._contents.files]
        for file, member in zip(files, self._members, strict=False):
            yield from behind(member.header)
            if position + member.size <= start and file.name in self._known:
                position += member.size
            else:
                checksum, digest = 0, hashlib.sha256()
                for piece in file.data():
                    checksum = zlib.crc32(piece, checksum)
                    digest.update(piece)
                    yield from behind(piece)
                self._known[file.name] = checksum, digest.hexdigest()
            yield from behind(member.descriptor(self._known[file.name][0]))
        record = self._contents.record({file.name: self._known[file.name][1] for file in files})
        last = self._members[-1]
        checksums = [*(self._known[file.name][0] for file in files), zlib.crc32(record)]
        for piece in (last.header, record, last.descriptor(checksums[-1]), directory(self._members, checksums)):
            yield from behind(piece)
        assert position == self.nbytes  # what was announced
