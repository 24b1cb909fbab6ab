"""Letting go of the handle over the real built-in model: the live point falls onto the stored line."""

import pytest
from browser import column, let_go, number, settled, wait_for_address, zeros

from wanda_core.recipe import PruneSpec
from wanda_ui.engine.recipe import Recipe

# All of the model, in a browser's time.
pytestmark = [pytest.mark.browser, pytest.mark.builtin, pytest.mark.alone, pytest.mark.long]


def key_of(state, method, sparsity):
    return state.key_of(state.models["builtin"], Recipe(PruneSpec(method, sparsity, order="one-shot")))


def test_letting_go_prunes_live_and_the_point_falls_onto_the_line(page, state):
    stored = page.evaluate("() => JSON.parse(document.getElementById('wl-data').textContent).replay.lines")
    let_go(page, 60)
    settled(page)
    for which, method in ((0, "wanda"), (1, "magnitude")):
        title, perplexity, answer, note = column(page, which)
        assert "60" in title
        assert zeros(note) == pytest.approx(60, abs=0.2)
        assert answer
        line = next(line["perplexity"][line["at"].index(60)] for line in stored if line["key"] == method)
        assert number(perplexity) == pytest.approx(line, rel=0.01)
        result = state.measured.get(key_of(state, method, 0.6))
        assert number(perplexity) == pytest.approx(result.perplexity.perplexity, rel=0.01)
    assert page.locator("circle.wl-point").count() >= 2
    assert "measured here" in page.inner_text(".wl-source")
    wait_for_address(page, "at=60")
