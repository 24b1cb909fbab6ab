"""What the last step of the lesson offers: zeros buy nothing, parts that are gone do, by the numbers at hand."""

from functools import partial

import pytest
from engine_room import server

from wanda_core.errors import ModelError
from wanda_core.evaluation.footprint import Footprint
from wanda_core.evaluation.speed import Speed
from wanda_core.progress import finish
from wanda_ui.engine.buying import Bought
from wanda_ui.language import LANGUAGES, say
from wanda_ui.lesson import buys
from wanda_ui.lesson.buys import SHARE, both_steps, told

DENSE = Footprint(134_515_008, 134_515_008, 538_060_032)
LESS = Footprint(118_590_720, 118_590_720, 474_362_880)


def speeds(dense, own):
    return tuple(Speed(300.0, each, 128, 24, 3) for each in (dense, own))


ZEROS = Bought((DENSE, Footprint(134_515_008, 81_427_008, 538_060_032)), speeds(20.0, 20.3))
SMALLER = Bought((DENSE, LESS), speeds(10.0, 11.2))


def test_it_is_measured_on_the_model_at_hand(tiny_llama):
    state = server(tiny_llama)
    zeros, smaller = finish(both_steps(state, next(iter(state.models))))
    dense, pruned = zeros.footprints
    assert pruned.nbytes == dense.nbytes
    assert pruned.nonzero < dense.nonzero
    assert smaller.footprints[0] == dense
    assert smaller.footprints[1].nbytes < dense.nbytes
    html = told((zeros, smaller), partial(say, "en"))
    for held in (dense, smaller.footprints[1]):
        assert f"{held.parameters / 1e6:.1f} M" in html
    assert state.engine.settle()


def test_a_model_that_cannot_be_smaller_still_tells_of_its_zeros(tiny_llama, monkeypatch):
    steps = buys.bought_steps

    def refusing(state, name, recipe):
        if recipe.smaller is not None:
            raise ModelError("its configuration cannot say it; choose another model")
        return steps(state, name, recipe)

    monkeypatch.setattr(buys, "bought_steps", refusing)
    state = server(tiny_llama)
    both = finish(both_steps(state, next(iter(state.models))))
    html = told(both, partial(say, "en"))
    assert "50% zeros buy nothing here" in html
    assert "cannot say it" in html
    assert state.engine.settle()


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_finding_says_nothing_of_zeros_and_by_how_much_parts_help(language):
    speak = partial(say, language)
    html = told((ZEROS, SMALLER), speak)
    assert speak("lesson.buys.finding", share=0.5, gone=SHARE, less=0.12, faster=0.12) in html
    assert all(part in html for part in ("134.5 M", "81.4 M", "118.6 M", "538 MB", "474 MB"))
    assert ">1.00<" in html
    assert ">1.12<" in html, "as the finding says, also where the dense model was another time faster"
    slow = Bought((DENSE, LESS), speeds(20.0, 20.1))
    assert speak("lesson.buys.finding_same", share=0.5, gone=SHARE, less=0.12) in told((ZEROS, slow), speak)
    busy = Bought(ZEROS.footprints, speeds(20.0, 24.0))
    assert speak("lesson.buys.zeros_faster", faster=0.2) in told((busy, SMALLER), speak)
    unmeasured = Bought((DENSE, LESS), None)
    assert "–" in told((ZEROS, unmeasured), speak)
