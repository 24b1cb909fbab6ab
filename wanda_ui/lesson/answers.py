"""The answer of a step, and the record of a run."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from wanda_ui.app_state import AppState
from wanda_ui.language import Say


@dataclass(frozen=True)
class Asked:
    """Who asks: the words of the page's language, the state, and the name of the chosen model; only_known: whether
    nothing may be measured for the answer, where what is not known raises UnknownError."""

    say: Say
    state: AppState
    model: str
    only_known: bool = False


class UnknownError(Exception):
    """An answer that would have to be measured, which was not asked for."""


@dataclass(frozen=True)
class Answer:
    """The answer that a step shows.

    right: the guesses that these numbers bear out; finding: the one sentence; explanation: its paragraphs; picture:
    HTML, already escaped; numbers: what was measured, by name, for the record; table: the same for those who do not see
    the picture; data: the values that all of it is made of (see `measured.Told`), own: those of what somebody chose;
    date: when they were stored, empty where they were measured here.
    """

    right: tuple[str, ...]
    finding: str
    explanation: tuple[str, ...]
    picture: str
    numbers: Mapping[str, float | int | str]
    table: pd.DataFrame = field(default_factory=pd.DataFrame)
    data: Mapping[str, Any] = field(default_factory=dict)
    own: Mapping[str, Any] | None = None
    date: str = ""


@dataclass(frozen=True)
class Record:
    """A step's last answer as plain values, in a visitor's session. values: of the step's controls."""

    guess: str
    right: tuple[str, ...]
    finding: str
    numbers: Mapping[str, float | int | str]
    model: str = ""
    values: tuple[Any, ...] = ()


Run = dict[int, Record]  # by step, from 1
