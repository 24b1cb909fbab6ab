"""A server's long day: looks, curves, outlier questions and abandoned jobs; its memory must stay where it was.

`make soak` runs it after the random recipes, or `python -m benchmarks.server_soak --rounds 100`. No browser takes part:
what is asked goes the way of the page's events, each in a thread of its own, to the engine of one server.
"""

import argparse
import random
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import closing
from functools import partial
from typing import Any

import psutil
from transformers.utils import logging

from benchmarks.soak import fingerprint
from wanda_core.errors import WandaError
from wanda_core.machine.process import bound_arenas, keep_freed_memory
from wanda_core.progress import finish
from wanda_core.recipe import PruneSpec
from wanda_core.text.windows import calibrate
from wanda_ui.app_state import AppState
from wanda_ui.engine import work
from wanda_ui.engine.recipe import PLAIN, Asked, Reading, Recipe
from wanda_ui.engine.tokens import Place
from wanda_ui.outliers.features import counted
from wanda_ui.outliers.sentence import read

EARLY, LATE = 10, 100  # rounds after which memory is compared
MOST_GROWTH = 1.10  # of what is resident after the early rounds
MOST_GB = 2.5  # with the dense model, two variants with changed weights and ten without
CHANGED, UNCHANGED = 2, 10
WORDS = ("sky", "blue", "light", "air", "red", "sun", "water", "moon", "green", "leaf", "river", "stone", "house")
MADE: list[Recipe] = []  # of all variants so far
NEW_TOKENS = 12  # of an answer


