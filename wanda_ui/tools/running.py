"""Running a tool: its place in the engine's queue, and where its arguments are checked."""

from collections.abc import Mapping
from contextlib import closing

from wanda_core.progress import Steps
from wanda_ui.app_state import AppState
from wanda_ui.engine.queue import arrived
from wanda_ui.tools.offered import Json, Tool
from wanda_ui.tools.parameters import checked


def run(tool: Tool, given: object, state: AppState, arrival: int | None) -> Steps[Json]:
    """Check what a tool is given and run it; closing the steps ends its job.

    arrival: number of the request, which places its jobs in the queue. Raises InputError for what breaks a rule, and
    whatever WandaError the job raises.
    """
    values: Mapping[str, object] = checked(tool.name, given, tool.parameters)
    with state.engine.present(arrival), closing(tool.answer(state, values)) as steps:
        try:
            while True:
                with arrived(arrival):
                    step = next(steps)
                yield step
        except StopIteration as stop:
            result: Json = stop.value
            return result
