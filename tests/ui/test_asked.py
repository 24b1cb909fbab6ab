"""What the view asks: what its events carry means as a recipe, and what is said for what they must not carry."""

import copy
import itertools
import json
import math
import re
from functools import partial
from html import escape
from types import SimpleNamespace

import pytest
from engine_room import server
from hypothesis import example, given, settings
from hypothesis import strategies as st
from view_events import ASK, COLUMN, DATA, RECIPE, WHY

from wanda_core.assets import ASSETS
from wanda_core.errors import InputError
from wanda_core.methods import METHODS
from wanda_core.presets import RECIPES, preset
from wanda_core.progress import STAGES, UNITS, Progress, finish
from wanda_core.recipe import PruneSpec
from wanda_core.text.chats import from_bytes
from wanda_ui import markup
from wanda_ui.compare import asked
from wanda_ui.compare.tab import recipe_at
from wanda_ui.engine.recipe import NOT_HERE, PLAIN, Asked, KeptTexts, Reading, Recipe
from wanda_ui.engine.tokens import Place
from wanda_ui.language import ENGLISH, LANGUAGES, names_below, say, speaker
from wanda_ui.settings import PUBLIC, Settings

MOST_WORDS = 400  # characters of a sentence


def chosen(settings=None, owns=asked.no_text, **changes) -> Recipe:
    """The recipe that untouched controls mean, but for these."""
    return asked.column_of({**COLUMN, **changes}, settings or Settings(), owns).recipe


def read_or_refused(read, *given):
    """-> what was read, and None; or None, and what was said instead."""
    try:
        return read(*given), None
    except InputError as error:
        return None, str(error)


def is_a_sentence(error: object) -> bool:
    words = str(error)
    return "\n" not in words and "; " in words and 20 < len(words) <= MOST_WORDS


def test_the_untouched_view_asks_for_one_shot_wanda_on_the_plain_reading():
    looked = asked.looked(DATA, Settings())
    [column] = looked.columns
    assert column.recipe == Recipe(PruneSpec("wanda", 0.5, order="one-shot"), PLAIN)
    assert (column.id, column.key, column.at) == (0, "wanda", 50)
    assert (looked.run, looked.model) == (1, "builtin")
    assert looked.asked == Asked("The sky is", 48, 0.0, 0, True)
    assert looked.settings == {"length": 48, "temperature": 0, "seed": 0, "chat": True}
    more = {**DATA, "ask": {**ASK, "more": "x"}, "more": "x"}  # is not sent back
    assert asked.looked(more, Settings()) == looked


def test_untouched_is_what_the_scripts_call_plain():
    script = (ASSETS / "view" / "2-data.js").read_text(encoding="utf-8")
    plain = re.search(r"const PLAIN = \{(.*?)\};", script, re.DOTALL)[1]
    assert json.loads("{" + re.sub(r"(\w+):", r'"\1":', plain).rstrip().rstrip(",") + "}") == RECIPE
    script = (ASSETS / "view" / "8-prompts.js").read_text(encoding="utf-8")
    ask = re.search(r"W\.PLAIN_ASK = \{(.*?)\};", script, re.DOTALL)[1]
    assert {"prompt": ASK["prompt"], **json.loads("{" + re.sub(r"(\w+):", r'"\1":', ask) + "}")} == ASK


def test_the_page_offers_every_method_and_every_recipe():
    assert set(names_below("view.method")) == {*METHODS, *RECIPES, "neurons", "heads", "blocks"}
    for name in METHODS:
        spec = chosen(method=name).spec
        assert (spec.method, spec.sparsity) == (name, 0.5)
        assert spec.order == ("in-flight" if spec.update != "none" else "one-shot")
    assert chosen(method="paper", at=60).spec == preset("paper", sparsity=0.6)
    assert chosen(method="best", at=60).spec == preset("best", sparsity=0.6)
    assert chosen(method="best", pattern="2:4").spec == preset("best", pattern="2:4")
    with pytest.raises(InputError, match=r"dense_share .* needs order in-flight"):
        chosen(method="best", order="faithful")


