"""The start of a Space, rehearsed whole: a fresh environment, the page, its settings and its model."""

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.space_start import RECIPE, interpreter, look_at
from wanda_ui.compare.asked import column_of
from wanda_ui.settings import PUBLIC, Settings

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.long
@pytest.mark.builtin
@pytest.mark.timeout(3600)
def test_a_space_starts_from_its_requirements_alone():
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.space_start", "--constraint", str(ROOT / "constraints.txt")],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "as a Space should be"


def test_what_the_rehearsal_asks_is_what_the_page_sends():
    assert column_of(RECIPE, PUBLIC).recipe.spec.method == "wanda"
    assert subprocess.run([interpreter(), "-c", "import venv"]).returncode == 0


def test_a_page_of_ones_own_is_no_space(monkeypatch):
    from wanda_ui.first_view import first_view

    with pytest.raises(AssertionError, match="it offers"):
        look_at(first_view("en", Settings()), 0)
