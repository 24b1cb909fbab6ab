"""Saying a recipe again: the command line and the Python that make the same variant, bit for bit."""

import shlex
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

from wanda_core.checks import DEFAULT_SAMPLES, DEFAULT_SEQ_LEN
from wanda_core.errors import InputError
from wanda_core.presets import RECIPES, preset
from wanda_core.recipe import PruneSpec, Solver
from wanda_core.shrinking.spec import ShrinkSpec

PROGRAM = "wanda-lab"
CHOSEN = ("order", "group", "allocation", "update", "arrange")  # fields of a recipe that an option has each


@dataclass(frozen=True)
class Repeat:
    """A variant to be made again.

    model: its name; spec: the recipe; samples, seq_len, seed: of the draw of the calibration; text: file of the
    calibration text, None for the built-in one; smaller: parts that go for good first; without zeros of the
    recipe that is all.
    """

    model: str
    spec: PruneSpec
    samples: int = DEFAULT_SAMPLES
    seq_len: int = DEFAULT_SEQ_LEN
    seed: int = 0
    text: str | None = None
    smaller: ShrinkSpec | None = None

    @property
    def reads(self) -> bool:
        """Whether calibration text is read."""
        smaller = self.smaller is not None and self.smaller.needs_inputs
        return smaller or self.spec.needs_calibration


def command(recipe: Repeat, output: str) -> str:
    """Write the command that prunes the model by a recipe into the folder `output`, for a POSIX shell.

    It is empty where options cannot say the recipe: another solver than the presets have, a sparsity of every block,
    or a random mask whose seed is not that of the draw.
    """
    if recipe.smaller is not None:
        zeros = _amount(recipe.spec) if recipe.spec.target else {}
        options = {"model": recipe.model, **_of_smaller(recipe.smaller), **zeros, **_text(recipe), **_draw(recipe)}
        return _line("shrink", {**options, "output": output})
    spec = recipe.spec
    said = _said(spec)
    both_seeds = spec.definition.seeded and spec.needs_calibration and spec.seed != recipe.seed
    if said is None or not isinstance(spec.allocation, str) or both_seeds:
        return ""
    options = {"model": recipe.model, **said, **_text(recipe), **_seed(spec), **_draw(recipe)}
    return _line("prune", {**options, "output": output})


def python(recipe: Repeat, output: str) -> str:
    """Write the program that prunes the model by a recipe and saves it in the folder `output`."""
    spec, text, drawn = recipe.spec, recipe.text, _draw(recipe)
    if recipe.smaller is not None:
        made = f"wanda.ShrinkSpec({_arguments(_of_smaller(recipe.smaller))})"
    else:
        said = _said(spec)
        given = (said if said is not None else _plainly(spec)) | _seed(spec)
        name = given.pop("preset", None)
        arguments = _arguments(given)
        made = f"wanda.PruneSpec({arguments})" if name is None else f"wanda.preset({name!r}, {arguments})"
    lines = ["import wanda_core as wanda", "", f"dense = wanda.load_model({recipe.model!r})", f"spec = {made}"]
    read: list[str] = []  # the argument that tells of the text, where it is not the default one
    if recipe.reads and (text is not None or drawn):
        path = [] if text is None else [f"Path({text!r})"]
        lines.append(f"calibration = wanda.calibrate({', '.join(['dense', *path, *_all(drawn)])})")
        read = ["calibration"]
        if path:
            lines = ["from pathlib import Path", "", *lines]
    if recipe.smaller is None:
        lines, saved = [*lines, _call("variant = wanda.prune", "dense", "spec", *read)], "variant"
    else:
        lines, saved = [*lines, _call("smaller = wanda.shrink", "dense", "spec", *read)], "smaller"
        if spec.target:
            zeros = f"wanda.PruneSpec({_arguments(_amount(spec))})"
            lines, saved = [*lines, _call("variant = wanda.prune", "smaller.lm", zeros, *read)], "variant"
    return "\n".join([*lines, f"wanda.save({saved}, {output!r})", ""])


