"""Replacing a folder in one step: at any time, even after a kill, the old one is there whole, or the new one.

The new folder is written under a hidden name beside the target; in the end only names change.
"""

import contextlib
import ctypes
import errno
import os
import re
import secrets
import shutil
import sys
from collections.abc import Collection, Iterator
from pathlib import Path

from wanda_core.checkpoint import manifest
from wanda_core.errors import StorageError, first_line, shortened_path
from wanda_core.machine.atomic_file import MARK, is_gone, own_mark
from wanda_core.machine.paths import path_of

AT_FDCWD = -100  # Linux: paths are relative to the working folder
SWAP = 2  # RENAME_EXCHANGE of Linux, RENAME_SWAP of macOS
CANNOT_SWAP = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}
# Files that a save, transformers' or safetensors', writes into it; the others are announced.
WRITTEN = re.compile(
    r"\.tmp.*|model.*\.safetensors(\.index\.json)?|(generation_)?config\.json|README\.md|wanda\.json"
    r"|tokenizer.*|special_tokens_map\.json|added_tokens\.json|vocab\..*|merges\.txt|.*\.(jinja|model|spm|tiktoken)"
)


def checked_target(folder: str | Path) -> Path:
    """Return the absolute path of a folder that may be written: a new or empty one, or a checkpoint as it was saved.

    Whether the file system takes its name is tried, by making it and removing it again. Raises InputError for a name
    that is no path, StorageError for one that cannot be written and for anything that must not be replaced.
    """
    target = path_of(folder, "output folder")
    try:
        target = target.resolve()
        if target.is_dir():
            manifest.check_replaceable(target)
            if os.path.ismount(target):
                raise StorageError(
                    f"{shortened_path(target)} is where a disk is mounted, so it cannot be replaced as a whole; "
                    "choose a folder inside it"
                )
        elif os.path.lexists(target):
            raise StorageError(f"{shortened_path(target)} is a file, and a checkpoint is a folder; choose another name")
        parent = existing_parent(target)
        if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
            raise StorageError(f"{shortened_path(parent)} is not a folder you may write in; choose another folder")
        _try_names(target)
    except (OSError, ValueError, RuntimeError) as error:
        reason = error.strerror if isinstance(error, OSError) else first_line(error)
        raise StorageError(f"{shortened_path(folder)} cannot be written ({reason}); choose another folder") from error
    return target


def _try_names(target: Path) -> None:
    """Make folders of the names that writing the target takes, in a hidden one beside it, and remove them all: raises
    OSError, or ValueError, where one cannot be made."""
    made = make_parents(target.parent)
    trial = _beside(target, "tmp")
    try:
        for path in (trial, trial / target.name, trial / f".{target.name}.unfinished-{secrets.token_hex(4)}"):
            path.mkdir()
            made.insert(0, path)
    finally:
        _remove_empty(made)


def existing_parent(target: Path) -> Path:
    """Return the closest folder above `target` that exists."""
    return next(parent for parent in target.parents if os.path.lexists(parent))


@contextlib.contextmanager
def replacement(target: Path, names: Collection[str] = ()) -> Iterator[Path]:
    """Context manager: yield a new folder beside `target`, which takes the target's place at the end.

    names: of files that will be written into it, where no model is saved and none of them is announced meanwhile.
    If the block fails, or is interrupted, the target is as before and nothing else remains. What an earlier, killed
    attempt wrote is removed first. Raises OSError, and StorageError as `checked_target` does.
    """
    sweep(target)
    above = make_parents(target.parent)
    fresh = _beside(target, "tmp")
    try:
        fresh.mkdir()
        (fresh / manifest.WRITING).touch()
        manifest.announce(fresh, names)
        yield fresh
        (fresh / manifest.WRITING).unlink()
        put(fresh, target)
    except BaseException:
        _discard(fresh)  # made by this very run
        _remove_empty(above)
        raise


def put(fresh: Path, target: Path) -> None:
    """Let a finished folder take the target's place in one step, and remove what an earlier save had written there.

    Raises OSError, and StorageError as `checked_target` does. Anything that appears in the earlier folder meanwhile
    stays, in a folder beside the target that is named after it.
    """
    _write_through(fresh)
    checked_target(target)  # again: it may have changed in the meantime
    earlier = manifest.check_replaceable(target) if target.is_dir() else []
    states = {path.relative_to(target): _state(path) for path in earlier}
    old = _move(fresh, target)
    if old is not None:  # under a name that is swept and never put back, for it is about to lose its files
        old = old.rename(_beside(target, "tmp"))
    with contextlib.suppress(OSError):  # not every system can flush a folder
        _sync(target.parent)
    if old is None:
        return
    unchanged = [old / name for name, state in states.items() if _state(old / name) == state]
    if not manifest.remove(old, unchanged):
        os.rename(old, target.with_name(f"{target.name}.kept-{secrets.token_hex(4)}"))


