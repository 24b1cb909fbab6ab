"""The names of recipes: what the page calls them, and which recipe a name means."""

from dataclasses import asdict, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from view_events import RECIPE

from wanda_core.errors import InputError
from wanda_core.methods import METHODS
from wanda_core.presets import preset
from wanda_core.recipe import PruneSpec
from wanda_core.report.keys import CHOICES, SHRINKS, Key, place_name
from wanda_ui.language import names_below

KEYS = st.builds(
    Key,
    method=st.sampled_from(CHOICES["method"]),
    pattern=st.sampled_from(["unstructured", "2:4", "1:32"]),
    order=st.sampled_from(CHOICES["order"]),
    group=st.sampled_from(CHOICES["group"]),
    allocation=st.sampled_from(CHOICES["allocation"]),
    update=st.sampled_from(CHOICES["update"]),
    text=st.sampled_from(["", "0123456789abcdef0123456789abcdef"]),
    samples=st.integers(0, 10**9 - 1),
    seq_len=st.sampled_from([256, 2048]),
    seed=st.integers(0, 10**9 - 1),
)


def test_plain_is_what_the_untouched_page_sends():
    assert asdict(Key()) == RECIPE
    assert list(asdict(Key())) == list(RECIPE)  # the order of a name's parts


@pytest.mark.parametrize("field", CHOICES)
def test_the_page_offers_the_same_choices(field):
    smaller = SHRINKS if field == "method" else ()
    assert set(names_below(f"view.{field}")) == {*CHOICES[field], *smaller}


@given(KEYS)
def test_a_name_is_read_as_it_was_written(key):
    assert Key.parse(str(key)) == key
    assert key.undrawn == replace(Key(), **{name: getattr(key, name) for name in list(RECIPE)[:8]})


def test_a_name_has_what_is_not_plain():
    assert str(Key()) == "wanda"
    assert str(Key("best", "2:4")) == "best,pattern=2:4"
    assert str(Key("ria", order="faithful", text="0" * 32, seed=3)) == f"ria,order=faithful,text={'0' * 32},seed=3"


@given(st.text(alphabet="wanda,=ptern2:4os", max_size=20) | st.none() | st.integers() | st.lists(st.text()))
def test_whatever_is_given_is_a_name_or_refused(name):
    try:
        key = Key.parse(name)
    except InputError as error:
        assert "names no recipe; " in str(error)  # noqa: PT017 - either is right
    else:
        assert str(key) == name


@pytest.mark.parametrize(
    ("key", "percent", "spec"),
    [
        (Key(), 45, PruneSpec("wanda", 0.45, order="one-shot")),
        (Key("magnitude", group="model"), 12.5, PruneSpec("magnitude", 0.125, group="model", order="one-shot")),
        (Key("wanda", "1:3"), 0, PruneSpec("wanda", pattern="1:3", order="one-shot")),
        (Key("sparsegpt"), 50, PruneSpec("sparsegpt", 0.5, order="in-flight")),
        (Key("wanda", update="obs"), 50, PruneSpec("wanda", 0.5, order="in-flight", update="obs")),
        (Key("wanda", order="faithful", allocation="owl"), 60, PruneSpec("wanda", 0.6, allocation="owl")),
        (Key("best"), 60, preset("best", sparsity=0.6)),
        (Key("paper", seed=7), 60, preset("paper", sparsity=0.6)),
    ],
)
def test_which_recipe_a_name_means(key, percent, spec):
    assert key.spec(percent) == spec


def test_every_method_and_preset_has_a_recipe_of_its_own_order():
    orders = {name: Key(name).spec(50).order for name in CHOICES["method"]}
    own = {"sparsegpt": "in-flight", "paper": "faithful", "best": "in-flight"}
    assert orders == {**dict.fromkeys(METHODS, "one-shot"), **own}


def test_the_percent_of_a_pattern_is_that_of_the_page_to_the_last_bit():
    assert Key(pattern="2:4").percent == 50
    assert type(Key(pattern="2:4").percent) is int
    assert repr(Key(pattern="1:3").percent) == "66.66666666666667"  # 100 * (1 - 1 / 3) of JavaScript
    assert Key().percent is None
    assert place_name(Key("wanda", "1:3"), 200 / 3) == "wanda,pattern=1:3@66.66666666666667"
    assert place_name("best", 40.0) == "best@40"