def _call(function: str, *arguments: str) -> str:
    return f"{function}({', '.join(arguments)})"


def _of_smaller(spec: ShrinkSpec) -> dict[str, Any]:
    """Return what of a shrinking is not as it is by default, and what goes."""
    gone: dict[str, Any] = {spec.part: getattr(spec, spec.part)}
    usual = ShrinkSpec(**gone)
    changed = {name: getattr(spec, name) for name in ("score", "update", "multiple", "seed")}
    return {
        **gone,
        **{name: value for name, value in changed.items() if value != getattr(usual, name)},
    }


def _text(recipe: Repeat) -> dict[str, str]:
    """Return the file of an own calibration text, where one is read; without a suffix it might be a data set's name."""
    if recipe.text is None or not recipe.reads:
        return {}
    return {"calibration": recipe.text if "." in recipe.text else f"./{recipe.text}"}


def _line(name: str, options: Mapping[str, Any]) -> str:
    """Write a command with its options."""
    return shlex.join([PROGRAM, name, *(word for option, value in options.items() for word in _option(option, value))])


def _said(spec: PruneSpec) -> dict[str, Any] | None:
    """Find the fewest fields that make a recipe, with `preset`, the name of one, only where nothing else does.

    -> None where the solver is neither the default one nor a preset's. The seed is left out.
    """
    for name in (None, *RECIPES):
        make: Callable[..., PruneSpec] = PruneSpec if name is None else partial(preset, name)
        given = {"method": spec.method, **_amount(spec)}
        try:
            given |= _apart(spec, make(**given))
            made = make(**given)
        except InputError:  # the preset does not go with it
            continue
        if replace(made, seed=spec.seed) != spec:
            continue
        if name is None:
            return given
        if make(**given | {"method": None}) == made:
            del given["method"]
        return {"preset": name, **given}
    return None


def _plainly(spec: PruneSpec) -> dict[str, Any]:
    """Return every field of a recipe, also its solver, that is not as it is by default."""
    given = {"method": spec.method, **_amount(spec)}
    return given | _apart(spec, PruneSpec(**given)) | {"solver": spec.solver}


def _apart(spec: PruneSpec, usual: PruneSpec) -> dict[str, Any]:
    return {name: getattr(spec, name) for name in CHOSEN if getattr(spec, name) != getattr(usual, name)}


def _amount(spec: PruneSpec) -> dict[str, Any]:
    return {"sparsity": spec.target} if spec.n_of_m is None else {"pattern": spec.pattern}


def _seed(spec: PruneSpec) -> dict[str, int]:
    """Return the seed of the mask, where it decides anything and is not the usual one."""
    return {"seed": spec.seed} if spec.definition.seeded and spec.seed else {}


def _draw(recipe: Repeat) -> dict[str, int]:
    """Return what of the draw is not as it is by default; nothing where no text is read."""
    usual = {"samples": DEFAULT_SAMPLES, "seq_len": DEFAULT_SEQ_LEN, "seed": 0}
    drawn = {name: getattr(recipe, name) for name, value in usual.items() if getattr(recipe, name) != value}
    return drawn if recipe.reads else {}


def _option(name: str, value: Any) -> list[str]:
    """Write an option; a value that looks like one stands behind an equals sign, and what is true needs none."""
    option, written = f"--{name.replace('_', '-')}", str(value)
    if value is True:
        return [option]
    return [f"{option}={written}"] if written.startswith("-") else [option, written]


def _arguments(given: Mapping[str, Any]) -> str:
    return ", ".join(_all(given))


def _all(given: Mapping[str, Any]) -> list[str]:
    return [f"{name}={_value(value)}" for name, value in given.items()]


def _value(value: Any) -> str:
    """Write a value as Python."""
    if not isinstance(value, Solver):
        return repr(value)
    usual = asdict(Solver())
    return f"wanda.Solver({_arguments({name: each for name, each in asdict(value).items() if each != usual[name]})})"
