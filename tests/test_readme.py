"""README's snippets are run as they stand: only the model and the files they name are others."""

import copy
import os
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks import bench
from wanda_core.checkpoint.push import Pushed
from wanda_core.methods import METHODS
from wanda_ui.command import commands as all_commands

ROOT = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.usefixtures("transformers_as_before")
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMAND = re.compile(r"(?:(?:\S*python3?|torchrun) .*-m wanda_core|wanda-lab)\b.*")
# Commands that install or start things: which test stands for them.
ELSEWHERE = {
    "make run": "the targets of the Makefile",
    "make test": "the targets of the Makefile",
    "pip install .": "test_wheel.py",
    "python3 -m venv .venv": "the Makefile does the same",
    ".venv/bin/pip install -r requirements.txt -c constraints.txt": "the Makefile does the same",
    ".venv/bin/python app.py": "the Makefile does the same",
    "py -m venv .venv": "Windows",
    r".venv\Scripts\pip install -r requirements.txt -c constraints.txt": "Windows",
    r".venv\Scripts\python app.py": "Windows",
}
WITHOUT_MODEL = ("app", "sparsity", "site", "report", "push")  # commands
# Whose options README names.
OFFERING = ("prune", "profile", "perplexity", "generate", "evaluate", "outliers", "ablate", "sweep", "shrink", "distil")
OFFERING += WITHOUT_MODEL
PLACEHOLDER = re.compile(r"[A-Z]{3,}")


def code() -> list[str]:
    """README's code: what stands between fences, and indented lines after a blank or an indented one."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    rest = re.sub(r"^```\w*\n.*?^```", "", README, flags=re.MULTILINE | re.DOTALL)
    return [*blocks, "\n".join(re.findall(r"^ {4}(.*)", rest, re.MULTILINE))]


def commands() -> list[list[str]]:
    """Every command line in README's code, in README's order within fences and outside of them."""
    lines = re.sub(r"\\\n\s*", " ", "\n".join(code())).splitlines()
    return [shlex.split(line, comments=True) for line in lines if COMMAND.match(line.strip())]


@pytest.fixture(scope="module")
def place(tmp_path_factory, tiny_llama, text) -> Path:
    """A working folder with a tiny model that reads as many tokens as the built-in one's usual windows have."""
    folder = tmp_path_factory.mktemp("readme")
    model = copy.deepcopy(tiny_llama.model)
    model.config.max_position_embeddings = 2048
    model.save_pretrained(folder / "tiny")
    tiny_llama.tokenizer.save_pretrained(folder / "tiny")
    (folder / "sample.txt").write_text(text * 5, encoding="utf-8")
    (folder / "out").mkdir()
    return folder


def localised(arguments: list[str], place: Path) -> list[str]:
    """The command with the tiny model for the built-in one, a text for FILE.txt, our task for those of the hub."""
    mine = {"builtin": "tiny", "FILE.txt": "sample.txt", "507": "7"}  # a channel that the tiny model has
    arguments = [mine.get(argument, argument) for argument in arguments]
    if "--model" not in arguments and arguments[0] not in WITHOUT_MODEL:
        arguments += ["--model", "tiny"]
    if "--tasks" in arguments:
        pytest.importorskip("lm_eval", reason="the extra that runs tasks is not installed")
        from lm_eval_task import write_task

        arguments[arguments.index("--tasks") + 1] = "colours"
        if not (place / "yaml").exists():
            write_task(place)
        arguments += ["--include-path", "yaml"]
    return arguments


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_every_command_line_runs(place, monkeypatch):
    monkeypatch.chdir(place)
    served = []
    # Else it never ends.
    monkeypatch.setattr("wanda_ui.start.serve", lambda host, port, tools, lan: served.append((host, port, tools, lan)))
    pushed = []

    def push(folder, repo, private):
        pushed.append((Path(folder, "wanda.json").is_file(), repo, private))
        yield from ()
        return Pushed(repo, f"https://huggingface.co/{repo}", "0" * 40, private)

    monkeypatch.setattr("wanda_core.checkpoint.push.push_steps", push)  # there is no account to push to
    found = commands()
    assert {"prune", "perplexity", "generate", "profile"} <= {word for command in found for word in command}
    for command in found:
        start = 1 if command[0] == "wanda-lab" else command.index("wanda_core") + 1
        launch, arguments = command[:start], localised(command[start:], place)
        assert not any(PLACEHOLDER.search(word) for word in arguments), f"what stands for this? {command}"
        if launch in (["wanda-lab"], ["python", "-m", "wanda_core"]):
            result = CliRunner().invoke(all_commands.app, arguments)
            code, said = result.exit_code, result.output
        else:
            before = ["torch.distributed.run", "--standalone"] if launch[0] == "torchrun" else []
            options = [word for word in launch[1:] if word != "--standalone"]
            done = subprocess.run(
                [sys.executable, *["-m"] * bool(before), *before, *options, *arguments],
                env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
                capture_output=True,
                text=True,
                timeout=300,
            )
            code, said = done.returncode, done.stderr
        assert code == 0, f"{shlex.join(command)}: {said}"
    plain, lan, tools = (False, False), (False, True), (True, False)
    assert served == [(None, None, *wishes) for wishes in (plain, lan, tools)]
    assert pushed == [(True, "me/wanda-50", True)]


def test_every_other_line_of_code_is_known_and_its_targets_exist():
    shell = code()[-1].splitlines()
    rest = [line.split("#")[0].strip() for line in shell if line.strip() and not COMMAND.match(line.strip())]
    assert set(rest) == set(ELSEWHERE)
    made = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert {line.split()[1] for line in rest if line.startswith("make ")} <= set(made)


def test_the_table_of_methods_is_the_engines():
    rows = re.findall(
        r"^\| `([\w-]+)` \| (.*?) \| ([\w:, -]+) \|$", README.split("## Methods")[1].split("\n\n")[1], re.MULTILINE
    )
    found = {name: (formula.replace("\\|", "|"), tuple(groups.split(", "))) for name, formula, groups in rows}
    assert found == {method.name: (method.formula, method.groups) for method in METHODS.values()}


# That which asks a server is run by test_tools_served.py.
BLOCKS = [b for b in re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL) if "gradio_client" not in b]


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_every_python_block_runs(place, monkeypatch, number, capsys):
    block = BLOCKS[number]
    program = place / f"block-{number}.py"
    program.write_text(block.replace('"builtin"', '"tiny"').replace('"assets/', f'"{ROOT.as_posix()}/assets/'))
    monkeypatch.chdir(place)
    runpy.run_path(str(program))
    assert capsys.readouterr().out


def test_the_korean_table_lists_the_same_methods():
    korean = (ROOT / "README.ko.md").read_text(encoding="utf-8").split("## 방법")[1].split("\n\n")[1]
    assert re.findall(r"^\| `([\w-]+)` \|", korean, re.MULTILINE) == list(METHODS)


def test_there_is_code_to_run():
    assert re.search(r"^```python$", README, re.MULTILINE)
    assert len(commands()) >= 7


def test_every_option_that_readme_names_is_offered():
    offered = " ".join(CliRunner().invoke(all_commands.app, [command, "--help"]).stdout for command in OFFERING)
    named = {option for text in re.findall(r"`([^`\n]+)`", README) for option in re.findall(r"(?<!\S)--[a-z-]+", text)}
    assert named
    offered += bench.parser().format_help()
    assert not {option for option in named if option not in offered and option != "--help"}
