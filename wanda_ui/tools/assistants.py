"""The tools for assistants: a Model Context Protocol server over streamable HTTP, by the official package `mcp`.

It keeps nothing between two requests. The gate has read and checked a request before it comes here.
"""

import importlib.util
import itertools
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from anyio import CapacityLimiter, to_thread

from wanda_core.errors import InputError, WandaError, shortened
from wanda_core.progress import Progress, Steps
from wanda_core.version import __version__
from wanda_ui.app_state import AppState
from wanda_ui.compare import messages
from wanda_ui.faults import note, unexpected
from wanda_ui.gate.arrivals import HEADER
from wanda_ui.language import ENGLISH
from wanda_ui.tools.offered import Json, tools_of
from wanda_ui.tools.running import run

PACKAGE = "mcp"
CALLS_AT_ONCE = 40  # each holds a thread while it waits for the engine
INSTRUCTIONS = (
    "Prunes language models with Wanda on this machine and shows what that does: start with `prune` on the built-in "
    "model, `compare` answers, ask `why_kept` of single weights, and measure `perplexity`. Jobs run one at a time."
)

Handler = Callable[[Any, Any, Any], Awaitable[None]]


def check_installed() -> None:
    """Raise InputError where the package that the tools need is not here."""
    if importlib.util.find_spec(PACKAGE) is None:
        raise InputError(
            f"the tools need the package {PACKAGE!r}, which is not installed; run pip install '{PACKAGE}>=2.3,<3', or "
            "leave --tools and WANDA_TOOLS out"
        )


class Assistants:
    """The server. Its `handle` answers one request, within `running`, which lasts as long as the page is served."""

    def __init__(self, state: AppState) -> None:
        self.state, self.tools = state, tools_of(state.settings)
        self._limiter: CapacityLimiter | None = None
        self._handle: Handler | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Async context manager: requests are answered inside."""
        from mcp.server import Server
        from mcp.server.streamable_http_manager import StreamableHTTPSessionManager

        server: Any = Server(
            "wanda-lab",
            version=__version__,
            title="Wanda Lab",
            instructions=INSTRUCTIONS,
            on_list_tools=self._list,
            on_call_tool=self._call,
        )
        manager = StreamableHTTPSessionManager(app=server, stateless=True)  # made anew with each start
        self._limiter = CapacityLimiter(CALLS_AT_ONCE)
        async with manager.run():
            self._handle = manager.handle_request
            try:
                yield
            finally:
                self._handle = None

    async def handle(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer a request, an ASGI application's three arguments."""
        assert self._handle is not None  # the page is served
        await self._handle(scope, receive, send)

    async def _list(self, context: Any, params: Any) -> Any:
        """List the tools."""
        from mcp.types import ListToolsResult, Tool, ToolAnnotations

        hints = ToolAnnotations(read_only_hint=True, idempotent_hint=True, open_world_hint=False)
        told = [
            Tool(name=tool.name, title=tool.title, description=tool.about, input_schema=tool.schema, annotations=hints)
            for tool in self.tools.values()
        ]
        return ListToolsResult(tools=told)

    async def _call(self, context: Any, params: Any) -> Any:
        """Run a tool, and tell what it found or, as an error that the assistant can read, why it did not."""
        try:
            found = await self._run(context, params.name, params.arguments or {})
        except WandaError as error:
            return _result(str(error), None)
        except Exception as error:  # nobody foresaw it
            note(f"tool {params.name}", error)
            return _result(unexpected(error, ENGLISH), None)
        return _result(json.dumps(found, ensure_ascii=False), found)

    async def _run(self, context: Any, name: str, arguments: Json) -> Json:
        """Go through a tool's steps, each in a thread; where the assistant has gone, they are closed."""
        tool = self.tools.get(name)
        if tool is None:
            raise InputError(f"there is no tool {shortened(name)}; there are {', '.join(self.tools)}")
        arrival = context.request.headers.get(HEADER.decode())
        steps = run(tool, arguments, self.state, int(arrival) if arrival else None)
        said = None
        try:
            for count in itertools.count():  # progress has to grow, and every stage has its own
                step, found = await to_thread.run_sync(_next, steps, limiter=self._limiter)
                if step is None:
                    break
                words = messages.progress(step, ENGLISH)["words"]
                if words != said:
                    said = words
                    await context.session.report_progress(count, None, words)
        finally:
            steps.close()
        assert found is not None  # the steps have ended
        return found


def _next(steps: Steps[Json]) -> tuple[Progress | None, Json | None]:
    """Take a step. -> how far it is, or the result."""
    try:
        return next(steps), None
    except StopIteration as stop:
        return None, stop.value


def _result(text: str, found: Json | None) -> Any:
    """Write a tool's result. found: None where the text says why there is none."""
    from mcp.types import CallToolResult, TextContent

    return CallToolResult(
        content=[TextContent(type="text", text=text)], structured_content=found, is_error=found is None
    )
