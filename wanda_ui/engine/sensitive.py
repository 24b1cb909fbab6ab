"""How sensitive the blocks of a model are, which a profile is given where a recipe allots by it."""

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from wanda_core.calibration.profile import Profile
from wanda_core.progress import Steps
from wanda_ui.engine import work
from wanda_ui.engine.loaded import Loaded
from wanda_ui.engine.recipe import Reading
from wanda_ui.engine.work import Draw

if TYPE_CHECKING:
    from wanda_ui.app_state import AppState


def sensitive_steps(
    state: "AppState", loaded: Loaded, reading: Reading, draw: Draw, profile: Profile
) -> Steps[Profile]:
    """Return a profile with the blocks' sensitivities on the same text, which are measured once."""
    known = loaded.sensitivities.get(reading)
    if known is None:
        job = partial(work.sensitivities, name=loaded.name, draw=draw, profile=profile)
        kind = ("sensitivity", loaded.name)
        known = yield from state.work_steps(loaded, job, kind, shared=(*kind, loaded.state, reading))
        loaded.sensitivities.put(reading, known)
    return replace(profile, sensitivities=known)
