"""A run: what recipes cost a model and what it then says, as one JSON object that the page, reports and sites read.

README lists the fields. Whatever wrote a file, `read_run` checks it before anybody looks at it.
"""

import json
import math
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from wanda_core.errors import InputError, first_line, shortened, shortened_path
from wanda_core.machine.ordinary_file import open_ordinary
from wanda_core.machine.paths import path_of
from wanda_core.recipe import PruneSpec
from wanda_core.report.files import write_text
from wanda_core.report.form import (
    ANSWER,
    LARGEST,
    LINE,
    MADE,
    MOST_ANSWERED,
    MOST_LINES,
    MOST_PERCENT,
    MOST_PROMPTS,
    PROMPT,
    SHOWN,
    WrongError,
    listed,
    maybe,
    number,
    table,
)
from wanda_core.report.keys import Key, place_name, whole_if_it_is
from wanda_core.report.pictures_form import PICTURE_FORMS
from wanda_core.report.plan import DENSE
from wanda_core.sheets import csv_text

FORMAT = 1
MOST_BYTES = 8 * 2**20  # of a file that is read; the stored run takes 0.2 MB
VALUES = ("perplexity", "top1", "kl", "seconds")  # of a point
COLUMNS = ("model", "revision", "key", "label", "percent", *VALUES)  # of the table of all points

Run = dict[str, Any]

_FORM = table(
    {
        "made": MADE,
        "dense": table({"perplexity": number(1)}),
        "lines": listed(LINE, 0, MOST_LINES),
        "prompts": listed(PROMPT, 0, MOST_PROMPTS),
        "answers": table({}),
    },
    {**PICTURE_FORMS, "shown": SHOWN},
)
PARTS = ("format", "made", "dense", "lines", "prompts", "answers", *PICTURE_FORMS, "shown")  # that are checked


