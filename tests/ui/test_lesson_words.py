"""Every statement of the lesson against its numbers: of the built-in model, stored, and of a random one, measured."""

import json
import math
import re
from functools import partial

import pytest

from wanda_core.progress import finish
from wanda_ui.app_state import AppState
from wanda_ui.language import LANGUAGES, say
from wanda_ui.lesson import kept, terms
from wanda_ui.lesson.answers import Asked, Record, UnknownError
from wanda_ui.lesson.bar import bar
from wanda_ui.lesson.block_map import BOXES, FOUND, HERE, block_map
from wanda_ui.lesson.measured import Told
from wanda_ui.lesson.plan import OTHER_SENTENCE, PROMPT, SENTENCE, STEPS
from wanda_ui.lesson.stored import lesson
from wanda_ui.lesson.tab import ANSWERS, explained
from wanda_ui.lesson.wording import number, times

DEFAULTS = {"meet": SENTENCE, "change": OTHER_SENTENCE, "sinks": SENTENCE, "ablate": "", "masks": "", "cost": PROMPT}
ENGLISH = partial(say, "en")


def stored(name, value=None, language="en"):
    """A step's answer where nothing is loaded: what is stored."""
    asked = Asked(partial(say, language), AppState(), "builtin")
    return finish(ANSWERS[name](asked, DEFAULTS[name] if value is None else value))


@pytest.fixture(scope="module")
def random_state(tiny_state):
    """A server whose built-in model is another than the one of the stored answers: random, without outliers."""
    return tiny_state


def measured(state, name, value=None):
    return finish(ANSWERS[name](Asked(ENGLISH, state, "builtin"), DEFAULTS[name] if value is None else value))


def text(answer):
    return " ".join([answer.finding, *answer.explanation])


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", DEFAULTS)
def test_defaults_are_answered_without_a_model_and_say_that_they_are_stored(name, language):
    shown = stored(name, language=language)
    assert shown.date == lesson()["made"]["date"]
    assert shown.right
    assert shown.picture
    assert "{" not in text(shown)


def test_step_3_stands_at_one_token_and_counts_as_its_guess_says():
    shown, data = stored("meet"), lesson()["meet"]
    assert shown.right == ("more",)
    assert data["ratio"] >= 3_000
    assert "channel 507" in shown.finding
    assert "It stands at one token" in text(shown)
    assert data["value"] > 100 * data["elsewhere"]
    assert shown.picture.count("wl-spike") == 1


def test_step_3_counts_four_thousand_times_as_more_than_three_thousand_and_not_as_ten_thousand():
    from wanda_ui.lesson.sentences import met

    told = Told({**lesson()["meet"], "ratio": 4_000.0})
    assert met(told, ENGLISH).right == ("more",)
    assert say("en", "lesson.meet.guess.more") == "3,000 times or more"
    assert met(Told({**lesson()["meet"], "ratio": 2_999.0}), ENGLISH).right == ("thousand",)


@pytest.mark.parametrize("language", LANGUAGES)
def test_step_3_calls_a_channel_that_is_large_elsewhere_too_no_spike_of_one_token(language):
    from wanda_ui.lesson.sentences import met

    data, speak = lesson()["meet"], partial(say, language)
    for share, key in ((0.05, "why_place"), (0.5, "why_places")):
        told = text(met(Told({**data, "elsewhere": share * data["value"]}), speak))
        elsewhere = number(share * data["value"])
        assert speak(f"lesson.meet.{key}", elsewhere=elsewhere, times="20.0") in told


def test_step_4_finds_the_weight_and_says_that_the_model_needs_it():
    shown = stored("change")
    assert shown.right == ("same",)
    assert "[507, 1229]" in text(shown)
    assert lesson()["source"]["first"]["weight"]["share"] == pytest.approx(0.74, abs=0.02)
    assert f"makes {lesson()['change']['weight']['share']:.0%} of a spike" in text(shown)
    assert "emerged in training" in text(shown)
    assert shown.numbers["perplexity_without_weight"] > 4 * shown.numbers["perplexity"]


