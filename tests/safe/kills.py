"""Kills at random moments of what writes to the disk: the process that is copied, killed, and looked after.

`run` is called by tests; the rest is the process itself. Everything is prepared once; each try is a copy of the process
(fork) that writes while its parent waits for a random time and kills it.
"""

import gc
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from wanda_core.checkpoint.manifest import RECORD

ROOT = Path(__file__).resolve().parent.parent.parent
LONGEST = 120  # seconds that one writing may take, which takes below one


@dataclass(frozen=True)
class Killed:
    """What kills did to one kind of writing. old, new: how often that was found afterwards; broken: how often neither,
    or a part; strays: files that were still there after the next start, by the kind; early: kills before the end."""

    kind: str
    old: int
    new: int
    broken: list[str]
    strays: list[str]
    early: int


@dataclass(frozen=True)
class Refused:
    """What a disk that takes no more did to one kind of writing. how: the disk is full, or read-only; said: the
    sentences of our errors; strange: errors of other kinds; changed: whether anything was not as before."""

    kind: str
    how: str
    said: list[str]
    strange: list[str]
    changed: list[str]


def run(kinds: list[str], here: Path, times: int) -> tuple[list[Killed], list[Refused]]:
    """Kill each kind of writing so many times, then let it write where it cannot.

    here: an empty folder with `dense` in it, and `model.gguf`.
    """
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "WANDA_CACHE": str(here / "cache")}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "safe.kills", str(here), str(times), *kinds],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    told = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"kind"')]
    return [Killed(**one) for one in told if "old" in one], [Refused(**one) for one in told if "how" in one]


def main() -> None:
    """Prepare all kinds of writing, and kill those that are asked for."""
    here, times, kinds = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
    made = _kinds(here)
    gc.freeze()
    draw = random.Random(7)
    for kind in kinds:
        old, new = made[kind]
        print(json.dumps(_killed(kind, here / kind, old, new, times, draw)), flush=True)
        for how in ("full", "read-only") if kind != "low memory" else ():  # what it has done so far stays, by intent
            print(json.dumps(_refused(kind, how, here / kind, old, new)), flush=True)


def _kinds(here: Path) -> dict[str, tuple[Callable[[Path], object] | None, Callable[[Path], object]]]:
    """Return, for each kind, what writes the old state, None where there is none before, and what writes the new one.

    Each takes the folder that it writes into.
    """
    import torch
    from tqdm import tqdm
    from transformers.utils import logging

    from wanda_core.calibration.profile import profile, save_profile
    from wanda_core.checkpoint.save import save
    from wanda_core.low_memory.model_on_disk import open_model
    from wanda_core.low_memory.prune import prune_to_folder
    from wanda_core.model.gguf_file import folder_of
    from wanda_core.model.loading import load_model
    from wanda_core.outliers.analysis import analyse
    from wanda_core.outliers.kept_analysis import save_analysis
    from wanda_core.pruning.prune import prune
    from wanda_core.recipe import PruneSpec
    from wanda_core.report.run import read_run, write_run
    from wanda_core.shrinking.shrink import shrink
    from wanda_core.shrinking.spec import ShrinkSpec
    from wanda_core.text.windows import calibrate

    logging.disable_progress_bar()
    torch.set_num_threads(1)  # a copy of the process has no other threads
    # Its lock is one between processes: a copy that is killed while it draws a bar would hold it for ever.
    tqdm.set_lock(threading.RLock())
    tqdm.monitor_interval = 0
    lm = load_model(str(here / "dense"), device="cpu", dtype=torch.float32)
    old, new = prune(lm, PruneSpec("magnitude", 0.3)), prune(lm, PruneSpec("magnitude", 0.7))
    texts = [calibrate(lm, samples=2, seq_len=32, seed=seed) for seed in (0, 1)]
    norms = [profile(lm, text) for text in texts]
    analyses = [analyse(lm, text) for text in texts]
    smaller = [shrink(lm, ShrinkSpec(neurons=share), texts[0]) for share in (0.25, 0.5)]
    stored = read_run(ROOT / "assets" / "replay.json")
    changed = json.loads(json.dumps(stored))
    changed["made"] = {**changed.get("made", {}), "by": "a later one"} if isinstance(changed.get("made"), dict) else {}

    def convert(folder: Path) -> object:
        os.environ["WANDA_CACHE"] = str(folder)
        return folder_of(here / "model.gguf", "model.gguf")

    def from_disk(folder: Path) -> object:
        on_disk = open_model(str(here / "dense"), device="cpu", dtype=torch.float32)
        return prune_to_folder(on_disk, PruneSpec("wanda", 0.5), folder / "out", texts[0])

    return {
        "shrinking": tuple(lambda folder, one=one: save(one, folder / "out") for one in smaller),
        "low memory": (lambda folder: save(old, folder / "out"), from_disk),
        "saving": (lambda folder: save(old, folder / "out"), lambda folder: save(new, folder / "out")),
        "profile": tuple(lambda folder, one=one: save_profile(one, folder / "norms.safetensors") for one in norms),
        "replay": (
            lambda folder: write_run(stored, folder / "replay.json"),
            lambda folder: write_run(changed if changed != stored else stored, folder / "replay.json"),
        ),
        "analysis": tuple(
            lambda folder, one=one: save_analysis(one, folder / "analysis.safetensors", 1.0) for one in analyses
        ),
        "first start": (None, convert),
    }


