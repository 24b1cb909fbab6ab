"""The command and the Python that make a recipe of the page again: they mean the same, and they do the same."""

import shlex
import subprocess
import sys
from dataclasses import replace
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from command_line import run
from engine_room import server, spoken
from hypothesis import assume, given
from hypothesis import strategies as st
from safetensors.torch import load_file

from wanda_core.cli import pruning
from wanda_core.errors import InputError
from wanda_core.model.loading import load_model
from wanda_core.presets import preset
from wanda_core.recipe import PruneSpec, Solver
from wanda_core.report.keys import CHOICES
from wanda_core.report.repeat import PROGRAM, Repeat, command, python
from wanda_ui.compare.asked import spec_of
from wanda_ui.engine.look import Wanted
from wanda_ui.engine.recipe import Reading, Recipe

pytestmark = pytest.mark.usefixtures("transformers_as_before")
NAMES = ("method", "order", "group", "allocation", "update")
ODD = 'an owner/it\'s "a"\n$(model) `x` \\ ; é'


def pages_choices() -> list[dict[str, str]]:
    """Everything that can be chosen on the page and means something."""
    found = []
    for pattern, *values in product(("unstructured", "2:4", "1:3"), *(CHOICES[name] for name in NAMES)):
        choices = {"pattern": pattern, **dict(zip(NAMES, values, strict=True))}
        try:
            spec_of(50, **choices)
        except InputError:
            continue
        found.append(choices)
    return found


@st.composite
def recipes(draw) -> Repeat:
    """A recipe of the page, with its reading, which is the plain one where no text is read."""
    percent = draw(st.sampled_from([1, 7, 29, 45, 57, 95]) | st.floats(0.5, 95))
    spec = spec_of(percent, **draw(st.sampled_from(CHOSEN)))
    names = st.none() | st.sampled_from(["mine.txt", "-o", "c4", ODD]) | st.text(min_size=1)
    sizes = draw(st.sampled_from([(16, 256), (128, 2048), (1, 2)]))
    reading = Recipe(spec, Reading(None, *sizes, draw(st.sampled_from([0, 3, 2**62])))).reading
    text = draw(names) if spec.needs_calibration else None
    assume(text is None or (text.isprintable() and "/" not in text) or text == ODD)
    model = draw(st.sampled_from(["builtin", "-m", "~/models/mine", ODD]) | st.text(min_size=1).filter(str.isprintable))
    return Repeat(model, spec, reading.samples, reading.seq_len, reading.seed, text)


CHOSEN = pages_choices()


def intercepted(line: str) -> dict:
    """Run a command up to where the model would be pruned. -> what it has come with."""
    seen = {}

    def text_of(given, builtin, seq_len, column=None):
        seen["text"] = given
        return "a text", "a source"

    def load(model, *how):
        seen["model"] = model
        return SimpleNamespace(), {}

    def prune(lm, spec, drawn, on_progress, profile):
        seen.update(spec=spec, drawn=drawn)
        raise InputError("this is far enough; stop here")

    def check_target(output, folder):
        seen["output"] = output
        return Path("out")

    with pytest.MonkeyPatch.context() as patch:
        for name, stub in (("check_target", check_target), ("text_of", text_of), ("load", load)):
            patch.setattr(pruning, name, stub)
        for name in ("folder_of", "check_saveable", "check_room", "_note_cost"):
            patch.setattr(pruning, name, lambda *given: None)
        patch.setattr(pruning, "drawn_from", lambda lm, text, source, **how: how)
        patch.setattr("wanda_core.pruning.prune.prune", prune)
        program, *arguments = shlex.split(line)
        result = run(*arguments)
    assert program == PROGRAM
    assert "far enough" in result.output
    return seen


def same_mask(spec: PruneSpec, wanted: PruneSpec) -> bool:
    """Whether two recipes remove the same: a seed that decides nothing may differ."""
    return (spec if wanted.definition.seeded else replace(spec, seed=wanted.seed)) == wanted


@given(recipes())
def test_the_command_arrives_at_the_recipe_and_the_draw(recipe):
    line = command(recipe, ODD)
    spec = recipe.spec
    if not line:
        assert spec.definition.seeded
        assert recipe.seed != spec.seed
        return
    came = intercepted(line)
    assert same_mask(came["spec"], spec)
    assert (came["model"], came["output"]) == (recipe.model, ODD)
    if spec.needs_calibration:
        draw = {name: getattr(recipe, name) for name in ("samples", "seq_len", "seed")}
        assert came["drawn"] == {"pack": None, "bos": False, **draw}
        assert came["text"] in (recipe.text, f"./{recipe.text}")
        assert came["text"] != "c4"
    else:
        assert came["drawn"] is None


def executed(program: str) -> dict:
    """Run a program against an engine that only listens. -> what it came with."""
    came = {}
    engine = SimpleNamespace(
        PruneSpec=PruneSpec,
        Solver=Solver,
        preset=preset,
        load_model=lambda name: came.update(model=name) or "dense",
        calibrate=lambda lm, text=None, **draw: came.update(text=text, draw=draw) or "calibration",
        prune=lambda lm, spec, calibration=None: came.update(spec=spec, calibration=calibration) or "variant",
        save=lambda variant, output: came.update(output=output),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "wanda_core", engine)
        exec(compile(program, "program", "exec"), {})
    return came


