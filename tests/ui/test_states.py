"""What the server lets go of many visitors' states, and what a browser brings back: its run, its model."""

import json
from contextlib import closing

import pytest
from engine_room import serving
from raw_requests import Raw, is_ended

from wanda_ui.app_state import AppState
from wanda_ui.engine.loaded import Loaded
from wanda_ui.gate.states import States
from wanda_ui.lesson import kept
from wanda_ui.lesson.answers import Record


def test_a_state_whose_page_is_open_is_not_the_first_that_goes():
    states = States()
    for session in "abcd":
        states[session] = session.upper()
    states["new"] = "N"  # whoever begins is the last
    with states.opened("a"), states.opened("a"):
        with states.opened("b"):
            assert states.popitem(last=False) == ("c", "C")
        assert states.popitem(last=False) == ("b", "B")
        assert states.popitem(last=False) == ("d", "D")
        assert states.popitem(last=False) == ("a", "A")  # one has to go
        del states["new"]
        states["a"], states["e"] = "A", "E"
        assert states.popitem() == ("e", "E")
    states["f"] = "F"
    assert states.popitem(last=False) == ("a", "A")


def test_a_session_that_begins_does_not_go_for_those_that_are_open():
    states = States()
    states["a"], states["new"] = "A", "N"
    with states.opened("a"):
        assert states.popitem(last=False) == ("a", "A")
    assert list(states) == ["new"]


def test_what_a_browser_keeps_stays_beside_what_is_written_anew():
    first, second = (Record("first", ("first",), "", {}, "", values) for values in ((0.5, 2, 40, 1), ("two",)))
    held = kept.written({1: first, 3: second}, "builtin")
    again = kept.written({1: Record("second", ("first",), "", {}, "", (1, 2, 3, 4))}, "builtin", held)
    assert list(json.loads(again)["steps"]) == ["1"]  # "first" is no guess of step 3
    held = kept.written({1: first, 6: Record("one", ("one",), "", {}, "", ("394",))}, "builtin")
    again = kept.written({1: Record("second", ("first",), "", {}, "", (1, 2, 3, 4))}, "builtin", held)
    assert kept.read(again, "builtin") == {1: ("second", [1, 2, 3, 4]), 6: ("one", ["394"])}
    assert kept.read(kept.written({1: first}, "other", held), "other") == {1: ("first", [0.5, 2, 40, 1])}
    forged = held.replace("394", "395")
    assert list(kept.read(kept.written({1: first}, "builtin", forged), "builtin")) == [1]


class Learner:
    """A browser at the lesson's first two steps: it keeps what it is told to, and sends it along."""

    def __init__(self, page, address, session):
        self.page, self.raw, self.session, self.held = page, Raw(address), session, ""

    def see(self, step, model="builtin"):
        """-> how far the lesson says that the run is"""
        page, mine = self.page, {"lesson-held": self.held, "model-name": model}
        press = next(b for b, block in page.blocks.items() if getattr(block, "elem_id", None) == f"lesson-{step}-see")
        number, event = next((n, event) for n, event in page.fns.items() if (press, "click") in event.targets)
        data = []
        for control in event.inputs:
            name = getattr(control, "elem_id", None) or ""
            guess = control.choices[0][1] if name == f"lesson-{step}-guess" else None
            value = None if type(control).__name__ == "State" else guess or control.value
            data.append(mine.get(name, value))
        assert self.raw.join(self.session, number, data).status == 200
        messages = self.raw.messages(self.session)
        assert is_ended(messages[-1]), messages[-1]
        shown = next(m["output"]["data"] for m in reversed(messages) if m["msg"] == "process_generating")
        self.held = shown[[block.elem_id for block in event.outputs].index("lesson-held")]
        return sorted(json.loads(self.held)["steps"])


@pytest.fixture(scope="module")
def served_small(tiny_llama):
    state = AppState()
    state.models["builtin"] = Loaded(tiny_llama)
    with serving(state) as (page, address):
        yield page, address


def test_a_run_that_the_server_has_let_go_is_taken_from_the_browser(served_small):
    page, address = served_small
    learner = Learner(page, address, "learner")
    with closing(learner.raw):
        assert learner.see(1) == ["1"]
        assert learner.see(2) == ["1", "2"]
        del page.states["learner"]
        assert learner.see(2) == ["1", "2"]
        assert [sorted(value) for value in page.states["learner"].state_data.values() if isinstance(value, dict)] == [
            [1, 2]
        ]


def test_the_model_is_the_one_that_the_page_names_whatever_the_server_has_let_go(served_small):
    page, address = served_small
    learner = Learner(page, address, "named")
    with closing(learner.raw):
        for _ in range(2):
            assert learner.see(1, "owner/model") == ["1"]
            assert json.loads(learner.held)["model"] == "owner/model"
            del page.states["named"]
        assert learner.raw.join("named", *asking_too_much(page)).status == 400


def asking_too_much(page):
    """-> (an event that is given a model's name, values of which that one is endless)"""
    number, event = next((n, e) for n, e in page.fns.items() if [c.elem_id for c in e.inputs] == ["model-name"])
    return number, ["x" * (event.inputs[0].max_length + 1)]


def test_a_page_that_is_open_keeps_its_state_while_a_thousand_others_come(served_small, monkeypatch):
    page, address = served_small
    monkeypatch.setattr(page.state_holder, "capacity", 3)
    learner = Learner(page, address, "open")
    with closing(learner.raw), closing(learner.raw.connection()) as beating:
        learner.see(1)
        beating.request("GET", "/gradio_api/heartbeat/open")
        beating.getresponse().readline()
        for number in range(6):
            with closing(Learner(page, address, f"other{number}").raw) as raw:
                other = Learner(page, address, f"other{number}")
                other.raw = raw
                other.see(1)
        assert "open" in page.states
        assert len(page.states) == 3