def contents(folder: Path) -> dict[str, bytes]:
    """All files of a folder."""
    return {str(path.relative_to(folder)): _content(path) for path in sorted(folder.rglob("*")) if path.is_file()}


def _content(path: Path) -> bytes:
    """What a file holds; of safetensors with its head sorted, whose order is another with every writing, and of the
    record of a pruning without the seconds that it took and the digests, which follow that order."""
    content = path.read_bytes()
    try:
        if path.name == RECORD:
            record = json.loads(content)
            alike = {**record, "seconds": 0, "sha256": "", "files": sorted(record.get("files", ()))}
            return json.dumps(alike, sort_keys=True).encode()
        if path.suffix == ".safetensors":
            end = 8 + int.from_bytes(content[:8], "little")
            return json.dumps(json.loads(content[8:end]), sort_keys=True).encode() + content[end:]
    except ValueError:  # cut off while it was written: like neither state
        pass
    return content


def _killed(kind: str, folder: Path, old, new, times: int, draw: random.Random) -> dict:
    """Kill one kind of writing at random moments, and look what is there, and what after the next start."""
    states = []
    for write in (old, new):
        folder.mkdir()
        if write is not None:
            write(folder)
        states.append(contents(folder))
        shutil.rmtree(folder)
    seconds = _seconds(folder, old, new)
    found, broken, strays, early = [0, 0], [], [], 0
    for _ in range(times):
        folder.mkdir()
        if old is not None:
            old(folder)
        child = _copy(new, folder)
        time.sleep(draw.random() * seconds * 1.1)
        os.kill(child, signal.SIGKILL)
        early += os.waitpid(child, 0)[1] != 0
        there = {name: content for name, content in contents(folder).items() if not name.startswith(".")}
        if there in states:
            found[states.index(there)] += 1
        else:
            broken.append(", ".join(sorted(there))[:300])
        child = _copy(new, folder)  # the next start
        assert _ended(child) == 0, f"{kind} fails after a kill"
        if contents(folder) != states[1] or {path.name for path in folder.iterdir()} != _names(states[1]):
            strays.append(", ".join(sorted(path.name for path in folder.iterdir()))[:300])
        shutil.rmtree(folder)
    return {"kind": kind, "old": found[0], "new": found[1], "broken": broken, "strays": strays, "early": early}


def _names(state: dict[str, bytes]) -> set[str]:
    return {name.split("/")[0] for name in state}


def _seconds(folder: Path, old, new) -> float:
    """How long the writing takes, in a copy of the process."""
    folder.mkdir()
    if old is not None:
        old(folder)
    begun = time.monotonic()
    assert _ended(_copy(new, folder)) == 0
    shutil.rmtree(folder)
    return time.monotonic() - begun


def _refused(kind: str, how: str, folder: Path, old, new) -> dict:
    """Write where a file may have so many bytes, or where nothing may be written, and look what is there."""
    from wanda_core.errors import WandaError

    told = {"kind": kind, "how": how, "said": [], "strange": [], "changed": []}
    folder.mkdir()
    new(folder)
    whole = contents(folder)
    shutil.rmtree(folder)
    for bytes_left in (10, 2000, 20_000) if how == "full" else (0,):
        folder.mkdir()
        if old is not None:
            old(folder)
        before = contents(folder)
        said = folder.with_name("said.json")
        said.touch()
        said.chmod(0o666)

        def write(folder: Path, most=bytes_left, said=said) -> None:
            with said.open("w") as answer:
                _take_away(folder, most)
                try:
                    new(folder)
                except BaseException as error:
                    # In ten bytes, where no more can be written.
                    name = f"{type(error).__name__} {len(str(error).splitlines())}"
                    os.write(answer.fileno(), f"{isinstance(error, WandaError):d}{name}"[: most or 99].encode())

        _ended(_copy(write, folder))
        folder.chmod(0o777)
        answer = said.read_text()
        if answer:
            told["said" if answer[0] == "1" else "strange"].append(answer[1:])
        fits = not answer and contents(folder) == whole  # there was room for it
        if (contents(folder) != before and not fits) or any(path.name.startswith(".") for path in folder.iterdir()):
            told["changed"].append(f"{bytes_left}: {sorted(path.name for path in folder.iterdir())}")
        shutil.rmtree(folder)
    return told


def _take_away(folder: Path, most: int) -> None:
    """Let this process write files of so many bytes at most, or none into a folder where that is nothing."""
    import resource

    if most:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
        return
    folder.chmod(0o555)
    if not os.geteuid():  # who is not bound by that
        os.setegid(65534)
        os.seteuid(65534)


def _copy(write: Callable[[Path], object], folder: Path) -> int:
    child = os.fork()
    if not child:
        try:
            write(folder)
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(3)
        os._exit(0)
    return child


def _ended(child: int) -> int:
    """Wait for a copy of the process, at most LONGEST seconds. -> its status."""
    until = time.monotonic() + LONGEST
    while time.monotonic() < until:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return status
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    raise AssertionError(f"a copy of the process had not ended after {LONGEST} seconds")


if __name__ == "__main__":
    main()
