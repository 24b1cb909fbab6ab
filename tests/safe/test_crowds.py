"""Fifty visitors at once: each gets what it would get alone, none gets another's, and the page answers meanwhile."""

import hashlib
import json
import random
import statistics
import threading
import time
from contextlib import closing

import pytest
from engine_room import READING, looked, server, serving, spoken, without_other_models
from raw_requests import Raw, is_ended, told_in
from view_events import ASK, column

from wanda_core.recipe import PruneSpec
from wanda_ui.engine.look import Wanted
from wanda_ui.engine.recipe import Asked, Recipe
from wanda_ui.settings import Settings

LINE = "Crowds"
SESSIONS = {True: 50, False: 12}
MOST_SECONDS = 0.5
BETWEEN = {True: 0.05, False: 0.5}  # seconds between looks at the page, each of which takes from the visitors' time
METHODS = ("wanda", "magnitude", "ria", "random")


@pytest.fixture(scope="module")
def crowd(tiny_llama, tmp_path_factory):
    """A server of a tiny model that takes many jobs, its page and its address."""

    with without_other_models() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(tmp_path_factory.mktemp("uploads")))
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
    """Different prompts; every second recipe is that of another too."""
    draw, made = random.Random(3), []
    for number in range(count):
        spec = PruneSpec(draw.choice(METHODS), round(draw.uniform(0.2, 0.8), 2), order="one-shot")
        recipe = made[-1][0] if number % 2 else Recipe(spec, READING)
        made.append((recipe, Asked(f"Visitor {number} asks of stone {draw.random()}", max_new_tokens=6, chat=False)))
    return made


def test_each_of_fifty_gets_what_it_would_get_alone(crowd, tiny_llama, figures, whole):
    state, count = crowd[0], SESSIONS[whole]
    before, asked = fingerprint(tiny_llama), wishes(count)
    other_server = server(tiny_llama)
    alone = [told_of(looked(other_server, recipe, question)[1]) for recipe, question in asked]
    got: dict[int, object] = {}

    def visit(number):
        try:  # as the page does: first the answer, then what is left to measure, which others may wait for too
            answered = spoken(state.look_steps("builtin", *asked[number], Wanted(True, False)))[1]
            whole = looked(state, *asked[number])[1]
            got[number] = told_of(whole) if answered.seen.answer == whole.seen.answer else (answered, whole)
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


def test_no_session_sees_anothers_and_the_page_answers_meanwhile(crowd, figures, whole):
    (_, page, address), count = crowd, SESSIONS[whole]
    number = next(number for number, event in page.fns.items() if event.name == "look")
    heard: dict[int, list] = {}
    done = threading.Event()

    def visit(mine):
        raw = Raw(address, **browser_of(mine))
        recipe = column(method=METHODS[mine % 4], at=40 + mine % 20)
        ask = {**ASK, "prompt": marker(mine), "length": 4, "chat": False}
        data = {"run": 1, "model": "builtin", "recipes": [recipe], "ask": ask}
        reply = raw.join(f"visitor{mine}", number, [], event_data=data)
        assert reply.status == 200, reply
        heard[mine] = raw.messages(f"visitor{mine}", 300)
        raw.close()

    waits: list[float] = []

    def look():
        raw = Raw(address)
        while not done.wait(BETWEEN[whole]):
            begun = time.monotonic()
            assert raw.send("GET", "/").status == 200
            waits.append(time.monotonic() - begun)
        raw.close()

    watcher = threading.Thread(target=look)
    visitors = [threading.Thread(target=visit, args=(mine,)) for mine in range(count)]
    for thread in (watcher, *visitors):
        thread.start()
    for visitor in visitors:
        visitor.join(300)
    done.set()
    watcher.join()
    assert len(heard) == count
    assert all(is_ended(messages[-1]) for messages in heard.values())
    strangers = [
        (mine, words) for mine, messages in heard.items() for words in markers_in(messages) if words != marker(mine)
    ]
    assert not strangers
    figures.exactly(LINE, f"sessions, of {count}, that heard another's prompt", len(strangers), 0)
    late = statistics.quantiles(waits, n=20)[-1]
    with closing(Raw(address)) as raw:
        # Who has no cookies has nothing else that could tell him from others, so that is the harder case.
        told = attacked(raw, page, [1, *range(0, count, 10)] if whole else [1], whole)
    assert not told, told
    figures.exactly(LINE, "answers with a marker to who knows the session hash", len(told), 0)
    if whole:  # on a machine that does nothing else
        figures.at_most(LINE, f"the page while {count} wait, 95 of 100 ({len(waits)} looks)", late, MOST_SECONDS, "s")


