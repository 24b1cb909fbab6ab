"""Opening a file of text or data, compressed or not, so that no more is unpacked than is allowed."""

import contextlib
import gzip
import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from wanda_core.errors import InputError, first_line, shortened_path
from wanda_core.machine.ordinary_file import open_ordinary

MAX_TEXT_BYTES = 64 * 2**20  # a text is read into memory and tokenised whole
COMPRESSED = {".gz", ".zst"}
PARQUET = ".parquet"
POINTER = b"version https://git-lfs.github.com/spec/"  # how a file begins that Git LFS has not fetched yet


def kind_of(path: Path) -> str:
    """Return a file's suffix in small letters, without that of a compression: `.jsonl` of `a.JSONL.gz`."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    return next((suffix for suffix in reversed(suffixes) if suffix not in COMPRESSED), "")


@contextlib.contextmanager
def opened(path: Path, most: int) -> Iterator[BinaryIO]:
    """Context manager: open a file to read its bytes, unpacked. most: how many may be read; of a Parquet file that is
    not compressed any, for it is read by the places of its parts, each of which says how large it is.

    Raises InputError when it is no ordinary file, cannot be opened, unpacked or decoded, also for errors inside the
    context.
    """
    try:
        with open_ordinary(path) as file:
            if cast(io.BufferedReader, file).peek(len(POINTER)).startswith(POINTER):
                raise InputError(
                    f"{path.name} is a pointer of Git LFS and not the data itself; run `git lfs pull` in its folder"
                )
            suffix = path.suffix.lower()
            if suffix in COMPRESSED:
                unpacked = gzip.GzipFile(fileobj=file) if suffix == ".gz" else _zstandard(file, path)
                with contextlib.closing(unpacked):
                    yield io.BufferedReader(_Bounded(cast(BinaryIO, unpacked), path, most))
            elif suffix == PARQUET:
                yield file
            else:
                yield io.BufferedReader(_Bounded(file, path, most))
    except UnicodeDecodeError as error:
        raise InputError(f"{path.name} is not UTF-8 text (byte {error.start}); save it as plain UTF-8 text") from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise _not_unpacked(path, error) from error
    except OSError as error:
        if error.strerror is None:  # not the system's: the unpacking's
            raise _not_unpacked(path, error) from error
        raise InputError(
            f"{shortened_path(path)} cannot be read ({error.strerror}); give the path of a text file, a data file or a "
            "folder of them"
        ) from error


def _not_unpacked(path: Path, error: Exception) -> InputError:
    return InputError(
        f"{path.name} cannot be unpacked ({first_line(error)}); fetch or pack it again, or give it unpacked"
    )


def _zstandard(file: BinaryIO, path: Path) -> BinaryIO:
    """Unpack Zstandard. Raises InputError without pyarrow."""
    try:
        import pyarrow
    except ImportError as error:
        raise needs("pyarrow", path.name, "unpack it") from error
    return cast(BinaryIO, pyarrow.input_stream(file, compression="zstd"))


def needs(package: str, name: str, instead: str) -> InputError:
    """Return the InputError for a file that a missing package reads. instead: what else can be done."""
    return InputError(
        f"{name} is read by the package {package}, which is not installed; run `pip install {package}`, or {instead}"
    )


class _Bounded(io.RawIOBase):
    """The bytes of another stream, up to so many. Raises InputError where there are more."""

    def __init__(self, inner: BinaryIO, path: Path, most: int) -> None:
        self.inner, self.path, self.most, self.count = inner, path, most, 0

    def readable(self) -> bool:
        """Yes."""
        return True

    def readinto(self, buffer: object) -> int:
        """Fill a buffer as far as the stream goes."""
        view = memoryview(cast(bytearray, buffer))
        data = self.inner.read(len(view))
        self.count += len(data)
        if self.count > self.most:
            name, most = self.path.name, f"{self.most / 2**20:.3g}"
            if self.path.suffix.lower() in COMPRESSED:
                raise InputError(f"{name} unpacks to more than the {most} MB that are read; give a part of it")
            raise InputError(f"{name} goes on after the {most} MB that are read; give a part of it")
        view[: len(data)] = data
        return len(data)