def test_a_pattern_sets_the_sparsity_whatever_the_handle_says():
    for at in (0, 50, 95, 1000):
        assert chosen(pattern="2:4", at=at).spec == PruneSpec(pattern="2:4", order="one-shot")
    assert chosen(pattern="1:3").spec.sparsity == pytest.approx(2 / 3)
    for pattern in ("4:2", "0:4", "2:33", "2:4 ", "٢:٤", ""):
        with pytest.raises(InputError, match="N:M"):
            chosen(pattern=pattern)
    with pytest.raises(InputError, match="choose wanda"):
        chosen(method="wanda-variant", pattern="2:4")


def test_every_choice_makes_a_recipe_or_is_refused_in_a_sentence():
    refused = made = 0
    names = ("method", "order", "update", "group", "allocation")
    offered = [[*METHODS, *RECIPES], *(names_below(f"view.{name}") for name in names[1:])]
    for choices in itertools.product(("unstructured", "2:4"), *offered):
        pattern, *values = choices
        given = dict(zip(names, values, strict=True))
        recipe, problem = read_or_refused(partial(chosen, pattern=pattern, **given))
        if recipe is None:
            refused += 1
            assert is_a_sentence(problem), problem
            continue
        spec = recipe.spec
        made += 1
        assert spec.pattern == pattern
        assert spec.method == ("wanda" if given["method"] in RECIPES else given["method"])
        for name in ("order", "update", "group", "allocation"):
            assert given[name] in ("default", getattr(spec, name))
    assert made > 200
    assert refused > 200


WRONG_SHARES = [None, math.nan, math.inf, "50", 96, -1, True, [], 10**400, -(10**400)]


@pytest.mark.parametrize("at", WRONG_SHARES, ids=range(len(WRONG_SHARES)))
def test_a_sparsity_that_is_none_is_refused(at):
    with pytest.raises(InputError, match="sparsity") as refused:
        chosen(at=at)
    assert is_a_sentence(refused.value)


DRAWS = [(0, 256, 0), (16, None, 0), (16, 256, 0.5), (1000, 1000, 0), (-1, -1, 0), (4097, 2, 0), (1, 1, 0)]
DRAWS += [(1, 32769, 0), ("16", 256, 0), (16, True, 0), (16, 256, -1), (16, 256, 2**63), (10**400, 10**400, 0)]


@pytest.mark.parametrize("draw", DRAWS)
def test_a_draw_that_cannot_be_is_refused(draw):
    with pytest.raises(InputError) as refused:
        chosen(**dict(zip(("samples", "seq_len", "seed"), draw, strict=True)))
    assert is_a_sentence(refused.value)


def test_a_draw_decides_the_recipe_where_a_text_is_read_and_nothing_where_none_is():
    text = {"text": "0123456789abcdef0123456789abcdef", "samples": 4.0, "seq_len": 64, "seed": 7}
    assert chosen(owns=lambda digest: digest == text["text"], **text).reading == Reading(text["text"], 4, 64, 7)
    assert chosen(**text).reading == Reading(NOT_HERE, 4, 64, 7)  # another visitor's, or nobody's
    assert chosen(method="magnitude", **text) == chosen(method="magnitude")
    with pytest.raises(InputError, match="128 samples and 16,384 tokens"):
        chosen(PUBLIC, samples=128, seq_len=256)
    with pytest.raises(InputError, match="choose the file again"):
        chosen(text=7)


def test_a_text_is_kept_by_its_digest_and_one_that_is_gone_is_asked_for_again():
    texts = KeptTexts(budget=10)
    first, second = texts.put("한글"), texts.put("blue")
    assert re.fullmatch("[0-9a-f]{32}", first)
    assert texts.put("한글") == first
    assert texts.get(None) is None
    assert (from_bytes(texts.get(first)), from_bytes(texts.get(second))) == ("한글", "blue")
    texts.get(first)
    third = texts.put("!")  # the one unused longest makes room
    assert (from_bytes(texts.get(first)), from_bytes(texts.get(third))) == ("한글", "!")
    with pytest.raises(InputError, match="choose the file again"):
        texts.get(second)
    large = texts.put("x" * 100)  # larger than all may be together: it stays until the next
    assert from_bytes(texts.get(large)) == "x" * 100


