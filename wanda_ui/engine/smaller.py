"""Smaller models, made of the loaded ones: those that recipes are measured on whose parts are gone and not zero."""

from collections import OrderedDict
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, Any
from weakref import ref

from wanda_core.errors import InputError
from wanda_core.model.language_model import LanguageModel
from wanda_core.progress import Steps
from wanda_core.shrinking.report import Shrunk
from wanda_core.shrinking.shrink import shrink_steps
from wanda_core.shrinking.spec import ShrinkSpec
from wanda_core.text.chats import from_bytes
from wanda_core.text.windows import Calibration, calibrate_steps
from wanda_ui.engine.loaded import Loaded
from wanda_ui.engine.queue import BusyError
from wanda_ui.engine.recipe import KeptTexts, Reading, Recipe
from wanda_ui.engine.work import Draw, Models

if TYPE_CHECKING:
    from wanda_ui.app_state import AppState

TEMPLATE_SECONDS = 60.0  # that a model's chat template may take for all chats of a text
MOST_IN_USE = 8  # smaller models in memory, kept or in use by what waits for its turn
MOST_SMALLER = 3  # kept, as many as are looked at together; each shares with its whole model what has the same size


class SmallerModels:
    """The smaller models that are kept, by the name of what was made of them; the one unused longest goes."""

    def __init__(self) -> None:
        self._models: OrderedDict[str, Loaded] = OrderedDict()
        self._in_use: list[ref[Loaded]] = []
        self._lock = Lock()

    def get(self, name: str) -> Loaded | None:
        """Return a model, which counts as used now; None where it is not kept."""
        with self._lock:
            if name in self._models:
                self._models.move_to_end(name)
            return self._models.get(name)

    def at_hand(self, whole: Loaded, recipe: Recipe) -> bool:
        """Whether the model that a recipe's zeros are those of is here."""
        return recipe.smaller is None or self.get(smaller_name(whole, recipe)) is not None

    def check_room(self) -> None:
        """Raise BusyError where no more models may be made now."""
        with self._lock:
            self._in_use = [one for one in self._in_use if one() is not None]
            if len(self._in_use) >= MOST_IN_USE:
                raise BusyError(
                    f"{len(self._in_use)} smaller models are in use on this server, the most at once; try again in a "
                    "minute"
                )

    def put(self, loaded: Loaded) -> None:
        """Keep a model."""
        with self._lock:
            self._in_use.append(ref(loaded))
            self._models[loaded.name] = loaded
            self._models.move_to_end(loaded.name)
            while len(self._models) > MOST_SMALLER:
                self._models.popitem(last=False)


def base_steps(state: "AppState", whole: Loaded, recipe: Recipe | None) -> Steps[Loaded]:
    """Return the model that a recipe's zeros are those of: the whole one, or a smaller one, which is made if need be.

    Raises InputError where jobs run in other processes, which do not have the smaller model.
    """
    if recipe is None or recipe.smaller is None:
        return whole
    name = smaller_name(whole, recipe)
    kept = state.smaller.get(name)
    if kept is not None:
        return kept
    if state.lends:
        raise InputError(
            "smaller models are not made where a GPU is borrowed for each job; run the lab on your own machine"
        )
    draw = drawing(state.texts, recipe.reading) if recipe.smaller.needs_inputs else None
    job = partial(_shrunk_with_room, name=whole.name, spec=recipe.smaller, draw=draw, kept=state.smaller)
    made: Shrunk = yield from state.work_steps(whole, job, ("shrink", whole.name), shared=("shrink", name))
    loaded = Loaded(made.lm, name, whole.runs_on, shrunk=made)
    state.smaller.put(loaded)
    return loaded


def smaller_name(whole: Loaded, recipe: Recipe) -> str:
    """Return the name that the smaller model of a recipe has here; one of that name is kept only if there is one."""
    return repr((whole.name, whole.state, recipe.smaller, recipe.reading))


def _shrunk_with_room(models: Models, kept: SmallerModels, **given: Any) -> Steps[Shrunk]:
    """Do as `shrunk`. Raises BusyError where too many are in use once it is this one's turn."""
    kept.check_room()
    return (yield from shrunk(models, **given))


def shrunk(models: Models, name: str, spec: ShrinkSpec, draw: Draw | None) -> Steps[Shrunk]:
    """Make a smaller model, as a job of the engine."""
    lm = models[name].lm
    return (yield from shrink_steps(lm, spec, (yield from draw(lm)) if draw is not None else None))


def drawing(texts: KeptTexts, reading: Reading) -> Draw:
    """Return what draws a calibration. Raises InputError for a text that is not on the server any more."""
    return partial(drawn, data=texts.get(reading.text), reading=reading)


def drawn(lm: LanguageModel, data: bytes | None, reading: Reading) -> Steps[Calibration]:
    """Draw a calibration, as a part of a job. data: the text as it is kept, None for the built-in one."""
    return (
        yield from calibrate_steps(
            lm,
            None if data is None else from_bytes(data),
            source=None if data is None else "uploaded text",
            samples=reading.samples,
            seq_len=reading.seq_len,
            seed=reading.seed,
            patience=TEMPLATE_SECONDS,
        )
    )
