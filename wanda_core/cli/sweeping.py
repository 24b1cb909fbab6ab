"""The command that measures curves: recipes along sparsities, each point written when it is there."""

import re
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from wanda_core.assets import BUILTIN_CALIBRATION, BUILTIN_EVALUATION
from wanda_core.checks import (
    DEFAULT_SAMPLES,
    DEFAULT_SEQ_LEN,
    EVAL_SEQ_LEN,
    EVAL_WINDOWS,
    MAX_SAMPLES,
    MAX_SPARSITY,
    check_whole,
)
from wanda_core.cli import tables
from wanda_core.cli.console import Stopwatch, bar, check_alone, print_json, quiet, say
from wanda_core.cli.options import (
    Bos,
    CalibrationText,
    Column,
    Device,
    HeldIn,
    Json,
    MeasuredText,
    Model,
    Pack,
    Samples,
    drawn_from,
    load,
    option,
    text_of,
)
from wanda_core.errors import InputError, StorageError, shortened, shortened_path
from wanda_core.machine.ordinary_file import open_ordinary
from wanda_core.progress import finish
from wanda_core.report.files import check_writable, write_text
from wanda_core.report.keys import CHOICES, MOST_DIGITS, Key, whole_if_it_is
from wanda_core.report.plan import PICTURES, PROMPTS, Line, Plan, lines_of
from wanda_core.report.run import COLUMNS, VALUES, Run, csv_of, points_of, read_run, write_run
from wanda_core.text.chats import bytes_of, digest_of

if TYPE_CHECKING:
    from wanda_core.text.windows import Calibration

METHODS_MEASURED = "wanda,magnitude"
PERCENTS = "10-80:10"
MAX_WINDOWS = 100_000  # of evaluation text, as `perplexity` takes them
MOST_PERCENTS = 200  # along one line
_NUMBER = r"\d{1,2}(?:\.\d{1,2})?"
_ITEM = re.compile(rf"({_NUMBER})(?:-({_NUMBER}):({_NUMBER}))?", re.ASCII)


def sweep(
    output: Annotated[
        str,
        option(
            "File to write, such as run.json; one that the same command left unfinished is gone on with.",
            metavar="FILE",
        ),
    ],
    model: Model = "builtin",
    methods: Annotated[
        str, option(f"Methods and whole recipes, with commas between: {', '.join(CHOICES['method'])}.", metavar="NAMES")
    ] = METHODS_MEASURED,
    sparsities: Annotated[
        str | None,
        option(
            "Percents of weights to remove, 0 to 95, with commas between, and ranges FROM-TO:STEP: 5,10-80:10. "
            f"Default: {PERCENTS}, or none beside --patterns.",
            metavar="PERCENTS",
        ),
    ] = None,
    patterns: Annotated[
        str | None, option("N:M patterns, with commas between: 2:4,4:8. Default: none.", metavar="PATTERNS")
    ] = None,
    answers: Annotated[bool, option("Let every recipe answer four prompts.", "--answers")] = False,
    pictures: Annotated[
        bool,
        option("Add what is drawn beside a curve: scores, masks, single weights, what stands out.", "--pictures"),
    ] = False,
    table: Annotated[str | None, option("File for all points as CSV.", "--csv", metavar="FILE")] = None,
    text: MeasuredText = None,
    windows: Annotated[int, option("Windows from the start of that text.")] = EVAL_WINDOWS,
    eval_seq_len: Annotated[
        int, option("Tokens in a window of that text; compare only perplexities of the same length.")
    ] = EVAL_SEQ_LEN,
    calibration: CalibrationText = None,
    column: Column = None,
    pack: Pack = None,
    bos: Bos = False,
    samples: Samples = DEFAULT_SAMPLES,
    seq_len: Annotated[int, option("Tokens in a window of calibration text.")] = DEFAULT_SEQ_LEN,
    seed: Annotated[int, option("Seed of the draw of windows.")] = 0,
    device: Device = None,
    dtype: HeldIn = None,
    as_json: Json = False,
) -> None:
    """Measure perplexity against sparsity for several recipes, from one reading of the calibration text.

    Recipes that can do without the inputs themselves are one-shot; the others take their own order, which is said
    before they start. Ctrl-C keeps what is measured, and the same command goes on.
    """
    check_alone("sweep")
    keys = [Key(name) for name in _names(methods)]
    along = _along(sparsities, patterns)
    lines_of(keys, *along)  # raises
    check_whole("windows", windows, 1, MAX_WINDOWS)
    check_whole("samples", samples, 1, MAX_SAMPLES)
    check_whole("seed", seed, 0, 10**MOST_DIGITS - 1)
    target, so_far = _run_at(output)
    rows = _table_at(table, target)
    watch = Stopwatch()
    with quiet():
        from wanda_core.pruning.prune import check_pattern
        from wanda_core.report.making import Heard, run_steps
        from wanda_core.report.points import Dense

        read, source = text_of(
            calibration, BUILTIN_CALIBRATION, seq_len, column=None if calibration is None else column
        )
        measured_on, _ = text_of(
            text, BUILTIN_EVALUATION, eval_seq_len, to_measure=True, column=column if text or not calibration else None
        )
        lm, seconds = load(model, device, dtype, watch)
        drawn = drawn_from(lm, read, source, pack=pack, bos=bos, samples=samples, seq_len=seq_len, seed=seed)
        plan = Plan(
            lines=lines_of(_drawn(keys, drawn, _digest(calibration, read, drawn, pack)), *along),
            prompts=PROMPTS if answers else (),
            windows=windows,
            seq_len=eval_seq_len,
            pictures=PICTURES if pictures else (),
        )
        for cell in plan.cells:
            check_pattern(lm.all_linears, cell.spec)
        latest = so_far

        def grown(run: Run) -> None:
            nonlocal latest
            latest = run
            write_run(run, target)
            if rows is not None:
                write_text(csv_of(run), rows, "table")

        try:
            with bar() as on_progress:
                steps = run_steps(Dense(lm, drawn, measured_on, bos), plan, so_far, Heard(grown, _begins))
                run = finish(steps, on_progress)
        except KeyboardInterrupt:
            if latest is not None:
                say(f"{_points(len(points_of(latest)))} in {target}; the same command goes on")
            raise
        seconds["sweep"] = watch.lap()
    fresh = len(points_of(run)) - (len(points_of(so_far)) if so_far is not None else 0)
    if as_json:
        lines = [{name: line[name] for name in ("key", "at", *VALUES)} for line in run["lines"]]
        beside = {} if rows is None else {"csv": str(rows)}
        told = {"output": str(target), **beside, "model": model, "measured": fresh, "dense": run["dense"]["perplexity"]}
        print_json({**told, "lines": lines, "seconds": seconds})
    else:
        tables.swept(run)
        say(f"{_points(fresh)} measured in {seconds['sweep']:.1f} s; {target} has {len(points_of(run))}")


