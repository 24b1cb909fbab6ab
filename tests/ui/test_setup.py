"""The set-up of the page: what its controls mean as a recipe, and what is said for what they must not say."""

import itertools
from functools import partial
from types import SimpleNamespace

import pytest

from wanda_core.errors import InputError
from wanda_core.methods import METHODS
from wanda_core.progress import STAGES, UNITS, Progress
from wanda_core.recipe import PruneSpec, preset
from wanda_ui import markup
from wanda_ui.language import ENGLISH, LANGUAGES, say, speaker
from wanda_ui.setup import panel, recipe

RECORDER = SimpleNamespace(prune_steps=lambda name, spec, draw: (spec, draw), slide_steps=lambda name, spec: spec)


def chosen(**controls):
    usual = {
        "name": "builtin",
        "method": "wanda",
        "pattern": "unstructured",
        "sparsity": 50,
        "group": "default",
        "order": "default",
        "allocation": "uniform",
        "update": "default",
        "file": None,
    }
    draw = dict(zip(("samples", "seq_len", "seed"), controls.pop("draw", (16, 256, 0)), strict=True))
    return recipe.prune_job(RECORDER, **(usual | controls | draw))


def slid(**controls):
    usual = {"name": "builtin", "method": "wanda", "pattern": "unstructured", "sparsity": 30, "group": "default"}
    return recipe.slide_job(RECORDER, **(usual | controls), order="default", update="best")


def values(choices):
    return [value for _, value in choices]


def test_untouched_controls_are_the_default_recipe_on_the_default_text():
    spec, draw = chosen()
    assert spec == PruneSpec()
    assert draw == {"text": None, "source": None, "samples": 16, "seq_len": 256, "seed": 0}


def test_the_page_offers_every_method_and_the_preset_best():
    assert set(values(panel.METHOD_CHOICES)) == set(METHODS)
    assert chosen(update="best", sparsity=60)[0] == preset("best", sparsity=0.6)
    assert chosen(update="best", pattern="2:4")[0] == preset("best", pattern="2:4")
    with pytest.raises(InputError, match=r"dense_share .* needs order in-flight"):
        chosen(update="best", order="faithful")


def test_every_choice_makes_a_recipe_or_is_refused_in_a_sentence():
    refused = []
    groups = (panel.METHOD_CHOICES, panel.GROUP_CHOICES, panel.ORDER_CHOICES)
    more = (panel.ALLOCATION_CHOICES, panel.UPDATE_CHOICES)
    for method, group, order, allocation, update in itertools.product(*map(values, (*groups, *more))):
        try:
            spec, _ = chosen(method=method, group=group, order=order, allocation=allocation, update=update)
        except InputError as error:
            refused.append(str(error))
            continue
        assert spec.method == method
        assert group in ("default", spec.group)
        assert order in ("default", spec.order)
        assert update in ("default", "best", spec.update)
    assert refused
    assert all("; " in sentence for sentence in refused)


@pytest.mark.parametrize("sparsity", [None, float("nan"), "50", 96, -1, True])
def test_a_sparsity_that_is_none_is_refused(sparsity):
    with pytest.raises(InputError, match="share of weights to remove"):
        chosen(sparsity=sparsity)


@pytest.mark.parametrize("draw", [(0, 256, 0), (16, None, 0), (16, 256, 0.5), (1000, 1000, 0), (-1, -1, 0)])
def test_a_draw_that_cannot_be_is_refused(draw):
    with pytest.raises(InputError):
        chosen(draw=draw)


def test_the_slider_prunes_from_known_norms_where_that_can_be():
    assert slid(method="ria", group="row").order == "one-shot"
    assert slid(pattern="2:4", group="row") is None
    assert slid(method="sparsegpt") is None


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_stage_and_every_counted_unit_has_words(language):
    for stage in STAGES:
        for unit in UNITS:
            step = Progress(stage, 1, 3, unit, "chosen", Progress("line", 3, 9, "tokens"))
            html = markup.progress(step, partial(say, language))
            assert 'aria-valuenow="44"' in html  # (1 + 3/9) of 3
            assert (say(language, "status.detail.chosen") in html) == (stage != "waiting")
            assert "{" not in html


@pytest.mark.parametrize(
    ("before", "seconds", "words"),
    [
        (0, None, "you are next"),
        (2, None, "2 before you"),
        (2, 40.4, "2 before you, about 40 s"),
        (1, 0.2, "about 1 s"),
    ],
)
def test_a_place_in_the_queue_is_told_with_its_seconds_where_they_are_known(before, seconds, words):
    told = markup.progress_words(Progress("waiting", 0, before, "jobs", seconds=seconds), ENGLISH)
    assert told.endswith(words)
    assert ("about" in told) == (seconds is not None)


@pytest.mark.parametrize("language", LANGUAGES)
def test_progress_is_told_in_the_readers_language(language):
    request = SimpleNamespace(query_params={"lang": language}, headers={})
    html = markup.progress(Progress("features", 2, 30, "blocks"), speaker(request))
    assert 'aria-valuenow="7"' in html
    assert ("block 3 of 30" in html) == (language == "en")
    assert ("블록 30개 중 3번째" in html) == (language == "ko")