def read_run(path_or_text: str | os.PathLike[str]) -> Run:
    """Read a run and check all of it. path_or_text: a text that begins with `{` is the run itself.

    Raises InputError for what is no run of this format, in one sentence that says where it breaks.
    """
    if isinstance(path_or_text, str) and path_or_text.lstrip("\ufeff \n\r\t").startswith("{"):
        what, content = "the text", path_or_text
    else:
        path = path_of(path_or_text, "run")
        what, content = shortened_path(path_or_text), _content(path)
    if len(content) > MOST_BYTES:
        raise _too_large(what)
    again = "make it anew with `wanda-lab sweep`, or give another file"
    try:
        run = json.loads(content.removeprefix("\ufeff"), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        reason = first_line(error).partition(";")[0]
        raise InputError(f"{what} is no run, for it is not JSON ({reason}); {again}") from error
    if not isinstance(run, dict) or "format" not in run:
        raise InputError(f"{what} is no run, for it does not say its format; {again}")
    if run["format"] != FORMAT or isinstance(run["format"], (bool, float)):
        raise InputError(
            f"{what} is a run of format {shortened(run['format'])}, and format {FORMAT} is read here; "
            "make it anew with this version's `wanda-lab sweep`"
        )
    try:
        _FORM(run, "")
        _check_lines(run)
        _check_answers(run)
    except WrongError as error:
        raise InputError(f"{what} is no whole run: {error}; {again}") from error
    return run


def _content(path: Path) -> str:
    try:
        with open_ordinary(path) as file:
            content = file.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise _too_large(shortened_path(path))
        return content.decode()
    except UnicodeDecodeError as error:
        raise InputError(f"{shortened_path(path)} is no run, for it is not UTF-8 text; give another file") from error
    except OSError as error:
        raise InputError(
            f"{shortened_path(path)} cannot be read ({error.strerror or first_line(error)}); give the path of a run"
        ) from error


def _too_large(what: str) -> InputError:
    return InputError(f"{what} holds more than the {MOST_BYTES // 2**20} MB that a run may have; give another file")


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no number")


def _check_lines(run: Run) -> None:
    """Raise WrongError for keys that are none or stand twice, and recipes that are not what their keys say."""
    seen = set()
    for place, line in enumerate(run["lines"]):
        where = f"lines[{place}]"
        try:
            key = Key.parse(line["key"])
            for at in filter(None, line["at"]):
                key.label(at)  # there is such a recipe
            specs = [] if key.shrinks else [key.spec(at) for at in line["at"] if at]
            if line["recipe"] is not None:
                specs += [_spec(line, at) for at in line["at"] if at]
        except (InputError, TypeError) as error:
            raise WrongError(
                f"{where} has no recipe that can be made ({first_line(error).replace(';', ',')})"
            ) from error
        if line["key"] in seen:
            raise WrongError(f"{where}.key stands twice")
        seen.add(line["key"])
        if key.percent is not None and line["at"] != [key.percent]:
            raise WrongError(f"{where}.at is not [{key.percent}], which its pattern removes")
        if len({(spec.method, spec.pattern) for spec in specs}) > 1:
            raise WrongError(f"{where}.recipe is not of its key")
        if key.shrinks and line["recipe"] is not None:
            raise WrongError(f"{where}.recipe is not null, which it is where parts of the model go")


def _spec(line: dict[str, Any], percent: float) -> PruneSpec:
    """Return the recipe of a line at a percent."""
    recipe = dict(line["recipe"])
    if recipe.get("pattern", "unstructured") == "unstructured":
        recipe["sparsity"] = percent / 100
    return PruneSpec(**recipe)


def _check_answers(run: Run) -> None:
    """Raise WrongError for answers of what is no line, and where there is not one a prompt."""
    answers, count = run["answers"], len(run["prompts"])
    keys = {line["key"] for line in run["lines"]}
    if len(answers) > MOST_ANSWERED:
        raise WrongError(f"answers has more than {MOST_ANSWERED:,} recipes")
    check = listed(maybe(ANSWER), count, count)
    for name, of_prompts in answers.items():
        where = f"answers[{shortened(name)}]"
        key, _, at = name.rpartition("@")
        if name != DENSE and not (key in keys and _percent(at)):
            raise WrongError(f"{where} is of no line")
        check(of_prompts, where)


def _percent(written: str) -> bool:
    """Whether a text is a percent as `place_name` writes one."""
    if not re.fullmatch(r"[0-9]{1,2}(\.[0-9]{1,17})?", written):
        return False
    return str(whole_if_it_is(float(written))) == written and 0 < float(written) <= MOST_PERCENT


def dumped(run: Run) -> str:
    """Return a run as one line of JSON. A number that is not finite is an error."""
    return json.dumps(run, ensure_ascii=False, allow_nan=False, separators=(",", ":")) + "\n"


def with_point(run: Run, key: Key, percent: float, point: dict[str, Any]) -> Run:
    """Return a run with one more point of a recipe, or another in its place. point: a value for each of VALUES."""
    at = whole_if_it_is(percent)
    lines = [dict(line) for line in run["lines"]]
    line = next((line for line in lines if line["key"] == str(key)), None)
    if line is None:
        line = {
            "key": str(key),
            "recipe": recipe_of(key),
            "calibration": None,
            "at": [],
            **{name: [] for name in VALUES},
        }
        lines.append(line)
    rows = {place: [line[name][i] for name in VALUES] for i, place in enumerate(line["at"])}
    rows[at] = [point[name] for name in VALUES]
    line["at"] = sorted(rows)
    line |= {name: [rows[place][i] for place in line["at"]] for i, name in enumerate(VALUES)}
    return {**run, "lines": lines}


def recipe_of(key: Key) -> dict[str, Any]:
    """Describe a recipe without its sparsity, as plain values."""
    return {name: value for name, value in key.spec(50).to_dict().items() if name != "sparsity"}


def points_of(run: Run) -> dict[str, dict[str, Any]]:
    """Return every point of a run, by the name that its answers have."""
    return {
        place_name(line["key"], at): {name: line[name][i] for name in VALUES}
        for line in run["lines"]
        for i, at in enumerate(line["at"])
    }


def rows_of(run: Run) -> list[dict[str, Any]]:
    """List all points with what COLUMNS name. run: as it was read."""
    made, rows = run["made"], []
    for line in run["lines"]:
        key = Key.parse(line["key"])
        for i, at in enumerate(line["at"]):
            label = "Dense" if not at else key.label(at) if line["recipe"] is None else _spec(line, at).label
            about = (made["name"], made["revision"], line["key"], label, at)
            rows.append(dict(zip(COLUMNS, (*about, *(line[name][i] for name in VALUES)), strict=True)))
    return rows


def csv_of(run: Run) -> str:
    """Write all points of a run as CSV with a line of titles; what is not known is left empty."""
    written: list[Iterable[object]] = [COLUMNS]
    for row in rows_of(run):
        infinite = {name: math.inf for name in VALUES if row[name] is not None and row[name] >= LARGEST}
        written.append((row | infinite).values())
    return csv_text(written)


def write_run(run: Run, path: str | os.PathLike[str]) -> Path:
    """Write a run in one step. -> its absolute path. Raises StorageError where it cannot be written."""
    return write_text(dumped(run), path)
