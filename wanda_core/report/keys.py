"""The names that recipes have on the page and in runs: `wanda`, `best`, `wanda,order=faithful,pattern=2:4`."""

import re
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from wanda_core.checks import DEFAULT_SAMPLES, DEFAULT_SEQ_LEN
from wanda_core.errors import InputError, shortened
from wanda_core.methods import METHODS
from wanda_core.presets import RECIPES, preset
from wanda_core.recipe import ALLOCATIONS, ORDERS, UPDATES, PruneSpec, parse_pattern
from wanda_core.shrinking.spec import SCORES, ShrinkSpec

MOST_CHARACTERS = 400  # of a key
MOST_DIGITS = 9  # of a number in a key
OWN = "default"  # what is the recipe's own
NUMBERS = ("samples", "seq_len", "seed")
TEXT = re.compile(r"[0-9a-f]{32}")
# What can be chosen: a method with one group has no choice.
GROUPS = dict.fromkeys(group for method in METHODS.values() if len(method.groups) > 1 for group in method.groups)
SHRINKS = ("neurons", "heads", "blocks")  # what goes for good and is not set to zero: a share of these
ZEROS = ("30", "50", "2:4", "4:8")  # which may follow on a smaller model, by Wanda: a percent or a pattern
CHOICES: dict[str, tuple[str, ...]] = {
    "method": (*METHODS, *RECIPES),
    "order": (OWN, *ORDERS),
    "group": (OWN, *GROUPS),
    "allocation": (OWN, *ALLOCATIONS),
    "update": (OWN, *UPDATES),
}


def chosen(
    method: str,
    sparsity: Any = None,
    *,
    pattern: str = "unstructured",
    order: str = OWN,
    group: str = OWN,
    allocation: str = OWN,
    update: str = OWN,
) -> PruneSpec:
    """Make a recipe of choices. method: or a preset; sparsity: share of zeros, where there is no pattern.

    What stands at `default` is the recipe's own, but for the order: one-shot, which is fast, wherever the recipe can do
    without the inputs themselves. Raises InputError for what means nothing.
    """
    chosen_fields = {"order": order, "group": group, "allocation": allocation, "update": update}
    given: dict[str, Any] = {name: value for name, value in chosen_fields.items() if value != OWN}
    given["pattern"] = pattern
    if pattern == "unstructured":
        given["sparsity"] = sparsity
    if method in RECIPES:
        return preset(method, **given)
    known = METHODS.get(method)
    if "order" not in given and known is not None:
        changes = (given.get("update") or known.default_update) != "none"
        given["order"] = "in-flight" if changes else "one-shot"
    return PruneSpec(method, **given)


def shrunk(what: str, percent: float, score: str = OWN) -> ShrinkSpec:
    """Make a recipe of parts that go for good. what: one of `SHRINKS`; percent: of them; score: which go.

    Raises InputError for what is no such recipe.
    """
    share: dict[str, Any] = {what: percent / 100}
    return ShrinkSpec(**share) if score == OWN else ShrinkSpec(**share, score=score)


def zeros_after(zeros: str = OWN) -> PruneSpec:
    """Make the recipe of the zeros that follow on a smaller model. zeros: one of `ZEROS`, by default none.

    Raises InputError for anything else.
    """
    if zeros == OWN:
        return PruneSpec("magnitude", 0.0)
    if zeros not in ZEROS:
        raise InputError(f"zeros {shortened(zeros)} is not offered; choose one of {', '.join((OWN, *ZEROS))}")
    return PruneSpec(pattern=zeros) if ":" in zeros else PruneSpec(sparsity=int(zeros) / 100)


