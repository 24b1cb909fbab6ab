"""The replay: a stored run of the built-in model, which a page can show before any model is loaded.

`python -m wanda_core.report.replay` writes it: the run of the fullest plan there is. It is made from the engine alone
and holds numbers and answers, no words about them.
"""

import argparse
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from wanda_core.assets import REPLAY
from wanda_core.errors import StorageError, shortened_path
from wanda_core.machine.paths import path_of
from wanda_core.model.builtin import NAME
from wanda_core.model.loading import load_model
from wanda_core.progress import Progress, finish
from wanda_core.report.keys import place_name
from wanda_core.report.making import run_steps
from wanda_core.report.plan import DENSE, WHOLE, Plan
from wanda_core.report.points import Dense
from wanda_core.report.program import write_aloud
from wanda_core.report.run import Run, read_run, recipe_of, write_run
from wanda_core.text.windows import calibrate

MOST_BYTES = 400_000  # of the file: a page sends it to every visitor


def write(
    path: str | os.PathLike[str] = REPLAY,
    on_progress: Callable[[Progress], object] | None = None,
    keep: Run | None = None,
) -> Path:
    """Run the built-in model, in float32 on the CPU, and write the replay in one step. -> the file.

    keep: an earlier replay, of which the lines that today's recipes made stay. Raises StorageError when it cannot be
    written, ModelError when there is no built-in model, InputError for an earlier one of something else.
    """
    target = path_of(path).absolute()
    if not target.parent.is_dir():
        raise StorageError(f"{shortened_path(target.parent)} is no folder; make it, or choose another place")
    lm = load_model(NAME, device="cpu", dtype=torch.float32)
    so_far = None if keep is None else unchanged(keep, WHOLE)
    return write_run(finish(run_steps(Dense(lm, calibrate(lm)), WHOLE, so_far), on_progress), target)


def unchanged(run: Run, plan: Plan) -> Run:
    """Return what of a run a plan would make again: without lines of other recipes and their answers."""
    recipes = {str(line.key): recipe_of(line.key) for line in plan.lines}
    lines = [line for line in run["lines"] if recipes.get(line["key"]) == line["recipe"]]
    kept = {DENSE, *(place_name(line["key"], percent) for line in lines for percent in line["at"])}
    return {**run, "lines": lines, "answers": {name: told for name, told in run["answers"].items() if name in kept}}


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the replay, as `python -m wanda_core.report.replay`, and say on stderr how far it is."""
    parser = argparse.ArgumentParser(prog="python -m wanda_core.report.replay", description=__doc__)
    parser.add_argument("--output", default=str(REPLAY), help="the file to write")
    parser.add_argument("--keep", action="store_true", help="measure only the lines whose recipe has changed since")
    given = parser.parse_args(arguments)

    def write_anew(heard: Callable[[Progress], object]) -> Path:
        return write(given.output, heard, read_run(Path(given.output)) if given.keep else None)

    write_aloud(write_anew, lambda step: f": {step.detail}")


if __name__ == "__main__":
    main()
