"""Which files of a folder an earlier save wrote, and that nobody has changed them since: only such are ever removed.

`wanda.json` lists every file of a checkpoint with its sha256, and seals itself with one of its own contents.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Collection, Iterable, Mapping
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

from wanda_core.errors import StorageError, shortened_path
from wanda_core.machine.json_file import read_json
from wanda_core.machine.ordinary_file import read_ordinary

RECORD = "wanda.json"
# Lies in a new folder until it is whole, to tell it from a folder of somebody else's, and names what is written there.
WRITING = ".wanda-writing"
MOST_MARK = 2**24  # bytes of it: tens of thousands of long names
SEAL, FILES = "sha256", "files"  # keys of the record: of all its other contents; of every other file, by name


def seal(
    folder: Path, record: dict[str, Any], written: Collection[str] | None = None, known: Mapping[str, str] | None = None
) -> None:
    """Write the record of a finished checkpoint, last of all.

    written: names of the files that belong to it, None for all that the folder holds; known: sha256 of files that need
    not be read again, by name.
    """
    files = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and name not in (RECORD, WRITING) and (written is None or name in written):
            files[name] = (known or {}).get(name) or digest(path)
    (folder / RECORD).write_text(sealed(record, files), encoding="utf-8")


def sealed(record: Mapping[str, Any], files: Mapping[str, str]) -> str:
    """Return the text of a record that lists files and seals itself; digests of another value do not change its length.

    files: the sha256 of every file, by its name.
    """
    ordered = {name: files[name] for name in sorted(files, key=PurePosixPath)}
    record = {**record, FILES: ordered}
    return json.dumps({**record, SEAL: _seal_of(record)}, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def told(folder: Path) -> dict[str, Any]:
    """Read a checkpoint's record, without what it says of the files. Raises OSError, and ValueError for a file that is
    no record."""
    record = read_json(folder / RECORD)
    if not isinstance(record, dict):
        raise ValueError("no record")
    return {key: value for key, value in record.items() if key not in (SEAL, FILES)}


def files_of(record: Any) -> dict[str, str]:
    """Return the files that a record lists, each with its sha256. Raises ValueError for what lists none."""
    files = record.get(FILES) if isinstance(record, dict) else None
    if not isinstance(files, dict) or not all(isinstance(value, str) for value in files.values()):
        raise ValueError("no list of files")
    return files


def check_replaceable(folder: Path) -> list[Path]:
    """List the files of a folder, all of which an earlier save wrote and nobody has changed; none of an empty folder.

    Raises StorageError naming the first thing that replacing the folder would lose.
    """
    if not any(folder.iterdir()):
        return []
    listed = _listed(folder)
    files = []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_dir() and not path.is_symlink():
            if not any(other.startswith(f"{name}/") for other in listed):
                raise _would_lose(folder, f"{name}/, which no earlier save wrote")
        elif name == RECORD:
            files.append(path)
        elif name not in listed:
            raise _would_lose(folder, f"{name}, which no earlier save wrote")
        elif path.is_symlink() or not path.is_file() or digest(path) != listed[name]:
            raise _would_lose(folder, f"{name}, which was changed since it was saved")
        else:
            files.append(path)
    return files


def is_replaceable(folder: Path) -> bool:
    """Tell whether `check_replaceable` would let it go, and it is a whole checkpoint."""
    try:
        return bool(check_replaceable(folder))
    except (StorageError, OSError):
        return False


def remove(folder: Path, files: list[Path]) -> bool:
    """Remove these files of a folder, then every folder in it that is empty, and itself; tell whether all is gone.

    What appeared there meanwhile stays. What tells whose the others are goes last: after a kill the next start knows
    what is left.
    """
    for path in sorted(files, key=goes_late):
        path.unlink(missing_ok=True)
    for inner in sorted((path for path in folder.rglob("*") if path.is_dir() and not path.is_symlink()), reverse=True):
        with contextlib.suppress(OSError):  # not empty
            inner.rmdir()
    with contextlib.suppress(OSError):
        folder.rmdir()
    return not os.path.lexists(folder)


def goes_late(path: Path) -> int:
    """Return the place of a file in the order of removal: first those that are known by the record or the mark."""
    return (RECORD, WRITING).index(path.name) + 1 if path.name in (RECORD, WRITING) else 0


def announce(folder: Path, names: Iterable[str]) -> None:
    """Note which files are about to be written into a folder that is not whole yet, or into one inside it, so that they
    are known after a kill. names: seen from the folder they are written into."""
    for place in (folder, folder.parent):
        if (place / WRITING).is_file():
            with (place / WRITING).open("a", encoding="utf-8") as mark:
                mark.writelines(json.dumps(name) + "\n" for name in names)
            return


def announced(folder: Path) -> set[str]:
    """Return the names that were noted in a folder."""
    names = set()
    with contextlib.suppress(OSError, ValueError):
        for line in read_ordinary(folder / WRITING, MOST_MARK).decode().splitlines():
            names.add(str(json.loads(line)))  # the last may be half of one
    return names


def digest(path: Path) -> str:
    """Return the sha256 of a file's bytes, in hexadecimal; the file is read once for every state of it."""
    state = path.stat()
    return _digest(path, state.st_size, state.st_mtime_ns, state.st_ino)


@lru_cache(maxsize=4096)
def _digest(path: Path, size: int, mtime: int, inode: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _listed(folder: Path) -> dict[str, str]:
    """Return what the folder's record lists. Raises StorageError where there is none, or not as it was written."""
    try:
        record = read_json(folder / RECORD)
    except FileNotFoundError:
        raise StorageError(
            f"{shortened_path(folder)} holds other files, and only an empty folder or an earlier checkpoint is "
            "replaced; choose another folder"
        ) from None
    except (OSError, ValueError):
        raise _would_lose(folder, f"a {RECORD} that cannot be read") from None
    try:
        files = files_of(record)
    except ValueError:
        raise _would_lose(
            folder, f"a {RECORD} without the list of files that tells what an earlier save wrote"
        ) from None
    given = record.pop(SEAL, None)
    if given != _seal_of(record):
        raise _would_lose(folder, f"{RECORD}, which was changed since it was saved")
    return files


def _seal_of(record: dict[str, Any]) -> str:
    return hashlib.sha256(
        json.dumps(record, sort_keys=True, ensure_ascii=False).encode("utf-8", "surrogatepass")
    ).hexdigest()


def _would_lose(folder: Path, what: str) -> StorageError:
    return StorageError(
        f"{shortened_path(folder)} holds {what}, and replacing the folder would lose it; move it away or choose "
        "another folder"
    )
