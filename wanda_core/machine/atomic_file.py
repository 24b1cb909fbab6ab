"""Writing a file in one step: at any time, even after a kill, the old one is there whole, or the new one.

It is written in a hidden folder beside its place, for what writes it may make further files there, and then moved. What
a killed process left is removed when the same file is written again.
"""

import contextlib
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import cast

MARK = r"\d+(?:\.\d+\.\d+)?"  # of a process, as `own_mark` has it
CLOCK_SLACK = 10  # seconds a process's start may seem off against a file's time


@contextlib.contextmanager
def written(target: Path) -> Iterator[Path]:
    """Context manager: yield the path under which a file is to be written, which takes the target's place at the end.

    If the block fails, the target is as before and nothing else remains. Raises OSError.
    """
    sweep(target)
    folder = target.with_name(f".{target.name}.{own_mark()}-{secrets.token_hex(4)}.part")
    folder.mkdir()
    part = folder / target.name
    try:
        yield part
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(part, target)
    finally:
        _remove(folder, target.name)


def check_writable(target: Path) -> None:
    """Raise OSError, or ValueError, where no file can be written there, which is tried."""
    part = target.with_name(f".{target.name}.{own_mark()}-{secrets.token_hex(4)}.part")
    part.mkdir()
    try:
        (part / target.name).touch()
    finally:
        _remove(part, target.name)


def sweep(target: Path) -> None:
    """Remove what killed processes left beside a file that they were writing, and nothing else."""
    leftover = re.compile(rf"\.{re.escape(target.name)}\.({MARK})-[0-9a-f]{{8}}\.part")
    with contextlib.suppress(OSError):
        for path in list(target.parent.iterdir()):
            match = leftover.fullmatch(path.name)
            if match and path.is_dir() and not path.is_symlink() and is_gone(match[1], path):
                _remove(path, target.name)


def _remove(folder: Path, name: str) -> None:
    """Remove a folder with the file in it, and what safetensors writes that into first."""
    for path in [folder / name, *folder.glob(".tmp*")]:
        with contextlib.suppress(OSError):
            path.unlink()
    with contextlib.suppress(OSError):
        folder.rmdir()


def own_mark() -> str:
    """Return what tells this process from others in the name of what it makes: its number and, where the system says
    so, when it began, in ticks since the machine did, which no change of the clock moves, and whose numbers these are:
    each container has its own."""
    ticks, numbers = _begun(os.getpid()), _numbers()
    return f"{os.getpid()}.{ticks}.{numbers}" if ticks and numbers else str(os.getpid())


def is_gone(mark: str, path: Path) -> bool:
    """Return whether the process of a mark, which made `path`, has ended; one of the same number that began later is
    another."""
    pid, ticks, numbers = (*map(int, mark.split(".")), 0, 0)[:3]
    ours = numbers == _numbers()
    now = _begun(pid)
    if ticks and now and ours:
        return now != ticks
    import psutil  # slow to import, and the command line's first answers must not wait

    try:
        process = psutil.Process(pid)
        return not (bool(ticks) and ours) and cast(bool, process.create_time() > path.stat().st_mtime + CLOCK_SLACK)
    except psutil.NoSuchProcess:
        return True
    except (psutil.Error, OSError):
        return False


def _begun(pid: int) -> int:
    """Return when a process began, in ticks since the machine did; 0 where nobody can know, or there is none."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])  # proc(5)
    except (OSError, ValueError, IndexError):
        return 0


def _numbers() -> int:
    """Return what tells the numbers of this process's container from another's; 0 where nobody can know."""
    try:
        return os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        return 0
