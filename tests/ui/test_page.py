"""The page without a browser: what every tab says it fills is what it fills, and a new tab is one line."""

import asyncio
from types import SimpleNamespace

import pytest

from wanda_core.progress import Progress, finish
from wanda_core.recipe import PruneSpec
from wanda_ui import page as whole_page
from wanda_ui.app_state import AppState
from wanda_ui.engine.loaded import Loaded
from wanda_ui.jobs import no_change
from wanda_ui.language import ENGLISH
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
    draw = {"text": None, "source": None, "samples": 2, "seq_len": 64, "seed": 0}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("wanda_ui.engine.work.EVAL_SEQ_LEN", 128)  # the tiny model reads no more than 256 tokens
        return finish(state.prune_steps("tiny", PruneSpec(), draw))


def built_page(state):
    """The page, built while an event loop runs: Gradio would else make loops of its own and leave them open."""

    async def build():
        return whole_page.build(state)

    return asyncio.run(build())


@pytest.fixture
def tabs(state, monkeypatch):
    """-> the tabs of a page, by name."""
    built = {}
    kept = {name: keeping(name, build, built) for name, build in whole_page.TABS.items()}
    monkeypatch.setattr(whole_page, "TABS", kept)
    built_page(state)
    return built


def keeping(name, build, built):
    def build_and_keep(context):
        built[name] = build(context)
        return built[name]

    return build_and_keep


def test_a_tab_fills_nothing_but_its_outputs(tabs, state, result):
    assert list(tabs) == ["compare", "scores", "outliers", "learn"]
    for tab in tabs.values():
        chosen = dict.fromkeys(tab.choices)
        shown = {
            "welcome": tab.welcome(ENGLISH),
            "waiting": tab.waiting("<p>"),
            "analysed": tab.analysed(state.models["tiny"], None, ENGLISH, chosen),
            "pruned": tab.pruned(result, ENGLISH),
        }
        for moment, update in shown.items():
            assert set(update) <= set(tab.outputs), (tab, moment)
    scores, compare = tabs["scores"], tabs["compare"]
    shown = scores.analysed(state.models["tiny"], result, ENGLISH, dict.fromkeys(scores.choices))
    assert set(shown) == set(scores.outputs)
    assert set(compare.pruned(result, ENGLISH)) == set(compare.outputs)


def test_a_new_tab_is_one_line_and_may_show_nothing_of_the_model(state, monkeypatch):
    monkeypatch.setattr(whole_page, "TABS", {"compare": lambda context: Tab()})
    names = [block.id for block in built_page(state).blocks.values() if type(block).__name__ == "Tab"]
    assert names == ["compare"]
    assert Tab().welcome(ENGLISH) == Tab().pruned(None, ENGLISH) == {}


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
