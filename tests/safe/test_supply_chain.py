"""What the app stands on: the floors below which known holes lie, the audit, and what SECURITY.md says."""

import re
import subprocess
import sys

from packaging.requirements import Requirement
from safe.audit import ROOT, audited, below_floors

LINE = "Supply chain"
# Below them: remote code in spite of trust_remote_code=False, weights that run code, templates that get out of their
# sandbox, corrupt files after a kill.
FLOORS = {"gradio": "6.25", "transformers": "5.5", "torch": "2.8", "safetensors": "0.8", "huggingface_hub": "1.26"}
FLOORS["jinja2"] = "3.1.6"


def test_no_floor_lies_below_a_known_hole_and_what_is_installed_keeps_to_them(figures):
    lines = [line.partition("#")[0].strip() for line in (ROOT / "requirements.txt").read_text().splitlines()]
    asked = {one.name: one.specifier for one in map(Requirement, filter(None, lines))}
    low = []
    for name, floor in FLOORS.items():
        *first, last = map(int, floor.split("."))
        below = ".".join(map(str, [*first, last - 1, 99]))
        if asked[name].contains(below):
            low.append(name)
    assert not low
    wrong = below_floors()
    assert not wrong
    figures.exactly(LINE, "packages below their floor, of those the app stands on", len(low) + len(wrong), 0)


def test_the_audit_says_what_it_asked_and_what_it_could_not():
    done = subprocess.run([sys.executable, "-m", "safe.audit"], cwd=ROOT / "tests", capture_output=True, text=True)
    code, said = audited()
    assert done.returncode == (1 if code else 0), done.stdout
    assert "every package is one that requirements.txt takes" in done.stdout
    assert said.splitlines()[0][:60] in done.stdout


def test_no_switch_lets_a_models_code_run_and_security_names_files_that_are_there():
    source = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "wanda_core").rglob("*.py"))
    assert "trust_remote_code=True" not in source
    assert not re.search(r"\b(pickle|torch\.load|joblib|dill|eval|exec)\s*[.(](?!uate)", source.replace(".eval()", ""))
    said = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    for name in re.findall(r"`((?:wanda_\w+/)[\w/.]+)`", said):
        assert (ROOT / name).exists(), name
