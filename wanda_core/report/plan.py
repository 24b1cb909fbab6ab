"""What a run of a model holds: recipes and sparsities, prompts, pictures, and how long everything is."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property

from wanda_core.checks import ABLATION_WINDOWS, AGREEMENT_WINDOWS, EVAL_SEQ_LEN, EVAL_WINDOWS
from wanda_core.errors import InputError, shortened
from wanda_core.recipe import PruneSpec
from wanda_core.report.keys import Key, place_name

DENSE = "dense"  # the name of the answers before anything is removed
ANSWER_TOKENS = 48
# What can be drawn beside the curve, by its name in a run.
PICTURES = ("scores", "linears", "masks", "stream", "ablation", "toy")
PICTURED = (Key("wanda"), Key("magnitude"))  # the recipes that the pictures of scores show
KIND, SPARSITY = "mlp.up_proj", 45  # the kind of linear, and the percent, that they show
TWO_WEIGHTS = ((0.5, 2.0), (40.0, 1.0))  # (w₁, w₂) and (x₁, x₂): magnitude cuts the wrong one


@dataclass(frozen=True)
class Prompt:
    """A question that every model answers. id: its name for programs; word: that a right answer holds, if one does."""

    id: str
    text: str
    word: str | None = None


PROMPTS = (
    Prompt("capital", "What is the capital of France, and what is it known for?", "Paris"),
    Prompt("sky", "Why is the sky blue?"),
    Prompt("story", "Tell me a short story about a lighthouse."),
    Prompt("sum", "What is 2 + 2?", "4"),
)


@dataclass(frozen=True)
class Cell:
    """A recipe at one percent of weights removed."""

    key: Key
    percent: float

    @property
    def name(self) -> str:
        """The name its answers have: `wanda@50`."""
        return place_name(self.key, self.percent)

    @cached_property
    def spec(self) -> PruneSpec:
        """The recipe."""
        return self.key.spec(self.percent)


@dataclass(frozen=True)
class Line:
    """A recipe along the percents at which it is measured; 0% is the dense model."""

    key: Key
    percents: tuple[float, ...]

    @property
    def cells(self) -> list[Cell]:
        """List what is pruned; nothing for 0%."""
        return [Cell(self.key, percent) for percent in self.percents if percent]


def lines_of(keys: Iterable[Key], percents: Iterable[float], patterns: Iterable[str] = ()) -> tuple[Line, ...]:
    """Lay every recipe out along the same percents, and under each N:M pattern.

    Raises InputError for what is no pattern, and for a recipe that means nothing there.
    """
    lines = []
    for key in dict.fromkeys(keys):
        along = tuple(sorted(set(percents)))
        lines += [Line(key, along)] if along else []
        for pattern in dict.fromkeys(patterns):
            patterned = replace(key, pattern=pattern)
            percent = patterned.percent
            if percent is None:
                raise InputError(f"pattern {shortened(pattern)} is no N:M; try 2:4, or leave it out")
            lines.append(Line(patterned, (percent,)))
    for line in lines:
        for cell in line.cells:
            _ = cell.spec  # raises
    return tuple(lines)


@dataclass(frozen=True)
class Plan:
    """How much is run.

    lines: that are measured, in this order; prompts: that every model answers, in answer_tokens tokens at most;
    windows, agreement_windows, ablation_windows: of seq_len tokens of the evaluation text; pictures: some of PICTURES;
    kind: of linear, blocks: from 0, and sparsity: percent, of the pictures of scores. Where kind or blocks are None
    they are chosen for the model.
    """

    lines: tuple[Line, ...]
    prompts: tuple[Prompt, ...] = ()
    answer_tokens: int = ANSWER_TOKENS
    windows: int = EVAL_WINDOWS
    agreement_windows: int = AGREEMENT_WINDOWS
    ablation_windows: int = ABLATION_WINDOWS
    seq_len: int = EVAL_SEQ_LEN
    pictures: tuple[str, ...] = ()
    kind: str | None = None
    sparsity: int = SPARSITY
    blocks: tuple[int, ...] | None = None

    @property
    def cells(self) -> list[Cell]:
        """List everything that is pruned, in the order in which it is run."""
        return [cell for line in self.lines for cell in line.cells]


# The fullest plan: the stored run of the built-in model. The line that is dragged is one-shot, which takes a second a
# recipe; `best` is points of its own. Of the blocks, massive activations begin in the first, after the second, and end
# in the third.
WHOLE = Plan(
    lines=(
        *lines_of(PICTURED, range(0, 85, 5), ("2:4", "4:8")),
        *lines_of([Key("best")], range(30, 80, 10)),
    ),
    prompts=PROMPTS,
    pictures=PICTURES,
    kind=KIND,
    blocks=(11, 2, 27),
)
