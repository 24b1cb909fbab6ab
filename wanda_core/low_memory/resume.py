"""Saved progress of a low-memory run, enough to resume after a kill.

It lies in a hidden folder beside the target. Every file is written under another name, flushed to the disk and renamed;
`state.json` is written last, lists all others with their sha256, seals itself with one of its own contents, and is
believed only where all match: a file that a kill left half-written, or that was changed, is never used.
"""

import contextlib
import hashlib
import json
import os
import random
import re
import secrets
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

import psutil
import torch
from safetensors.torch import save_file
from torch import Tensor

from wanda_core.checkpoint import atomic_folder, manifest
from wanda_core.checkpoint.atomic_folder import make_parents
from wanda_core.errors import InputError, ModelError, StorageError, shortened_path
from wanda_core.machine import atomic_file
from wanda_core.machine.json_file import parsed
from wanda_core.machine.lock import hold, is_at
from wanda_core.machine.ordinary_file import read_ordinary
from wanda_core.model.block_calls import sequences_in
from wanda_core.pruning.variant import LinearReport

SEAL = "sha256"  # key of the state: of all its other contents
STATE, MODEL = "state.json", "model"
APART = "apart-"  # how folders begin whose files are about to move into `model`
MARK = ".wanda-unfinished"  # lies in the folder from its first moment, to tell whose it is; a run locks it
TAKES, SECONDS_OF_TAKE = 20, 0.01  # tries to take the folder, which another's first or last moment may undo
# What a run writes there, beside the files in `model`.
WRITTEN = re.compile(r"state\.json|\.wanda-unfinished|.*\.part|.*\.hidden|profile\.safetensors|\.tmp.*")
MOST_STATE = 2**30  # bytes of that file
MAPPED_SHARE = 1 / 8  # of the free memory: hidden states that take more are read from their file as they are needed


