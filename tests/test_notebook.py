"""The notebook: whole and without outputs, and its cells run in order, on a tiny model and without Jupyter."""

import ast
import json
import os
import re
import shlex
import subprocess
import sys
import types
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOK = ROOT / "notebooks" / "wanda_lab.ipynb"
CELLS = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
# Shell lines that go on stand whole.
CODE = ["".join(cell["source"]).replace("\\\n", "") for cell in CELLS if cell["cell_type"] == "code"]
MOST_BYTES = 20_000
PROGRAM = [sys.executable, "-c", "from wanda_ui.command import main; main()"]


def python_of(cell):
    """A cell without its shell lines."""
    return re.sub(r"^!.*$", "pass", cell, flags=re.MULTILINE)


def test_it_is_a_small_notebook_without_outputs():
    book = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    assert (book["nbformat"], book["nbformat_minor"]) == (4, 5)
    assert NOTEBOOK.stat().st_size < MOST_BYTES
    for cell in book["cells"]:
        assert set(cell) == {"cell_type", "id", "metadata", "source"} | (
            {"outputs", "execution_count"} if cell["cell_type"] == "code" else set()
        )
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
    assert len({cell["id"] for cell in book["cells"]}) == len(book["cells"])


def test_what_may_be_changed_stands_in_the_first_cell():
    names = {target.id for node in ast.parse(CODE[0]).body for target in ast.walk(node) if isinstance(target, ast.Name)}
    assert {"SOURCE", "MODEL", "SPARSITY", "SWEEP"} <= names
    for cell in CODE:
        ast.parse(python_of(cell))
    rest = "\n".join(CODE[1:])
    assert not re.search(r"^(SOURCE|MODEL|SPARSITY|SWEEP)\b.*=", rest, re.MULTILINE)


@pytest.fixture
def shown(monkeypatch):
    """What the notebook displays, in the place of IPython."""
    seen = []
    display = types.ModuleType("IPython.display")
    display.HTML, display.display = str, seen.append
    monkeypatch.setitem(sys.modules, "IPython", types.ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    return seen


@pytest.mark.long
def test_its_cells_run_in_order(dense, tmp_path, monkeypatch, shown, capsys):
    monkeypatch.chdir(tmp_path)
    names = {"MODEL": dense, "SWEEP": "30,60", "WINDOWS": 2, "LENGTH": 64, "PROMPT": "The sky is"}
    space = {}
    for cell in CODE:
        for line in re.findall(r"^!(.*)$", cell, re.MULTILINE):
            program, *arguments = shlex.split(line.format(**space))
            assert program == "wanda-lab"
            done = subprocess.run(
                [*PROGRAM, *arguments],
                env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
                capture_output=True,
                text=True,
                timeout=300,
            )
            assert done.returncode == 0, f"{line}: {done.stderr}"
        exec(compile(python_of(cell), "cell", "exec"), space)
        if cell == CODE[0]:
            assert names.keys() <= space.keys()
            space |= names
    said = capsys.readouterr().out
    assert re.search(r"^wanda: [\d.]+% zeros, perplexity [\d.]+$", said, re.MULTILINE)
    assert (tmp_path / "pruned" / "wanda.json").is_file()
    assert {line["key"] for line in json.loads((tmp_path / "run.json").read_text())["lines"]} >= {"wanda", "magnitude"}
    (frame,) = shown
    assert frame.startswith("<iframe srcdoc=")
    assert "&lt;script" in frame


def test_readme_names_it():
    assert "notebooks/wanda_lab.ipynb" in (ROOT / "README.md").read_text(encoding="utf-8")
