"""The replay: a stored run of the built-in model, which a page can show before any model is loaded.

`python -m wanda_core.report.replay` writes it. It is made from the engine alone and holds numbers and answers, no words
about them.
"""

import argparse
import hashlib
import importlib.metadata
import json
import secrets
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from wanda_core.assets import BUILTIN_EVALUATION, REPLAY
from wanda_core.errors import StorageError, WandaError, first_line, shortened_path
from wanda_core.machine.paths import path_of
from wanda_core.model.builtin import NAME
from wanda_core.model.language_model import LanguageModel
from wanda_core.model.loading import load_model
from wanda_core.outliers.analysis import analyse_steps
from wanda_core.progress import Progress, Steps, finish, inside
from wanda_core.report import figures
from wanda_core.report.plan import DENSE, LINES, RECIPES, Plan
from wanda_core.report.points import Answer, Dense, Point, dense_steps, point_steps
from wanda_core.text.files import read_text
from wanda_core.text.windows import Calibration, calibrate
from wanda_core.version import __version__

MOST_BYTES = 400_000  # of the file: a page sends it to every visitor
WHOLE = Plan()


@torch.no_grad()
def replay_steps(lm: LanguageModel, plan: Plan = WHOLE) -> Steps[dict[str, Any]]:
    """Run everything that a plan names on a dense model. -> plain values for JSON; yields progress by recipe.

    The numbers are the same whenever it is run with the same versions on the same kind of processor, but for the date
    and the seconds. Raises what the measurements raise.
    """
    cells = plan.cells
    total = len(cells) + 3  # the reading, the dense model, the ablation
    calibration = calibrate(lm, samples=plan.samples, seq_len=plan.length)
    started = time.perf_counter()
    analysis = yield from inside(analyse_steps(lm, calibration), _unit(0, total, "analysis"))
    seconds = time.perf_counter() - started
    dense = Dense(lm, calibration, analysis.profile, read_text(BUILTIN_EVALUATION))
    points: dict[str, Point] = {}
    answers: dict[str, list[Answer]] = {}
    points[DENSE], answers[DENSE] = yield from inside(dense_steps(dense, plan), _unit(1, total, DENSE))
    for number, cell in enumerate(cells, start=2):
        measuring = inside(point_steps(dense, cell.spec, plan), _unit(number, total, cell.name))
        points[cell.name], answers[cell.name] = yield from measuring
    stream = figures.stream(analysis)
    ablating = figures.ablation_steps(dense, stream["channel"], plan)
    ablation = yield from inside(ablating, _unit(total - 1, total, "ablation"))
    masked = figures.masked_linears(lm, analysis.profile, plan)
    apart = [cell for cell in cells if cell.line not in LINES or cell.amount in plan.patterns]
    return {
        "made": made(lm, plan, calibration, dense.text, seconds),
        "dense": {"perplexity": points[DENSE]["perplexity"]},
        "sparsities": list(plan.sparsities),
        "lines": {line: _line(line, points, plan) for line in LINES},
        "points": [
            {
                "line": cell.line,
                "pattern": cell.pattern,
                "sparsity": round(100 * cell.spec.target),
                **points[cell.name],
            }
            for cell in apart
        ],
        "prompts": [asdict(prompt) for prompt in plan.prompts],
        "answers": answers,
        "scores": figures.scores(lm, analysis.profile, plan, masked),
        "linears": figures.linears(lm, analysis, plan, masked),
        "masks": figures.masks(lm, analysis.profile, plan),
        "stream": stream,
        "ablation": ablation,
        "toy": figures.toy(),
    }


def made(lm: LanguageModel, plan: Plan, calibration: Calibration, text: str, seconds: float) -> dict[str, Any]:
    """Describe how a replay came about. seconds: of the pass that read the calibration text."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "model": lm.title,
        "name": lm.name,
        "revision": lm.revision,
        "parameters": lm.n_parameters,
        "prunable": sum(rows * columns for rows, columns in (linear.shape for linear in lm.all_linears)),
        "versions": {
            "wanda": __version__,
            "torch": torch.__version__,
            "transformers": importlib.metadata.version("transformers"),
        },
        "calibration": {
            "source": calibration.source,
            "samples": calibration.samples,
            "seq_len": calibration.seq_len,
            "seed": calibration.seed,
            "fingerprint": calibration.fingerprint,
            "seconds": round(seconds, 2),
        },
        "windows": plan.windows,
        "agreement_windows": plan.agreement_windows,
        "seq_len": plan.seq_len,
        "eval": fingerprint(text),
        "answer_tokens": plan.answer_tokens,
        "recipes": recipes(),
    }


def recipes() -> dict[str, dict[str, Any]]:
    """Describe the recipe of every line, at its default sparsity, as plain values."""
    return {line: make().to_dict() for line, make in RECIPES.items()}


def fingerprint(text: str) -> str:
    """Return the first 16 digits of the sha256 of a text in UTF-8."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def dumped(replay: dict[str, Any]) -> str:
    """Return a replay as one line of JSON. A number that is not finite is an error."""
    return json.dumps(replay, ensure_ascii=False, allow_nan=False, separators=(",", ":")) + "\n"


def write(path: str | Path = REPLAY, on_progress: Callable[[Progress], object] | None = None) -> Path:
    """Run the built-in model, in float32 on the CPU, and write the replay. -> the file.

    The file is written under another name beside `path` and then moved, so that it is never there half written.
    Raises StorageError when it cannot be written, ModelError when there is no built-in model.
    """
    target = path_of(path).absolute()
    if not target.parent.is_dir():
        raise StorageError(f"{shortened_path(target.parent)} is no folder; make it, or choose another place")
    lm = load_model(NAME, device="cpu", dtype=torch.float32)
    text = dumped(finish(replay_steps(lm), on_progress))
    part = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(target)
    except OSError as error:
        raise StorageError(
            f"the replay cannot be written to {shortened_path(path)} ({first_line(error)}); choose another place"
        ) from error
    finally:
        part.unlink(missing_ok=True)
    return target


def _unit(number: int, total: int, name: str) -> Progress:
    return Progress("recipes", number, total, "settings", name)


def _line(line: str, points: dict[str, Point], plan: Plan) -> dict[str, list[float]]:
    """Join a line's points, sparsity by sparsity; at 0% it is the dense model."""
    along = [points[f"{line}@{percent}" if percent else DENSE] for percent in plan.sparsities]
    return {name: [point[name] for point in along] for name in points[DENSE]}


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
