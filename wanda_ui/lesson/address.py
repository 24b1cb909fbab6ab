"""The lesson's state in the address: `?lesson=6&guess=one&channel=507`, written by the page and read when it opens.

An address may come from anybody: what is out of bounds, no number or too long is ignored, and nothing is run.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass

from wanda_ui.inputs import typed_number
from wanda_ui.lesson.plan import STEPS, Control, Slider, Text

MOST_CHARACTERS = 400  # of a text; a longer one is not kept in the address
MOST_DIGITS = 7  # of a channel or block; no model has as many
HIDEABLE = ("header", "tabs", "sketch", "beat", "test")


@dataclass(frozen=True)
class Entry:
    """Where an address enters. step: from 1; guess and values: None for what it does not say."""

    step: int
    guess: str | None
    values: tuple[float | str | None, ...]


def read(query: Mapping[str, str]) -> Entry | None:
    """Read what an address says of the lesson, None where it names no step."""
    number = typed_number(query.get("lesson", ""), MOST_DIGITS)
    if number is None or not 1 <= number <= len(STEPS) + 1:
        return None
    if number > len(STEPS):  # the test, which has nothing to set
        return Entry(number, None, ())
    step = STEPS[number - 1]
    guess = query.get("guess")
    values = tuple(_value(control, query.get(control.name)) for control in step.controls)
    return Entry(number, guess if guess in step.guesses else None, values)


def _value(control: Control, given: str | None) -> float | str | None:
    """Read a control's value, None where none is given or it cannot be."""
    if given is None:
        return None
    if isinstance(control, Text):
        return given if given.strip() and len(given) <= MOST_CHARACTERS else None
    if not isinstance(control, Slider):
        number = typed_number(given, MOST_DIGITS)
        return None if number is None else str(number)
    try:
        value = float(given)
    except ValueError:
        return None
    return value if math.isfinite(value) and control.low <= value <= control.high else None


NAMES = sorted({"guess", *(control.name for step in STEPS for control in step.controls)})


def remember(number: int) -> str:
    """Write the JavaScript of an event with a step's guess and controls as inputs: it puts them into the address."""
    names = ["guess", *(control.name for control in STEPS[number - 1].controls)]
    return f"""(...values) => {{
        if (document.body.dataset.tab !== "learn") return;
        const [names, address] = [{json.dumps(names)}, new URL(location)];
        for (const name of {json.dumps(NAMES)}) address.searchParams.delete(name);
        address.searchParams.set("lesson", "{number}");
        names.forEach((name, i) => {{
            const value = values[i] === null || values[i] === undefined ? "" : String(values[i]);
            if (value && value.length <= {MOST_CHARACTERS}) address.searchParams.set(name, value);
        }});
        history.replaceState(history.state, "", address);
    }}"""


def _remember_all() -> str:
    """Write the JavaScript of an event with all steps' guesses and controls as inputs: it puts those of the step that
    the row of steps marks into the address."""
    scripts = ", ".join(remember(number) for number in range(1, len(STEPS) + 1))
    counts = json.dumps([1 + len(step.controls) for step in STEPS])
    return f"""(...values) => requestAnimationFrame(() => {{
        const now = Number(document.querySelector("#lesson-steps [aria-current]")?.dataset.step || 1);
        const [all, counts] = [[{scripts}], {counts}];
        if (now > all.length) {{
            const address = new URL(location);
            for (const name of {json.dumps(NAMES)}) address.searchParams.delete(name);
            address.searchParams.set("lesson", now);
            history.replaceState(history.state, "", address);
            return;
        }}
        const start = counts.slice(0, now - 1).reduce((sum, count) => sum + count, 0);
        all[now - 1](...values.slice(start, start + counts[now - 1]));
    }})"""


REMEMBER_ALL = _remember_all()

HIDE = f"""() => {{
    const asked = (new URL(location).searchParams.get("hide") || "").split(",");
    for (const part of {json.dumps(HIDEABLE)}) document.body.classList.toggle("wl-hide-" + part, asked.includes(part));
}}"""
# Free play needs all of the page.
UNHIDE = f"""() => {{
    const address = new URL(location);
    for (const name of ["lesson", "hide", ...{json.dumps(NAMES)}]) address.searchParams.delete(name);
    history.replaceState(history.state, "", address);
    for (const part of {json.dumps(HIDEABLE)}) document.body.classList.remove("wl-hide-" + part);
}}"""
