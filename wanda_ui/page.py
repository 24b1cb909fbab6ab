"""The whole page: the set-up on the left, the tabs on the right, and what happens when."""

import json
import os
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import gradio as gr
from starlette.middleware import Middleware

from wanda_core.assets import ASSETS
from wanda_core.errors import WandaError
from wanda_core.machine.process import keep_freed_memory
from wanda_core.progress import Steps
from wanda_ui import markup
from wanda_ui.app_state import AppState, Loaded, Result
from wanda_ui.compare import tab as compare_tab
from wanda_ui.jobs import AT_ONCE, ENGINE, LIGHT, MOST_JOBS, RESIZE, Cancel, Stop, watched
from wanda_ui.language import LANGUAGES, Say, Spoken, label, labels, next_language, speaker
from wanda_ui.lesson import tab as lesson_tab
from wanda_ui.outliers import tab as outliers_tab
from wanda_ui.scores import tab as scores_tab
from wanda_ui.setup import panel as setup_panel
from wanda_ui.tab_context import TabContext

STYLE = ASSETS / "style.css"
OTHER_LANGUAGE = """() => {
    const [next, to] = [NEXT, new URL(location)];
    to.searchParams.set("lang", next[document.documentElement.lang]);
    location.assign(to);
}""".replace("NEXT", json.dumps({language: next_language(language) for language in LANGUAGES}))
SWITCH = "() => { document.body.classList.toggle('dark'); }"


def theme() -> gr.themes.Base:
    """System fonts, one accent, generous space."""
    sans = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"]
    return gr.themes.Base(
        primary_hue=gr.themes.colors.blue,
        neutral_hue=gr.themes.colors.slate,
        radius_size=gr.themes.sizes.radius_md,
        font=sans,
        font_mono=["ui-monospace", "SF Mono", "Menlo", "monospace"],
    )


def launch_settings() -> dict[str, Any]:
    """How the page is served, the same for the app and the tests."""
    return {
        "theme": theme(),
        "css_paths": [STYLE],
        "max_file_size": "8mb",
        "state_session_capacity": 64,
        "enable_monitoring": False,
        "share": False,
        "run_history": False,
        "footer_links": [],
        "i18n": labels(),
        "app_kwargs": {"middleware": [Middleware(Spoken)]},
        "ssr_mode": False,
    }


