"""The eight steps: their guesses, their controls and the bounds of these. Words are in `lesson.json`."""

from dataclasses import dataclass

from wanda_core.report.lesson.plan import OTHER_SENTENCE, PROMPT, SENTENCE


@dataclass(frozen=True)
class Slider:
    """A number that is dragged, and the name it has in the address."""

    name: str
    start: float
    low: float
    high: float
    step: float


@dataclass(frozen=True)
class Whole:
    """A channel or a block; how many there are, only the model knows. Where it is empty, the step chooses."""

    name: str
    start: str = ""


@dataclass(frozen=True)
class Text:
    """Text input. The step reports excess length; a field limit would cut silently."""

    name: str
    start: str


Control = Slider | Whole | Text


@dataclass(frozen=True)
class Step:
    """One question. name: of its words; guesses: the answers to choose from; free: the tab for free play."""

    name: str
    guesses: tuple[str, ...]
    controls: tuple[Control, ...]
    free: str
    needs_model: bool = True


STEPS = (
    Step(
        "two",
        ("first", "second", "either"),
        (
            Slider("w1", 0.5, -3, 3, 0.1),
            Slider("w2", 2, -3, 3, 0.1),
            Slider("x1", 40, -50, 50, 0.5),
            Slider("x2", 1, -50, 50, 0.5),
        ),
        "scores",
        needs_model=False,
    ),
    Step(
        "matrix",
        ("magnitude_matrix", "magnitude_row", "wanda_matrix", "wanda_row"),
        (Slider("size", 8, 1, 20, 1),),
        "scores",
        needs_model=False,
    ),
    Step("meet", ("ten", "hundred", "thousand", "more"), (Text("s", SENTENCE),), "outliers"),
    Step("change", ("same", "some", "others"), (Text("s", OTHER_SENTENCE),), "outliers"),
    Step("sinks", ("little", "third", "most"), (Text("s", SENTENCE),), "outliers"),
    Step("ablate", ("none", "all", "one"), (Whole("channel"),), "outliers"),
    Step("masks", ("small", "even", "large"), (Whole("block"),), "scores"),
    Step("cost", ("worse", "same", "few", "many"), (Text("s", PROMPT),), "compare"),
)
