"""Fifty visitors at once: each gets what it would get alone, none gets another's, and the page answers meanwhile."""

import hashlib
import random
import threading

import pytest
from engine_room import READING, looked, server, serving
from view_events import WINDOW

from wanda_core.errors import ModelError
from wanda_core.recipe import PruneSpec
from wanda_ui import app_state
from wanda_ui.engine import work
from wanda_ui.engine.recipe import Asked, Recipe
from wanda_ui.settings import Settings

LINE = "Crowds"
SESSIONS = {True: 50, False: 12}
MOST_SECONDS = 0.5
BETWEEN = 0.05  # seconds between looks at the page
METHODS = ("wanda", "magnitude", "ria", "random")


@pytest.fixture(scope="module")
def crowd(tiny_llama):
    """A server of a tiny model that takes many jobs, its page and its address."""

    def nothing(name, **_):
        raise ModelError(f"{str(name)[:40]!r} is not here; choose another")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(app_state, "locate", nothing)
        patch.setattr(work, "EVAL_SEQ_LEN", WINDOW)
        state = server(tiny_llama, Settings(jobs_waiting=200))
        state.models["builtin"] = state.models[tiny_llama.name]
        with serving(state) as (page, address):
            yield state, page, address


def fingerprint(lm) -> str:
    made = hashlib.sha256()
    for name, tensor in sorted(lm.model.state_dict().items()):
        made.update(name.encode() + tensor.numpy().tobytes())
    return made.hexdigest()


def wishes(count: int) -> list[tuple[Recipe, Asked]]:
    """Different recipes and prompts; every fifth recipe is that of another."""
    draw, made = random.Random(3), []
    for number in range(count):
        spec = PruneSpec(draw.choice(METHODS), round(draw.uniform(0.2, 0.8), 2), order="one-shot")
        recipe = made[-1][0] if made and number % 5 == 0 else Recipe(spec, READING)
        made.append((recipe, Asked(f"Visitor {number} asks of stone {draw.random()}", max_new_tokens=6, chat=False)))
    return made


def test_each_of_fifty_gets_what_it_would_get_alone(crowd, tiny_llama, figures, whole):
    state, count = crowd[0], SESSIONS[whole]
    before, asked = fingerprint(tiny_llama), wishes(count)
    other_server = server(tiny_llama)
    alone = [told_of(looked(other_server, recipe, question)[1]) for recipe, question in asked]
    got: dict[int, object] = {}

    def visit(number):
        try:
            got[number] = told_of(looked(state, *asked[number])[1])
        except Exception as error:
            got[number] = error

    visitors = [threading.Thread(target=visit, args=(number,)) for number in range(count)]
    for visitor in visitors:
        visitor.start()
    for visitor in visitors:
        visitor.join(300)
    other = [number for number in range(count) if got.get(number) != alone[number]]
    assert not other, (got.get(other[0]), alone[other[0]])
    assert len({str(one) for one in alone}) > count / 2, "all visitors would get the same"
    figures.exactly(LINE, f"sessions, of {count} at once, whose result is another than alone", len(other), 0)
    figures.exactly(LINE, "changes of the dense weights' checksum", float(fingerprint(tiny_llama) != before), 0)


def told_of(look) -> tuple:
    """The answer and the perplexities of a look."""
    return look.seen.answer, look.seen.perplexity, look.seen.agreement
