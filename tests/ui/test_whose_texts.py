"""Whose a text for calibration is: its digest, which stands in links and runs, opens it to who brought it alone."""

import json
from contextlib import closing

import pytest
from raw_requests import Raw
from view_events import ASK, column

from wanda_ui import owned as module
from wanda_ui.engine.recipe import NOT_HERE, KeptTexts
from wanda_ui.gate.visitors import HEADER, visitors_of, written
from wanda_ui.owned import NOBODY, Owned

LETTER = " Dear doctor, the river carries sand and the code of the safe is 481516. " * 99
UNKNOWN, GONE = "0" * 32, "choose the file again"
EVENTS = ("look", "look at hand", "look at the smaller", "sweep", "own", "buys", "why", "masks")
OF_RECIPES = ("zeros", "sparsity", "'kinds'", "'columns': [[", "'rows': [{")  # words of answers about what was pruned
WHY = {"tokens": [1, 2], "index": 1, "text": " a", "rest": " b"}
OF_SCORES = {"what": "column", "kind": "mlp.up_proj", "block": 1, "column": 3}


@pytest.fixture
def visit(served, raw):
    """-> makes a client of a visitor, by the cookies that it sends."""
    clients = []

    def of(*cookies):
        named = "; ".join(f"wanda_visitor_{cookie}={cookie * 24}" for cookie in cookies)
        clients.append(Raw(served[1], **({"cookie": named} if named else {})))
        return clients[-1]

    yield of
    for client in clients:
        client.close()


@pytest.fixture
def say_of(served):
    """-> asks an event of the view for a visitor, in a session of its own; what the view is told, but for numbers."""
    numbers = {event.name: number for number, event in served[0].fns.items() if event.collects_event_data}
    sessions = iter(range(1000))

    def told(client, event, /, **data):
        session = f"whose-{id(client)}-{next(sessions)}"
        assert client.join(session, numbers[event], [], event_data=data).status == 200
        messages = [message.get("output") for message in client.messages(session)]
        return [without_numbers(message["data"]) for message in messages if message and message.get("data")]

    return told


def without_numbers(value):
    """-> what was told, without what tells one message, or the time it took, from another."""
    if isinstance(value, dict):
        return {name: without_numbers(inner) for name, inner in value.items() if name not in ("number", "expected")}
    return [without_numbers(inner) for inner in value] if isinstance(value, list) else value


def brought(client, say_of, letter):
    """Bring a text. -> its digest"""
    [path] = json.loads(client.upload(("letter.txt", (letter + LETTER).encode())).body)
    return find(say_of(client, "bring_text", path=path, name="letter.txt"), "digest")


def find(value, name):
    """-> the first value of that name, however deep, or None."""
    if isinstance(value, dict) and value.get(name) is not None:
        return value[name]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return next((found for found in (find(each, name) for each in inner) if found is not None), None)


def answers(client, say_of, digest, *only):
    """-> all that a visitor is told about recipes on a text, by what asks. only: this, by default everything."""
    given = {"run": 1, "model": "builtin", "recipes": [column(text=digest, at=40)], "ask": {**ASK, "length": 2}}
    shrunk = column(1, text=digest, method="neurons", at=20)
    asks = {
        "look": given,
        "look at hand": {**given, "at_hand": True},
        "look at the smaller": {**given, "recipes": [shrunk]},
        "sweep": {**given, "places": [40]},
        "own": {**given, "prompts": ["a"]},
        "buys": given,
        "why": {**given, **WHY},
        "masks": {**given, "recipes": [*given["recipes"], column(2, text=digest, at=60)]},
        "expect": given,
    }
    told = {}
    for name in only or asks:
        said = str(say_of(client, name.split()[0], **asks[name]))
        told[name] = said if name == "expect" else {words for words in (GONE, *OF_RECIPES) if words in said}
    questions = {
        "scores": {**given, **OF_SCORES},
        "take": given,
        "checkpoint": {**given, "recipe": given["recipes"][0]},
    }
    for name, data in questions.items():
        reply = client.post(f"/wanda/{name}", data)
        told[name] = (reply.status, without_numbers(json.loads(reply.body)))
    return told


