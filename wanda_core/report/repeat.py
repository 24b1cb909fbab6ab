"""How a variant is made again: the command and the program that do what was done."""

import shlex
from dataclasses import dataclass
from typing import Any

from wanda_core.checks import DEFAULT_SAMPLES, DEFAULT_SEQ_LEN
from wanda_core.model.names import BUILTIN
from wanda_core.recipe import PruneSpec, preset


@dataclass(frozen=True)
class Repeat:
    """A pruning to be done again. model: its name; spec: the recipe; samples, seq_len, seed: how the calibration is
    drawn; text: the file of an own calibration text, None for the built-in one."""

    model: str
    spec: PruneSpec
    samples: int = DEFAULT_SAMPLES
    seq_len: int = DEFAULT_SEQ_LEN
    seed: int = 0
    text: str | None = None


def command(recipe: Repeat, output: str) -> str:
    """Return the line for a shell that prunes into a folder."""
    spec = recipe.spec
    options: dict[str, Any] = {"model": recipe.model if recipe.model != BUILTIN else None}
    options |= {"preset": "best"} if spec.solver != PruneSpec().solver else {"method": spec.method}
    options |= {"pattern": spec.pattern} if spec.n_of_m else {"sparsity": f"{spec.target:g}"}
    usual = preset("best", **_amount(spec)) if "preset" in options else PruneSpec(spec.method, **_amount(spec))
    for name in ("group", "order", "allocation", "update"):
        value = getattr(spec, name)
        options[name] = value if value != getattr(usual, name) and isinstance(value, str) else None
    drawn = {"samples": DEFAULT_SAMPLES, "seq_len": DEFAULT_SEQ_LEN, "seed": 0}
    for name, default in drawn.items():
        value = getattr(recipe, name)
        options[name.replace("_", "-")] = value if value != default else None
    words = [f"--{name} {shlex.quote(str(value))}" for name, value in options.items() if value is not None]
    text = [f"--calibration {shlex.quote(recipe.text)}"] if recipe.text else []
    return " ".join(["wanda-lab prune", *words, *text, f"--output {shlex.quote(output)}"])


def python(recipe: Repeat, output: str) -> str:
    """Return a program that prunes into a folder."""
    fields = {name: value for name, value in recipe.spec.to_dict().items() if name != "solver"}
    source = "" if recipe.text is None else f"wanda.read_documents({recipe.text!r}), "
    draw = f"samples={recipe.samples}, seq_len={recipe.seq_len}, seed={recipe.seed}"
    solver = recipe.spec.to_dict()["solver"]
    return "\n".join(
        [
            "import wanda_core as wanda",
            "",
            f"dense = wanda.load_model({recipe.model!r})",
            f"spec = wanda.PruneSpec(**{fields!r}, solver=wanda.Solver(**{solver!r}))",
            f"variant = wanda.prune(dense, spec, wanda.calibrate(dense, {source}{draw}))",
            f"wanda.save(variant, {output!r})",
            "",
        ]
    )


def _amount(spec: PruneSpec) -> dict[str, Any]:
    return {"pattern": spec.pattern} if spec.n_of_m else {"sparsity": spec.target}
