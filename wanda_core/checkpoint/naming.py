"""The name of a pruned checkpoint's folder and files, which says its recipe."""

import re

from wanda_core.presets import RECIPES, preset
from wanda_core.recipe import PruneSpec
from wanda_core.shrinking.spec import ShrinkSpec

LONGEST = 100  # characters of the model's part
PAPER = "paper"  # which is Wanda, and on a text that its name does not tell


def file_stem(title: str, spec: PruneSpec | ShrinkSpec, then: PruneSpec | None = None) -> str:
    """Return a name such as `SmolLM2-135M-Instruct-wanda-45`, which every file system and every address takes.

    title: of the dense model; then: the recipe of zeros that follow a shrinking. What a recipe leaves at its defaults
    is not said.
    """
    specs = (spec,) if then is None else (spec, then)
    said = "-".join(_recipe(each) if isinstance(each, PruneSpec) else _smaller(each) for each in specs)
    return f"{plain(title)[:LONGEST].strip('-.') or 'model'}-{said}"


def plain(text: str) -> str:
    """Return a text with a hyphen for every run of characters that are no ASCII letters, digits, `.`, `_` or `-`."""
    return re.sub(r"[^A-Za-z0-9._-]+|\.{2,}", "-", text)


def _recipe(spec: PruneSpec) -> str:
    amount = spec.pattern.replace(":", "-") if spec.n_of_m else f"{100 * spec.target:.4g}"
    whole = next((name for name in RECIPES if name != PAPER and _is(name, spec)), None)
    if whole is not None:
        return f"{whole}-{amount}{'-arranged' * spec.arrange}"
    parts = [spec.method, amount]
    if spec.n_of_m is None and spec.group != spec.definition.groups[0]:
        parts.append(str(spec.group).replace(":", "-"))
    if spec.allocation != "uniform":
        parts.append(spec.allocation if isinstance(spec.allocation, str) else "by-block")
    if spec.update != spec.definition.default_update:
        parts.append(str(spec.update))
    if spec.arrange:
        parts.append("arranged")
    return "-".join(parts)


def _smaller(spec: ShrinkSpec) -> str:
    given = getattr(spec, spec.part)
    gone = f"{given}" if isinstance(given, int) else f"{100 * given:.4g}{'-percent' * (spec.blocks is not None)}"
    score = "" if spec.score == "wanda" else f"-{spec.score}"
    return f"without-{gone}-{spec.part}{score}{'-not-solved' if spec.update == 'none' else ''}"


def _is(name: str, spec: PruneSpec) -> bool:
    """Whether a recipe is a preset, but for the amount."""
    amount = {"pattern": spec.pattern} if spec.n_of_m else {"sparsity": spec.target}
    return preset(name, **amount, arrange=spec.arrange) == spec
