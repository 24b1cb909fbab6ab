"""The answer of a step, and the record of a run."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import pandas as pd
import plotly.graph_objects as go

from wanda_ui.app_state import AppState
from wanda_ui.language import Say


@dataclass(frozen=True)
class Asked:
    """Who asks: the words of the page's language, the state, and the name of the chosen model."""

    say: Say
    state: AppState
    model: str


@dataclass(frozen=True)
class Answer:
    """The answer that a step shows.

    right: the guess that these numbers bear out, None where none does; picture: a figure, or HTML already escaped;
    numbers: what was measured, by name, for the record; table: the same for those who do not see the picture.
    """

    right: str | None
    finding: str
    explanation: str
    picture: go.Figure | str
    numbers: Mapping[str, float | int | str]
    table: pd.DataFrame = field(default_factory=pd.DataFrame)


@dataclass(frozen=True)
class Record:
    """A step's last answer as plain values, in a visitor's session."""

    guess: str
    right: str | None
    finding: str
    numbers: Mapping[str, float | int | str]
    model: str = ""


Run = dict[int, Record]  # by step, from 1
