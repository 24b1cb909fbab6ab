"""Does it grow with size? One row per analysed model, kept in a small file of the user's.

The file holds one JSON object a line. It is written beside and moved into place under a lock, so that several
processes may add rows; a line that cannot be read is told by its number and left in the file as it is.
"""

import json
import math
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import platformdirs
from filelock import FileLock, Timeout

from wanda_core.assets import ASSETS
from wanda_core.errors import InputError, StorageError, shortened_path
from wanda_core.machine import atomic_file
from wanda_core.machine.ordinary_file import open_ordinary
from wanda_core.machine.paths import path_of
from wanda_core.model.language_model import LanguageModel
from wanda_core.outliers.analysis import Analysis
from wanda_core.outliers.features import FEATURE_MAGNITUDE, LAYER_SHARE, POSITION_SHARE, FeatureReport
from wanda_core.sheets import csv_text

MEASURED_RUNS = ASSETS / "runs.jsonl"  # rows that come with the lab, measured by its own command
MOST_RUNS = 1000  # rows that a figure can show; a full file is refused, none is dropped
MOST_BYTES = 4 * 2**20  # of the file; a thousand rows take half a megabyte
LOCK_SECONDS = 10


@dataclass(frozen=True)
class Run:
    """One analysed model.

    parameters: tied ones once; ratio: the largest |x| of a block's output as a multiple of the block's median, at
    `channel` after `block`; massive: whether any channel is massive (|x| > 100 and 1,000 × the median); features: how
    many LLM.int8() outlier features there are by the paper's thresholds, features_share: of blocks in which one
    passes; text, calibration: what it was measured on and the fingerprint of its tokens; when: ISO 8601, UTC.
    """

    model: str
    revision: str
    parameters: int
    blocks: int
    width: int
    ratio: float
    channel: int
    block: int
    massive: bool
    features: int
    features_share: float
    text: str
    calibration: str
    samples: int
    seq_len: int
    dtype: str
    when: str
    wanda_lab: str
    torch: str
    transformers: str

    @property
    def key(self) -> tuple[str, str, str]:
        """Rows with the same one measure the same: model, its revision, and the tokens."""
        return self.model, self.revision, self.calibration


@dataclass(frozen=True)
class Runs:
    """The rows of a file, oldest first. damaged: numbers from 1 of the lines that are no row."""

    rows: tuple[Run, ...]
    damaged: tuple[int, ...] = ()


def run_of(lm: LanguageModel, analysis: Analysis, report: FeatureReport) -> Run:
    """The row of a model. Raises InputError when the features were counted with thresholds other than the paper's,
    for rows are compared with each other."""
    given = (report.magnitude, report.layer_share, report.position_share)
    usual = (FEATURE_MAGNITUDE, LAYER_SHARE, POSITION_SHARE)
    if given != usual:
        raise InputError(f"outlier features were counted with thresholds {given}, and rows are compared at {usual}")
    ratios, source = analysis.ratios, analysis.profile.source
    block, channel = divmod(int(ratios.argmax()), ratios.shape[1])
    return Run(
        model=lm.title,
        revision=lm.revision,
        parameters=lm.n_parameters,
        blocks=len(lm.linears),
        width=lm.stream_width,
        ratio=float(ratios[block, channel]),
        channel=channel,
        block=block,
        massive=bool(analysis.massive.any()),
        features=len(report.features),
        features_share=report.blocks_share,
        calibration=analysis.profile.calibration,
        when=datetime.now(UTC).isoformat(timespec="seconds"),
        **{
            name: source[name] for name in ("text", "samples", "seq_len", "dtype", "wanda_lab", "torch", "transformers")
        },
    )


def runs_path() -> Path:
    """Where the user's rows are: `WANDA_RUNS`, else a file in the user's data folder."""
    chosen = os.environ.get("WANDA_RUNS")
    return path_of(chosen, "WANDA_RUNS") if chosen else Path(platformdirs.user_data_dir("wanda-lab")) / "runs.jsonl"


def read_runs(path: str | Path | None = None) -> Runs:
    """The rows of a file, the user's when left out; none when there is no file.

    Raises StorageError when it cannot be read or is larger than MOST_BYTES.
    """
    rows, damaged = [], []
    for number, line in enumerate(_lines(path_of(path) if path else runs_path()), start=1):
        row = _parsed(line)
        if row is not None:
            rows.append(row)
        else:
            damaged.append(number)
    return Runs(tuple(rows), tuple(damaged))


