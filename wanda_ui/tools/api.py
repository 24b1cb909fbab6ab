"""The tools as named endpoints of Gradio's programming interface, for `gradio_client`."""

import inspect
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import gradio as gr
from gradio.events import api

from wanda_ui.app_state import AppState
from wanda_ui.gate.arrivals import arrival_of
from wanda_ui.jobs import ENGINE, TICK
from wanda_ui.tools.offered import Json, Tool, tools_of
from wanda_ui.tools.parameters import REQUIRED
from wanda_ui.tools.running import run

REQUEST = "request"


def offer(state: AppState) -> frozenset[int]:
    """Add the endpoints to the page that is being built. -> the numbers of their events."""
    same = {name: ENGINE[name] for name in ("concurrency_id", "concurrency_limit")}
    events = [api(function_of(tool, state), api_name=tool.name, **same) for tool in tools_of(state.settings).values()]
    return frozenset(event["id"] for event in events)


def function_of(tool: Tool, state: AppState) -> Callable[..., Iterator[Json]]:
    """Make the typed, documented function by which Gradio knows a tool: it yields how far it is, last the result."""
    names = [parameter.name for parameter in tool.parameters]

    def call(request: gr.Request, *values: Any) -> Iterator[Json]:
        given = dict(zip(names, values, strict=True))
        last = 0.0
        with closing(run(tool, given, state, arrival_of(request))) as steps:
            try:
                while True:
                    step = next(steps)
                    if time.monotonic() - last >= TICK:
                        last = time.monotonic()
                        yield {"stage": step.stage, "progress": round(step.fraction, 3)}
            except StopIteration as stop:
                yield stop.value

    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    told = [inspect.Parameter(REQUEST, kind, annotation=gr.Request)]
    for parameter in tool.parameters:
        default = inspect.Parameter.empty if parameter.default is REQUIRED else parameter.default
        told.append(inspect.Parameter(parameter.name, kind, default=default, annotation=parameter.hint))
    call.__name__ = tool.name
    call.__doc__ = docstring(tool)
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in told} | {"return": dict}
    call.__signature__ = inspect.Signature(told, return_annotation=dict)  # type: ignore[attr-defined]
    return call


def docstring(tool: Tool) -> str:
    """Write what a tool does and takes, in the form that Gradio takes apart."""
    lines = [f"    {parameter.name}: {parameter.about}" for parameter in tool.parameters]
    return "\n".join([tool.about, "", "Args:", *lines])
