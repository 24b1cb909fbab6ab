"""Temporary folders, of which a killed process leaves nothing for long: the next use removes what it left."""

import contextlib
import hashlib
import os
import platform
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from wanda_core.machine import atomic_file

HELD = "held"  # the folder inside that is worked in; what else lies beside it is somebody's own
DAY = 86_400  # seconds after which what another machine left is nobody's any more


@contextlib.contextmanager
def temporary_folder(prefix: str, place: Path | None = None) -> Iterator[Path]:
    """Context manager: yield a new, empty folder, which goes at the end. prefix, place: of names, as of `sweep`."""
    sweep(prefix, place)
    started = f"{prefix}{atomic_file.own_mark()}-{_machine()}-"
    with tempfile.TemporaryDirectory(prefix=started, dir=place, ignore_cleanup_errors=True) as name:
        folder = Path(name) / HELD
        folder.mkdir()
        yield folder


def sweep(prefix: str, place: Path | None = None) -> None:
    """Remove the folders of a prefix whose process has ended, of other machines once they are a day old; nothing that
    is not ours. place: where they lie, the system's folder for temporary files by default."""
    ours = re.compile(rf"{re.escape(prefix)}({atomic_file.MARK})-([0-9a-f]{{8}})-\w+")
    with contextlib.suppress(OSError):
        for path in list((place or Path(tempfile.gettempdir())).iterdir()):
            made_by = ours.fullmatch(path.name)
            with contextlib.suppress(OSError):
                if made_by and not path.is_symlink() and _is_left(path, made_by[1], made_by[2]):
                    shutil.rmtree(path / HELD, ignore_errors=True)
                    path.rmdir()


def _is_left(path: Path, mark: str, machine: str) -> bool:
    if machine == _machine():
        return atomic_file.is_gone(mark, path)
    return time.time() - path.stat().st_mtime > DAY


def _machine() -> str:
    """A short name of this machine, or of a container with processes of its own: the folder may be one of several."""
    try:
        counted = os.readlink("/proc/self/ns/pid")
    except OSError:  # no Linux
        counted = ""
    return hashlib.sha256(f"{platform.node()}{counted}".encode()).hexdigest()[:8]