def build(state: AppState) -> gr.Blocks:
    """The page over a state, its queue set; nothing is launched."""
    with gr.Blocks(title="Wanda Lab", delete_cache=(3600, 3600), analytics_enabled=False) as page:
        key = gr.State("")
        cancel = Cancel()
        with gr.Row(elem_classes="wl-top"):
            head = gr.HTML("", elem_id="head")
            other = gr.Button(label("page.other_language"), size="sm", elem_id="language-switch", scale=0, min_width=90)
            switch = gr.Button(label("page.theme"), size="sm", elem_id="theme-switch", scale=0, min_width=110)
        with gr.Row(elem_classes="wl-main"):
            with gr.Column(scale=1, min_width=300, elem_classes="wl-side"):
                setup = setup_panel.build()
            context = TabContext(state, setup.model, key)
            with gr.Column(scale=3, min_width=320, elem_classes="wl-work"), gr.Tabs() as tabs:
                with gr.Tab(label("page.tab.compare"), id="compare", elem_id="tab-compare") as compare_side:
                    compare = compare_tab.build()
                with gr.Tab(label("page.tab.scores"), id="scores", elem_id="tab-scores") as scores_side:
                    scores = scores_tab.build(context)
                with gr.Tab(label("page.tab.outliers"), id="outliers", elem_id="tab-outliers") as outliers_side:
                    outliers = outliers_tab.build(context)
                with gr.Tab(label("page.tab.learn"), id="learn", elem_id="tab-learn") as learn_side:
                    lesson_tab.build(context, page, tabs)

        def welcome(request: gr.Request) -> list:
            """The words that stand in the page before anything has happened."""
            say = speaker(request)
            return [
                markup.header(None, say),
                markup.empty(say("setup.starting")),
                *compare_tab.welcome(say),
                markup.empty(say("scores.waiting")),
                markup.empty(say("outliers.stream.waiting")),
            ]

        def open_model(request: gr.Request, name: str) -> Iterator[list]:
            """Load the model that a page begins with, and say that it is ready."""
            yield from opened_by(request, name, None)

        def choose_model(request: gr.Request, name: str) -> Iterator[list]:
            """The same for one that was chosen; Cancel ends it."""
            yield from opened_by(request, name, cancel.since(request, partial(cancelled, speaker(request), name, "")))

        def opened_by(request: gr.Request, name: str, stop: Stop | None) -> Iterator[list]:
            say = speaker(request)
            kept: list[Loaded] = []
            for html in watched(state.model_steps(name), kept, say, stop):
                yield [html, gr.skip(), gr.skip()]
            if kept:
                yield [markup.ready(kept[0], say), "", markup.header(kept[0], say)]

        def analyse(request: gr.Request, name: str) -> Iterator[list]:
            """Read the activations that the tabs show; meanwhile their first lines say so."""
            if name in state.models:
                for html in watched(state.open_steps(name), [], speaker(request)):
                    yield [html, html]

        def fill(request: gr.Request, name: str, held: str, kind: str | None, block: int | None) -> list:
            """What the analysis shows, and the variant that this visitor may have made meanwhile."""
            loaded, result = context.current(name, held)
            if loaded is None:
                return [gr.skip()] * (len(scores.outputs) + len(outliers.outputs))
            say = speaker(request)
            return [*scores_tab.show(loaded, result, kind, block, say), *outliers_tab.show(loaded, say)]

        def analyse_scores(request: gr.Request, name: str) -> Iterator[str]:
            """The same for one who pruned before it was done."""
            for html, _ in analyse(request, name):
                yield html

        def fill_scores(request: gr.Request, name: str, held: str, kind: str | None, block: int | None) -> list:
            """The scores of what was just pruned."""
            return fill(request, name, held, kind, block)[: len(scores.outputs)]

        def prune(request: gr.Request, held: str, *recipe: object) -> Iterator[list]:
            """Prune and measure; a failed run keeps the variant that was there."""
            yield from pruned_by(setup_panel.job, request, held, *recipe)

        def slide(request: gr.Request, held: str, *recipe: object) -> Iterator[list]:
            """The same at once, from norms that are already known."""
            yield from pruned_by(setup_panel.slide, request, held, *recipe)

        def pruned_by(
            make: Callable[..., Steps[Result] | None], request: gr.Request, held: str, *recipe: object
        ) -> Iterator[list]:
            say = speaker(request)
            stop = cancel.since(request, partial(cancelled, say, str(recipe[0]), held))
            rest = [gr.skip()] * 4
            kept: list[Result] = []
            try:
                steps = make(state, *recipe)
            except WandaError as error:
                yield [markup.problem(str(error)), held, *rest]
                return
            if steps is None:
                return
            for html in watched(steps, kept, say, stop):
                yield [html, held, *rest]
            if kept:
                result = kept[0]
                head = markup.header(result.loaded, say)
                yield [markup.done(result, say), result.key, head, *compare_tab.invitation(result, say)]

        def cancelled(say: Say, name: str, held: str) -> str:
            """What there is after all."""
            loaded = state.models.get(name)
            result = state.results.get(held)
            if loaded is None:
                return markup.empty(say("status.cancelled"))
            return markup.done(result, say) if result is not None else markup.ready(loaded, say, "status.cancelled")

        def answers(request: gr.Request, *inputs: object) -> Iterator[tuple[str, str, str]]:
            yield from compare_tab.answers(state, speaker(request), cancel.since(request, str), *inputs)  # type: ignore[arg-type]

        opened = [setup.status, key, head]
        seen = [*context.choice, scores.kind, scores.block]
        choosing = setup.model.change(choose_model, setup.model, opened, **ENGINE)
        waiting = [scores.grid_title, outliers.lines_title]
        welcomed = page.load(welcome, None, [head, setup.status, *compare.outputs, *waiting], **LIGHT)
        for opening in (welcomed.then(open_model, setup.model, opened, **ENGINE), choosing):
            analysed = opening.then(analyse, setup.model, waiting, **ENGINE)
            analysed.then(fill, seen, [*scores.outputs, *outliers.outputs], **LIGHT)
        asks: dict[str, Any] = {
            "inputs": [key, *setup.recipe],
            "outputs": [setup.status, key, head, *compare.outputs],
            **ENGINE,
        }
        pruning = setup.prune.click(prune, **asks)
        sliding = setup.sparsity.release(slide, trigger_mode="always_last", **asks)
        for done in (pruning, sliding):  # events of their own: until one has ended, its button does not answer
            read = done.success(analyse_scores, setup.model, scores.grid_title, **ENGINE)
            read.success(fill_scores, seen, scores.outputs, **LIGHT)
        asked: dict[str, Any] = {"inputs": [setup.model, key, *compare.inputs], "outputs": compare.outputs, **ENGINE}
        for asking in (compare.button.click, compare.prompt.submit):
            asking(answers, **asked)
        setup.cancel.click(cancel.press, None, None, **AT_ONCE)
        other.click(None, js=OTHER_LANGUAGE, **LIGHT)
        switch.click(None, js=SWITCH, **LIGHT)
        for side in (compare_side, scores_side, outliers_side, learn_side):
            side.select(None, js=RESIZE, **LIGHT)  # a figure drawn while hidden has no width
    page.queue(max_size=MOST_JOBS, default_concurrency_limit=4, api_open=False)
    return page


def serve(host: str | None = None, port: int | None = None) -> None:
    """Start the state and serve the page until stopped; the address is printed.

    host, port: where to listen; Gradio's own settings when None.
    """
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    keep_freed_memory()
    on_space = bool(os.environ.get("SPACE_ID"))
    state = AppState(local_folders=not on_space)
    state.start()
    build(state).launch(server_name=host, server_port=port, **launch_settings())  # type: ignore[arg-type]