def test_a_text_answers_who_brought_it_and_to_all_others_it_is_unknown(visit, say_of):
    owner, stranger = visit("a"), visit("b")
    digest = brought(owner, say_of, "One")
    mine = answers(owner, say_of, digest, "look", "why", "masks")
    assert "column" in mine["scores"][1]
    assert "address" not in mine["checkpoint"][1]  # no folder holds the model
    for name in ("look", "why", "masks"):
        assert mine[name], name
        assert GONE not in mine[name], name
    unknown = answers(stranger, say_of, UNKNOWN)
    assert unknown["scores"][1]["missing"] == [0]
    assert unknown["checkpoint"] == (200, {"missing": True}) != mine["checkpoint"]
    assert unknown["take"][1]["recipes"][0]["made"] is False
    assert [unknown[name] for name in EVENTS] == [{GONE}] * len(EVENTS)
    assert answers(stranger, say_of, digest) == unknown
    assert answers(visit(), say_of, digest, "why").items() <= unknown.items()


def test_a_visitors_other_tabs_and_cookies_name_the_text_and_a_part_of_them_does_not(visit, say_of):
    digest = brought(visit("d", "e"), say_of, "Two")
    data = {"run": 1, "model": "builtin", "recipes": [column(text=digest, order="faithful")], "ask": ASK}
    for cookies, opens in ((("d", "e"), True), (("e", "f", "d"), True), (("d",), False), (("e",), False), ((), False)):
        assert (GONE not in str(say_of(visit(*cookies), "why", **WHY, **data))) is opens, cookies


def test_a_text_that_two_brought_is_of_both(visit, say_of):
    first, second = visit("g"), visit("h")
    assert brought(first, say_of, "Three") == brought(second, say_of, "Three")
    digest = brought(visit(), say_of, "Three")  # and of who keeps no cookies
    data = {"run": 1, "model": "builtin", "recipes": [column(text=digest, order="faithful")], "ask": ASK}
    for client in (first, second, visit()):
        assert GONE not in str(say_of(client, "why", **WHY, **data))


def test_nobody_writes_who_asks_but_the_gate(served, visit, say_of):
    owner = visit("i")
    digest = brought(owner, say_of, "Four")
    told = written(visitors_of({b"cookie": owner.headers["cookie"].encode()})).decode()
    data = {"run": 1, "model": "builtin", "recipes": [column(text=digest, order="faithful")], "ask": ASK}
    with closing(Raw(served[1], **{HEADER.decode(): told})) as forger:
        assert GONE in str(say_of(forger, "why", **WHY, **data))


def test_whose_a_text_is_stays_known_when_it_made_room():
    texts, mine = KeptTexts(budget=10), frozenset({"mine"})
    digest = texts.put("한글")
    texts.owned.add(digest, mine)
    texts.put("x" * 100)
    assert not texts.holds(digest)
    assert texts.of(mine)(digest)  # what was made of it may be kept
    assert not texts.of(NOBODY)(digest)
    assert not texts.of(mine)(NOT_HERE)


def test_what_is_remembered_of_owners_has_bounds_and_what_is_used_stays(monkeypatch):
    monkeypatch.setattr(module, "MOST_OWNERS", 3)
    owned, one = Owned(2), frozenset({"one"})
    for thing in "abc":
        owned.add(thing, one)
    assert [owned.has(thing, one) for thing in "abc"] == [False, True, True]
    assert owned.has("b", one)
    owned.add("d", one)
    assert [owned.has(thing, one) for thing in "bcd"] == [True, False, True]
    for number in range(5):
        assert owned.has("b", one | {"more"})
        owned.add("x", frozenset({f"other {number}"}))
    assert owned.has("d", one)
    assert [owned.has("x", frozenset({f"other {number}"})) for number in range(5)] == [False] * 3 + [True] * 2


def test_strangers_who_brought_the_same_are_not_looked_through():
    class Owner(frozenset):
        compared = 0

        def __le__(self, other):
            Owner.compared += 1
            return super().__le__(other)

    owned, me = Owned(2), frozenset({"me", "later"})
    for number in range(500):
        owned.add("x", Owner({f"cookie {number}", "of every one"}))
    owned.add("x", Owner({"me"}))
    assert owned.has("x", me)
    assert Owner.compared == 1
    assert not owned.has("x", frozenset({"stranger"}))
    assert not owned.has("y", me)
    assert Owner.compared == 1


def test_of_what_is_forgotten_nothing_stays(monkeypatch):
    monkeypatch.setattr(module, "MOST_OWNERS", 3)
    owned = Owned(2)
    for number in range(40):
        owned.add(f"thing {number % 7}", frozenset({f"owner {number % 5}", "more"}))
    kept = {(thing, owner) for owner, things in owned._of.items() for thing in things}
    assert len(kept) <= 6
    assert {(thing, owner) for (thing, _), owners in owned._owners.items() for owner in owners} == kept
    assert all(owned._owners.values())
