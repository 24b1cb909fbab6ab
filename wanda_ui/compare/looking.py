"""The long events of the view: a look at all columns, a curve, one's own prompts. Each yields longer messages."""

import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

from wanda_core.errors import WandaError
from wanda_core.model import builtin
from wanda_core.progress import Progress
from wanda_core.report.linear import masks_of
from wanda_ui.app_state import AppState
from wanda_ui.compare import messages
from wanda_ui.compare.asked import DENSE, Column, Looked, check_whole_size
from wanda_ui.compare.messages import Message
from wanda_ui.engine.buying import bought_steps
from wanda_ui.engine.loaded import OneState
from wanda_ui.engine.look import WHOLE, Wanted
from wanda_ui.engine.looked import Look
from wanda_ui.engine.queue import arrived
from wanda_ui.engine.recipe import Asked, Recipe
from wanda_ui.jobs import TICK
from wanda_ui.language import Say
from wanda_ui.problems import problem_words

BLINK = 0.04  # seconds between two words of an answer, after which the next step may take long

T = TypeVar("T")
Telling = Generator[Message | None, None, T]  # None: nothing new
Stopped = Callable[[], bool]


class StoppedError(Exception):
    """The visitor pressed Cancel, or asks for something else by now."""


@dataclass
class Watch:
    """What goes through the steps of a job: its place by arrival, when it is to stop, and how often it is told.

    placed: called after the first step; stopped: asked after each.
    """

    say: Say
    arrival: int | None
    placed: Callable[[], None]
    stopped: Stopped
    _told: float = 0.0

    def through(self, steps: Generator[Any, None, T], tell: Callable[[Any], Message | None]) -> Telling[T]:
        """Go through a job, and yield what `tell` makes of its steps, not more often than a person can see.

        What comes too soon is held back, told by the next that is in time, or replaced by it. None is yielded where
        there is nothing to see: only between two yields can the event be closed. Returns the job's result, after which
        the caller tells the whole. Raises StoppedError where it is to stop.
        """
        last: Any = None
        held: Message | None = None
        with closing(steps):
            try:
                while True:
                    with arrived(self.arrival):
                        step = next(steps)
                    self.placed()
                    if self.stopped():
                        raise StoppedError
                    seen = not isinstance(step, Progress)
                    due = time.monotonic() - self._told >= (BLINK if seen else TICK)
                    if step is not last and (due or seen):
                        held = tell(step)
                    last = step
                    if due:
                        self._told = time.monotonic()
                        yield held
                        held = None
            except StopIteration as stop:
                self.placed()
                return stop.value  # type: ignore[no-any-return]


def look(state: AppState, asked: Looked, watch: Watch) -> Telling[None]:
    """Look at the first recipe, the dense model, then the other recipes."""
    first, others = asked.columns[:1], asked.columns[1:]
    message: Message = {
        "run": asked.run,
        "model": asked.model,
        "prompt": asked.asked.prompt,
        "settings": dict(asked.settings),
        "columns": {},
        "progress": None,
        "ended": False,
    }
    # What is watched comes first, what stands in small print last; of the stored model the dense perplexity is known.
    stored = asked.model == builtin.NAME
    at_once = [(column, Wanted(column is not None or not stored, False)) for column in [*first, None, *others]]
    later = [(column, replace(WHOLE, at_hand=asked.at_hand)) for column in [*first, *others, None]]
    parts = len(at_once) + len(later)
    kept: dict[str, bool] = {}
    one = OneState(partial(state.loaded, asked.model))
    for number, (column, wanted) in enumerate([*at_once, *later]):
        part = _Part(message, column, number, parts, number >= len(at_once), kept, watch.say)
        if part.failed_before:
            continue
        recipe = None if column is None else column.recipe
        try:
            whole = yield from watch.through(state.look_steps(asked.model, recipe, asked.asked, wanted), part.tell)
            one.check()
            yield part.tell(whole)
        except WandaError as error:
            yield part.failed(problem_words(error, watch.say))
    done = message["columns"][str(first[0].id)].get("measured") if first else None
    yield {**message, "progress": None, "ended": True, "done": done}


@dataclass(frozen=True)
class _Part:
    """One column's part of the message of a look.

    number: of parts; later: whether its answer is there; kept: whether each was measured before.
    """

    message: Message
    column: Column | None
    number: int
    parts: int
    later: bool
    kept: dict[str, bool]
    say: Say

    @property
    def failed_before(self) -> bool:
        """Whether this column has failed already."""
        return "problem" in self.message["columns"].get(self._place, {})

    @property
    def _place(self) -> str:
        return DENSE if self.column is None else str(self.column.id)

    def tell(self, step: Progress | Look) -> Message:
        """Tell how far it is, or what was seen."""
        if isinstance(step, Progress):
            name = self.say("view.dense") if self.column is None else self.column.title(self.say)
            told, before = messages.progress(step, self.say, self.number, self.parts, name), self.message["progress"]
            if before is not None:  # pruning, answer and windows are one part, and its bar does not go back
                told["percent"] = max(told["percent"], before["percent"])
            self.message["progress"] = told
        else:
            if not step.seen.ended:
                self.tell(messages.at_work(step.seen))
            kept = self.kept.setdefault(self._place, step.kept)
            self._put(messages.column(step, kept, step.seen.ended or self.later, self.say))
        return dict(self.message)

    def failed(self, problem: str) -> Message:
        """Say why there is nothing more."""
        self._put({**self.message["columns"].get(self._place, {}), "problem": problem, "ended": True})
        return dict(self.message)

    def _put(self, told: Message) -> None:
        own = {"key": "", "at": 0} if self.column is None else {"key": self.column.key, "at": self.column.at}
        self.message["columns"] = {**self.message["columns"], self._place: {**told, **own}}


