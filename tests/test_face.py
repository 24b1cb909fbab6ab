"""`import wanda_core`: every name is there, none costs anything before it is used."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import wanda_core

ROOT = Path(__file__).resolve().parent.parent


def said(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("name", wanda_core.__all__)
def test_every_public_name_is_there(name):
    assert getattr(wanda_core, name) is not None
    assert name in dir(wanda_core)


def test_each_name_is_the_one_that_type_checkers_see():
    tree = ast.parse(Path(wanda_core.__file__).read_text(encoding="utf-8"))
    (guarded,) = (node for node in tree.body if isinstance(node, ast.If))
    seen = {alias.name: node.module for node in guarded.body for alias in node.names}
    assert seen == {name: f"wanda_core.{home}" for name, home in wanda_core._HOME_OF.items()}
    assert {*seen, "__version__"} == set(wanda_core.__all__)


def test_another_name_is_refused_as_any_module_does():
    with pytest.raises(AttributeError, match="module 'wanda_core' has no attribute 'shrink_ray'"):
        _ = wanda_core.shrink_ray


@pytest.mark.parametrize(
    "program",
    ["import wanda_core; wanda_core.PruneSpec(); wanda_core.METHODS; wanda_core.InputError", "import wanda_ui.command"],
)
def test_nothing_heavy_is_imported_before_it_is_needed(program):
    heavy = ("torch", "transformers", "gradio", "plotly", "pandas", "psutil")
    assert said(f"{program}; import sys; print([name for name in {heavy!r} if name in sys.modules])") == "[]"


@pytest.mark.skipif(sys.platform == "win32", reason="no such process there")
def test_what_packages_start_runs_nothing_of_the_current_folder(tmp_path):
    (tmp_path / "signal.py").write_text(f"open({str(tmp_path / 'canary')!r}, 'w')")
    said(
        "import os\nfrom multiprocessing import resource_tracker as tracker\nfrom wanda_ui import command\n"
        f"def main():\n    os.chdir({str(tmp_path)!r})\n    tracker.ensure_running()\n"
        "    tracker._resource_tracker._stop()\n"
        "command.commands.main = main\ncommand.main()"
    )
    assert not (tmp_path / "canary").exists()
