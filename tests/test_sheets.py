"""Tables that leave as CSV: no spreadsheet computes what a stranger wrote, whichever part of the code writes them."""

import csv
import dataclasses
import io
import re
from pathlib import Path

import pytest

from wanda_core.outliers.run_log import MEASURED_RUNS, read_runs, runs_csv
from wanda_core.report.run import csv_of
from wanda_core.sheets import FORMULAS, WITHIN, csv_text
from wanda_ui.language import say
from wanda_ui.lesson import summary
from wanda_ui.lesson.answers import Record
from wanda_ui.replay import replay
from wanda_ui.view_files import FOLDER, LESSON

ROOT = Path(__file__).resolve().parent.parent
HOSTILE = [f'{start}cmd|"/C calc"!A0' for start in FORMULAS]
CELLS = {
    "=1+1": "'=1+1",
    "-1": "'-1",
    "＝1": "'＝1",
    "\n=1": "\"'\n'=1\"",
    'a"b': '"a""b"',
    "a,b": '"a,b"',
    "a\r=1": '"a\r\'=1"',
    "a;b": '"a;b"',
    "a\tb": '"a\tb"',
    "a; =1": '"a; =1"',
    "a;=1;-1": "\"a;'=1;'-1\"",
    'a;"=1"': '"a;""\'=1"""',
    " a": '" a"',
    "a\0b": "a\ufffdb",
    -1.5: "-1.5",
    float("inf"): "inf",
    float("nan"): "",
    None: "",
    True: "True",
    "plain": "plain",
}


def of_growth(text):
    return runs_csv([dataclasses.replace(read_runs(MEASURED_RUNS).rows[0], model=text, text=text)])


def of_a_run(text):
    run = replay()
    return csv_of({**run, "made": {**run["made"], "name": text, "revision": text}})


def of_the_lesson(text):
    record = Record("more", ("more",), text, {"sentence": text, text: 1.0}, text)
    return summary.to_csv({3: record}, lambda key, **values: say("en", key, **values))


@pytest.mark.parametrize(("given", "written"), CELLS.items())
def test_a_cell_is_quoted_where_need_be_and_never_computed(given, written):
    assert csv_text([[given, 1]]) == f"{written},1\n"


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("table", [of_growth, of_a_run, of_the_lesson])
def test_no_table_has_a_cell_that_a_spreadsheet_computes(table, text):
    rows = list(csv.reader(io.StringIO(table(text), newline="")))
    assert f"'{text}" in {cell for row in rows for cell in row}
    computed = {cell for row in rows for cell in row if cell.startswith(FORMULAS)}
    assert all(re.fullmatch(r"-[0-9.]+(e-?\d+)?", cell) for cell in computed)  # numbers


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("start", FORMULAS)
@pytest.mark.parametrize("before", ["", "Max;", "Max\t", "Max\n", "Max\r\n", 'Max;"', 'Max;""', '";', '"\n"'])
def test_no_spreadsheet_computes_a_text_wherever_it_parts_cells(before, start, separator):
    text = f"{before}{start}1+1;x"
    table = csv_text([["plain", text, text], [text, "plain", text]])
    cells = {cell for row in csv.reader(io.StringIO(table, newline=""), delimiter=separator) for cell in row}
    assert not [cell for cell in cells if cell.startswith(FORMULAS[:4])]
    if separator == ",":
        assert {cell.replace("'", "") for cell in cells} == {"plain", text}


def test_every_table_is_written_in_these_places():
    """Whatever else writes one would keep no rule at all."""
    python = [path for room in ("wanda_core", "wanda_ui") for path in (ROOT / room).rglob("*.py")]
    writes = re.compile(r"csv\.(Dict)?[wW]riter\(|\.to_csv\(|\.to_excel\(|delimiter=|\bsep=")
    assert {path.name for path in python if writes.search(path.read_text("utf-8"))} <= {"tables.py"}  # which reads
    scripts = [*FOLDER.glob("*.js"), *LESSON.glob("*.js")]
    texts = {path.name: path.read_text("utf-8") for path in scripts}
    handing = {name for name, text in texts.items() if re.search("text/(csv|tab)", text)}
    assert handing == {"19-take.js", "24-away.js", "50-class.js"}
    assert all("W.csv(" in texts[name] for name in handing)
    assert [name for name, text in texts.items() if re.search(r"""FORMULA = |'""'""", text)] == ["1-words.js"]


def test_scripts_and_python_know_the_same_formulas():
    written = (FOLDER / "1-words.js").read_text("utf-8").split("FORMULA = /^[", 1)[1].split("]/", 1)[0]
    assert written.replace("\\-", "-").encode().decode("unicode_escape").encode("latin-1").decode() == "".join(FORMULAS)
    assert f"WITHIN = /{WITHIN.pattern}/g" in (FOLDER / "1-words.js").read_text("utf-8")
