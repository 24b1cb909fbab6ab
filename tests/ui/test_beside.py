"""What the server tells of what stands beside the steps, and what it takes from a browser for that."""

import json
from dataclasses import dataclass
from types import SimpleNamespace

import gradio as gr
import pytest

from wanda_core.errors import InputError
from wanda_core.explain.toy_example import choose, example_inputs, example_matrix
from wanda_core.progress import finish
from wanda_core.report import piece as stored
from wanda_ui.language import ENGLISH, LANGUAGES
from wanda_ui.lesson import address, beside, consequences, weights
from wanda_ui.lesson.answers import Asked
from wanda_ui.lesson.bar import bar
from wanda_ui.lesson.plan import STEPS


@dataclass
class NoModel:
    """A state without any model, whose stored answers are the built-in model's."""

    def loaded(self, name):
        return None

    def normal(self, name):
        return name


@pytest.fixture
def asked():
    return Asked(ENGLISH, NoModel(), "builtin", only_known=True)


def truth_of(step, answer):
    html = beside.truth(step, answer)
    return json.loads(html.split("data-truth='")[1].split("'")[0].replace("&quot;", '"'))


def test_a_sketch_of_step_2_is_laid_over_the_mask_that_wanda_takes_at_that_loudness(asked):
    for size in (1, 8, 20):
        answer = finish(weights.matrix(asked, size))
        expected = choose(example_matrix(), example_inputs(size), "wanda", "row").cut.tolist()
        assert truth_of("matrix", answer) == expected
        assert [sum(row) for row in expected] == [3, 3, 3, 3]


def test_sketches_of_steps_6_and_8_are_laid_over_the_numbers_of_the_step(asked):
    answer = finish(consequences.ablate(asked, ""))
    untouched, random, *zero = truth_of("ablate", answer)
    assert untouched == answer.numbers["untouched"]
    assert zero == [answer.numbers[f"zero_{place}"] for place in ("first", "others", "all")]
    assert random == max(value for name, value in answer.numbers.items() if name.startswith("random_"))
    answer = finish(consequences.cost(asked, STEPS[7].controls[0].start))
    assert truth_of("cost", answer) == [
        answer.numbers["perplexity_dense"],
        *(answer.numbers[f"perplexity_magnitude_{share}%"] for share in (30, 50, 60)),
    ]


def test_steps_without_a_sketch_tell_nothing(asked):
    assert beside.truth("two", finish(weights.two(asked, 0.5, 2, 40, 1))) == ""


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_page_is_told_the_steps_and_the_piece_from_the_start(language):
    told = beside.told_to_page(language)
    assert [name for name, _ in told["steps"]] == [step.name for step in STEPS]
    assert len(json.dumps(told)) < 6_000
    piece = told["piece"]
    assert [len(row) for row in piece["w"]] == [8] * 4
    assert [len(row) for row in piece["gram"]] == [8] * 8
    assert piece["format"] == stored.FORMAT


@pytest.mark.parametrize(
    "data", [None, {}, {"seed": -1}, {"seed": 1.5}, {"seed": "1"}, {"seed": 2**40}, [1], {"seed": True}]
)
def test_a_seed_that_is_none_is_refused(data):
    with pytest.raises(InputError, match=r"seed .* is not a whole number from 0 to 2147483647; choose one"):
        beside.told_whole(SimpleNamespace(_data=data), "seed", 0, beside.MOST_SEED)


def test_a_seed_that_a_browser_sends_is_taken():
    for given in (77, 77.0):  # JavaScript has one kind of number
        assert beside.told_whole(gr.EventData(None, {"seed": given}), "seed", 0, beside.MOST_SEED) == 77


def test_the_test_is_a_ninth_place_in_the_row_and_in_the_address():
    assert "data-step='9' aria-current='step'" in bar({}, 9, ENGLISH)
    assert address.read({"lesson": "9", "guess": "first", "w1": "3"}) == address.Entry(9, None, ())
    assert address.read({"lesson": "10"}) is None


def test_the_stored_piece_is_small():
    assert stored.PIECE.stat().st_size <= stored.MOST_BYTES


@pytest.mark.builtin
def test_the_stored_piece_is_what_the_model_gives_now(builtin_lm):
    held = beside.stored_piece()
    now = finish(stored.stored_steps(builtin_lm))
    assert now["made"]["revision"] == held["made"]["revision"]
    assert now["made"]["calibration"] == held["made"]["calibration"]
    assert (now["rows"], now["columns"], now["w"]) == (held["rows"], held["columns"], held["w"])
    for new, old in zip(now["gram"], held["gram"], strict=True):
        assert new == pytest.approx(old, rel=1e-2, abs=1e-2 * held["gram"][0][0] ** 0.5)
