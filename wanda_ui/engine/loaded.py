"""What the server keeps of a model and of a variant."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from wanda_core.evaluation.perplexity import Agreement, Perplexity
from wanda_core.maths.sensitivity import Sensitivities
from wanda_core.model.file_state import changed, source_of, state_of
from wanda_core.model.language_model import LanguageModel
from wanda_core.model.names import LOCAL
from wanda_core.outliers.analysis import Analysis
from wanda_core.pruning.packed import PackedVariant
from wanda_core.shrinking.report import Shrunk
from wanda_core.text.windows import Calibration
from wanda_ui.engine.kept import Kept
from wanda_ui.engine.recipe import Asked, Reading, Recipe

MOST_TEXTS = 100  # on which sensitivities are kept, two numbers a block


@dataclass(frozen=True)
class About:
    """What is said of a model: its title, its number of weights, where it runs and in which type."""

    title: str
    n_parameters: int
    device: str
    dtype: str


@dataclass
class Loaded:
    """A model and what is known about it.

    name: by which the server knows it, `lm.name` unless that is pinned to a commit; runs_on: kind of device that its
    jobs have, empty where it is the one that holds it; measurements: those of the outlier lab, grids: the pictures of
    all blocks, the one unused longest first; sensitivities: of the blocks, by the text they were measured on; claims:
    downloads and pushes of what was made of it, for whose time it stays in memory; shrunk: of a smaller model, how it
    came about.
    """

    lm: LanguageModel
    name: str = ""
    runs_on: str = ""
    analysis: Analysis | None = None
    calibration: Calibration | None = None  # what the analysis was made on
    dense: Perplexity | None = None
    problem: str = ""  # why there is no analysis, where there can be none
    measurements: "OrderedDict[Hashable, object]" = field(default_factory=OrderedDict)
    grids: "OrderedDict[Hashable, dict[str, Any]]" = field(default_factory=OrderedDict)
    sensitivities: Kept[Reading, Sensitivities] = field(default_factory=lambda: Kept(MOST_TEXTS))
    claims: int = 0
    shrunk: Shrunk | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)  # of these three, which several events change
    state: str = field(init=False)  # tells this state of the model from others
    _source: str = field(init=False)

    def __post_init__(self) -> None:
        """Name the model and its state."""
        self.name = self.name or self.lm.name
        files, source = self.lm.state
        local = self.lm.folder is not None and self.lm.revision == LOCAL
        self.state = files if local and files else self.state_now()
        self._source = source or source_of(self.lm.name)

    def state_now(self) -> str:
        """Return the state of the model's files as they are now. Raises OSError where one is not there any more."""
        if self.lm.folder is None or self.lm.revision != LOCAL:
            return self.lm.revision
        return state_of(self.lm.folder)

    def has_changed(self) -> bool:
        """Whether the model's files are others now than those that were loaded. What is gone is not."""
        try:
            return self.state_now() != self.state or source_of(self.lm.name) not in ("", self._source)
        except OSError:
            return False

    def check_unchanged(self) -> None:
        """Raise ModelError where the model's files have changed since they were loaded, lest a result be of both."""
        if self.has_changed():
            raise changed(self.lm.title)

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Context manager: the model stays in memory."""
        self.claim()
        try:
            yield
        finally:
            self.claim(-1)

    def claim(self, count: int = 1) -> None:
        """Count one more who needs the model in memory, or one less."""
        with self.lock:
            self.claims += count

    @property
    def about(self) -> About:
        """What is said of the model."""
        lm = self.lm
        return About(lm.title, lm.n_parameters, self.runs_on or lm.device.type, str(lm.dtype).removeprefix("torch."))

    def blocks_with(self, kind: str) -> list[int]:
        """List the blocks that have a linear of a kind."""
        return [linear.block for linear in self.lm.of_kind(kind)]

    def linear_to_show(self, kind: str | None, block: int | None) -> tuple[str, int]:
        """Return the chosen kind and block where the model has them, else its first kind and a middle block."""
        kinds = self.lm.kinds
        shown = kind if kind in kinds else kinds[0]
        blocks = self.blocks_with(shown)
        return shown, block if block in blocks else blocks[len(blocks) // 2]


class OneState:
    """Sees to it that what is told together is of one state of a model's files. current: the model in memory now."""

    def __init__(self, current: Callable[[], Loaded | None]) -> None:
        self._current, self._state = current, ""

    def check(self) -> None:
        """Raise ModelError where the model is another than at the first look."""
        loaded = self._current()
        if loaded is None:
            return
        if self._state not in ("", loaded.state):
            raise changed(loaded.lm.title)
        self._state = loaded.state


@dataclass(frozen=True)
class Left:
    """What a smaller model has left. share: of the weights, 0 to 1; part: what went; gone, of: how many, and of how
    many in all blocks."""

    share: float
    part: str
    gone: int
    of: int


@dataclass(frozen=True)
class Measured:
    """What a recipe did to a model. sparsity: share of zeros reached; seconds: of the pruning; agreement: how often
    both predict alike, None until they were compared; smaller: what a smaller model has left, None of a whole one."""

    sparsity: float
    seconds: float
    perplexity: Perplexity
    agreement: Agreement | None = None
    smaller: Left | None = None


@dataclass(frozen=True)
class Result:
    """A pruned model. key: what a visitor's session holds instead of it.

    model, state: name and state of the dense model; about: what is said of that.
    """

    key: str
    model: str
    state: str
    about: About
    variant: PackedVariant

    def is_of(self, loaded: Loaded) -> bool:
        """Whether it was made from this model as it is now."""
        return (self.model, self.state) == (loaded.name, loaded.state)


@dataclass(frozen=True)
class Both:
    """What a look is at. whole: the model as it was loaded; loaded: it, or the smaller one that the recipe makes first;
    recipe: None for the model itself; key: of the variant; asked: None where no answer is wanted."""

    whole: Loaded
    loaded: Loaded
    recipe: Recipe | None
    key: str
    asked: Asked | None


def seconds_of(loaded: Loaded) -> float:
    """Return the seconds that making a model smaller took, 0 for one that is whole."""
    return 0.0 if loaded.shrunk is None else loaded.shrunk.report.seconds


def left_of(loaded: Loaded) -> Left | None:
    """Return what a smaller model has left, None for one that is whole."""
    if loaded.shrunk is None:
        return None
    report = loaded.shrunk.report
    return Left(report.share_left, loaded.shrunk.spec.part, *report.removed)