def test_a_text_whose_room_others_took_is_read_again_while_it_can_be(tmp_path):
    texts, file = KeptTexts(budget=10), tmp_path / "mine.txt"
    file.write_text("한글")
    mine = texts.put(file.read_text(), file.read_text)
    texts.put("x" * 10)
    assert not texts.holds(mine)
    assert from_bytes(texts.get(mine)) == "한글"
    assert texts.holds(mine)
    texts.put("y" * 10)
    copy = tmp_path / "another's.txt"
    copy.write_text("한글")
    assert texts.put(copy.read_text(), copy.read_text) == mine
    texts.put("y" * 10)
    copy.unlink()
    assert from_bytes(texts.get(mine)) == "한글", "whoever else brought it may let it go"
    texts.put("y" * 10)
    file.write_text("another")
    with pytest.raises(InputError, match="choose the file again"):
        texts.get(mine)
    file.unlink()
    with pytest.raises(InputError, match="choose the file again"):
        texts.get(mine)


def test_a_text_that_looks_like_documents_does_not_take_their_place():
    texts, documents = KeptTexts(), ["The sky is blue.", [{"role": "user", "content": "왜?"}]]
    kept = texts.put(documents)
    others = [
        texts.put(like(documents)) for like in (json.dumps, str, lambda each: json.dumps(each, ensure_ascii=False))
    ]
    assert len({kept, *others}) == 4
    assert from_bytes(texts.get(kept)) == documents
    assert from_bytes(texts.get(others[0])) == json.dumps(documents)


def test_what_is_kept_under_a_digest_stays_and_is_counted_once(monkeypatch):
    texts = KeptTexts(budget=12)
    monkeypatch.setattr("wanda_ui.engine.recipe.digest_of", lambda data: data[:1].hex())
    kept = texts.put("before")
    assert texts.put("b" * 100) == kept
    assert from_bytes(texts.get(kept)) == "before"
    for _ in range(9):
        other = texts.put("after")
    assert [from_bytes(texts.get(name)) for name in (kept, other)] == ["before", "after"]


def test_a_recipe_whose_text_is_gone_is_refused_before_anything_runs(tiny_llama):
    state = server(tiny_llama)
    wanted = Recipe(PruneSpec(order="one-shot"), Reading("0123456789abcdef0123456789abcdef", 2, 64))
    with pytest.raises(InputError, match="not on the server any more; choose the file again"):
        finish(state.look_steps("tiny", wanted, Asked("The sky")))
    assert state.engine.idle
    assert not state.variants.keys


def test_a_curve_is_the_recipe_at_other_places_and_a_pattern_stays_where_it_is():
    column = asked.column_of(COLUMN, Settings())
    assert recipe_at(column, 20).spec == PruneSpec("wanda", 0.2, order="one-shot")
    best = asked.column_of({**COLUMN, "method": "best"}, Settings())
    assert recipe_at(best, 70).spec == preset("best", sparsity=0.7)
    patterned = asked.column_of({**COLUMN, "pattern": "2:4"}, Settings())
    assert recipe_at(patterned, 20) == patterned.recipe
    for place in (96, -1, math.nan, math.inf, 10**400):
        with pytest.raises(InputError):
            recipe_at(column, place)


@pytest.mark.parametrize("places", [None, {}, "5", [None], ["5"], [True], [[5]], list(range(97))])
def test_places_of_a_curve_are_numbers_and_not_too_many(places):
    assert asked.places_of({"places": [5, 50.5]}) == [5, 50.5]
    with pytest.raises(InputError) as refused:
        asked.places_of({"places": places})
    assert is_a_sentence(refused.value)


@pytest.mark.parametrize("prompts", [None, {}, "a", [], ["a"] * 51, ["a", " "], ["a", 7], ["a" * 4001], ["\ud800"]])
def test_own_prompts_are_texts_and_not_too_many(prompts):
    assert asked.prompts_of({"prompts": ["a", "한글"]}, PUBLIC) == ["a", "한글"]
    with pytest.raises(InputError) as refused:
        asked.prompts_of({"prompts": prompts}, PUBLIC)
    assert is_a_sentence(refused.value)


WRONG_ASKS = [
    {"prompt": ""},
    {"prompt": None},
    {"prompt": "a" * 20_001},
    {"length": 0},
    {"length": 1025},
    {"length": 1.5},
    {"length": None},
    {"temperature": -0.1},
    {"temperature": math.nan},
    {"temperature": "0"},
    {"temperature": "0" * 9000},
    {"seed": -1},
    {"seed": 2**63},
    {"chat": None},
    {"chat": 1},
]


