"""The table of methods is the only place that tells methods apart: scores agree with it, nothing else knows a name."""

import ast
from pathlib import Path

import pytest
import torch

from wanda_core.maths.scores import SCORES
from wanda_core.methods import METHODS

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted(
    path
    for package in ("wanda_core", "wanda_ui")
    for path in (ROOT / package).rglob("*.py")
    if path != ROOT / "wanda_core" / "methods.py"
)


def test_every_method_is_found_under_its_own_name():
    assert all(name == method.name for name, method in METHODS.items())


def test_every_method_has_a_score_unless_its_sweep_chooses_and_no_other_has_one():
    assert set(SCORES) == {method.name for method in METHODS.values() if method.mask_rule != "sweep"}


def test_a_seed_decides_where_the_table_says_so_and_nowhere_else():
    W, X_norm = torch.linspace(-1, 1, 12).reshape(3, 4), torch.arange(1.0, 5.0)
    changed = {name for name, score in SCORES.items() if not torch.equal(score(W, X_norm, 1), score(W, X_norm, 2))}
    assert changed == {method.name for method in METHODS.values() if method.seeded}


def holds_a_name(node: ast.expr | None) -> bool:
    """Whether an expression may hold a method's name: `method`, `spec.method`, `spec.definition.name`."""
    return (isinstance(node, ast.Name) and node.id == "method") or (
        isinstance(node, ast.Attribute) and node.attr in ("method", "name")
    )


def names_a_method(node: ast.AST) -> bool:
    """Whether a method's name is written out in it, alone or in a tuple, list or set."""
    return any(isinstance(part, ast.Constant) and part.value in METHODS for part in ast.walk(node))


def comparisons(source: str) -> list[int]:
    """The lines that compare a method's name with one that is written out."""
    lines = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            if any(map(holds_a_name, sides)) and any(map(names_a_method, sides)):
                lines.append(node.lineno)
        elif isinstance(node, ast.Match) and holds_a_name(node.subject):
            lines += [case.pattern.lineno for case in node.cases if names_a_method(case.pattern)]
    return lines


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_other_file_compares_a_methods_name(path):
    assert comparisons(path.read_text(encoding="utf-8")) == []


def test_a_comparison_is_seen_in_every_form():
    forms = (
        'spec.method == "wanda"',
        '"wanda" != method',
        'spec.definition.name in ("ria", "random")',
        'method not in {"sparsegpt"}',
        'match spec.method:\n    case "wanda" | "ria":\n        pass',
    )
    assert all(comparisons(form) for form in forms)
    assert not comparisons('METHODS = ("magnitude", "wanda")\nmethod == other\nname == "best"\nupdate == "none"')
