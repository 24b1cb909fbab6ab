"""What low memory takes from inside transformers, listed once, and what is said where a version lacks it."""

import ast
import dataclasses
import importlib
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import transformers
from command_line import ROOT, refused, run
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version
from torch import nn

import wanda_core.low_memory
from wanda_core.cli.options import TESTED_TRANSFORMERS, WORKING_TRANSFORMERS

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
# Of what loading tells.
LOADING_INFO = {"conversion_errors", "mismatched_keys", "missing_keys"}

PUBLIC_MODULES = {"transformers", "transformers.utils"}
PUBLIC_ATTRIBUTES = {"config", "generation_config", "num_parameters"}
MODELS = {"model", "lm.model", "self.model", "PreTrainedModel"}  # what models are called in the room
ROOM = sorted(Path(wanda_core.low_memory.__file__).parent.glob("*.py"))
NODES = [node for path in ROOM for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))]


def attributes_of(owners: set[str]) -> set[str]:
    return {node.attr for node in NODES if isinstance(node, ast.Attribute) and ast.unparse(node.value) in owners}


def test_the_list_of_names_is_complete():
    taken: dict[str, set[str]] = {}
    for node in NODES:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("transformers"):
            taken.setdefault(node.module, set()).update(alias.name for alias in node.names)
        if isinstance(node, ast.Import):
            modules = {alias.name for alias in node.names if alias.name.startswith("transformers")}
            assert modules <= {"transformers"}
    assert {module: names for module, names in taken.items() if module not in PUBLIC_MODULES} == NAMES
    assert attributes_of({"transformers"}) <= {"__version__"}


def test_the_list_of_attributes_is_complete():
    assert attributes_of(MODELS) - set(dir(nn.Module)) - PUBLIC_ATTRIBUTES == ATTRIBUTES
    assert attributes_of({"info"}) == LOADING_INFO
    of_torch = {"_buffers", "_parameters"}  # of every torch module
    private = {
        node.attr
        for node in NODES
        if isinstance(node, ast.Attribute) and re.match(r"_[a-z]", node.attr) and ast.unparse(node.value) != "self"
    }
    assert private - of_torch == {name for name in ATTRIBUTES if name.startswith("_")}


@pytest.mark.parametrize("module", NAMES)
def test_each_name_is_there(module):
    for name in NAMES[module]:
        assert hasattr(importlib.import_module(module), name), name


@pytest.mark.parametrize("name", sorted(ATTRIBUTES))
def test_each_attribute_is_there(tiny_llama, name):
    assert hasattr(tiny_llama.model, name)
    assert hasattr(transformers.PreTrainedModel, name) or name == "all_tied_weights_keys"  # only a whole model has it


@pytest.mark.parametrize("name", sorted(LOADING_INFO))
def test_loading_tells_it(name):
    from transformers.core_model_loading import LoadStateDictInfo

    assert name in {field.name for field in dataclasses.fields(LoadStateDictInfo)}


def test_a_function_with_other_arguments_is_noticed_at_import(monkeypatch):
    from wanda_core.low_memory import conversion

    conversion._check_calls()
    monkeypatch.setattr(conversion, "_CALLS", [(lambda model, tensors, config, tp_plan: None, 3, ())])
    with pytest.raises(ImportError, match="missing a required argument: 'tp_plan'"):
        conversion._check_calls()


def test_every_name_that_is_called_is_tried_at_import():
    from wanda_core.low_memory import conversion

    tried = {function.__name__ for function, _, _ in conversion._CALLS}
    called = {name for names in NAMES.values() for name in names} - {"WeightConverter", "WeightRenaming"}
    methods = {name for name in ATTRIBUTES if inspect.isfunction(getattr(transformers.PreTrainedModel, name, None))}
    assert tried == called | methods


def test_the_versions_that_are_named_are_those_of_the_requirements():
    pinned = re.search(r"^transformers==(.*)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert pinned[1] == TESTED_TRANSFORMERS
    working = SpecifierSet(WORKING_TRANSFORMERS)
    assert Version(TESTED_TRANSFORMERS) in working
    asked = re.search(r"^transformers\S*", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    allowed = Requirement(asked[0]).specifier
    within = [Version(f"{major}.{minor}") for major in (4, 5, 6) for minor in range(60)]
    assert all(version in allowed for version in within if version in working)


LONG = [pytest.param(command, marks=pytest.mark.long) for command in ("perplexity", "generate")]


@pytest.mark.parametrize("command", ["prune", *LONG])
def test_what_works_in_memory_does_not_import_it(dense, sample, tmp_path, command):
    options = {
        "prune": ["--method", "magnitude", "--output", "out"],
        "perplexity": ["--text", str(sample), "--seq-len", "16", "--windows", "1"],
        "generate": ["--prompt", "The sky", "--max-new-tokens", "2"],
    }
    program = (
        "import sys; from wanda_core.cli.commands import app\n"
        f"code = app({[command, '--model', dense, '--device', 'cpu', *options[command]]!r}, standalone_mode=False)\n"
        "print(); print(code or 0, [name for name in sys.modules if 'low_memory' in name])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout.splitlines()[-1] == "0 []", done.stderr


@pytest.fixture
def imported_afresh(monkeypatch):
    """Let the next import of the room run its files again; afterwards everybody has the same modules as before."""
    prefix = "wanda_core.low_memory."
    for name in [name for name in sys.modules if name.startswith(prefix)]:
        monkeypatch.setattr(wanda_core.low_memory, name.removeprefix(prefix), sys.modules[name])
        monkeypatch.delitem(sys.modules, name)


@pytest.mark.parametrize(
    "lost",
    ["transformers.core_model_loading.rename_source_key", "transformers.PreTrainedModel._get_dtype_plan"],
    ids=["a name", "an attribute"],
)
@pytest.mark.usefixtures("imported_afresh", "transformers_as_before")
def test_where_transformers_lacks_something_it_is_one_sentence(dense, tmp_path, monkeypatch, lost):
    monkeypatch.delattr(lost)
    command = ["prune", "--model", dense, "--device", "cpu", "--method", "magnitude", "--output", tmp_path / "out"]
    low_memory = run(*command, "--low-memory")
    refused(low_memory, 2, f"--low-memory does not work with transformers {transformers.__version__} (")
    assert lost.rpartition(".")[2] in low_memory.stderr
    assert (
        f"; install transformers{WORKING_TRANSFORMERS} (tested: {TESTED_TRANSFORMERS}), or leave" in low_memory.stderr
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("imported_afresh", "transformers_as_before")
def test_where_a_file_of_it_is_missing_pruning_in_memory_goes_on(dense, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wanda_core.low_memory.conversion", None)
    command = ["prune", "--model", dense, "--device", "cpu", "--method", "magnitude", "--output", tmp_path / "out"]
    refused(run(*command, "--low-memory"), 2, "everything else goes on working")
    assert run(*command).exit_code == 0
    assert (tmp_path / "out" / "wanda.json").is_file()
