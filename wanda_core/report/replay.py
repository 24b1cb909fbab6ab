"""The replay: a stored run of the built-in model, which a page can show before any model is loaded.

`python -m wanda_core.report.replay` writes it: the run of the fullest plan there is. It is made from the engine alone
and holds numbers and answers, no words about them.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from wanda_core.assets import REPLAY
from wanda_core.errors import StorageError, WandaError, shortened_path
from wanda_core.machine.paths import path_of
from wanda_core.model.builtin import NAME
from wanda_core.model.loading import load_model
from wanda_core.progress import Progress, finish
from wanda_core.report.making import run_steps
from wanda_core.report.plan import WHOLE
from wanda_core.report.points import Dense
from wanda_core.report.run import write_run
from wanda_core.text.windows import calibrate

MOST_BYTES = 400_000  # of the file: a page sends it to every visitor


def write(path: str | os.PathLike[str] = REPLAY, on_progress: Callable[[Progress], object] | None = None) -> Path:
    """Run the built-in model, in float32 on the CPU, and write the replay in one step. -> the file.

    Raises StorageError when it cannot be written, ModelError when there is no built-in model.
    """
    target = path_of(path).absolute()
    if not target.parent.is_dir():
        raise StorageError(f"{shortened_path(target.parent)} is no folder; make it, or choose another place")
    lm = load_model(NAME, device="cpu", dtype=torch.float32)
    return write_run(finish(run_steps(Dense(lm, calibrate(lm)), WHOLE), on_progress), target)


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the replay, as `python -m wanda_core.report.replay`, and say on stderr how far it is."""
    parser = argparse.ArgumentParser(prog="python -m wanda_core.report.replay", description=__doc__)
    parser.add_argument("--output", default=str(REPLAY), help="the file to write")
    output = parser.parse_args(arguments).output
    started, seen = time.perf_counter(), -1

    def say(step: Progress) -> None:
        nonlocal seen
        if step.done != seen:
            seen = step.done
            print(f"{step.number} of {step.total}: {step.detail}", file=sys.stderr, flush=True)

    try:
        target = write(output, say)
    except WandaError as error:
        sys.exit(f"error: {error}")
    print(f"{target}: {target.stat().st_size:,} bytes, {time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
