"""Making a run: everything that a plan names, measured on a dense model, point by point."""

import importlib.metadata
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from statistics import median
from typing import Any

import torch

from wanda_core.assets import BUILTIN_EVALUATION
from wanda_core.calibration.profile import profile_steps
from wanda_core.errors import InputError, shortened_path
from wanda_core.evaluation.perplexity import token_windows
from wanda_core.model.names import LOCAL
from wanda_core.outliers.analysis import Analysis, analyse_steps
from wanda_core.progress import Progress, Steps, inside
from wanda_core.pruning.sensitivity import sensitivity_steps
from wanda_core.report import figures
from wanda_core.report.plan import DENSE, Cell, Line, Plan
from wanda_core.report.points import Dense, Point, answers_steps, dense_steps, point_steps
from wanda_core.report.run import FORMAT, Run, points_of, recipe_of, with_point
from wanda_core.text.chats import fingerprint_of
from wanda_core.text.files import read_text
from wanda_core.version import __version__

SAME_MODEL = 0.01  # by how much the perplexity of one model may differ from machine to machine


@dataclass(frozen=True)
class Heard:
    """Who hears how a run comes about.

    grown: called with the run whenever more of it is there; begins: called before the first point of a line that is to
    be measured, with the line, how many such points it has, and the seconds that pruning will take for each, None where
    nobody knows.
    """

    grown: Callable[[Run], object] = lambda run: None
    begins: Callable[[Line, int, float | None], object] = lambda line, count, seconds: None


def made(dense: Dense, plan: Plan) -> dict[str, Any]:
    """Describe what a run is made on and with. The seconds that reading the calibration text took are not known yet."""
    lm, calibration = dense.lm, dense.calibration
    text = read_text(BUILTIN_EVALUATION) if dense.text is None else dense.text
    return {
        "date": today(),
        "model": lm.title,
        "name": lm.name,
        "revision": lm.revision,
        "parameters": lm.n_parameters,
        "prunable": sum(rows * columns for rows, columns in (linear.shape for linear in lm.all_linears)),
        "dtype": str(lm.dtype).removeprefix("torch."),
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
            "seconds": None,
        },
        "windows": len(token_windows(lm, dense.text, plan.seq_len, plan.windows, dense.bos)),
        "agreement_windows": plan.agreement_windows,
        "seq_len": plan.seq_len,
        "bos": dense.bos,
        "eval": fingerprint_of(text),
        "answer_tokens": plan.answer_tokens,
    }


def today() -> str:
    """Return the date, as a run has it."""
    return datetime.now(UTC).date().isoformat()


# What must be the same for two measurements to stand on one curve, by the words for it.
SAME = {
    "name": "model",
    "revision": "revision of the model",
    "dtype": "number format",
    "eval": "evaluation text",
    "windows": "number of windows",
    "seq_len": "tokens in a window",
    "bos": "begin token",
    "agreement_windows": "number of windows for the agreement",
}


def check_goes_on(run: Run, about: dict[str, Any], plan: Plan) -> None:
    """Raise InputError unless what a plan names may be added to a run. about: what it would be made on, by `made`."""
    before, prompts = run["made"], plan.prompts
    differ = [words for name, words in SAME.items() if before.get(name, about[name]) != about[name]]
    if before["calibration"].get("fingerprint") != about["calibration"]["fingerprint"]:
        differ.append("calibration text or its draw")
    if prompts and run["prompts"]:
        if [prompt["text"] for prompt in run["prompts"]] != [prompt.text for prompt in prompts]:
            differ.append("prompts")
        if before["answer_tokens"] != about["answer_tokens"]:
            differ.append("length of the answers")
    recipes = {line["key"]: line["recipe"] for line in run["lines"] if line["recipe"] is not None}
    keys = {str(line.key): line.key for line in plan.lines}
    differ += [f"recipe of {name}" for name, key in keys.items() if recipes.get(name, recipe_of(key)) != recipe_of(key)]
    if differ:
        raise InputError(
            f"the run that is there differs in its {', '.join(differ)}, and one curve holds one thing; choose another "
            "file, or the same settings as before"
        )


