"""The page without a browser: every tab fills what it says it fills, when it is opened, and a new one is one line."""

from types import SimpleNamespace

import gradio as gr
import pytest
from engine_room import pruned
from view_events import built_page, visitor

from wanda_core.errors import ModelError
from wanda_core.progress import Progress, finish
from wanda_ui import page as whole_page
from wanda_ui.app_state import AppState
from wanda_ui.engine import fetching
from wanda_ui.engine.loaded import Loaded
from wanda_ui.jobs import no_change
from wanda_ui.language import ENGLISH
from wanda_ui.lesson.plan import STEPS
from wanda_ui.opening import Opening
from wanda_ui.outliers.ablation import _ablated, channels_of, page_settings
from wanda_ui.tab_context import Tab


@pytest.fixture(scope="module")
def state(tiny_llama):
    """A state whose model is tiny, analysed, and pruned once."""
    state = AppState()
    state.models["tiny"] = Loaded(tiny_llama)
    finish(state.open_steps("tiny"))
    return state


@pytest.fixture(scope="module")
def result(state):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("wanda_ui.engine.work.EVAL_SEQ_LEN", 128)  # the tiny model reads no more than 256 tokens
        return pruned(state)


@pytest.fixture
def built(state, monkeypatch):
    """-> the tabs of a page, by name, each with what it was given."""
    built = {}
    kept = {name: keeping(name, build, built) for name, build in whole_page.TABS.items()}
    monkeypatch.setattr(whole_page, "TABS", kept)
    built_page(state)
    return built


@pytest.fixture
def tabs(built):
    return {name: tab for name, (tab, _) in built.items()}


def keeping(name, build, built):
    def build_and_keep(context):
        built[name] = (build(context), context)
        return built[name][0]

    return build_and_keep


def test_a_tab_fills_nothing_but_its_outputs(tabs, state):
    assert list(tabs) == ["compare", "scores", "outliers", "learn"]
    for tab in tabs.values():
        shown = {
            "welcome": tab.welcome(ENGLISH),
            "waiting": tab.waiting("<p>"),
            "analysed": tab.analysed(state.models["tiny"], ENGLISH),
        }
        for moment, update in shown.items():
            assert set(update) <= set(tab.outputs), (tab, moment)


def opened(built, name, model="tiny", shown=""):
    """Open a tab. -> the tab, and all its updates; shown: what it has already."""
    tab, context = built[name]
    mark = gr.State("")
    updates = list(Opening(context, tab, mark).open(visitor(), model, shown))
    return tab, updates, [update[mark] for update in updates if mark in update]


def test_a_tab_is_drawn_when_it_is_opened_once_for_each_model(built):
    tab, [drawn], [shown] = opened(built, "outliers")
    assert set(tab.outputs) <= set(drawn)
    assert opened(built, "outliers", shown=shown)[1:] == ([], [])
    assert opened(built, "outliers", shown="another")[2] == [shown]


def test_a_tab_opened_before_its_model_is_there_waits_for_it_and_says_what_went_wrong(built, state, monkeypatch):
    def nothing(name, **_):
        raise ModelError("it is not here; choose another")

    monkeypatch.setattr(fetching, "locate", nothing)
    tab, updates, shown = opened(built, "outliers", model="owner/other")
    assert shown == []
    assert all(list(update) == [tab.stream.lines.title] for update in updates)
    assert "it is not here; choose another" in updates[-1][tab.stream.lines.title]
    loaded = state.models["tiny"]
    kept, loaded.analysis = loaded.analysis, None
    try:
        tab, updates, [shown] = opened(built, "outliers")
    finally:
        loaded.analysis = loaded.analysis or kept
    *waited, drawn = updates
    assert waited
    assert all("wl-progress" in next(iter(update.values())) for update in waited)
    assert set(tab.outputs) <= set(drawn)


def test_every_step_of_the_lesson_leads_to_a_tab(tabs):
    assert {step.free for step in STEPS} <= set(tabs)


def test_a_new_tab_is_one_line_and_may_show_nothing_of_the_model(state, monkeypatch):
    monkeypatch.setattr(whole_page, "TABS", {"compare": lambda context: Tab()})
    names = [block.id for block in built_page(state).blocks.values() if type(block).__name__ == "Tab"]
    assert names == ["compare"]
    assert Tab().welcome(ENGLISH) == Tab().analysed(state.models["tiny"], ENGLISH) == {}
    assert Tab().outputs == []


def test_no_change_is_what_gradio_takes_for_none():
    assert no_change() == {"__type__": "update"}
    assert no_change() is not no_change()


def test_the_means_of_channels_are_measured_step_by_step_and_can_be_cancelled(tiny_llama):
    loaded = Loaded(tiny_llama)
    ablation = SimpleNamespace(channels=channels_of("1, 2"), value="mean", check_fits=lambda width, blocks: None)
    steps = _ablated(loaded, ablation, page_settings(5, 1, ""))
    first = next(steps)
    assert isinstance(first, Progress)
    assert first.stage == "channel-means"
    assert next(steps).done > first.done
    steps.close()
    assert not any(module._forward_hooks for module in tiny_llama.model.modules())


def test_one_component_stands_for_the_progress_of_every_event(state):
    config = built_page(state).get_config_file()
    (shown,) = {tuple(event["show_progress_on"]) for event in config["dependencies"]}
    (place,) = [component for component in config["components"] if component["id"] == shown[0]]
    assert place["props"]["elem_id"] == "view"  # the first that is there: Gradio's page searches its tree for it