def test_step_5_shows_that_the_spike_draws_the_attention_and_why_a_sink_exists():
    shown = stored("sinks")
    numbers = shown.numbers
    assert numbers["share_tall"] == pytest.approx(0.70, abs=0.05)
    assert numbers["share_without"] == pytest.approx(0.19, abs=0.03)
    assert f"falls from {numbers['share_tall']:.0%} to {numbers['share_without']:.0%}" in text(shown)
    assert "sum to one" in text(shown)
    assert "logarithm (log₁₀) of the size" in text(shown)
    data = lesson()["sinks"]
    others = [block for block, size in enumerate(data["sizes"]) if size is None or 2 * size < 22_552]
    before, after = (sum(data[name][block] for block in others) / len(others) for name in ("shares", "without"))
    assert f"In the other {len(others)} blocks, which read it smaller, it gets {before:.0%}, and {after:.0%}" in text(
        shown
    )
    assert ("does not need the whole spike" in text(shown)) == (before > 2 * data["even"])


def test_step_6_tells_the_places_apart_and_calls_the_mean_harmless():
    shown, data = stored("ablate"), lesson()["lean"]
    assert shown.right == ("one",)
    for place in ("first", "others", "all"):
        assert data["zero"][place] > 2 * data["untouched"]
    assert data["mean"]["first"] < 1.1 * data["untouched"]
    assert "it is a constant that the model leans on" in text(shown)
    assert "which channels are changed" not in text(shown)
    readers = dict(map(tuple, data["readers"]))
    assert readers[507] > 100 * data["untouched"]
    assert min(readers.values()) < 1.1 * data["untouched"]
    assert "must not be removed carelessly" in text(shown)
    assert f"Others that harm as well: 247 ({readers[247]:.1f})." in text(shown)
    assert f"Hardly any harm: 14 ({readers[14]:.1f}), " in text(shown)
    assert data["zero"]["others"] > data["zero"]["first"]
    assert "one of the 256 in a window. At the other 255 the channel is smaller" in text(shown)


def test_step_6_draws_equal_values_equally_long_and_names_its_scale():
    shown, data = stored("ablate"), lesson()["lean"]
    untouched = re.findall(r"<span>untouched</span><i class='wl-fill-dense' style='--share:([\d.]+)'>", shown.picture)
    assert len(untouched) == 2
    assert untouched[0] == untouched[1]
    assert shown.picture.count("wl-haxis") == 2
    ticks = re.findall(r"<span style='--share:([\d.]+)'>([\d,]+)</span>", shown.picture)
    top = math.log10(data["zero"]["all"] / 10)
    for share, tick in ticks:
        assert float(share) == pytest.approx(math.log10(float(tick.replace(",", "")) / 10) / top, abs=2e-3)


def test_step_6_judges_the_guess_by_the_spike_whichever_channel_is_compared(random_state):
    from wanda_ui.lesson.consequences import ablated

    own = {"channel": 394, "zero": {"first": 44.3, "others": 44.4, "all": 44.4}}
    shown = ablated(Told(lesson()["lean"], own), ENGLISH)
    assert shown.right == ("one",)
    assert shown.explanation[0].startswith("Your channel 394 at zero")
    assert "Your guess fits" in explained(STEPS[5], Record("one", shown.right, "", {}), shown, ENGLISH)


@pytest.mark.parametrize("language", LANGUAGES)
def test_step_6_judges_no_guess_where_none_of_them_fits(language):
    from wanda_ui.lesson.consequences import ablated

    data, speak = lesson()["lean"], partial(say, language)
    harmless = dict.fromkeys(("first", "others", "all"), 1.1 * data["untouched"])
    shown = ablated(Told({**data, "zero": harmless, "random": [[1, 3 * data["untouched"]]]}), speak)
    record = Record("one", shown.right, shown.finding, {})
    assert shown.right == ()
    row, told = bar({6: record}, 6, speak), explained(STEPS[5], record, shown, speak)
    assert "wl-differs" not in row + told
    assert "wl-fits" not in row + told
    assert f"({speak('lesson.run.open')})" in row
    assert speak("lesson.verdict.open") in told


