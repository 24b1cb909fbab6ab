"""Rules of the house: who may import whom, how long a file is, what the built-in texts are."""

import ast
import re
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

import wanda_core
from wanda_core.assets import BUILTIN_CALIBRATION, BUILTIN_EVALUATION
from wanda_core.text.files import read_text

ROOT = Path(__file__).resolve().parent.parent
MODULES = sorted(path for path in Path(wanda_core.__file__).parent.rglob("*.py"))
SOURCES = sorted(
    path
    for path in ROOT.rglob("*.py")
    if not any(part.startswith(".") or part in {"out", "build"} for part in path.relative_to(ROOT).parts)
)
UI = ("gradio", "plotly", "wanda_ui")


def test_importing_all_of_the_engine_brings_no_user_interface():
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in MODULES]
    names = [name.removesuffix(".__init__") for name in names if not name.endswith("__main__")]
    program = f"""
import importlib, sys
for name in {names!r}:
    importlib.import_module(name)
print([name for name in {UI!r} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().splitlines()[-1] == "[]"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_the_engine_never_imports_a_user_interface_not_even_late(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        else:
            continue
        assert not {name.split(".")[0] for name in names} & set(UI)


def lines_of(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def test_no_file_is_longer_than_400_lines_but_for_a_reason_at_its_head():
    long = {str(path.relative_to(ROOT)) for path in SOURCES if lines_of(path) > 400}
    unexplained = {name for name in long if "is long because" not in (ROOT / name).read_text("utf-8")[:600]}
    assert SOURCES
    assert not unexplained


def test_the_median_file_has_at_most_200_lines():
    assert statistics.median(map(lines_of, SOURCES)) <= 200


def test_what_runs_before_a_commit_is_what_lint_runs():
    made = (ROOT / "Makefile").read_text(encoding="utf-8")
    recipe = re.search(r"^lint:.*\n((?:\t.*\n)+)", made, re.MULTILINE)[1]
    linted = [
        line.strip().replace("$(PY)", ".venv/bin/python").replace("$(VENV)", ".venv") for line in recipe.splitlines()
    ]
    hooks = re.findall(r"^ +entry: (.*)$", (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"), re.MULTILINE)
    assert hooks == linted


def test_every_room_says_what_lives_there_and_readme_lists_it():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    rooms = sorted(path.parent for path in (ROOT / "wanda_core").glob("*/__init__.py"))
    assert rooms
    for room in rooms:
        tree = ast.parse((room / "__init__.py").read_text(encoding="utf-8"))
        assert ast.get_docstring(tree)
        assert len(tree.body) == 1, "only the root has a face"
        assert f"| `{room.name}/` |" in readme


@pytest.mark.builtin
def test_the_built_in_texts_are_long_enough_for_the_defaults(builtin_lm):
    assert len(builtin_lm.encode(read_text(BUILTIN_CALIBRATION))) >= 12_000
    assert len(builtin_lm.encode(read_text(BUILTIN_EVALUATION))) >= 5_000


def test_the_built_in_texts_share_no_eight_words_in_a_row():
    runs = []
    for path in (BUILTIN_CALIBRATION, BUILTIN_EVALUATION):
        words = re.findall(r"[\w']+", read_text(path).lower())
        runs.append({tuple(words[i : i + 8]) for i in range(len(words) - 7)})
    assert not runs[0] & runs[1]
