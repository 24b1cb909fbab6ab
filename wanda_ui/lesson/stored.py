"""The lesson's stored answers, which a page can give before any model is loaded."""

import json
from functools import cache
from typing import Any

from wanda_core.assets import LESSON
from wanda_core.errors import InputError
from wanda_core.model import builtin
from wanda_core.report.lesson.plan import FORMAT
from wanda_ui.app_state import AppState

Json = dict[str, Any]


@cache
def lesson() -> Json:
    """Read the stored answers, as `wanda_core/report/lesson/making.py` writes them."""
    held: Json = json.loads(LESSON.read_text(encoding="utf-8"))
    if held.get("format") != FORMAT:
        raise InputError(f"{LESSON.name} is not a lesson of this version; make it anew with `make replay`")
    return held


def stored_for(state: AppState, model: str) -> Json | None:
    """Return the stored answers where they are of the model that is looked at, else None."""
    loaded = state.loaded(model)
    if state.normal(model) != builtin.NAME:
        return None
    held = lesson()
    return held if loaded is None or loaded.lm.revision == held["made"]["revision"] else None
