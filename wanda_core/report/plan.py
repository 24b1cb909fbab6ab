"""What the stored run of a model holds: recipes, sparsities, prompts, and how long everything is."""

from dataclasses import dataclass
from functools import partial

from wanda_core.checks import (
    ABLATION_WINDOWS,
    AGREEMENT_WINDOWS,
    DEFAULT_SAMPLES,
    DEFAULT_SEQ_LEN,
    EVAL_SEQ_LEN,
    EVAL_WINDOWS,
)
from wanda_core.recipe import PruneSpec, preset

DENSE = "dense"  # the name of the answers before anything is removed
# By name of a line: makes the recipe at an amount. The line that is dragged is one-shot, which takes a second a recipe.
RECIPES = {
    "wanda": partial(PruneSpec, "wanda", order="one-shot"),
    "magnitude": partial(PruneSpec, "magnitude"),
    "best": partial(preset, "best"),
}
LINES = ("wanda", "magnitude")  # measured at every sparsity; `best` is points of its own
SPARSITIES = tuple(range(0, 85, 5))  # percent
PATTERNS = ("2:4", "4:8")
BEST = (30, 40, 50, 60, 70)  # percent
ANSWER_TOKENS = 48
KIND, SPARSITY = "mlp.up_proj", 45  # the kind of linear, and the percent, that the pictures of scores show
PLANES = (11, 2, 27)  # blocks: where massive activations begin, before them, and where they end
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
class Plan:
    """How much is run.

    sparsities, best: percent, the first ascending from 0; patterns: N:M; answer_tokens: of each answer at most;
    samples, length: calibration windows and their tokens; windows, agreement_windows, ablation_windows: of seq_len
    tokens of the evaluation text; kind: of linear, blocks: from 0, and sparsity: percent, of the pictures of scores.
    """

    sparsities: tuple[int, ...] = SPARSITIES
    patterns: tuple[str, ...] = PATTERNS
    best: tuple[int, ...] = BEST
    prompts: tuple[Prompt, ...] = PROMPTS
    answer_tokens: int = ANSWER_TOKENS
    samples: int = DEFAULT_SAMPLES
    length: int = DEFAULT_SEQ_LEN
    windows: int = EVAL_WINDOWS
    agreement_windows: int = AGREEMENT_WINDOWS
    ablation_windows: int = ABLATION_WINDOWS
    seq_len: int = EVAL_SEQ_LEN
    kind: str = KIND
    sparsity: int = SPARSITY
    blocks: tuple[int, ...] = PLANES

    @property
    def cells(self) -> list["Cell"]:
        """List everything that is pruned, in the order in which it is run; nothing for 0%, which is the dense model."""
        amounts = [str(percent) for percent in self.sparsities if percent]
        cells = [Cell(line, amount) for line in LINES for amount in [*amounts, *self.patterns]]
        return cells + [Cell("best", str(percent)) for percent in self.best]


@dataclass(frozen=True)
class Cell:
    """A recipe at one amount. line: its name in RECIPES; amount: percent of zeros, or an N:M pattern."""

    line: str
    amount: str

    @property
    def name(self) -> str:
        """The name its answers have: `wanda@50`, `magnitude@2:4`."""
        return f"{self.line}@{self.amount}"

    @property
    def pattern(self) -> str:
        """`unstructured`, or N:M."""
        return self.amount if ":" in self.amount else "unstructured"

    @property
    def spec(self) -> PruneSpec:
        """The recipe."""
        make = RECIPES[self.line]
        return make(pattern=self.amount) if ":" in self.amount else make(sparsity=int(self.amount) / 100)