@torch.no_grad()
def run_steps(dense: Dense, plan: Plan, so_far: Run | None = None, heard: Heard | None = None) -> Steps[Run]:
    """Make a run from a plan. -> plain values for JSON; yields progress by point.

    dense: without a profile, which is read here where a recipe needs it; so_far: a run to go on with, whose points,
    answers and pictures are kept. The numbers are the same whenever it is run with the same versions on the same kind
    of processor, but for the date and the seconds. Raises what the measurements raise, and InputError for a run of
    something else.
    """
    heard = heard or Heard()
    run = _begun(made(dense, plan), plan, so_far)
    there = {name for name in points_of(run) if not plan.prompts or name in run["answers"]}
    missing = {line: [cell for cell in line.cells if cell.name not in there] for line in plan.lines}
    cells = [cell for of_line in missing.values() for cell in of_line]
    pictures = [name for name in plan.pictures if name not in run]
    lacks_dense = run["dense"] is None or (bool(plan.prompts) and DENSE not in run["answers"])
    lacks_dense |= bool(cells or pictures) and run["made"]["revision"] == LOCAL  # whose weights may be others by now
    reading = bool(pictures) or any(cell.spec.needs_profile for cell in cells)
    sensitive = any(cell.spec.needs_sensitivities for cell in cells)
    names = ["analysis"] * reading + [DENSE] * lacks_dense + [cell.name for cell in cells]
    names += ["ablation"] * ("ablation" in pictures)
    units = iter([Progress("recipes", number, len(names), "settings", name) for number, name in enumerate(names)])
    if names:
        run = {**run, "made": run["made"] | {"date": today()}}
    analysis = None
    if reading:
        started = time.perf_counter()
        unit = next(units)
        dense, analysis = yield from inside(_read_steps(dense, bool(pictures)), unit)
        calibration = run["made"]["calibration"] | {"seconds": round(time.perf_counter() - started, 2)}
        run = {**run, "made": run["made"] | {"calibration": calibration}}
        if sensitive and dense.profile is not None:
            measured = yield from inside(sensitivity_steps(dense.lm, dense.calibration, dense.profile), unit)
            dense = replace(dense, profile=measured)
    if lacks_dense:
        run = yield from inside(_dense_steps(run, dense, plan), next(units))
    heard.grown(run)
    for line, of_line in missing.items():
        if 0 in line.percents:
            run = with_point(run, line.key, 0, _untouched(run))
        if of_line:
            heard.begins(line, len(of_line), _expected(run, of_line))
        for cell in of_line:
            point, answers = yield from inside(point_steps(dense, cell.spec, plan), next(units))
            run = with_point(run, cell.key, cell.percent, point)
            if plan.prompts:
                run = {**run, "answers": {**run["answers"], cell.name: answers}}
            heard.grown(run)
    if pictures:
        assert analysis is not None  # read above
        drawn = yield from figures.pictures_steps(dense, analysis, plan, pictures, lambda: next(units))
        run = {**run, **drawn}
    heard.grown(run)
    return run


def _begun(about: dict[str, Any], plan: Plan, so_far: Run | None) -> Run:
    """Return what a run begins with: what there is already, or nothing but what it is made on."""
    run = so_far or {"format": FORMAT, "made": about, "dense": None, "lines": [], "prompts": [], "answers": {}}
    check_goes_on(run, about, plan)
    if plan.prompts and not run["prompts"]:
        answered = {"answer_tokens": plan.answer_tokens}
        asked = [asdict(prompt) for prompt in plan.prompts]
        run = {**run, "made": run["made"] | answered, "prompts": asked, "answers": {}}
    return run


def _read_steps(dense: Dense, analysed: bool) -> Steps[tuple[Dense, Analysis | None]]:
    """Read the calibration text once. analysed: whether the residual stream is looked at too."""
    if not analysed:
        profile = yield from profile_steps(dense.lm, dense.calibration)
        return replace(dense, profile=profile), None
    analysis = yield from analyse_steps(dense.lm, dense.calibration)
    return replace(dense, profile=analysis.profile), analysis


def _dense_steps(run: Run, dense: Dense, plan: Plan) -> Steps[Run]:
    """Measure the dense model, and let it answer. Raises InputError where the run was made of another one."""
    perplexity = yield from dense_steps(dense, plan)
    before = run["dense"]
    if before is not None and abs(perplexity / before["perplexity"] - 1) > SAME_MODEL:
        raise InputError(
            f"the run that is there was made of other weights under the name {shortened_path(dense.lm.name)}, with a "
            f"perplexity of {before['perplexity']:,} and not {perplexity:,}; choose another file for these"
        )
    run = {**run, "dense": before or {"perplexity": perplexity}}
    if plan.prompts and DENSE not in run["answers"]:
        answers = yield from answers_steps(dense.lm, plan)
        run = {**run, "answers": {**run["answers"], DENSE: answers}}
    return run


def _untouched(run: Run) -> Point:
    """Return the point at which nothing is removed."""
    return {"perplexity": run["dense"]["perplexity"], "top1": 1.0, "kl": 0.0, "seconds": 0.0}


def _expected(run: Run, cells: Sequence[Cell]) -> float | None:
    """Return the seconds that pruning one of a line's cells will take, by its points or by the reading."""
    before = [line for line in run["lines"] if line["key"] == str(cells[0].key)]
    known = [seconds for line in before for seconds in line["seconds"] if seconds]
    if known:
        return float(median(known))
    reading = run["made"]["calibration"].get("seconds")
    return None if reading is None else reading * cells[0].spec.passes