@dataclass
class RunState:
    """State of one run.

    about: the job, as plain values; done: number of finished blocks; reports: of their linears.
    shards: file -> its sha256, bytes and tensors; streams: role of a walk -> the file with the hidden states that enter
    its next block; others: further files -> sha256; tried, noted: see `BlockWalk`; last: what was finished last, in
    words, empty for nothing.
    seconds: spent so far, by earlier runs too; note: a sentence about what an earlier run left, empty for nothing;
    written: names of all files in `model` that belong to the checkpoint.
    """

    folder: Path
    about: dict[str, Any]
    done: int = 0
    reports: list[LinearReport] = field(default_factory=list)
    shards: dict[str, dict[str, Any]] = field(default_factory=dict)
    streams: dict[str, dict[str, Any]] = field(default_factory=dict)
    others: dict[str, str] = field(default_factory=dict)
    tried: dict[str, int] = field(default_factory=dict)
    noted: dict[str, Any] = field(default_factory=dict)
    last: str = ""
    seconds: float = 0.0
    note: str = ""
    written: set[str] = field(default_factory=set)
    _since: float = field(default_factory=time.perf_counter)

    @property
    def model(self) -> Path:
        """Folder that will take the target's place."""
        return self.folder / MODEL

    def add_shard(self, name: str, tensors: dict[str, Tensor]) -> None:
        """Write a file of weights."""
        part = self.folder / f"{name}.part"
        save_file(tensors, part, metadata={"format": "pt"})
        _flush(part)
        size = sum(tensor.nbytes for tensor in tensors.values())
        self.shards[name] = {"sha256": _digest(part), "bytes": size, "tensors": sorted(tensors)}
        part.replace(self.model / name)
        self.written.add(name)

    def take(self, path: Path, name: str) -> None:
        """Move a file into `model` under a name, which may lie in a folder there."""
        target = self.model / name
        target.parent.mkdir(parents=True, exist_ok=True)
        path.replace(target)
        self.written.add(name)

    def finished_model(self) -> Path:
        """The folder to be given the target's name: `model`, or, if somebody has put something else into that, one of
        the checkpoint's files alone."""
        checkpoint, belongs = self.model, self.written | {manifest.RECORD}
        here = {path.relative_to(checkpoint).as_posix() for path in checkpoint.rglob("*") if not path.is_dir()}
        if here <= belongs:
            return checkpoint
        apart = self.folder / f"{MODEL}-{secrets.token_hex(4)}"
        for name in sorted(here & belongs):
            (apart / name).parent.mkdir(parents=True, exist_ok=True)
            (checkpoint / name).rename(apart / name)
        return apart

    def add(self, path: Path) -> None:
        """Flush another file of the folder and list it, so that a later run may use it."""
        _flush(path)
        self.others[path.name] = _digest(path)

    @contextlib.contextmanager
    def carrying(self, role: str, count: int, device: torch.device, keep: bool) -> Iterator["HiddenFile"]:
        """Context manager: take the hidden states that enter the next block, call by call.

        In memory if there is room, else in a file that is read as needed. count: sequences in all; keep: write the file
        in any case, because a later run may need it.
        """
        path = self.folder / f"{role}-{self.done + 1}-{time.monotonic_ns()}.hidden"
        carried = HiddenFile(path, count, device.type == "cpu", keep)
        try:
            yield carried
            if keep and carried.calls:  # none come after the last block
                self.streams[role] = carried.entry
        finally:
            carried.close()

    def restore(self, role: str, device: torch.device) -> list[Tensor]:
        """Return the hidden states that enter the next block, as an earlier run left them."""
        entry = self.streams[role]
        whole = _map(self.folder / entry["file"], entry["shape"], getattr(torch, entry["dtype"]))
        if device.type == "cpu" and whole.nbytes > _free() * MAPPED_SHARE:
            return list(whole.split(entry["calls"]))
        return [x.clone().to(device) for x in whole.split(entry["calls"])]

    def commit(self, done: int, last: str = "") -> None:
        """Write down that `done` blocks are finished, which holds from now on whatever happens. last: what was finished
        now, in words, by default the last of these blocks."""
        self.done, self.last = done, last or f"block {done}"
        self.lap()
        keys = ("about", "done", "shards", "streams", "others", "tried", "noted", "last", "seconds")
        state = {key: getattr(self, key) for key in keys} | {"reports": [asdict(report) for report in self.reports]}
        part = self.folder / f"{STATE}.part"
        part.write_text(json.dumps({**state, SEAL: _seal_of(state)}), encoding="utf-8")
        _flush(part)
        part.replace(self.folder / STATE)
        needed = {entry["file"] for entry in self.streams.values()}
        for path in self.folder.glob("*.hidden"):
            if path.name not in needed:
                with contextlib.suppress(OSError):
                    path.unlink()

    def lap(self) -> float:
        """Add the seconds since the last call; return all that were spent, by earlier runs too."""
        now = time.perf_counter()
        self.seconds, self._since = self.seconds + now - self._since, now
        return self.seconds

    @property
    def size(self) -> int:
        """Bytes of the files in the folder."""
        return sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file())


