"""The whole page: the tabs, what happens when one is opened, and how it is served.

To add a tab: write `wanda_ui/NAME/tab.py`, whose `build(context)` lays the tab out, wires its own controls and returns
a `Tab`; add a line to `TABS` below, and its name to `W.TABS` in `assets/view/9-head.js`; add the label `page.tab.NAME`
to `page.json` of every language. `tab_context.py` says what a tab is given, and what it may show of the model and when.
"""

import gc
import os
import socket
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import gradio as gr
from starlette.middleware import Middleware

from wanda_core.assets import ASSETS
from wanda_core.errors import InputError, WandaError, first_line, shortened
from wanda_core.machine import temporary
from wanda_core.machine.process import bound_arenas, keep_freed_memory, show_no_bars
from wanda_core.machine.threads import bound_starts
from wanda_core.model import builtin, made_apart
from wanda_core.progress import finish
from wanda_ui.app_state import AppState
from wanda_ui.away import pushing
from wanda_ui.away.shell import answer as report_shell
from wanda_ui.classroom import network
from wanda_ui.classroom.announce import announce
from wanda_ui.classroom.page import ROUTES as CLASS_ROUTES
from wanda_ui.compare import tab as compare_tab
from wanda_ui.compressed import Compressed
from wanda_ui.engine.zero_gpu import has_zero_gpu, on_zero_gpu
from wanda_ui.first_view import FirstView
from wanda_ui.gate.guarded import GuardedPage
from wanda_ui.gate.kept import AGE
from wanda_ui.gate.middleware import Gate
from wanda_ui.gate.policies import Policies
from wanda_ui.gate.uploads import own_folder
from wanda_ui.greeting import ROUTES
from wanda_ui.jobs import MOST_EVENTS
from wanda_ui.language import label, labels
from wanda_ui.lesson import tab as lesson_tab
from wanda_ui.opening import Opening
from wanda_ui.outliers import tab as outliers_tab
from wanda_ui.scores import tab as scores_tab
from wanda_ui.settings import Settings
from wanda_ui.start import without_unusable_proxy
from wanda_ui.tab_context import Tab, TabContext, resizing_tab
from wanda_ui.tools import api
from wanda_ui.tools.assistants import Assistants, check_installed
from wanda_ui.view_files import FAVICON

SOON = 10.0  # seconds after the start, when the built-in model has been read
# From left to right, by the name that labels and other tabs have for it.
TABS: dict[str, Callable[[TabContext], Tab]] = {
    "compare": compare_tab.build,
    "scores": scores_tab.build,
    "outliers": outliers_tab.build,
    "learn": lesson_tab.build,
}

MOST_PORT = 65535
MOST_NAME = 4096  # characters of a model's name, which may be a folder's
MOST_STATES = 1000  # visitors whose state is kept, the latest
STYLES = [ASSETS / "style.css", ASSETS / "lesson.css"]
# One blue for all: that of the dense model, and of what can be pressed.
BLUE = gr.themes.Color(
    c50="#eef6fb",
    c100="#d9ebf6",
    c200="#b0d6ec",
    c300="#7dbbdf",
    c400="#5ab4e5",
    c500="#2b8fc8",
    c600="#0072b2",
    c700="#00609a",
    c800="#004e7d",
    c900="#003d62",
    c950="#002a45",
)


def theme() -> gr.themes.Base:
    """Return the look: system fonts, one accent, generous space."""
    sans = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"]
    return gr.themes.Base(
        primary_hue=BLUE,
        neutral_hue=gr.themes.colors.slate,
        radius_size=gr.themes.sizes.radius_md,
        font=sans,
        font_mono=["ui-monospace", "SF Mono", "Menlo", "monospace"],
    )


def launch_settings(settings: Settings | None = None) -> dict[str, Any]:
    """Return how the page is served, the same for the app and the tests."""
    settings = settings or Settings()
    return {
        "theme": theme(),
        "css_paths": STYLES,
        "max_file_size": settings.upload_bytes,
        "max_threads": MOST_EVENTS,
        "state_session_capacity": MOST_STATES,
        "enable_monitoring": False,
        "share": False,
        "run_history": False,
        "footer_links": [],
        "i18n": labels(),
        "favicon_path": FAVICON,
        "app_kwargs": {
            "middleware": [Middleware(Policies), Middleware(Gate), Middleware(Compressed), Middleware(FirstView)],
            "routes": [*ROUTES, *CLASS_ROUTES],
            "lifespan": lifespan,
        },
        "ssr_mode": False,
    }


@asynccontextmanager
async def lifespan(app: Any) -> AsyncIterator[None]:
    """Async context manager: the page is served inside. app: Gradio's.

    Gradio puts middleware of its own in front of what it is given, which fails on headers that the gate refuses.
    """
    first = [layer for layer in app.user_middleware if layer.cls in (Policies, Gate)]
    app.user_middleware = first + [layer for layer in app.user_middleware if layer not in first]
    app.middleware_stack = app.build_middleware_stack()
    async with app.get_blocks().running():
        yield


