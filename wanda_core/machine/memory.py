"""How much memory this process may still take: the machine's, or what its container has left where that is less.

psutil sees the machine alone. A container's limit is its control group's, or that of a group around it; the kernel's
cache of files counts as used there and is given back when it is needed, so it is free here.
"""

from collections.abc import Iterator
from pathlib import Path

import psutil

ROOT = Path("/")


def free_bytes(root: Path = ROOT) -> int:
    """Return how many bytes of memory are free. root: of the file system in which the kernel tells about groups."""
    return min([int(psutil.virtual_memory().available), *_left_in_groups(root)])


def _left_in_groups(root: Path) -> Iterator[int]:
    """Yield what is left in this process's group and in those around it, of each that has a limit."""
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:  # no Linux
        return
    for line in lines:
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if not controllers:  # version 2, whose groups hold all controllers
            yield from _along(root / "sys/fs/cgroup", path, ("memory.max", "memory.current", "inactive_file"))
        elif "memory" in controllers.split(","):
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            yield from _along(root / "sys/fs/cgroup/memory", path, names)


def _along(mount: Path, path: str, names: tuple[str, str, str]) -> Iterator[int]:
    """Yield what is left in a group and in those that it lies in, up to where groups are mounted.

    names: files of the limit and of what is used, and what memory.stat calls the cache. Inside a container the path may
    be the host's, which is not there; the container's own group is then the mount itself.
    """
    group = mount / path.strip("/")
    for place in (group, *group.parents):
        if not place.is_relative_to(mount):
            return
        limit, used = _number(place / names[0]), _number(place / names[1])
        if limit is not None and used is not None:
            yield max(0, limit - max(0, used - _cached(place / "memory.stat", names[2])))


def _number(file: Path) -> int | None:
    """Read a number of bytes; None where there is no file or no limit, which is the word `max` or a huge number."""
    try:
        text = file.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return None
    return int(text) if text.isdigit() and int(text) < 2**60 else None


def _cached(file: Path, name: str) -> int:
    """Read how many bytes of cache a group can give back, 0 where it does not tell."""
    try:
        for line in file.read_text(encoding="ascii", errors="replace").splitlines():
            key, _, value = line.partition(" ")
            if key == name and value.isdigit():
                return int(value)
    except OSError:
        pass
    return 0
