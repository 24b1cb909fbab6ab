"""Steps 1 and 2, which need no model: two weights, then a small matrix."""

import math
from collections.abc import Mapping

import pandas as pd

from wanda_core.errors import InputError
from wanda_core.explain.toy_example import (
    GROUPS,
    LOUD_INPUT,
    METRICS,
    Choice,
    TwoWeights,
    choose,
    example_inputs,
    example_matrix,
    two_weights,
)
from wanda_core.progress import Steps
from wanda_ui.inputs import is_number
from wanda_ui.language import Say
from wanda_ui.lesson.answers import Answer, Asked
from wanda_ui.lesson.figures import weights as figures
from wanda_ui.lesson.plan import STEPS, Slider
from wanda_ui.lesson.wording import number

NAMES = ("w₁", "w₂")
GUESS = {0: "first", 1: "second", None: "either"}


def two(asked: Asked, *values: object) -> Steps[Answer]:
    """Step 1: which of two weights magnitude and Wanda remove, and what either choice costs."""
    w1, w2, x1, x2 = _numbers(asked, 1, values)
    example = two_weights(w1, w2, x1, x2)
    say = asked.say
    errors = example.errors
    costs = {"first": errors[0], "second": errors[1], "y": number(example.y)}
    picks = {
        method: say("lesson.two.no_choice") if pick is None else NAMES[pick]
        for method, pick in (("magnitude", example.magnitude), ("wanda", example.wanda))
    }
    why = [say("lesson.two.why", **picks, **costs), say("lesson.two.why_product")]
    if example.magnitude == example.wanda:
        why.append(say("lesson.two.try_apart"))
    elif example.magnitude is not None and example.wanda is not None:
        why.append(say("lesson.two.try_together"))
    table = pd.DataFrame(
        [
            [name, f"{w:g}".replace("-", "−"), f"{x:g}".replace("-", "−"), f"{abs(w):.1f}", f"{error:.1f}"]
            for name, w, x, error in zip(NAMES, (w1, w2), (x1, x2), errors, strict=True)
        ],
        columns=[say("lesson.column.weight"), "w", "x", "|w|", f"|w|·|x| = {say('lesson.column.error')}"],
    )
    numbers = {"w1": w1, "w2": w2, "x1": x1, "x2": x2, "y": example.y}
    numbers |= {"error_without_w1": errors[0], "error_without_w2": errors[1]}
    picture = figures.two_weights((w1, w2), example, say)
    return Answer((GUESS[example.cheaper],), _found(example, say), tuple(why), picture, numbers, table)
    yield  # makes this a generator like the other steps, though it has no progress to show


def _found(example: TwoWeights, say: Say) -> str:
    """Say what both methods choose, and what that costs."""
    best, errors = example.cheaper, example.errors
    if best is None:
        return say("lesson.two.finding_tie", cost=errors[0])
    shown = {"cut": NAMES[best], "cost": errors[best], "wrong": errors[1 - best], "wrong_name": NAMES[1 - best]}
    if example.magnitude is None:
        return say("lesson.two.finding_even", **shown)
    return say("lesson.two.finding_agree" if example.magnitude == best else "lesson.two.finding_wrong", **shown)


def matrix(asked: Asked, *values: object) -> Steps[Answer]:
    """Step 2: four ways to remove half of a 4 × 6 matrix, with one input as loud as the reader wants it.

    What is asked is the mean loss of an output; the total error is another thing, and is told beside it.
    """
    (size,) = _numbers(asked, 2, values)
    W, X, say = example_matrix(), example_inputs(size), asked.say
    choices = {f"{metric}_{group}": choose(W, X, metric, group) for metric in METRICS for group in GROUPS}
    costs = {name: choice.mean_share for name, choice in choices.items()}
    totals = {name: choice.error for name, choice in choices.items()}
    best, least = _least(costs), _least(totals)
    names = {name: say(f"lesson.matrix.guess.{name}") for name in choices}
    listed = ", ".join(f"“{names[name]}”" for name in best)
    found = {"best": listed, "cost": costs[best[0]], "other": costs["magnitude_matrix"]}
    finding = say("lesson.matrix.finding" if len(best) == 1 else "lesson.matrix.finding_tie", **found)
    table = pd.DataFrame(
        [[names[n], int(c.cut.sum()), f"{c.mean_share:.0%}", f"{c.error:.2f}", c.silenced] for n, c in choices.items()],
        columns=[say(f"lesson.column.{name}") for name in ("way", "cut", "mean_share", "total", "silenced")],
    )
    why = [_by_row(choices, size, say), *_by_matrix(choices, names, say)]
    if not set(best) & set(least):
        shown = {"way": names[least[0]], "total": totals[least[0]], "own": totals[best[0]], "best": listed}
        why.append(say("lesson.matrix.why_total", **shown))
    picture = figures.matrices(W, X.norm(dim=0), choices, best, say)
    numbers = {"size": size, **{f"mean_loss_{n}": c for n, c in costs.items()}}
    numbers |= {f"total_error_{n}": total for n, total in totals.items()}
    return Answer(best, finding, tuple(why), picture, numbers, table)
    yield  # see above


def _least(costs: Mapping[str, float]) -> tuple[str, ...]:
    """List the ways that cost least; several where they cost the same."""
    least = min(costs.values())
    return tuple(name for name, cost in costs.items() if math.isclose(cost, least, rel_tol=1e-6))


def _by_row(choices: Mapping[str, Choice], size: float, say: Say) -> str:
    """Say what the norm changes where scores are compared inside every row."""
    magnitude, wanda = choices["magnitude_row"], choices["wanda_row"]
    shown = {"size": size, "magnitude": magnitude.mean_share, "wanda": wanda.mean_share}
    if bool((magnitude.cut == wanda.cut).all()):
        return say("lesson.matrix.why_alike", **shown)
    kept = [int((~choice.cut[:, LOUD_INPUT]).sum()) for choice in (magnitude, wanda)]
    return say("lesson.matrix.why_loud", **shown, kept_magnitude=kept[0], kept_wanda=kept[1])


def _by_matrix(choices: Mapping[str, Choice], names: Mapping[str, str], say: Say) -> list[str]:
    """Say which ways silence an output."""
    silenced = ", ".join(f"“{names[name]}”" for name, choice in choices.items() if choice.silenced)
    return [say("lesson.matrix.why_silenced", silenced=silenced)] if silenced else [say("lesson.matrix.why_heard")]


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