class HiddenFile:
    """Hidden states on their way from one block to the next, in memory or in a file, or, where a later run may need
    them, in both.

    path: of the file; count: sequences to come in all; mappable: whether the file may take the place of memory; keep:
    whether it is for later runs.
    """

    def __init__(self, path: Path, count: int, mappable: bool, keep: bool) -> None:
        self.path, self.count, self.mappable, self.keep = path, count, mappable, keep
        self.kept: list[Tensor] = []
        self.calls: list[int] = []  # rows of the first dimension in each
        self.shape: list[int] = []
        self.dtype, self.mapped = torch.float32, False
        self._file: Any = None
        self._digest = hashlib.sha256()

    def add(self, x: Tensor) -> None:
        """Take one call, (B, L, D)."""
        if not self.shape:
            sequences = sequences_in(x)
            self.shape, self.dtype = [self.count * (len(x) // sequences), *x.shape[1:]], x.dtype
            self.mapped = self.mappable and x.nbytes // sequences * self.count > _free() * MAPPED_SHARE
            self._file = self.path.open("wb") if self.keep or self.mapped else None
        self.calls.append(len(x))
        if self._file is not None:
            data: Any = x.detach().cpu().contiguous().view(torch.uint8).numpy()
            self._file.write(data)
            self._digest.update(data)
        if not self.mapped:
            self.kept.append(x)

    def taken(self) -> list[Tensor]:
        """Return all calls, when all have come."""
        self.close()
        if self.keep and self.calls:
            _flush(self.path)
        if not self.mapped:
            return self.kept
        read_as_needed = list(_map(self.path, self.shape, self.dtype).split(self.calls))
        if not self.keep:
            with contextlib.suppress(OSError):  # the map keeps it alive where the system can
                self.path.unlink()
        return read_as_needed

    @property
    def entry(self) -> dict[str, Any]:
        """What a later run must know to read the file."""
        known = {"file": self.path.name, "sha256": self._digest.hexdigest(), "shape": self.shape}
        return known | {"dtype": str(self.dtype).removeprefix("torch."), "calls": self.calls}

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()


@contextlib.contextmanager
def open_run(target: Path, about: dict[str, Any]) -> Iterator[RunState]:
    """Context manager: yield what an earlier run of the same job left, checked, or the state of a new run.

    At the end the folder is removed. If the block fails, or is interrupted, finished blocks stay for the next run,
    unless the input or the model is at fault. Raises StorageError while another process writes the same target.
    """
    folder = target.with_name(f".{target.name}.unfinished")
    atomic_folder.sweep(target)
    above = make_parents(folder.parent)
    lock = _take(folder, target)
    keep = False
    try:
        run = _read(folder, about)
        (folder / manifest.WRITING).touch()  # for names of files that are written inside
        yield run
    except BaseException as error:
        keep = (folder / STATE).is_file() and not isinstance(error, (InputError, ModelError))
        raise
    finally:
        try:
            if not keep:
                _clear(folder)
        finally:
            _give_back(folder, lock)
        if not keep:
            for path in above:
                with contextlib.suppress(OSError):  # in use by now
                    path.rmdir()


def _take(folder: Path, target: Path) -> int:
    """Make the folder, or take an earlier run's, and lock it. -> the lock, as of `hold`. Raises StorageError for
    anybody else's, and while another run works there."""
    for left in reversed(range(TAKES)):
        try:
            _own(folder, target)
            lock = hold(folder / MARK)
        except (FileNotFoundError, StorageError) as error:  # another is removing it, or it is somebody else's
            if not left and isinstance(error, StorageError):
                raise
            time.sleep(SECONDS_OF_TAKE * (0.5 + random.random()))  # else two might undo each other's again and again
            continue
        if lock is None:
            break
        if is_at(lock, folder / MARK):
            return lock
        os.close(lock)
    raise StorageError(
        f"another process is writing {shortened_path(target)} already; wait until it ends or choose another folder"
    )


def _give_back(folder: Path, lock: int) -> None:
    """Unlock the folder, and remove it where nothing but its mark is left, which no other run can take meanwhile."""
    if sys.platform == "win32":  # which removes no open file, and none that another has opened
        os.close(lock)
    try:
        if [path.name for path in folder.iterdir()] == [MARK]:  # else something that is not ours lies there
            manifest.remove(folder, [folder / MARK])
    except PermissionError:  # another has it by now, on Windows
        pass
    finally:
        if sys.platform != "win32":
            os.close(lock)


def _own(folder: Path, target: Path) -> None:
    """Make the folder, or take the one that an earlier run made. Raises StorageError for anybody else's."""
    began = re.compile(rf"{re.escape(folder.name)}-[0-9a-f]{{8}}")
    for other in folder.parent.iterdir():  # of a run that was killed in its first moment
        ours = began.fullmatch(other.name) and other.is_dir() and not other.is_symlink()
        if ours and {path.name for path in other.iterdir()} <= {MARK}:
            manifest.remove(other, [other / MARK])
    if not os.path.lexists(folder):
        fresh = folder.with_name(f"{folder.name}-{secrets.token_hex(4)}")
        fresh.mkdir()
        (fresh / MARK).touch()
        try:
            fresh.rename(folder)  # never there without its mark
        except OSError:
            manifest.remove(fresh, [fresh / MARK])
            if not os.path.lexists(folder):
                raise
    if folder.is_symlink() or not (folder / MARK).is_file():
        raise StorageError(
            f"{shortened_path(folder)} is where a run would keep what it has done so far, and it is not of our making; "
            f"move it away or choose another folder than {shortened_path(target)}"
        )


def _clear(folder: Path) -> None:
    """Remove what a run wrote into its folder; what else lies there stays."""
    announced = manifest.announced(folder)
    own = [path for path in folder.iterdir() if WRITTEN.fullmatch(path.name) and path.name != MARK]
    for path in own:
        with contextlib.suppress(OSError):
            path.unlink()
    atomic_file.sweep(folder / "profile.safetensors")
    for inner in (*folder.glob(f"{MODEL}*"), *folder.glob(f"{APART}*")):
        if inner.is_dir() and not inner.is_symlink():
            atomic_folder.remove_written(inner, announced)
    (folder / manifest.WRITING).unlink(missing_ok=True)


def _read(folder: Path, about: dict[str, Any]) -> RunState:
    """Return what an earlier run left if it was the same job and is whole; else clear the folder and begin afresh."""
    fresh = RunState(folder, json.loads(json.dumps(about)))
    why = ""
    if (folder / STATE).exists():
        data = read_ordinary(folder / STATE, MOST_STATE)
        if data and not data.startswith(b"{"):  # a run's own, even torn, begins so
            raise StorageError(f"{shortened_path(folder / STATE)} is not what a run wrote there; move it elsewhere")
        try:
            state = _whole(parsed(data))
            why = _difference(state["about"], fresh.about) or _damage(folder, state)
            if not why:
                reports = [LinearReport(**{**saved, "shape": tuple(saved["shape"])}) for saved in state["reports"]]
                earlier = RunState(folder, **{**state, "reports": reports})
                earlier.written = set(earlier.shards)
                earlier.note = f"going on after {earlier.last}, the last that an earlier run finished"
                return earlier
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            why = "cannot be read"
    _clear(folder)
    fresh.model.mkdir(exist_ok=True)
    fresh.note = f"what an earlier run left {why}, so this one begins afresh" if why else ""
    return fresh


def _whole(state: dict[str, Any]) -> dict[str, Any]:
    """Return a state without its seal. Raises ValueError, KeyError or TypeError for one that was changed since."""
    seal = state.pop(SEAL)
    if seal != _seal_of(state):
        raise ValueError(SEAL)
    return state


def _seal_of(state: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(state).encode()).hexdigest()


def _difference(theirs: dict[str, Any], ours: dict[str, Any]) -> str:
    """Tell what an earlier run had otherwise; empty if it was the same job."""
    other = [key for key in ours if theirs.get(key) != ours[key]]
    return f"had another {' and another '.join(other)}" if other else ""


def _damage(folder: Path, state: dict[str, Any]) -> str:
    """Tell which file is missing or changed; empty if all are whole."""
    files = [(folder / MODEL / file, shard["sha256"]) for file, shard in state["shards"].items()]
    files += [(folder / entry["file"], entry["sha256"]) for entry in state["streams"].values()]
    files += [(folder / file, sha256) for file, sha256 in state["others"].items()]
    broken = [path.name for path, sha256 in files if not path.is_file() or _digest(path) != sha256]
    return f"is damaged ({broken[0]})" if broken else ""


def _map(path: Path, shape: list[int], dtype: torch.dtype) -> Tensor:
    """Return a tensor over a file's numbers, read as they are used; what is written to it stays in memory."""
    count = torch.Size(shape).numel()
    return torch.from_file(str(path), shared=False, size=count, dtype=dtype).view(shape)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _flush(path: Path) -> None:
    """Have the system write a file to the disk now, so that a power cut cannot take it."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _free() -> int:
    return cast(int, psutil.virtual_memory().available)
