"""The stored run of the built-in model, which the page shows before anything is loaded."""

from functools import cache

from wanda_core.assets import REPLAY
from wanda_core.report.run import Run, read_run


@cache
def replay() -> Run:
    """Read the stored run, as `wanda_core/report/replay.py` writes it."""
    return read_run(REPLAY)
