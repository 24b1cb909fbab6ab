"""The lesson without a browser: its address, its words, what it takes away, and every answer against the engine's."""

import csv
import io
import math
from functools import partial
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wanda_core.assets import ASSETS
from wanda_core.errors import InputError
from wanda_core.explain.toy_example import example_inputs, example_matrix
from wanda_core.progress import finish
from wanda_ui.app_state import AppState
from wanda_ui.language import LANGUAGES, say, words
from wanda_ui.lesson import address, summary
from wanda_ui.lesson.answers import Asked, Record
from wanda_ui.lesson.measured import chosen_whole, written
from wanda_ui.lesson.plan import STEPS, Slider
from wanda_ui.lesson.tab import ANSWERS

SPEAKERS = [partial(say, language) for language in LANGUAGES]


def asked(language="en"):
    return Asked(partial(say, language), AppState(), "builtin")


def answer(name, *values, language="en"):
    return finish(ANSWERS[name](asked(language), *values))


def test_an_address_opens_a_step_with_its_guess_and_its_controls():
    entry = address.read({"lesson": "1", "guess": "first", "w1": "-1.5", "x2": "7", "lang": "ko"})
    assert entry == address.Entry(1, "first", (-1.5, None, None, 7.0))
    assert address.read({"lesson": "6", "channel": "507"}) == address.Entry(6, None, ("507",))
    assert address.read({"lesson": "3", "s": "A river."}).values == ("A river.",)


@pytest.mark.parametrize("number", ["", "0", "10", "-1", "1.0", "²", "one", "99999999999999999999", "1 OR 1"])
def test_an_address_without_a_step_opens_nothing(number):
    assert address.read({"lesson": number}) is None
    assert address.read({}) is None


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e400", "3.1", "-3.01", "", "0x1", "<b>", "1" * 5000])
def test_a_slider_out_of_bounds_in_an_address_is_left_out(value):
    assert address.read({"lesson": "1", "w1": value}).values[0] is None


def test_other_wrong_values_in_an_address_are_left_out():
    assert address.read({"lesson": "2", "guess": "<script>"}).guess is None
    assert address.read({"lesson": "3", "s": "x" * (address.MOST_CHARACTERS + 1)}).values == (None,)
    assert address.read({"lesson": "3", "s": " \n "}).values == (None,)
    for channel in ("-1", "5.5", "1e3", "٥", "9" * 30):
        assert address.read({"lesson": "6", "channel": channel}).values == (None,)


@given(st.dictionaries(st.sampled_from(["lesson", "guess", *address.NAMES]), st.text(max_size=30)))
def test_no_address_breaks_the_page(query):
    entry = address.read(query)
    if entry is not None:
        step = STEPS[entry.step - 1]
        assert entry.guess is None or entry.guess in step.guesses
        assert len(entry.values) == len(step.controls)


def test_every_part_that_an_address_hides_is_hidden_by_the_style():
    styles = "".join(
        (ASSETS / path).read_text(encoding="utf-8") for path in ("style.css", "view/view.css", "lesson/try.css")
    )
    for part in address.HIDEABLE:
        assert f".wl-hide-{part} " in styles
        assert f'"{part}"' in address.HIDE
        assert f'"{part}"' in address.UNHIDE


def test_a_step_is_remembered_by_what_reads_it_again():
    """Every control of a step is written by the name that `read` knows."""
    for number, step in enumerate(STEPS, 1):
        script = address.remember(number)
        assert f'searchParams.set("lesson", "{number}")' in script
        for name in ("guess", *(control.name for control in step.controls)):
            assert f'"{name}"' in script
            assert name in address.NAMES


