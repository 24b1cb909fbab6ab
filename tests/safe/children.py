"""Models tried in processes of their own, which tell how long it took and how much memory, or died.

One process imports everything and loads a good model; each model that is tried then gets a copy of it (fork), so that a
crash is a result and what is measured is the model alone. `run` is called by tests; the rest is the process itself.
"""

import functools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from wanda_core.model import template_worker

ROOT = Path(__file__).resolve().parent.parent.parent
SECONDS = 60  # after which a copy is ended


@dataclass(frozen=True)
class Tried:
    """What became of a model. kind: the class of the error, "" where it was served, "killed" where its process died;
    ours: whether that is one of ours; megabytes: that were taken at most, above what was taken before."""

    name: str
    kind: str
    ours: bool
    said: str
    seconds: float
    megabytes: float


def run(names: Iterable[str], good: Path, settings: dict[str, str] | None = None, local: bool = True) -> list[Tried]:
    """Try to load models, one after the other."""
    asked = json.dumps({"good": str(good), "local": local, "names": list(names)})
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"} | (settings or {})
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "safe.children"],
        input=asked, cwd=ROOT, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return [Tried(**json.loads(line)) for line in done.stdout.splitlines() if line.startswith('{"name"')]


def main() -> None:
    """Read what is to be tried, try it, and write a line for each."""
    from transformers.utils import logging

    from wanda_core.model.loading import load_model

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    asked = json.loads(sys.stdin.read())
    load_model(asked["good"], device="cpu")
    for name in asked["names"]:
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            os.close(reading)
            _tell(name, asked["local"], writing)
            os._exit(0)
        os.close(writing)
        with os.fdopen(reading) as answer:
            said = answer.read()
        _, status = os.waitpid(child, 0)
        if not said:
            died = {"kind": "killed", "ours": False, "said": f"status {status}", "seconds": SECONDS, "megabytes": 0}
            said = json.dumps({"name": name} | died)
        print(said, flush=True)


def _tell(name: str, local: bool, writing: int) -> None:
    """Load a model in a copy of the process, and write what became of it."""
    from wanda_core.errors import WandaError
    from wanda_core.model import chat_template, made_apart
    from wanda_core.model.loading import load_model

    read, started = [0], [0.0]
    readers = made_apart.reader, made_apart.maker, made_apart.converter
    for reader in readers:
        reader.ask = functools.partial(_noting, reader.start, reader.ask, read, started)
    signal.alarm(SECONDS)
    before, begun, waited = _megabytes("VmRSS"), time.monotonic(), _waited()
    kind, ours, said = "", False, "served"
    try:
        load_model(name, device="cpu", local_folders=local)
    except BaseException as error:
        kind, ours, said = type(error).__name__, isinstance(error, WandaError), str(error)[:500]
    seconds = time.monotonic() - begun - (_waited() - waited) - sum(started)
    told = {"kind": kind, "ours": ours, "said": said, "seconds": seconds}
    told["megabytes"] = max(0.0, _megabytes("VmHWM") - before) + max(read) / 1e6
    told["megabytes"] += _of_templates(chat_template._worker._process)
    for worker in (chat_template._worker, *readers):
        worker.close()
    os.write(writing, (json.dumps({"name": name} | told) + "\n").encode())


def _noting(start: Callable, ask: Callable, read: list[int], started: list[float], *given: object) -> dict:
    """Ask, and keep how many bytes a tokenizer took to be made, and how long the process took to start, which it does
    once for all models, but here for each copy."""
    begun = time.monotonic()
    start()
    started.append(time.monotonic() - begun)
    answer = ask(*given)
    read.append(answer["bytes"] or 0)
    return answer


def _of_templates(process: "subprocess.Popen[str] | None") -> float:
    """Megabytes of the process that rendered a template; its bound where it was ended."""
    if process is None:
        return 0.0
    try:
        return _megabytes("VmHWM", process.pid)
    except (OSError, StopIteration):
        return template_worker.MOST_MEMORY / 1e6


def _megabytes(field: str, process: int | str = "self") -> float:
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(float(line.split()[1]) / 1e3 for line in lines if line.startswith(field))


def _waited() -> float:
    """Seconds that this thread was ready to run, and others had the processor."""
    return int(Path("/proc/self/schedstat").read_text().split()[1]) / 1e9


if __name__ == "__main__":
    main()
