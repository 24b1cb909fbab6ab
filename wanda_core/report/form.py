"""The form of a run, piece by piece: checks of plain values that a stranger's file brings.

A check takes a value and where it stands, and raises `WrongError` where it is not as it must be. `W.readRun`
(`assets/view/25-run.js`) checks the same.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

from wanda_core.checks import MAX_SAMPLES, MAX_SEED, MAX_SEQ_LEN

Check = Callable[[Any, str], None]

LARGEST = 1e300  # what stands for an infinite perplexity: JSON has no word for it
MOST_LINES, MOST_POINTS, MOST_PROMPTS = 200, 1000, 64
MOST_ANSWERED, MOST_PIECES = 5000, 4096  # recipes with answers, and tokens of one
MOST_SHOWN = 3  # recipes by which a run is looked at
MOST_NAME, MOST_TEXT = 1000, 50_000  # characters of a name, and of a prompt or a piece of an answer
MOST_PERCENT = 97  # 1:32, the sparsest pattern, removes 96.875


class WrongError(ValueError):
    """A value that is not as it must be. Its message says where it stands and what it must be."""


def number(least: float = -LARGEST, most: float = LARGEST) -> Check:
    """Check for a finite number."""

    def check(value: Any, where: str) -> None:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:
            between = "" if (least, most) == (-LARGEST, LARGEST) else f" from {least:g} to {most:g}"
            raise WrongError(f"{where} is not a number{between}")

    return check


def whole(least: int = 0, most: int = MAX_SEED) -> Check:
    """Check for a whole number."""

    def check(value: Any, where: str) -> None:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise WrongError(f"{where} is not a whole number from {least} to {most}")

    return check


def text(most: int = MOST_NAME) -> Check:
    """Check for a text of so many characters that UTF-8 can hold."""

    def check(value: Any, where: str) -> None:
        if not isinstance(value, str) or len(value) > most or re.search("[\ud800-\udfff]", value):
            raise WrongError(f"{where} is not a text of at most {most:,} characters")

    return check


def matching(pattern: str, what: str) -> Check:
    """Check for a text of a pattern. what: it is called."""

    def check(value: Any, where: str) -> None:
        if not isinstance(value, str) or not re.fullmatch(pattern, value):
            raise WrongError(f"{where} is not {what}")

    return check


def truth(value: Any, where: str) -> None:
    """Check for true or false."""
    if not isinstance(value, bool):
        raise WrongError(f"{where} is neither true nor false")


def maybe(inner: Check) -> Check:
    """Check for null or something."""

    def check(value: Any, where: str) -> None:
        if value is not None:
            inner(value, where)

    return check


def listed(inner: Check, least: int, most: int) -> Check:
    """Check for a list of so many of something."""

    def check(value: Any, where: str) -> None:
        if not isinstance(value, list) or not least <= len(value) <= most:
            count = f"{least}" if least == most else f"{least} to {most}"
            raise WrongError(f"{where} is not a list of {count}")
        for place, item in enumerate(value):
            inner(item, f"{where}[{place}]")

    return check


def table(required: Mapping[str, Check], optional: Mapping[str, Check] | None = None) -> Check:
    """Check for an object with these fields, and perhaps those; what else it holds is not looked at."""

    def check(value: Any, where: str) -> None:
        if not isinstance(value, dict):
            raise WrongError(f"{where or 'it'} is not an object")
        for name, inner in {**required, **(optional or {})}.items():
            place = f"{where}.{name}".lstrip(".")
            if name in value:
                inner(value[name], place)
            elif name in required:
                raise WrongError(f"{place} is missing")

    return check


def same_length(value: Mapping[str, Any], names: tuple[str, ...], where: str) -> None:
    """Raise unless lists have one length."""
    if len({len(value[name]) for name in names}) > 1:
        raise WrongError(f"{', '.join(names)} of {where} have different lengths")


def and_then(first: Check, second: Check) -> Check:
    """Check one thing after the other."""

    def check(value: Any, where: str) -> None:
        first(value, where)
        second(value, where)

    return check


# What a run was made on and with ------------------------------------------------------------------------------------
_NAME, _COUNT = text(), whole()
DRAWN = table(
    {"source": _NAME, "samples": whole(1, MAX_SAMPLES), "seq_len": whole(2, MAX_SEQ_LEN), "seed": whole()},
    {"fingerprint": matching("[0-9a-f]{64}", "a fingerprint"), "seconds": maybe(number(0))},
)
MADE = table(
    {
        "date": matching("[0-9]{4}-[0-9]{2}-[0-9]{2}", "a date such as 2026-01-31"),
        "model": _NAME,
        "name": _NAME,
        "revision": _NAME,
        "parameters": _COUNT,
        "prunable": _COUNT,
        "versions": table({"wanda": _NAME, "torch": _NAME, "transformers": _NAME}),
        "calibration": DRAWN,
        "windows": whole(1),
        "agreement_windows": whole(),
        "seq_len": whole(2, MAX_SEQ_LEN),
        "eval": matching("[0-9a-f]{16}", "a fingerprint"),
        "answer_tokens": whole(1, MOST_PIECES),
    },
    {"dtype": _NAME, "bos": truth},
)
PROMPT = table({"text": text(MOST_TEXT)}, {"id": maybe(_NAME), "word": maybe(_NAME)})
# By what it is looked at: the page of one, or of several recipes.
SHOWN = table(
    {"at": number(0, MOST_PERCENT), "keys": listed(_NAME, 0, MOST_SHOWN), "prompt": maybe(text(MOST_TEXT))},
)


# The curve and the answers ------------------------------------------------------------------------------------------
def _along(value: Any, where: str) -> None:
    same_length(value, ("at", "perplexity", "top1", "kl", "seconds"), where)
    if any(b <= a for a, b in zip(value["at"], value["at"][1:], strict=False)):
        raise WrongError(f"{where}.at does not ascend")


def _values(inner: Check) -> Check:
    return listed(inner, 1, MOST_POINTS)


# What else a recipe must be, its own class checks.
RECIPE = table({"method": _NAME}, {"pattern": _NAME, "update": _NAME, "solver": table({})})
LINE = and_then(
    table(
        {
            "key": text(),
            "recipe": maybe(RECIPE),
            "calibration": maybe(DRAWN),
            "at": _values(number(0, MOST_PERCENT)),
            "perplexity": _values(number(1)),
            "top1": _values(maybe(number(0, 1))),
            "kl": _values(maybe(number())),
            "seconds": _values(maybe(number(0))),
        }
    ),
    _along,
)
ANSWER = and_then(
    table({"t": listed(text(MOST_TEXT), 0, MOST_PIECES), "p": listed(whole(0, 100), 0, MOST_PIECES)}),
    lambda value, where: same_length(value, ("t", "p"), where),
)