@dataclass(frozen=True)
class Key:
    """A recipe without its sparsity, and how its calibration is drawn; its `str` is the page's name for it.

    The fields are those of `chosen`, then score: by which parts go, and zeros: which follow, of a smaller model alone,
    which has none of the others; text: of the calibration, 32 hexadecimal digits, empty for the built-in one;
    samples, seq_len, seed: of the draw. In the name stand, after the method, those that are not at their defaults.
    """

    method: str = "wanda"
    pattern: str = "unstructured"
    order: str = OWN
    group: str = OWN
    allocation: str = OWN
    update: str = OWN
    score: str = OWN
    zeros: str = OWN
    text: str = ""
    samples: int = DEFAULT_SAMPLES
    seq_len: int = DEFAULT_SEQ_LEN
    seed: int = 0

    def __str__(self) -> str:
        plain = Key(self.method)
        changed = [name for name, value in asdict(self).items() if value != getattr(plain, name)]
        return ",".join([self.method, *(f"{name}={getattr(self, name)}" for name in changed)])

    @classmethod
    def parse(cls, name: object) -> "Key":
        """Read a name. Raises InputError for what `str` gives of no key."""
        key = _parsed(name) if isinstance(name, str) and len(name) <= MOST_CHARACTERS else None
        if key is None or str(key) != name:
            raise InputError(
                f"{shortened(name)} names no recipe; a name is a method or a preset and what differs from its "
                "defaults, such as wanda,order=faithful"
            )
        return key

    @property
    def shrinks(self) -> bool:
        """Whether parts go for good, so that `shrunk` makes the recipe and not `spec`."""
        return self.method in SHRINKS

    def label(self, percent: float) -> str:
        """Return what people call the recipe at a percent. Raises InputError as what makes it."""
        if self.shrinks:
            spec, after = shrunk(self.method, percent, self.score), zeros_after(self.zeros)
            gone = spec.label(round(10 * percent), 1000) if spec.blocks is None else f"{percent:g}% of the blocks gone"
            return gone if self.zeros == OWN else f"{gone}, {after.label}"
        return self.spec(percent).label

    def spec(self, percent: float) -> PruneSpec:
        """Return the recipe. percent: of weights to remove, where there is no pattern. Raises as `chosen`."""
        return chosen(
            self.method,
            percent / 100,
            pattern=self.pattern,
            order=self.order,
            group=self.group,
            allocation=self.allocation,
            update=self.update,
        )

    @property
    def undrawn(self) -> "Key":
        """The recipe alone, without how its calibration is drawn."""
        plain = Key()
        return replace(self, text=plain.text, samples=plain.samples, seq_len=plain.seq_len, seed=plain.seed)

    @property
    def percent(self) -> float | None:
        """The percent of weights that the pattern removes, None without one."""
        pair = parse_pattern(self.pattern)
        return None if pair is None else whole_if_it_is(100 * (1 - pair[0] / pair[1]))


def _parsed(name: str) -> Key | None:
    """Read a name, also one that leaves nothing out."""
    method, *parts = name.split(",")
    given: dict[str, Any] = {"method": method}
    for part in parts:
        field, _, value = part.partition("=")
        given[field] = int(value) if field in NUMBERS and re.fullmatch(rf"[0-9]{{1,{MOST_DIGITS}}}", value) else value
    if not {field.name for field in fields(Key)} >= given.keys():
        return None
    key = Key(**given)
    choices = {**CHOICES, "method": (*CHOICES["method"], *SHRINKS), "score": (OWN, *SCORES), "zeros": (OWN, *ZEROS)}
    if any(getattr(key, field) not in offered for field, offered in choices.items()):
        return None
    if any(not isinstance(getattr(key, field), int) for field in NUMBERS):
        return None
    try:
        parse_pattern(key.pattern)
    except InputError:
        return None
    zeros = ("pattern", "order", "group", "allocation", "update")
    idle = zeros if key.shrinks else ("score", "zeros")  # what decides nothing of such a recipe
    idle = (*idle, "score") if key.method == "blocks" else idle
    if any(getattr(key, field) != getattr(Key(), field) for field in idle):
        return None
    return key if not key.text or TEXT.fullmatch(key.text) else None


def whole_if_it_is(number: float) -> float:
    """Return a number as an int where it is whole, as JavaScript writes it."""
    return int(number) if number == int(number) else float(number)


def place_name(key: Key | str, percent: float) -> str:
    """Return the name that a recipe's answers at a percent have: `wanda@45`."""
    return f"{key}@{whole_if_it_is(percent)}"