@pytest.mark.parametrize("change", WRONG_ASKS, ids=range(len(WRONG_ASKS)))
def test_an_answer_that_cannot_be_is_refused(change):
    with pytest.raises(InputError) as refused:
        asked.ask_of({"ask": {**ASK, **change}}, Settings())
    assert is_a_sentence(refused.value)


def test_a_prompt_is_as_long_as_the_server_reads():
    assert asked.ask_of({"ask": {**ASK, "prompt": "a" * 4000}}, PUBLIC)[0].prompt == "a" * 4000
    with pytest.raises(InputError, match=r"4,001 characters and 4,000 are read; shorten it"):
        asked.ask_of({"ask": {**ASK, "prompt": "a" * 4001}}, PUBLIC)


def test_a_token_is_asked_about_by_the_answer_before_it_and_after():
    columns, question, place = asked.place_of(WHY, Settings())
    assert columns == (asked.column_of(COLUMN, Settings()),)
    assert (question.prompt, place) == ("The sky is", Place((1, 2), (3,)))
    columns, _, place = asked.place_of({**WHY, "recipes": [], "tokens": None}, Settings())
    assert (columns, place) == ((), Place(" blue", " sky"))
    wrong = ({"tokens": [True]}, {"tokens": "1"}, {"tokens": [0] * 1025}, {"text": None}, {"text": "a" * 50_001})
    for change in (*wrong, {"rest": 1}, {"index": 4}, {"index": -1}):
        with pytest.raises(InputError, match="ask for it first"):
            asked.place_of({**WHY, **change}, Settings())


ODD = st.sampled_from([math.nan, math.inf, -math.inf, 10**400, -(10**400), 1e308, 2**63, "NaN", "1e999", "x" * 9000])
ANYTHING = st.recursive(
    ODD | st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
READERS = {
    "looked": (DATA, asked.looked),
    "place": (WHY, asked.place_of),
    "places": ({"places": [5, 10]}, lambda data, settings: asked.places_of(data)),
    "prompts": ({"prompts": ["a", "b"]}, asked.prompts_of),
}


def fields_of(data, path=()):
    """Every place in what an event carries: the whole of it, each field, each field of a field."""
    yield path
    pairs = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for name, value in pairs:
        yield from fields_of(value, (*path, name))


PLACES = [(name, path) for name, (data, _) in READERS.items() for path in fields_of(data)]


@given(st.sampled_from(PLACES), ANYTHING)
@settings(max_examples=500)
@example(("looked", ("recipes", 0, "at")), 10**400)
@example(("looked", ("ask", "temperature")), "x" * 9000)
@example(("looked", ("recipes", 0, "seed")), "x" * 9000)
def test_anything_in_any_field_is_read_or_refused_in_a_sentence(place, value):
    name, path = place
    usual, read = READERS[name]
    data = {"": copy.deepcopy(usual)}
    *outer, last = ("", *path)
    holder = data
    for step in outer:
        holder = holder[step]
    holder[last] = value
    event = SimpleNamespace(_data=data[""])
    result, problem = read_or_refused(lambda: read(asked.data_of(event), Settings()))
    if problem is not None:
        assert is_a_sentence(problem), problem
    elif name == "looked":
        assert isinstance(result, asked.Looked)
        assert all(0 <= column.recipe.spec.sparsity <= 0.97 for column in result.columns)  # 1:32 removes most


@pytest.mark.parametrize("event", [None, SimpleNamespace(), SimpleNamespace(_data=None), SimpleNamespace(_data=[DATA])])
def test_an_event_without_data_is_answered_in_a_sentence(event):
    with pytest.raises(InputError, match="load the page again") as refused:
        asked.data_of(event)
    assert is_a_sentence(refused.value)


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_stage_and_every_counted_unit_has_words(language):
    for stage in STAGES:
        for unit in UNITS:
            step = Progress(stage, 1, 3, unit, "chosen", Progress("line", 3, 9, "tokens"))
            html = markup.progress(step, partial(say, language))
            assert 'aria-valuenow="44"' in html  # (1 + 3/9) of 3
            assert f'aria-label="{escape(say(language, f"status.stage.{stage}"))}"' in html
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