def test_who_knows_a_session_or_a_files_path_gets_nothing_of_it(crowd, figures):
    _, page, address = crowd
    numbers = {event.name: number for number, event in page.fns.items() if event.collects_event_data}
    secret = b"The sky of one visitor is blue. " * 200
    with closing(Raw(address, **browser_of(91))) as owner:
        [path] = json.loads(owner.upload(("mine.txt", secret)).body)
        brought = {"event_data": {"path": path, "name": "mine.txt"}}
        assert owner.join("owner", numbers["bring_text"], [], **brought).status == 200
        assert "digest" in json.dumps(owner.messages("owner"))
        taken = []
        for other, strange in (("none", {}), ("another", browser_of(93))):
            with closing(Raw(address, **strange)) as stranger:
                for way in ("/gradio_api/file={}", "/gradio_api/file=//{}", "/gradio_api/file={}/.", "/file={}"):
                    taken += [way] * (secret[:20] in stranger.send("GET", way.format(path)).body)
                taken += ["path"] * (stranger.join(other, numbers["bring_text"], [], **brought).status != 400)
                gone = {"event_data": {"path": path + "x", "name": "mine.txt"}}
                assert stranger.join(other, numbers["bring_text"], [], **gone).status == 400, "it tells what is there"
                taken += ["session"] * (stranger.join("owner", numbers["look"], [], event_data={}).status != 403)
                for ask in ("queue/data?session_hash=owner", "heartbeat/owner"):
                    taken += [ask] * (stranger.send("GET", f"/gradio_api/{ask}").status == 200)
                ended = {"event_id": "e", "session_hash": "owner", "fn_index": numbers["look"]}
                taken += ["cancel"] * (stranger.post("/gradio_api/cancel", ended).status != 403)
        assert owner.join("owner", numbers["bring_text"], [], **brought).status == 200, "its own visitor is kept out"
        owner.messages("owner")
    assert not taken, taken
    figures.exactly(LINE, "sessions and uploads that opened to who knows their name", len(taken), 0)


def test_a_browser_is_given_its_cookie_once(crowd):
    with closing(Raw(crowd[2])) as raw:
        first, second = (raw.send("GET", "/").headers["set-cookie"] for _ in range(2))
        assert first != second
        assert first.endswith("; Path=/; HttpOnly; SameSite=Lax")
        assert "set-cookie" not in raw.send("GET", "/", headers={"cookie": first.partition(";")[0]}).headers


def browser_of(mine: int) -> dict[str, str]:
    """Headers of a visitor: those with odd numbers keep cookies."""
    return {"cookie": f"wanda_visitor=visitor-{mine:016d}"} if mine % 2 else {}


def marker(mine: int) -> str:
    return f"marker-{mine:02d}-of-one-visitor"


def markers_in(messages) -> set[str]:
    text = json.dumps(messages)
    return {marker(mine) for mine in range(100) if marker(mine) in text}


def attacked(raw: Raw, page, victims, whole: bool) -> list[str]:
    """Ask for everything there is in the name of others. -> what told of a marker

    whole: whether by each event, else by one of those that do the same with the same controls.
    """
    told, done = [], set()
    for mine in victims:
        session = f"visitor{mine}"
        for number, event in page.fns.items():
            same = (mine, event.name, *(control._id for control in (*event.inputs, *event.outputs)))
            if event.fn is None or (same in done and not whole):
                continue
            done.add(same)
            data = [None if control.stateful else control.value for control in event.inputs]
            reply = raw.join(session, number, data)
            text = reply.body.decode("utf-8", "replace")
            if reply.status == 200:
                text += " ".join(told_in(raw.messages(session, 120)))
            told += [f"{event.name}: {text[:200]}"] * ("of-one-visitor" in text)
        for path in (
            f"/gradio_api/heartbeat/{session}",
            f"/gradio_api/queue/status?session_hash={session}",
            "/config",
            "/",
        ):
            with closing(raw.connection()) as connection:
                connection.request("GET", path)
                answer = connection.getresponse()
                body = answer.read(10**6) if "event-stream" not in (answer.getheader("content-type") or "") else b""
            told += [path] * (b"of-one-visitor" in body)
    return told