def curve(
    state: AppState, asked: Looked, places: Sequence[float], specs: Callable[[Column, float], Recipe], watch: Watch
) -> Telling[None]:
    """Measure points of all recipes' curves. specs: the recipe of a column at a percent."""
    say = watch.say
    message: Message = {
        "run": asked.run,
        "model": asked.model,
        "keys": {str(column.id): column.key for column in asked.columns},
        "points": {str(column.id): [] for column in asked.columns},
        "progress": None,
        "ended": False,
    }
    wanted: list[tuple[Column, float]] = []
    for at in coarse_first(places):
        wanted += [(column, at) for column in asked.columns if column.pattern is None]
    wanted += [(column, column.at) for column in asked.columns if column.pattern is not None]
    total = len(wanted) + 1

    def telling(number: int, name: str) -> Callable[[Any], Message | None]:
        def tell(step: Any) -> Message | None:
            if not isinstance(step, Progress):
                return None
            message["progress"] = messages.progress(step, say, number, total, name)
            return dict(message)

        return tell

    dense: Look = yield from watch.through(state.look_steps(asked.model, None), telling(0, say("view.dense")))
    message["dense"] = messages.dense(dense.seen.dense)
    one = OneState(partial(state.loaded, asked.model))
    one.check()
    yield dict(message)
    began = time.monotonic()
    for number, (column, at) in enumerate(wanted, 1):
        recipe = specs(column, at)
        name = column.title(say, at)
        if number > 1:
            left = (time.monotonic() - began) / (number - 1) * (total - number)
            name += " · " + say("view.time_left", time=messages.time_of(left, say))
        point = yield from watch.through(state.point_steps(asked.model, recipe), telling(number, name))
        one.check()
        own = str(column.id)
        message["points"] = {**message["points"], own: [*message["points"][own], [at, messages.point(point)]]}
        yield dict(message)
    done = say("view.sweep_done", points=len(wanted))
    yield {**message, "progress": None, "ended": True, "done": done}


def coarse_first(places: Sequence[float]) -> list[float]:
    """Order the places of a curve so that its shape is seen early: the last, the middle, the quarters, …"""
    ordered, waiting = [], sorted(set(places))
    step = 1
    while step < len(waiting):
        step *= 2
    while waiting and step:
        ordered += [place for place in waiting[step - 1 :: step] if place not in ordered]
        step //= 2
    return ordered


def own_prompts(state: AppState, asked: Looked, prompts: Sequence[str], watch: Watch) -> Telling[None]:
    """Answer each prompt by the dense model and by the first recipe's variant."""
    say, column = watch.say, asked.columns[0]
    message: Message = {"run": asked.run, "title": column.title(say), "rows": [], "ended": False, "words": ""}
    settings, one = asked.asked.settings, OneState(partial(state.loaded, asked.model))

    for number, prompt in enumerate(prompts):
        answers = []
        for recipe in (None, column.recipe):

            def tell(step: Any, number: int = number) -> Message | None:
                if not isinstance(step, Progress):
                    return None
                told = messages.progress(step, say, number, len(prompts))
                return {
                    **message,
                    "words": say("view.own.at_work", number=number + 1, total=len(prompts)) + told["words"],
                }

            look = yield from watch.through(state.look_steps(asked.model, recipe, Asked(prompt, **settings)), tell)
            one.check()
            assert look.seen.answer is not None  # it was asked for
            answers.append({"pieces": list(look.seen.answer.pieces)})
        row = {"prompt": prompt, "dense": answers[0], "variant": answers[1]}
        message["rows"] = [*message["rows"], row]
        yield dict(message)
    yield {**message, "words": "", "ended": True}


def masks(state: AppState, asked: Looked, watch: Watch) -> Telling[None]:
    """Compare the masks of all recipes in the whole model."""
    message: Message = {"run": asked.run, "model": asked.model, "progress": None, "ended": False}

    def tell(step: Any) -> Message | None:
        return {**message, "progress": messages.progress(step, watch.say)} if isinstance(step, Progress) else None

    check_whole_size(asked.columns)
    recipes = [column.recipe for column in asked.columns]
    agreement = yield from watch.through(state.masks_steps(asked.model, recipes), tell)
    yield {**message, "ended": True, "masks": masks_of(agreement)}


def buys(state: AppState, asked: Looked, watch: Watch) -> Telling[None]:
    """Measure what the one recipe that is given buys."""
    say, (column,) = watch.say, asked.columns
    message: Message = {"run": asked.run, "model": asked.model, "key": column.key, "at": column.at, "ended": False}

    def tell(step: Any) -> Message | None:
        return {**message, "progress": messages.progress(step, say)} if isinstance(step, Progress) else None

    bought = yield from watch.through(bought_steps(state, asked.model, column.recipe), tell)
    yield {**message, "ended": True, "bought": messages.bought(bought)}
