"""The stored run of the built-in model, which the page shows before anything is loaded."""

import json
from functools import cache
from typing import Any

from wanda_core.assets import ASSETS


@cache
def replay() -> dict[str, Any]:
    """Read the stored run, as `wanda_core/report/replay.py` writes it."""
    content: dict[str, Any] = json.loads((ASSETS / "replay.json").read_text(encoding="utf-8"))
    return content