def test_an_infinite_perplexity_is_a_sign_and_its_axis_ends():
    from wanda_ui.lesson.consequences import ablated, priced

    assert number(1e300) == number(math.inf) == number(1e300 / 44.3) == times(1e300 / 44.3) == "∞"
    assert number(158_090.0) == "158,090"
    data = lesson()["lean"]
    shown = ablated(Told({**data, "zero": {**data["zero"], "all": 1e300}}), ENGLISH)
    price = lesson()["price"]
    along = {**price["along"], "magnitude": [[0.3, 76.6], [0.5, 1e300], [0.6, 1e300]]}
    cells = [[*cell[:2], 1e300 if cell[0] == "magnitude" else cell[2]] for cell in price["cells"]]
    for answer in (shown, priced(Told({**price, "along": along, "cells": cells}), ENGLISH)):
        assert "∞" in text(answer)
        assert "∞" in answer.picture
        assert not re.search(r"\d(,?\d){15}", re.sub(r"\d\.\d+", "", text(answer) + answer.picture))
    assert "--share:1.000" in shown.picture


def test_step_7_says_that_a_norm_stands_between_and_what_an_outlier_feature_is():
    shown, data = stored("masks"), lesson()["masks"]
    assert shown.right == ("large",)
    assert data["loudest"][0][0] == 247
    assert data["spike"]["channel"] == data["before"][0][0] == 507
    assert data["spike"]["after"] < data["loudest"][0][1] / 4
    assert "RMSNorm" in text(shown)
    assert "|x| ≥ 6 in at least 25% of the layers and 6% of the positions" in text(shown)
    assert "holds for: 247" in text(shown)
    features = {feature["channel"]: feature for feature in data["features"]}
    assert data["spike"]["massive"]
    rare, often = features[507], features[247]
    assert f"it reaches 6 at {rare['positions']:.2%} of all positions, in {rare['layers']:.0%} of the" in text(shown)
    assert f"second: {often['positions']:.0%} of the positions, {often['layers']:.0%} of the layers" in text(shown)
    (magnitude, wanda), *_ = data["runs"]
    assert f"at the quiet end it is {magnitude:.0%} and {wanda:.0%}" in text(shown)
    assert data["loud"] > data["quiet"] > 1.5 * data["overall"]
    assert f"{data['loud']:.0%} of the weights of the loudest columns, {data['quiet']:.0%} of the q" in shown.finding
    assert "6 and 6.7 billion" in text(shown)
    assert "not measured here" in text(shown)
    assert shown.picture.count("wl-hbars") == 2


def test_step_8_takes_the_norm_and_the_row_apart():
    shown = stored("cost")
    cells = {tuple(cell[:2]): cell[2] for cell in lesson()["price"]["cells"]}
    norm = [cells["magnitude", group] / cells["wanda", group] for group in ("matrix", "row")]
    row = [cells[method, "matrix"] / cells[method, "row"] for method in ("magnitude", "wanda")]
    assert min(norm) > 2 * max(row) > 2
    assert f"divides perplexity by {min(norm):.1f} to {max(norm):.1f}" in text(shown)
    assert f"(step 2) by {min(row):.1f} to {max(row):.1f}" in text(shown)
    assert "In step 7 magnitude was compared per row" in text(shown)
    assert "a budget per row is better for both methods" in text(shown)
    assert shown.picture.count("wl-row-") == 5
    factors = re.findall(r"÷ ([\d.]+)<", shown.picture)
    assert [float(factor) for factor in factors] == pytest.approx([*row, *norm], abs=0.05)


@pytest.mark.parametrize(
    ("name", "right", "says", "never"),
    [
        ("meet", ("ten",), "shows none on this sentence", "Here that holds"),
        ("change", None, "The model does not hang on this one weight", "Such a weight is needed"),
        ("sinks", ("little", "third"), "no clear sink", "parks"),
        ("ablate", ("none",), "is hardly missed", "must not be removed"),
        ("masks", None, "RMSNorm", "holds for: 247"),
        ("cost", ("same",), "the input norm gains little", "with equally many weights removed"),
    ],
)
def test_a_random_model_without_outliers_is_told_by_what_it_shows(random_state, name, right, says, never):
    shown = measured(random_state, name)
    assert shown.date == ""
    assert right is None or set(shown.right) <= set(right)
    assert shown.right
    assert says in text(shown)
    assert never not in text(shown)
    assert "507" not in re.sub(r"[\d,.]*\d", "", shown.finding)


