"""Steps 1 and 2, which need no model: two weights, then a small matrix."""

import math

import pandas as pd

from wanda_core.errors import InputError
from wanda_core.explain.toy_example import (
    GROUPS,
    LOUD_INPUT,
    METRICS,
    choose,
    example_inputs,
    example_matrix,
    two_weights,
)
from wanda_core.progress import Steps
from wanda_ui.inputs import is_number
from wanda_ui.lesson import figures
from wanda_ui.lesson.answers import Answer, Asked
from wanda_ui.lesson.plan import STEPS, Slider

NAMES = ("w₁", "w₂")
GUESS = {0: "first", 1: "second", None: "either"}


def two(asked: Asked, *values: object) -> Steps[Answer]:
    """Step 1: which of two weights magnitude and Wanda cut, and what either choice costs."""
    w1, w2, x1, x2 = _numbers(asked, 1, values)
    example = two_weights(w1, w2, x1, x2)
    say = asked.say
    errors = example.errors
    costs = {"first": errors[0], "second": errors[1], "y": example.y}
    if example.cheaper is None:
        finding = say("lesson.two.finding_tie", cost=errors[0])
    elif example.magnitude is None or example.magnitude == example.cheaper:
        finding = say("lesson.two.finding_agree", cut=NAMES[example.cheaper], cost=errors[example.cheaper])
    else:
        finding = say("lesson.two.finding_wrong", wrong=errors[example.magnitude], cost=errors[example.cheaper])
    picks = {
        method: say("lesson.two.no_choice") if pick is None else NAMES[pick]
        for method, pick in (("magnitude", example.magnitude), ("wanda", example.wanda))
    }
    table = pd.DataFrame(
        [
            [name, f"{w:g}", f"{x:g}", f"{abs(w):.1f}", f"{error:.1f}"]
            for name, w, x, error in zip(NAMES, (w1, w2), (x1, x2), errors, strict=True)
        ],
        columns=[say("lesson.column.weight"), "w", "x", "|w|", f"|w|·|x| = {say('lesson.column.error')}"],
    )
    numbers = {"w1": w1, "w2": w2, "x1": x1, "x2": x2, "y": example.y}
    numbers |= {"error_without_w1": errors[0], "error_without_w2": errors[1]}
    return Answer(
        GUESS[example.cheaper],
        finding,
        say("lesson.two.why", **picks, **costs),
        figures.two_weights((w1, w2), example, say),
        numbers,
        table,
    )
    yield  # makes this a generator like the other steps, though it has no progress to show


def matrix(asked: Asked, *values: object) -> Steps[Answer]:
    """Step 2: four ways to cut half of a 4 × 6 matrix, with one input as loud as the reader wants it."""
    (size,) = _numbers(asked, 2, values)
    W, X, say = example_matrix(), example_inputs(size), asked.say
    choices = {f"{metric}_{group}": choose(W, X, metric, group) for metric in METRICS for group in GROUPS}
    costs = {name: choice.mean_share for name, choice in choices.items()}
    best = min(costs, key=lambda name: costs[name])
    best = next(name for name in reversed(costs) if math.isclose(costs[name], costs[best], rel_tol=1e-6))
    rows_alike = math.isclose(costs["wanda_row"], costs["magnitude_row"], rel_tol=1e-6)
    key = "finding_alike" if rows_alike else "finding"
    names = {name: say(f"lesson.matrix.guess.{name}") for name in choices}
    finding = say(f"lesson.matrix.{key}", best=names[best], cost=costs[best], other=costs["magnitude_matrix"])
    silenced = [names[name] for name, choice in choices.items() if choice.silenced]
    why = say(
        "lesson.matrix.why_silenced" if silenced else "lesson.matrix.why",
        size=size,
        input=LOUD_INPUT + 1,
        magnitude=costs["magnitude_row"],
        wanda=costs["wanda_row"],
        silenced=", ".join(silenced),
    )
    table = pd.DataFrame(
        [[names[n], int(c.cut.sum()), f"{c.mean_share:.0%}", f"{c.error:.2f}", c.silenced] for n, c in choices.items()],
        columns=[say(f"lesson.column.{name}") for name in ("way", "cut", "mean_share", "total", "silenced")],
    )
    picture = figures.matrices(W, X.norm(dim=0), choices, best, say)
    return Answer(best, finding, why, picture, {"size": size, **{f"error_{n}": c for n, c in costs.items()}}, table)
    yield  # see above


def _numbers(asked: Asked, number: int, values: tuple[object, ...]) -> list[float]:
    """Check the sliders' values. number: of the step.

    Raises InputError for what no slider gives: requests need not come from the page.
    """
    numbers = []
    for control, value in zip(STEPS[number - 1].controls, values, strict=True):
        assert isinstance(control, Slider)
        if not (is_number(value) and control.low <= value <= control.high):
            raise InputError(asked.say("lesson.problem.number", name=control.name, low=control.low, high=control.high))
        numbers.append(float(value))
    return numbers
