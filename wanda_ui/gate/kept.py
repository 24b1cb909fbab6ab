"""Uploaded files that are kept: how many and how large, of each and together, and which go when it is enough."""

import asyncio
import os
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from anyio import to_thread

EACH, ALL = 20, 200  # uploads of the largest size, as many bytes of one address and of all are kept
FILES = 10  # and files, for each of these
AGE = 3600  # seconds after which Gradio removes a file, and we its empty folder, which tells what was in it


@dataclass
class _Share:
    """Paths that are kept, the oldest first, and their bytes together."""

    paths: OrderedDict[str, None] = field(default_factory=OrderedDict)
    nbytes: int = 0


class Kept:
    """The files of a server's uploads. Files with the same content and name are one, of several."""

    def __init__(self) -> None:
        self._all = _Share()
        self._of: dict[str, _Share] = {}
        self._sizes: dict[str, int] = {}
        self._owners: dict[str, frozenset[str]] = {}

    async def keep(self, path: str, who: str, most: int, named: Callable[[], set[str]]) -> list[str]:
        """Note a file that was uploaded; of too many files or bytes the oldest go, but none that an event works on.

        path: a real one; most: bytes of one upload; named: returns the real paths that events name. It is not called
        twice at once. -> the files that went
        """
        owners = self._owners.get(path, frozenset()) | {who}
        self._drop(path)
        self._add(path, os.path.getsize(path), owners)
        went: list[str] = []
        for share, whose, times in ((self._of[who], who, EACH), (self._all, None, ALL)):
            if not _is_over(share, times, most):
                continue
            for name in await to_thread.run_sync(_gone, list(share.paths)):  # Gradio removes files as well
                self._drop(name)
                went.append(name)
            in_use = {path, *named()}
            for name in list(share.paths):
                if not _is_over(share, times, most):
                    break
                if name not in in_use and self._let_go(name, whose):
                    went.append(name)
        return went

    def _let_go(self, path: str, whose: str | None) -> bool:
        """Remove a file, and its folder if nothing else is in it, unless it is another's too. whose: None for all.

        -> whether it was removed
        """
        size, owners = self._sizes[path], self._owners[path]
        others = owners - {whose} if whose is not None else frozenset()
        if others:
            share = self._of[str(whose)]
            del share.paths[path]
            share.nbytes -= size
            self._owners[path] = others
            return False
        self._drop(path)
        with suppress(OSError):
            os.remove(path)
            Path(path).parent.rmdir()
        return True

    def _add(self, path: str, size: int, owners: frozenset[str]) -> None:
        """Count a file as the latest."""
        self._sizes[path], self._owners[path] = size, owners
        for share in (self._all, *(self._of.setdefault(owner, _Share()) for owner in owners)):
            share.paths[path] = None
            share.nbytes += size

    def _drop(self, path: str) -> None:
        """Count a file no more, if it was."""
        if path not in self._sizes:
            return
        size, owners = self._sizes.pop(path), self._owners.pop(path)
        for share in (self._all, *(self._of[owner] for owner in owners)):
            del share.paths[path]
            share.nbytes -= size
        for owner in owners:
            if not self._of[owner].paths:
                del self._of[owner]


def _is_over(share: _Share, times: int, most: int) -> bool:
    """Whether more is kept than so many uploads of the largest size, or more files than are taken for them."""
    return share.nbytes > times * most or len(share.paths) > times * FILES


def _gone(paths: list[str]) -> list[str]:
    """Return which files are not there any more."""
    return [path for path in paths if not os.path.exists(path)]


@asynccontextmanager
async def tidied(folder: Path) -> AsyncIterator[None]:
    """Async context manager: inside, the folders of uploads whose files are gone go too."""
    task = asyncio.create_task(_tidy(folder))
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _tidy(folder: Path) -> None:
    while True:
        await asyncio.sleep(AGE)
        remove_empty(folder, AGE)  # here, not in a thread: between the making of a folder and its file nothing comes


def remove_empty(folder: Path, age: float) -> None:
    """Remove the empty folders in a folder in which nothing has changed for so many seconds: into a new one a file may
    be about to come."""
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            with suppress(OSError):  # not empty, or gone by now
                if entry.is_dir(follow_symlinks=False) and time.time() - entry.stat().st_mtime > age:
                    os.rmdir(entry.path)