@given(recipes())
def test_the_python_arrives_at_the_recipe_and_the_draw(recipe):
    came = executed(python(recipe, ODD))
    assert came["spec"] == recipe.spec
    assert (came["model"], came["output"]) == (recipe.model, ODD)
    drawn = Repeat("", recipe.spec, **came.get("draw", {}))
    if recipe.spec.needs_calibration:
        assert (drawn.samples, drawn.seq_len, drawn.seed) == (recipe.samples, recipe.seq_len, recipe.seed)
        assert came.get("text") == (None if recipe.text is None else Path(recipe.text))
        assert (came["calibration"] is None) == ("draw" not in came)
    else:
        assert came["calibration"] is None


OWN = [  # solvers, and a sparsity for every block, which no option can say
    PruneSpec("wanda", 0.5, order="in-flight", update="least-squares", solver=Solver(steps=3, dense_share=0.25)),
    PruneSpec("ria", allocation=(0.25, 0.5, 0.125)),
    PruneSpec("random", 0.5, update="obs", seed=4),
]


@pytest.mark.parametrize("spec", OWN, ids=lambda spec: spec.method)
def test_what_no_option_can_say_is_said_in_python_alone(spec):
    assert command(Repeat("builtin", spec), "out") == ""
    assert executed(python(Repeat("builtin", spec), "out"))["spec"] == spec


def test_they_are_short_where_little_differs():
    spec = PruneSpec("wanda", 0.45, order="one-shot")
    line = "wanda-lab prune --model builtin --method wanda --sparsity 0.45 --order one-shot --output out/wanda-45"
    assert command(Repeat("builtin", spec), "out/wanda-45") == line
    assert python(Repeat("builtin", spec), "out/wanda-45").splitlines() == [
        "import wanda_core as wanda",
        "",
        "dense = wanda.load_model('builtin')",
        "spec = wanda.PruneSpec(method='wanda', sparsity=0.45, order='one-shot')",
        "variant = wanda.prune(dense, spec)",
        "wanda.save(variant, 'out/wanda-45')",
    ]
    best = Repeat("builtin", preset("best", pattern="2:4"), samples=32, text="my words.txt")
    options = "--preset best --pattern 2:4 --calibration 'my words.txt' --samples 32"
    assert command(best, "out") == f"wanda-lab prune --model builtin {options} --output out"
    assert "spec = wanda.preset('best', pattern='2:4')\n" in python(best, "out")
    assert "calibration = wanda.calibrate(dense, Path('my words.txt'), samples=32)\n" in python(best, "out")


def test_the_preset_paper_is_spelt_out_since_its_name_brings_another_text():
    line = command(Repeat("builtin", preset("paper", sparsity=0.5)), "out")
    assert line == "wanda-lab prune --model builtin --method wanda --sparsity 0.5 --output out"


@pytest.mark.skipif(sys.platform == "win32", reason="needs a POSIX shell")
def test_a_shell_takes_every_name_as_it_is():
    line = command(Repeat(ODD, PruneSpec("ria"), text=f"{ODD}.txt"), f"-{ODD}")
    said = subprocess.run(["sh", "-c", f"set -- {line}; printf '%s\\0' \"$@\""], capture_output=True, timeout=30)
    assert said.stderr == b""
    words = said.stdout.decode().split("\0")[:-1]
    assert words[2:] == [
        *("--model", ODD, "--method", "ria", "--sparsity", "0.5", "--calibration", f"{ODD}.txt", f"--output=-{ODD}")
    ]


@pytest.fixture(scope="module")
def lab(dense):
    """A server whose one model lies in a folder."""
    return server(load_model(dense))


MADE = {
    "wanda, one-shot": ({}, Reading()),
    "magnitude": ({"method": "magnitude"}, Reading()),
    "2:4": ({"pattern": "2:4"}, Reading(samples=3, seq_len=64, seed=5)),
    "best": ({"method": "best"}, Reading(samples=3, seq_len=64)),
    "random": ({"method": "random"}, Reading()),
    "sparsegpt, own text": ({"method": "sparsegpt"}, Reading(samples=2, seq_len=64)),
    "owl, in flight": ({"order": "in-flight", "allocation": "owl"}, Reading(samples=2, seq_len=64)),
    "measured": ({"allocation": "measured"}, Reading(samples=2, seq_len=64)),
}


@pytest.mark.parametrize("name", MADE)
def test_they_make_what_the_page_has_bit_for_bit(lab, dense, name, text, tmp_path, monkeypatch):
    choices, reading = MADE[name]
    plain = {"method": "wanda", "pattern": "unstructured", **dict.fromkeys(NAMES[1:3], "default")}
    spec = spec_of(57, **{**plain, "allocation": "default", "update": "default", **choices})
    own = None
    if "own text" in name:
        own = "mine"
        (tmp_path / own).write_text(text, encoding="utf-8")
        reading = replace(reading, text=lab.texts.put(text))
    lm = lab.models[dense].lm
    *_, look = spoken(lab.look_steps(dense, Recipe(spec, reading), None, Wanted(False, False)))
    variant = look.result.variant
    recipe = Repeat(dense, spec, reading.samples, reading.seq_len, reading.seed, own)
    monkeypatch.chdir(tmp_path)
    result = run(*shlex.split(command(recipe, "by command"))[1:])
    assert result.exit_code == 0, result.output
    exec(compile(python(recipe, "by python"), "program", "exec"), {})
    for folder in ("by command", "by python"):
        weights = load_file(tmp_path / folder / "model.safetensors")
        for linear in lm.all_linears:
            made = variant.pruned_weight(lm, linear.name).cpu()
            assert torch.equal(weights[f"{linear.name}.weight"], made), (folder, linear.name)
            asked_of_block = variant.report.blocks[linear.block]
            assert abs(float((made == 0).float().mean()) - asked_of_block) < 0.2