def test_every_step_has_all_its_words_and_few_of_them():
    spoken = words("en")
    for step in STEPS:
        for guess in step.guesses:
            assert spoken[f"lesson.{step.name}.guess.{guess}"]
        for control in step.controls:
            assert spoken[f"lesson.{step.name}.control.{control.name}"]
        longest = max(len(text.split()) for key, text in spoken.items() if key.startswith(f"lesson.{step.name}.why"))
        shown = " ".join(spoken[f"lesson.{step.name}.{part}"] for part in ("title", "question", "story"))
        assert len(shown.split()) + longest <= 140


def test_step_1_shows_what_either_choice_costs_and_is_never_wrong_about_the_guess():
    shown = answer("two", 0.5, 2, 40, 1)
    assert shown.right == ("second",)
    assert (shown.numbers["error_without_w1"], shown.numbers["error_without_w2"]) == (20.0, 2.0)
    assert "20.0" in shown.finding
    assert shown.picture.count("wl-gone") == 2
    assert answer("two", 2, 0.5, 1, 1).right == ("second",)
    assert answer("two", 1, 1, 1, 1).right == ("either",)
    assert answer("two", 0, 0, 0, 0).right == ("either",)


def test_step_1_says_that_size_cannot_choose_between_equal_weights():
    shown = answer("two", 1, 1, 40, 1)
    assert shown.right == ("second",)
    assert shown.finding.startswith("By size both are equal. The score says w₂")
    assert "removes: either, both score the same. Wanda, which" in shown.explanation[0]


SIZES = range(1, 21)


@pytest.mark.parametrize("size", SIZES)
def test_step_2_argues_from_its_numbers_at_every_place_of_the_slider(size):
    """What is best by the criterion, and by the total error, is worked out here again."""
    shown, losses, totals = answer("matrix", size), {}, {}
    W, X = example_matrix().double(), example_inputs(float(size)).double()
    Y = X @ W.T
    for metric, S in (("magnitude", W.abs()), ("wanda", W.abs() * X.norm(dim=0))):
        for group in ("matrix", "row"):
            rows = S.reshape(1, -1) if group == "matrix" else S
            kept = rows.argsort(dim=1, stable=True).argsort(dim=1, stable=True) >= rows.shape[1] // 2
            errors = (Y - X @ (W * kept.reshape(W.shape)).T).norm(dim=0)
            losses[f"{metric}_{group}"] = float((errors / Y.norm(dim=0)).mean())
            totals[f"{metric}_{group}"] = float(errors.norm())
    assert [shown.numbers[f"mean_loss_{way}"] for way in losses] == pytest.approx(list(losses.values()), rel=1e-4)
    assert [shown.numbers[f"total_error_{way}"] for way in totals] == pytest.approx(list(totals.values()), rel=1e-4)
    best = {way for way, loss in losses.items() if math.isclose(loss, min(losses.values()), rel_tol=1e-5)}
    assert set(shown.right) == best
    least = min(totals, key=totals.get)
    text = " ".join(shown.explanation)
    assert ("By another measure" in text) == (least not in best)
    assert ("remove the same weights" in text) == math.isclose(
        losses["magnitude_row"], losses["wanda_row"], rel_tol=1e-5
    )
    assert ("is silenced" in text) == any(name.endswith("_matrix") for name in losses)
    assert all(say("en", f"lesson.matrix.guess.{way}") in shown.finding for way in best)


def test_step_2_calls_its_numbers_what_they_are():
    numbers = answer("matrix", 8).numbers
    assert not [name for name in numbers if name.startswith("error")]
    assert numbers["mean_loss_wanda_row"] == pytest.approx(0.375, abs=1e-3)
    assert numbers["total_error_wanda_matrix"] == pytest.approx(1.33, abs=0.01)
    assert answer("matrix", 8).picture.count("<table>") == 4


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("step", [step for step in STEPS if not step.needs_model], ids=lambda step: step.name)
def test_steps_without_a_model_answer_for_every_place_of_their_sliders(step, language):
    for ends in (
        [c.low for c in step.controls],
        [c.high for c in step.controls],
        [0 if c.low < 0 else 1 for c in step.controls],
    ):
        shown = answer(step.name, *ends, language=language)
        assert set(shown.right) <= set(step.guesses)
        assert shown.right
        assert shown.finding
        assert all(shown.explanation)