def main() -> None:
    """Run the rounds; exit code 1 where the bound does not hold."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.server_soak", description=__doc__)
    parser.add_argument("--rounds", type=int, default=LATE)
    parser.add_argument("--seed", type=int, default=0, help="of what is asked, to repeat a run")
    arguments = parser.parse_args()
    if arguments.rounds <= EARLY:
        parser.error(f"--rounds {arguments.rounds} compares nothing; give more than {EARLY}")
    keep_freed_memory()  # as the page does
    bound_arenas()
    logging.disable_progress_bar()
    try:
        soak(arguments.rounds, random.Random(arguments.seed))
    except AssertionError as error:
        sys.exit(f"FAILED: {error}")


def soak(rounds: int, rng: random.Random) -> None:
    """Fill the server with variants, then ask it round after round. Raises AssertionError with what was wrong."""
    work.EVAL_WINDOWS = 1  # each takes the same memory, and the rounds are many
    state = AppState()
    loaded = finish(state.open_steps("builtin"))
    loaded.calibration = calibrate(loaded.lm, samples=4, seq_len=128)  # what is counted on: the rounds are many
    dense = fingerprint(loaded.lm.model)
    for number in range(CHANGED + UNCHANGED):
        _asked(lambda number=number: _prune(state, rng, changed=number < CHANGED))
    state.engine.settle(600)
    full = _resident()
    print(
        f"dense model, {CHANGED} variants with changed weights, {UNCHANGED} without "
        f"({state.variants.nbytes / 1e9:.2f} GB of variants): {full:.2f} GB resident",
        flush=True,
    )
    early, threads = full, 0
    for number in range(1, rounds + 1):
        _asked(lambda: _prune(state, rng, changed=rng.random() < 0.2))
        _asked(lambda: _compare(state, rng))
        _asked(lambda: _point(state, rng))
        _asked(lambda: _question(state, rng))
        _abandoned(state, rng)
        assert state.engine.settle(600), "the engine did not come to rest"
        resident = _resident()
        if number <= EARLY:
            early, threads = resident, threading.active_count()
        if number % 5 == 0:
            print(f"round {number}: {resident:.2f} GB, {len(state.variants)} variants", flush=True)
        assert resident < MOST_GB, f"{resident:.2f} GB are resident after round {number}, and {MOST_GB} are allowed"
    assert fingerprint(loaded.lm.model) == dense, "the dense model has changed"
    assert threading.active_count() <= threads, f"{threading.active_count()} threads, {threads} after {EARLY} rounds"
    assert resident <= early * MOST_GROWTH, f"{early:.2f} GB after {EARLY} rounds, {resident:.2f} GB after {rounds}"
    growth = resident / early - 1
    print(f"after {EARLY} rounds {early:.2f} GB, after {rounds} {resident:.2f} GB ({growth:+.0%}): the bound is held")


def _asked(job: Callable[[], Generator[Any, None, Any]]) -> None:
    """Run a job to its end as an event does, in a thread that is gone afterwards."""
    failed: list[BaseException] = []

    def event() -> None:
        try:
            finish(job())
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=event)
    thread.start()
    thread.join()
    assert not failed, f"{type(failed[0]).__name__}: {failed[0]}"


def _abandoned(state: AppState, rng: random.Random) -> None:
    """Begin a job and close it after a few steps, as a closed tab does."""
    job = rng.choice([partial(_prune, changed=rng.random() < 0.5), _compare, _point, _why, _question])

    def event() -> None:
        with closing(job(state, rng)) as steps:
            try:
                for _ in range(rng.randrange(1, 25)):
                    next(steps)
            except (StopIteration, WandaError):
                pass

    thread = threading.Thread(target=event)
    thread.start()
    thread.join()


def _recipe(rng: random.Random, changed: bool) -> Recipe:
    """Draw a recipe. changed: whether the kept weights change too."""
    sparsity, own = round(rng.uniform(0.2, 0.7), 4), Reading(None, 4, 128, rng.randrange(1000))
    if changed:
        method, order = rng.choice(["sparsegpt", "wanda"]), rng.choice(["faithful", "in-flight"])
        return Recipe(PruneSpec(method, sparsity, order=order, update="obs"), own)
    reading = rng.choice([PLAIN, own])  # norms that are there, or are measured
    return Recipe(PruneSpec(rng.choice(["wanda", "magnitude", "ria"]), sparsity, order="one-shot"), reading)


def _prune(state: AppState, rng: random.Random, changed: bool) -> Generator[Any, None, Any]:
    """Look at a new variant. changed: whether its kept weights change too."""
    recipe = _recipe(rng, changed)
    yield from state.look_steps("builtin", recipe, _question_of(rng))
    MADE.append(recipe)


def _compare(state: AppState, rng: random.Random) -> Generator[Any, None, Any]:
    """Ask the dense model and a variant; one in four asks for one that was let go, which is made again."""
    keys = {state.key_of(state.models["builtin"], recipe): recipe for recipe in MADE}
    gone = [recipe for key, recipe in keys.items() if state.variants.was_let_go(key)]
    kept = [keys[key] for key in state.variants.keys if key in keys]
    recipe = rng.choice(gone if gone and (not kept or rng.random() < 0.25) else kept)
    asked = _question_of(rng)
    yield from state.look_steps("builtin", recipe, asked)
    yield from state.look_steps("builtin", None, asked)


def _point(state: AppState, rng: random.Random) -> Generator[Any, None, Any]:
    """Measure a point of a curve, whose variant is not kept."""
    return state.point_steps("builtin", _recipe(rng, changed=False))


def _why(state: AppState, rng: random.Random) -> Generator[Any, None, Any]:
    """Ask what is likeliest after the beginning of an answer."""
    return state.told_steps("builtin", rng.choice([[], [rng.choice(MADE)]]), _question_of(rng), Place(" blue", " sky"))


def _question(state: AppState, rng: random.Random) -> Generator[Any, None, Any]:
    """Ask the outlier lab something it has not kept."""
    if rng.random() < 0.5:
        magnitude = round(rng.uniform(4, 9), 5)
        return state.measurement_steps("builtin", ("features", magnitude), partial(counted, magnitude=magnitude))
    text = _sentence(rng)
    return state.measurement_steps("builtin", ("sentence", text), partial(read, text=text))


def _question_of(rng: random.Random) -> Asked:
    return Asked(_sentence(rng), NEW_TOKENS)


def _sentence(rng: random.Random) -> str:
    return " ".join(rng.choices(WORDS, k=rng.randrange(4, 40)))


def _resident() -> float:
    """Return the resident memory of this process in GB."""
    return float(psutil.Process().memory_info().rss / 1e9)


if __name__ == "__main__":
    main()