def percents_of(given: str) -> list[float]:
    """Read percents: numbers from 1 to 95, or 0, with commas between, and ranges FROM-TO:STEP, both ends included.

    Raises InputError for anything else.
    """
    percents: list[Decimal] = []
    for item in given.split(","):
        match = _ITEM.fullmatch(item.strip())
        if match is None:
            raise _no_percents(given)
        first, last, step = (None if part is None else Decimal(part) for part in match.groups())
        assert first is not None  # of a match
        if last is None or step is None:
            percents.append(first)
        elif not step or last < first:
            raise _no_percents(given)
        else:
            count = min(int((last - first) / step) + 1, MOST_PERCENTS + 1)
            percents += [first + step * number for number in range(count)]
    if len(percents) > MOST_PERCENTS or any(each > 100 * MAX_SPARSITY or 0 < each < 1 for each in percents):
        raise _no_percents(given)
    return sorted({whole_if_it_is(float(each)) for each in percents})


def _no_percents(given: str) -> InputError:
    return InputError(
        f"sparsities {shortened(given)} are not up to {MOST_PERCENTS} percents, each 0 or from 1 to "
        f"{100 * MAX_SPARSITY:.0f}; write them with commas between, as 50,62.5, and ranges as 10-80:10"
    )


def _names(given: str) -> list[str]:
    """Return the names of methods and presets in a list with commas. Raises InputError for one that is none."""
    names = [name.strip() for name in given.split(",")]
    for name in names:
        if name not in CHOICES["method"]:
            offered = ", ".join(CHOICES["method"])
            raise InputError(f"method {shortened(name)} is not offered; choose from {offered}, with commas between")
    return names


def _along(sparsities: str | None, patterns: str | None) -> tuple[list[float], list[str]]:
    """Return the percents and the patterns at which every recipe is measured."""
    if patterns is None:
        return percents_of(PERCENTS if sparsities is None else sparsities), []
    return [] if sparsities is None else percents_of(sparsities), [pattern.strip() for pattern in patterns.split(",")]


def _run_at(output: str) -> tuple[Path, Run | None]:
    """Return the file to write, tried, and the run that is there already. Raises InputError for any other file."""
    target = check_writable(output, "run")
    return target, read_run(target) if target.exists() else None


def _table_at(given: str | None, run: Path) -> Path | None:
    """Return the file of the table, tried. Raises InputError where it is the run's, StorageError where anything but an
    earlier sweep's table is there."""
    if given is None:
        return None
    target = check_writable(given, "table")
    if target.resolve() == run.resolve():
        raise InputError(f"{shortened_path(given)} is given for the run and for the table; choose two files")
    if target.exists():
        try:
            with open_ordinary(target) as file:
                head = file.readline(200)
        except OSError:
            head = b""
        if head.strip() != ",".join(COLUMNS).encode():
            raise StorageError(
                f"{shortened_path(given)} is no table of an earlier sweep, and writing one there would lose what it "
                "is; choose another name"
            )
    return target


def _digest(given: str | None, text: Any, drawn: "Calibration", pack: bool | None) -> str:
    """Return what names of recipes call the calibration text: empty for the built-in one.

    A draw that the page cannot make has a name of its own, so that no line of the page is taken for it.
    """
    if drawn.bos or pack is not None:
        return drawn.fingerprint[:32]
    return "" if given is None else digest_of(bytes_of(text))


def _drawn(keys: Sequence[Key], calibration: "Calibration", text: str) -> list[Key]:
    """Return the names of recipes with what the calibration is drawn from, for those that need one."""
    reading: dict[str, Any] = {name: getattr(calibration, name) for name in ("samples", "seq_len", "seed")}
    needed = (key.spec(1).needs_calibration for key in keys)
    return [replace(key, text=text, **reading) if needs else key for key, needs in zip(keys, needed, strict=True)]


def _begins(line: Line, count: int, seconds: float | None) -> None:
    """Say what a line costs whose recipe cannot do without the inputs themselves."""
    spec = line.key.spec(line.percents[-1])
    if spec.order == "one-shot":
        return
    update = "" if spec.update == "none" else f" with the update {spec.update}"
    cost = "" if seconds is None else f", about {max(1, round(seconds))} s of pruning each"
    say(f"note: {line.key} takes its own order, {spec.order}{update}: {_points(count)}{cost}")


def _points(count: int) -> str:
    return "1 point" if count == 1 else f"{count} points"