@pytest.mark.parametrize("value", [math.nan, math.inf, 4, None, "1", True])
def test_a_number_that_no_slider_gives_is_refused(value):
    with pytest.raises(InputError, match="from -3 to 3"):
        answer("two", value, 1, 1, 1)


@pytest.mark.parametrize("given", ["576", "-1", "5.5", "abc", "١", "9" * 50, "1e2"])
@pytest.mark.parametrize(("language", "words"), [("en", "does not exist"), ("ko", "채널은 없어요")])
def test_a_channel_out_of_range_is_answered_in_the_readers_language(given, language, words):
    with pytest.raises(InputError, match=words) as error:
        chosen_whole(asked(language), given, "channel", 576, 507)
    assert len(str(error.value)) < 200


def test_a_channel_may_stay_empty():
    assert chosen_whole(asked(), "", "channel", 576, 507) == 507
    assert chosen_whole(asked(), " 12 ", "channel", 576, 507) == 12


@pytest.mark.parametrize(
    ("text", "words"), [("", "no text"), (" \n", "no text"), (None, "no text"), ("x" * 50_000, "50,000")]
)
def test_a_text_that_cannot_be_read_is_answered_before_any_model_is_asked(text, words):
    with pytest.raises(InputError, match=words):
        written(asked(), text, 10_000)


RUN = {
    1: Record("first", ("second",), "Cutting the smaller weight costs 20.0", {"w1": 0.5, "y": 22.0}),
    3: Record("more", ("more",), "<b>=1+1</b>", {"sentence": '=HYPERLINK("x")', "channel": 507}, "A & B"),
    6: Record("none", (), "x" * 900, {"channel": 3}, "A & B"),
}


@pytest.mark.parametrize("speak", SPEAKERS)
def test_all_results_as_csv_and_no_formula_among_them(speak):
    rows = list(csv.DictReader(io.StringIO(summary.to_csv(RUN, speak))))
    assert len(rows) == 5
    assert list(rows[0]) == summary.COLUMNS
    assert [row["guess_fits"] for row in rows] == ["False", "False", "True", "True", ""]
    assert (rows[1]["quantity"], rows[1]["value"]) == ("y", "22.0")
    assert rows[2]["value"] == '\'=HYPERLINK("x")'
    assert rows[0]["question"] == speak("lesson.two.question")


@pytest.mark.parametrize("speak", SPEAKERS)
def test_the_page_to_print_is_one_document_with_every_value_escaped(speak):
    page = summary.to_page(RUN, speak)
    assert page.startswith("<!doctype html>")
    assert "<b>" not in page
    assert "&lt;b&gt;" in page
    assert "A &amp; B" in page
    assert "size: A4" in page
    assert f"<td>{speak('lesson.summary.open')}</td>" in page
    assert page.count("<tr>") == 1 + len(RUN)
    assert speak("lesson.summary.title") in page
    assert "x" * (summary.MOST_CHARACTERS + 1) not in page


@pytest.mark.parametrize("speak", SPEAKERS)
def test_both_are_links_that_need_no_file_on_the_server(speak):
    links = []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attrs: links.append(dict(attrs)) if tag == "a" else None
    parser.feed(summary.links(RUN, speak))
    assert [link["download"] for link in links] == ["wanda-lesson.csv", "wanda-lesson.html"]
    assert all(link["href"].startswith("data:text/") for link in links)
    assert "<a" not in summary.links({}, speak)


def test_every_slider_starts_inside_its_bounds():
    sliders = [control for step in STEPS for control in step.controls if isinstance(control, Slider)]
    assert len(sliders) == 5
    assert all(slider.low <= slider.start <= slider.high for slider in sliders)