def build(state: AppState) -> GuardedPage:
    """Build the page over a state, its queue set; nothing is launched."""
    page: GuardedPage
    with GuardedPage(title="Wanda Lab", delete_cache=(AGE, AGE), analytics_enabled=False) as page:
        # The browser says which model it looks at: a server that has let its state go would show another one.
        chosen = gr.Textbox(builtin.NAME, visible="hidden", max_length=MOST_NAME, elem_id="model-name")
        context = TabContext(state, chosen, page)
        shown = {name: gr.State("") for name in TABS}  # not between the tabs, whose places Gradio counts
        with gr.Tabs(elem_id="tabs"):
            for name, build_tab in TABS.items():
                with resizing_tab(label(f"page.tab.{name}"), name, f"tab-{name}") as side:
                    tab = build_tab(context)
                if tab.outputs:
                    Opening(context, tab, shown[name]).wire(side)

        if state.settings.tools:
            page.tools = api.offer(state)
            page.assistants = Assistants(state)
    page.questions["report"] = lambda given, say, visitors: report_shell(given)
    page.guard(state.settings)
    page.queue(max_size=MOST_EVENTS, default_concurrency_limit=4, api_open=False)
    return page


def prepared(settings: Settings) -> AppState:
    """Make the state of a server.

    On a ZeroGPU Space the built-in model is loaded and read first: a process with the GPU knows what this one knew when
    it was forked, and what is known then costs no visitor's time there. Raises WandaError where it cannot be loaded.
    """
    state = AppState(settings, lends=has_zero_gpu())
    if state.lends:
        finish(state.open_steps(builtin.NAME))
        state.run_by(on_zero_gpu(state.models))
    return state


def check_place(host: str | None, port: int | None) -> None:
    """Raise InputError for a port that is none, and for an address on which this machine cannot listen."""
    if port is not None and not 1 <= port <= MOST_PORT:
        raise InputError(f"port {port} is not a number from 1 to {MOST_PORT}; leave it out for the first free one")
    if not host:
        return
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as tried:
            tried.bind(where)
    except (OSError, ValueError, OverflowError) as error:
        raise InputError(
            f"host {shortened(host)} is no address of this machine ({first_line(error)}); give one, such as 127.0.0.1, "
            "or leave it out"
        ) from error


def serve(host: str | None = None, port: int | None = None, tools: bool = False, lan: bool = False) -> None:
    """Start the state and serve the page until stopped; the address is printed.

    host, port: where to listen; Gradio's own settings when None; tools: whether programs and assistants of this machine
    may use it too, as WANDA_TOOLS says; lan: whether a class in the same network may, within the limits of a public
    server. Raises SystemExit, with a sentence, for a setting in the environment that breaks its rule, for a machine
    that is in no network, and on a ZeroGPU Space for a model that cannot be loaded.
    """
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    # uvicorn would take a visitor's address from a header; WANDA_TRUSTED_HEADER says whether one may be believed.
    os.environ.setdefault("FORWARDED_ALLOW_IPS", "")
    wishes = {**({"WANDA_TOOLS": "1"} if tools else {}), **({"WANDA_PUBLIC": "1"} if lan else {})}
    try:
        settings = Settings.from_environment({**os.environ, **wishes})
        if settings.tools:
            check_installed()
        check_place(host, port)
        if lan:
            host = host or network.EVERYWHERE
            network.class_of(host, 0, "", network.own_addresses())  # known before the model is loaded
    except InputError as error:
        raise SystemExit(str(error)) from None
    try:
        with own_folder():
            _serve(settings, host, port, lan)
    except WandaError as error:
        raise SystemExit(str(error)) from None


def _serve(settings: Settings, host: str | None, port: int | None, lan: bool) -> None:
    """Serve the page as `serve` does, once all is checked. Raises WandaError for a model that cannot be loaded."""
    keep_freed_memory()
    bound_arenas()
    show_no_bars()
    bound_starts()
    temporary.sweep(pushing.PREFIX)
    state = prepared(settings)
    page = build(state)
    with without_unusable_proxy():
        page.launch(server_name=host, server_port=port, prevent_thread_lock=True, **launch_settings(settings))
    gc.freeze()  # what is imported stays: to look it through after each job would hold up the page for half a second
    if page.tools:
        print(
            f"* Tools for programs of this machine: {page.local_url} (gradio_client), {page.local_url}mcp (assistants)"
        )
    if lan and host is not None:
        page.joined = network.class_of(host, page.server_port, network.new_code(), network.own_addresses())
        announce(page.joined, str(page.local_url))
    state.start()
    if settings.public:
        later = threading.Timer(SOON, made_apart.prepare)
        later.daemon = True
        later.start()
    page.block_thread()