def test_what_was_measured_once_is_there_for_everybody(random_state):
    """A second learner's answer runs nothing: it does not even wait for the engine."""
    measured(random_state, "meet", "Rivers carry sand.")
    steps = ANSWERS["meet"](Asked(ENGLISH, random_state, "builtin", only_known=True), "Rivers carry sand.")
    assert finish(steps).finding
    with pytest.raises(UnknownError):
        finish(ANSWERS["meet"](Asked(ENGLISH, random_state, "builtin", only_known=True), "Nobody asked for this."))


def test_what_a_browser_keeps_is_read_again_and_nothing_else(monkeypatch):
    run = {
        1: Record("first", ("second",), "", {}, "", (0.5, 2, 40, 1)),
        6: Record("one", ("one",), "", {}, "", ("394",)),
    }
    assert kept.read(kept.written(run, "builtin"), "builtin") == {1: ("first", [0.5, 2, 40, 1]), 6: ("one", ["394"])}
    assert kept.read(kept.written(run, "builtin"), "other") == {}
    for broken in (
        "",
        "[",
        "[]",
        '{"steps": []}',
        '{"model": "builtin", "steps": {"1": {"guess": "<b>", "values": []}}}',
        None,
    ):
        assert kept.read(broken, "builtin") == {}
    forged = json.loads(kept.written(run, "builtin"))
    forged["steps"]["6"]["values"] = ["300"]  # which another may have asked for
    forged["steps"]["1"]["mark"] = None  # of no model
    assert kept.read(json.dumps(forged), "builtin") == {1: ("first", [0.5, 2, 40, 1])}
    for broken in ("[" * 15_000, json.dumps({"model": "builtin", "steps": {"1": "\ud800"}})):
        assert kept.read(broken, "builtin") == {}
    usual = {6: Record("one", ("one",), "", {}, "", ("",)), 3: Record("ten", ("ten",), "", {}, "", (SENTENCE,))}
    held = kept.written({**usual, 5: Record("most", ("most",), "", {}, "", ("Own words.",))}, "builtin")
    monkeypatch.setattr(kept, "SECRET", b"of a server that was started anew")
    assert kept.read(held, "builtin") == {3: ("ten", [SENTENCE]), 6: ("one", [""])}
    long = {3: Record("ten", ("ten",), "", {}, "", ("x" * kept.MOST_CHARACTERS,))}
    assert kept.written(long, "builtin") == ""


def test_the_row_of_steps_marks_what_was_answered_and_not_what_lies_before():
    row = bar({2: Record("wanda_row", ("wanda_row",), "", {})}, 6, ENGLISH)
    assert row.count("wl-fits") == 1
    assert row.count("aria-current='step'") == 1
    assert "data-step='6' aria-current='step'" in row
    assert row.count("<button") == len(STEPS) + 1


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_step_has_its_place_on_the_map_and_its_new_words(language):
    speak = partial(say, language)
    for step in STEPS:
        assert set(HERE[step.name]) <= {*BOXES, "stream"}
        assert block_map(step.name, speak).count("wl-here") == len(HERE[step.name])
        here = FOUND.get(step.name, HERE[step.name])
        assert set(here) <= {*BOXES, "stream"}
        assert block_map(step.name, speak, found=True).count("wl-here") == len(here)
    named = [name for step in STEPS for name in terms.FIRST.get(step.name, ())]
    assert sorted(named) == sorted(terms.PICTURES) == sorted(terms.ORDER)


def test_the_map_gives_no_answer_away():
    """Where the spike is, in step 3, and what makes it, in step 4, is marked once that was answered."""
    for step, told in (("meet", "channel 507"), ("change", "down_proj, and stays")):
        before, after = (block_map(step, ENGLISH, found, 507) for found in (False, True))
        assert told not in before
        assert told in after
    assert "channel 507" in block_map("change", ENGLISH, channel=507)


def test_a_known_word_has_its_meaning_at_its_first_mention_and_texts_stay_escaped():
    html = terms.marked(("The <b>median</b> of a block.", "The median again."), "meet", ENGLISH)
    assert html.count("<abbr") == 2
    assert "<b>" not in html
    assert "perplexity" not in terms.marked(("Perplexity.",), "two", ENGLISH).lower().replace("perplexity.", "")