def _discard(folder: Path) -> None:
    """Remove a folder of this run with all that is in it, what tells whose it is last, as `manifest.remove` does."""
    with contextlib.suppress(OSError):
        for path in sorted(folder.iterdir(), key=manifest.goes_late):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        folder.rmdir()


def _state(path: Path) -> tuple[int, int, int] | None:
    """Return what tells a file's state from another; None where it is not there."""
    with contextlib.suppress(OSError):
        status = path.stat()
        return status.st_size, status.st_mtime_ns, status.st_ino
    return None


def _beside(target: Path, what: str) -> Path:
    """Return a new hidden name beside `target`, which tells whose it is and which process made it."""
    return target.with_name(f".{target.name}.{what}-{own_mark()}-{secrets.token_hex(4)}")


def make_parents(folder: Path) -> list[Path]:
    """Make the missing folders down to `folder`; return those that were made, deepest first."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except BaseException:
        _remove_empty(missing)
        raise
    return missing


def _remove_empty(folders: list[Path]) -> None:
    """Remove those of the folders, deepest first, that are there and empty."""
    for folder in folders:
        with contextlib.suppress(OSError):  # in use by now, or never made
            folder.rmdir()


def _write_through(folder: Path) -> None:
    """Flush every file to the disk, before the move makes it count, and let those read it who may read the folder."""
    mode = folder.stat().st_mode & 0o666  # safetensors writes for the owner alone
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            path.chmod(mode)
            with path.open("rb+") as file:
                os.fsync(file.fileno())
    with contextlib.suppress(OSError):
        _sync(folder)


def _sync(folder: Path) -> None:
    """Flush a folder's list of names to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _move(fresh: Path, target: Path) -> Path | None:
    """Give the new folder the target's name. -> where the earlier one is now, None where there was none."""
    try:
        os.rename(fresh, target)  # also over an empty folder, except on Windows
        return None
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        return fresh if _swap(fresh, target) else _two_renames(fresh, target)


def _swap(first: Path, second: Path) -> bool:
    """Exchange the names of two folders in one step; return False where the system or the file system cannot."""
    if sys.platform not in ("linux", "darwin"):
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    a, b = os.fsencode(first), os.fsencode(second)
    try:
        failed = (
            libc.renameat2(AT_FDCWD, a, AT_FDCWD, b, SWAP)
            if sys.platform == "linux"
            else libc.renamex_np(a, b, SWAP)  # macOS
        )
    except AttributeError:  # an old or small C library
        return False
    if not failed:
        return True
    code = ctypes.get_errno()
    if code in CANNOT_SWAP:
        return False
    raise OSError(code, os.strerror(code), str(second))


def _two_renames(fresh: Path, target: Path) -> Path:
    """Move the old folder aside and the new one in, where names cannot be exchanged; undo it if the second move fails.

    A kill between the two leaves the old one whole under its hidden name; `sweep` puts it back. -> that name.
    """
    kept = _beside(target, "old")
    os.rename(target, kept)
    try:
        os.rename(fresh, target)
    except BaseException:
        if not target.exists():
            os.rename(kept, target)
        raise
    return kept


def sweep(target: Path) -> None:
    """Remove what killed processes wrote beside the target, and nothing else that may lie there under such a name."""
    if not target.parent.is_dir():
        return
    leftover = re.compile(rf"\.{re.escape(target.name)}\.(tmp|old)-({MARK})-[0-9a-f]{{8}}")
    for path in list(target.parent.iterdir()):
        match = leftover.fullmatch(path.name)
        if not match or path.is_symlink() or not path.is_dir() or not is_gone(match[2], path):
            continue
        with contextlib.suppress(OSError):
            if manifest.is_replaceable(path):
                if match[1] == "old" and not target.exists():
                    os.rename(path, target)
                else:
                    manifest.remove(path, manifest.check_replaceable(path))
            elif (path / manifest.WRITING).is_file():
                manifest.remove(path, [*written_in(path, manifest.announced(path)), path / manifest.WRITING])
            else:
                manifest.remove(path, [])  # where it is empty


def remove_written(folder: Path, announced: Collection[str]) -> None:
    """Remove what a save wrote into a folder of its own, whole or not; what else lies there stays. announced: as of
    `written_in`."""
    whole = manifest.is_replaceable(folder)  # also an earlier checkpoint that was moved here and is half removed
    manifest.remove(folder, manifest.check_replaceable(folder) if whole else written_in(folder, announced))


def written_in(folder: Path, announced: Collection[str]) -> list[Path]:
    """List what a save wrote into a folder that is not whole. announced: names of files beside those that all saves
    write; what else lies there is somebody's own."""
    return [
        path
        for path in folder.rglob("*")
        if (path.is_symlink() or not path.is_dir())
        and (WRITTEN.fullmatch(path.name) or path.relative_to(folder).as_posix() in announced)
    ]
