"""Bringing files from the Hugging Face hub into its local cache: bytes are told meanwhile, and it can be given up."""

import contextlib
import re
import threading
import time
from collections.abc import Callable, Mapping
from glob import escape
from pathlib import Path
from typing import Any

from huggingface_hub import constants, hf_hub_download, snapshot_download, try_to_load_from_cache
from huggingface_hub.utils import tqdm

from wanda_core.machine.json_file import MOST_BYTES
from wanda_core.machine.ordinary_file import read_ordinary
from wanda_core.machine.waiting import call_apart
from wanda_core.model.hub_faults import UnreachableError, in_one_sentence
from wanda_core.model.hub_files import is_cut
from wanda_core.model.stored_tensors import INDEX
from wanda_core.progress import Progress

LEFT_SECONDS = 3600.0  # that nothing came for a file, until nobody is taken to fetch it any more
# What is named so is of one download alone, as the library has it since its version 2; what earlier ones left, others
# may go on with.
LEFT = re.compile(r"\w+\.[0-9a-f]{8}\.incomplete")
MOST_TOLD = 1000  # files that the hub tells to be larger than they are, which are remembered


class Transfer:
    """One download: its threads count bytes here, and stop when nobody waits for them any more."""

    def __init__(self, name: str, hub_id: str, commit: str, token: str | None) -> None:
        self.name, self.hub_id, self.commit, self.token = name, hub_id, commit, token
        self.total = 0
        self.bars: list[Any] = []
        self.given_up = threading.Event()

    def index(self, nbytes: int) -> str | None:
        """Return the index of the model's weights, from the cache or the hub, None where neither has it now.

        nbytes: its size
        """
        try:
            with in_one_sentence(self.name, self.token):
                file = self._one(INDEX, anew=bool(cut_short(self.hub_id, self.commit, {INDEX: nbytes})))
                return read_ordinary(Path(file), MOST_BYTES).decode("utf-8", errors="replace")
        except UnreachableError:
            return None

    def run(self, files: Mapping[str, int], total: int, tell: Callable[[Progress], object]) -> Path:
        """Download files, telling how many bytes have arrived. -> the model's folder in the cache.

        files: with their sizes in bytes; total: bytes of those that are not in the cache, or not whole. Raises what
        `in_one_sentence` does, and what `tell` does.
        """
        self.total = total
        _sweep(self.hub_id)
        self.bars.clear()  # of the index
        self._tell(tell)
        _running.add(self)
        try:
            return call_apart(lambda: self._download(files), lambda: self._tell(tell))
        except BaseException:
            self.given_up.set()
            if _running == {self}:
                _stop_xet()
            raise
        finally:
            _running.discard(self)

    def _tell(self, tell: Callable[[Progress], object]) -> None:
        # The library counts bytes from the network and bytes on the disk apart; either may lag behind.
        arrived = max((bar.n for bar in self.bars if bar.of_bytes), default=0)
        tell(Progress("downloading", min(int(arrived), self.total), self.total, "bytes", self.name))

    def _one(self, file: str, anew: bool) -> str:
        """Return the path of a file in the cache. anew: whether it is fetched whatever lies there."""
        given: dict[str, Any] = {"tqdm_class": _bar_of(self), "token": self.token, "force_download": anew}
        there = try_to_load_from_cache(self.hub_id, file, revision=self.commit)
        if anew and isinstance(there, str) and not Path(there).is_symlink():
            Path(there).unlink(missing_ok=True)  # no link to what comes: the library would leave it
        path = str(hf_hub_download(self.hub_id, file, revision=self.commit, **given))
        if anew:
            while len(_lengths) >= MOST_TOLD:
                _lengths.pop(next(iter(_lengths)), None)
            _lengths[self.hub_id, self.commit, file] = Path(path).stat().st_size
        return path

    def _mend(self, files: Mapping[str, int]) -> None:
        """Fetch what is cut short in the cache, which the library takes for whole."""
        for file in cut_short(self.hub_id, self.commit, files):
            self._one(file, anew=True)

    def _download(self, files: Mapping[str, int]) -> Path:
        with in_one_sentence(self.name, self.token):
            self._mend(files)
            wanted, bar = [escape(file) for file in files], _bar_of(self)
            at, token = self.commit, self.token
            given: dict[str, Any] = {"tqdm_class": bar, "token": token}
            folder = Path(snapshot_download(self.hub_id, revision=at, allow_patterns=wanted, **given))
            self._mend(files)  # of files that it had for another commit
        if all((folder / file).is_file() for file in files):
            return folder
        raise UnreachableError  # it takes what lies there for the whole where the hub gives no list of files


_running: set[Transfer] = set()
_lengths: dict[tuple[str, str, str], int] = {}  # bytes of files as they came, whatever the hub tells of them


def cut_short(hub_id: str, commit: str, sizes: Mapping[str, int]) -> list[str]:
    """List files of which the cache holds a part. sizes: in bytes, by the files' names."""
    there = {file: try_to_load_from_cache(hub_id, file, revision=commit) for file in sizes}
    lengths = {file: min(size, _lengths.get((hub_id, commit, file), size)) for file, size in sizes.items()}
    return [file for file, path in there.items() if isinstance(path, str) and is_cut(Path(path), lengths[file])]


def _sweep(hub_id: str) -> None:
    """Remove what killed processes left of a model's files: the library goes on with none of them."""
    with contextlib.suppress(OSError):
        for part in Path(constants.HF_HUB_CACHE, f"models--{hub_id.replace('/', '--')}", "blobs").glob("*.incomplete"):
            with contextlib.suppress(OSError):
                if LEFT.fullmatch(part.name) and time.time() - part.stat().st_mtime > LEFT_SECONDS:
                    part.unlink()


def _stop_xet() -> None:
    """Stop what the library's other way to download is doing, all of it in this process: its bars cannot."""
    with contextlib.suppress(Exception):  # a private name, which the hub's library may change
        from huggingface_hub.utils._xet import abort_xet_session

        abort_xet_session()


def forget_lists() -> None:
    """Have the library forget the lists of files that it read: it keeps each commit's in memory, which may be of
    tens of thousands. They are on the disk too."""
    with contextlib.suppress(Exception):  # private names, which the hub's library may change
        from huggingface_hub import _tree_cache

        with _tree_cache._IN_MEMORY_TREE_CACHE_LOCK:
            _tree_cache._IN_MEMORY_TREE_CACHE.clear()


def _bar_of(transfer: Transfer) -> type[Any]:
    """Make a class of progress bars that show nothing, count for a download, and stop it once it is given up."""

    class Bar(tqdm):  # type: ignore[misc]
        """A bar as the hub's library makes them, in several threads."""

        def __init__(self, *args: Any, **settings: Any) -> None:
            super().__init__(*args, **(settings | {"disable": True}))  # type: ignore[no-untyped-call]
            self.of_bytes = settings.get("unit") == "B"
            transfer.bars.append(self)

        def update(self, n: float | None = 1) -> None:
            """Count n more. Raises InterruptedError when nobody waits any more, which ends the file's download."""
            if transfer.given_up.is_set():
                raise InterruptedError("the download was given up")
            self.n += n or 0

    return Bar