def all_runs() -> Runs:
    """The rows that come with the lab, then the user's; where both measure the same, the user's."""
    own = read_runs()
    keys = {row.key for row in own.rows}
    return Runs((*(row for row in read_runs(MEASURED_RUNS).rows if row.key not in keys), *own.rows), own.damaged)


def add_run(run: Run, path: str | Path | None = None) -> Path:
    """Add a row to a file, the user's when left out; an earlier row that measures the same is replaced.

    Raises StorageError when it cannot be written, is full, or is a file of another kind.
    """
    target = path_of(path) if path else runs_path()
    try:
        target = target.absolute()
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(_lock_of(target), timeout=LOCK_SECONDS), atomic_file.written(target) as part:
            part.write_bytes(b"".join(_raw(line) for line in _with(run, _lines(target), target)))
    except Timeout as error:
        raise StorageError(
            f"{shortened_path(target)} has been held by another process for {LOCK_SECONDS} s; try again when it has "
            "ended"
        ) from error
    except OSError as error:
        raise StorageError(
            f"the row cannot be written to {shortened_path(target)} ({error.strerror or error}); set WANDA_RUNS to "
            "another file"
        ) from error
    return target


def runs_csv(rows: Iterable[Run]) -> str:
    """The rows as CSV with a line of titles."""
    return csv_text([[field.name for field in fields(Run)], *(asdict(row).values() for row in rows)])


def _lock_of(target: Path) -> Path:
    """The file by which processes wait for each other; taking it empties it, so it must be nobody else's."""
    lock = target.with_name(f".{target.name}.lock")
    if lock.is_dir() or (lock.is_file() and lock.stat().st_size):
        raise StorageError(
            f"{shortened_path(lock)} would be used as a lock and holds something; move it away or set WANDA_RUNS to "
            "another file"
        )
    return lock


def _with(run: Run, lines: list[str], target: Path) -> list[str]:
    """The lines with one more at their end, without those it replaces.

    Raises StorageError for MOST_RUNS rows, of which none is dropped, and for lines none of which is a row.
    """
    parsed = [(line, _parsed(line)) for line in lines]
    if lines and not any(row for _, row in parsed):
        raise StorageError(
            f"{shortened_path(target)} holds lines and none is a row of runs, so it is another file; set WANDA_RUNS "
            "to a new one"
        )
    kept = [(line, row) for line, row in parsed if row is None or row.key != run.key]
    if sum(row is not None for _, row in kept) >= MOST_RUNS:
        raise StorageError(
            f"{shortened_path(target)} holds {MOST_RUNS:,} rows, as many as are read; move it away or set WANDA_RUNS "
            "to a new file"
        )
    return [*(line for line, _ in kept), json.dumps(asdict(run), allow_nan=False)]


def _lines(path: Path) -> list[str]:
    """Without blank ones at the end. A byte that is no UTF-8 stays as it is when the line is written again."""
    try:
        with open_ordinary(path) as file:
            raw = file.read(MOST_BYTES + 1)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StorageError(
            f"the rows in {shortened_path(path)} cannot be read ({error.strerror or error}); set WANDA_RUNS to "
            "another file"
        ) from error
    if len(raw) > MOST_BYTES:
        raise StorageError(
            f"{shortened_path(path)} is larger than the {MOST_BYTES // 2**20} MB that rows are kept in; move it away"
        )
    return raw.decode("utf-8", errors="surrogateescape").rstrip().split("\n") if raw.strip() else []


def _raw(line: str) -> bytes:
    return f"{line}\n".encode("utf-8", errors="surrogateescape")


def _parsed(line: str) -> Run | None:
    """A row, or None for a line that is none: other names, other types, numbers that are none."""
    try:
        values: dict[str, Any] = json.loads(line)
        return Run(**{field.name: _checked(values.pop(field.name), field.type) for field in fields(Run)})
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def _checked(value: Any, kind: Any) -> Any:
    right = isinstance(value, bool) if kind is bool else isinstance(value, kind) and not isinstance(value, bool)
    if isinstance(value, str):
        value.encode()  # half of a character is none
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise ValueError("a whole number beyond all counts")
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        right, value = True, float(value)
    if not right or (kind is float and not math.isfinite(value)):
        raise ValueError(value)
    return value
