"""The whole page: the set-up on the left, the tabs on the right, and how it is served.

To add a tab: write `wanda_ui/NAME/tab.py`, whose `build(context)` lays the tab out, wires its own controls and returns
a `Tab`; add a line to `TABS` below; add the label `page.tab.NAME` to `page.json` of every language. `tab_context.py`
says what a tab is given, and what it may show of the model and when.
"""

import json
import os
from collections.abc import Callable
from typing import Any

import gradio as gr
from starlette.middleware import Middleware

from wanda_core.assets import ASSETS
from wanda_core.errors import InputError
from wanda_core.machine.process import bound_arenas, keep_freed_memory
from wanda_core.model import builtin
from wanda_core.progress import finish
from wanda_ui.app_state import AppState
from wanda_ui.compare import tab as compare_tab
from wanda_ui.engine.zero_gpu import has_zero_gpu, on_zero_gpu
from wanda_ui.gate.guarded import GuardedPage
from wanda_ui.gate.middleware import Gate
from wanda_ui.jobs import LIGHT, MOST_EVENTS, Cancel
from wanda_ui.language import LANGUAGES, Spoken, label, labels, next_language
from wanda_ui.lesson import tab as lesson_tab
from wanda_ui.outliers import tab as outliers_tab
from wanda_ui.scores import tab as scores_tab
from wanda_ui.settings import Settings
from wanda_ui.setup import panel
from wanda_ui.setup.events import SetupEvents
from wanda_ui.tab_context import Tab, TabContext, resizing_tab

# From left to right, by the name that labels and other tabs have for it.
TABS: dict[str, Callable[[TabContext], Tab]] = {
    "compare": compare_tab.build,
    "scores": scores_tab.build,
    "outliers": outliers_tab.build,
    "learn": lesson_tab.build,
}

STYLE = ASSETS / "style.css"
OTHER_LANGUAGE = """() => {
    const [next, to] = [NEXT, new URL(location)];
    to.searchParams.set("lang", next[document.documentElement.lang]);
    location.assign(to);
}""".replace("NEXT", json.dumps({language: next_language(language) for language in LANGUAGES}))
SWITCH_THEME = "() => { document.body.classList.toggle('dark'); }"


def theme() -> gr.themes.Base:
    """Return the look: system fonts, one accent, generous space."""
    sans = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"]
    return gr.themes.Base(
        primary_hue=gr.themes.colors.blue,
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
        "css_paths": [STYLE],
        "max_file_size": settings.upload_bytes,
        "max_threads": MOST_EVENTS,
        "state_session_capacity": 64,
        "enable_monitoring": False,
        "share": False,
        "run_history": False,
        "footer_links": [],
        "i18n": labels(),
        "app_kwargs": {"middleware": [Middleware(Gate), Middleware(Spoken)]},
        "ssr_mode": False,
    }


def build(state: AppState) -> GuardedPage:
    """Build the page over a state, its queue set; nothing is launched."""
    page: GuardedPage
    with GuardedPage(title="Wanda Lab", delete_cache=(3600, 3600), analytics_enabled=False) as page:
        key = gr.State("")
        head = _top()
        with gr.Row(elem_classes="wl-main"):
            with gr.Column(scale=1, min_width=300, elem_classes="wl-side"):
                setup = panel.build(state.settings)
            with gr.Column(scale=3, min_width=320, elem_classes="wl-work"), gr.Tabs() as tabs:
                context = TabContext(state, setup.model, key, Cancel(), page, tabs)
                built = []
                for name, build_tab in TABS.items():
                    with resizing_tab(label(f"page.tab.{name}"), name, f"tab-{name}"):
                        built.append(build_tab(context))
        SetupEvents(context, setup, head, built).wire()
    page.guard(state.settings)
    page.queue(max_size=MOST_EVENTS, default_concurrency_limit=4, api_open=False)
    return page


def _top() -> gr.HTML:
    """Lay out the line at the top with the switches for language and theme; return the part that names the model."""
    with gr.Row(elem_classes="wl-top"):
        head = gr.HTML("", elem_id="head")
        other = gr.Button(label("page.other_language"), size="sm", elem_id="language-switch", scale=0, min_width=90)
        theme_switch = gr.Button(label("page.theme"), size="sm", elem_id="theme-switch", scale=0, min_width=110)
    other.click(None, js=OTHER_LANGUAGE, **LIGHT)
    theme_switch.click(None, js=SWITCH_THEME, **LIGHT)
    return head


def serve(host: str | None = None, port: int | None = None) -> None:
    """Start the state and serve the page until stopped; the address is printed.

    host, port: where to listen; Gradio's own settings when None. Raises SystemExit, with a sentence, for a setting in
    the environment that breaks its rule.
    """
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    # uvicorn would take a visitor's address from a header; WANDA_TRUSTED_HEADER says whether one may be believed.
    os.environ.setdefault("FORWARDED_ALLOW_IPS", "")
    try:
        settings = Settings.from_environment()
    except InputError as error:
        raise SystemExit(str(error)) from None
    keep_freed_memory()
    bound_arenas()
    state = AppState(settings)
    if has_zero_gpu():  # what is in memory before the page is served can run there
        finish(state.model_steps(builtin.NAME))
        state.run_by(on_zero_gpu(state.models))
    state.start()
    page = build(state)
    page.launch(server_name=host, server_port=port, **launch_settings(settings))
