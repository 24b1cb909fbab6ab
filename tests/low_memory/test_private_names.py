"""What low memory takes from inside transformers, listed once, and what is said where a version lacks it."""

import ast
import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import transformers
from command_line import ROOT, refused, run

import wanda_core.low_memory
from wanda_core.cli.options import TESTED_TRANSFORMERS

# Modules of transformers that promise nothing, and what is taken from them.
NAMES = {
    "transformers.conversion_mapping": {"get_model_conversion_mapping"},
    "transformers.core_model_loading": {
        "WeightConverter",
        "WeightRenaming",
        "convert_and_load_state_dict_in_model",
        "rename_source_key",
        "revert_weight_conversion",
    },
    "transformers.modeling_utils": {"LoadStateDictConfig", "remove_tied_weights_from_state_dict"},
}
# Attributes of transformers' models that promise nothing.
ATTRIBUTES = {
    "_adjust_missing_and_unexpected_keys",
    "_get_dtype_plan",
    "_keys_to_ignore_on_save",
    "all_tied_weights_keys",
    "base_model_prefix",
    "tie_weights",
}
PUBLIC = {"transformers", "transformers.utils"}
TORCH = {"_buffers", "_parameters"}  # of every torch module
ROOM = sorted(Path(wanda_core.low_memory.__file__).parent.glob("*.py"))


def test_the_list_is_complete():
    taken: dict[str, set[str]] = {}
    private: set[str] = set()
    for path in ROOM:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("transformers"):
                taken.setdefault(node.module, set()).update(alias.name for alias in node.names)
            if isinstance(node, ast.Attribute) and re.match(r"_[a-z]", node.attr):
                private.add((ast.unparse(node.value), node.attr))
    assert {module: names for module, names in taken.items() if module not in PUBLIC} == NAMES
    of_others = {name for owner, name in private if owner not in {"self", "cls"}}
    assert of_others - TORCH == {name for name in ATTRIBUTES if name.startswith("_")}


@pytest.mark.parametrize("module", NAMES)
def test_each_name_is_there(module):
    for name in NAMES[module]:
        assert hasattr(importlib.import_module(module), name), name


@pytest.mark.parametrize("name", sorted(ATTRIBUTES - {"all_tied_weights_keys"}))
def test_each_attribute_is_there(name):
    assert hasattr(transformers.PreTrainedModel, name)


def test_the_version_that_is_named_is_the_one_that_is_tested():
    pinned = re.search(r"^transformers==(.*)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert pinned[1] == TESTED_TRANSFORMERS


def test_pruning_in_memory_does_not_import_it(dense, tmp_path):
    program = (
        "import sys; from wanda_core.cli.commands import app\n"
        f"given = ['prune', '--model', {dense!r}, '--method', 'magnitude', '--output', 'out']\n"
        "code = app(given, standalone_mode=False)\n"
        "print(code or 0, [name for name in sys.modules if 'low_memory' in name])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.stdout.splitlines()[-1] == "0 []", done.stderr


def test_where_transformers_lacks_something_it_is_one_sentence(dense, tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("wanda_core.low_memory.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr("transformers.core_model_loading.rename_source_key")
    result = run("prune", "--low-memory", "--model", dense, "--output", tmp_path / "out")
    refused(result, 2, f"install transformers {TESTED_TRANSFORMERS}, or leave --low-memory out")
    assert "rename_source_key" in result.stderr
