"""The queue of events: nobody's share of it is all of it, nothing that happens to one event ends it, all take turns."""

import asyncio
import time
from contextlib import suppress
from types import SimpleNamespace

import gradio as gr
import pytest

from wanda_ui.gate import queue as module
from wanda_ui.gate.guarded import GuardedPage
from wanda_ui.gate.queue import ASKER, MOST_OF_ONE, MOST_UNREAD, Asker
from wanda_ui.gate.sessions import FORGOTTEN, LISTENING, LOOKED_AFTER, LightStates, Mailbox, Mailboxes
from wanda_ui.settings import Settings

PLAIN, ENGINE, COSTLY = 0, 1, 2  # the page's events


def page_of(settings):
    async def build():  # without a loop Gradio would make some of its own and leave them open
        with GuardedPage(analytics_enabled=False) as page:
            box = gr.Textbox("", label="Box")
            gr.Button().click(lambda text: text, box, box)
            gr.Button().click(lambda text: text, box, box, concurrency_id="engine", concurrency_limit=None)
            gr.Button().click(lambda text: text, box, box, concurrency_limit=1)
        page.queue(max_size=30, default_concurrency_limit=4)
        page.guard(settings)
        page._queue.active_jobs = [None] * 8
        return page

    return asyncio.run(build())


@pytest.fixture
def page():
    return page_of(Settings(events_each=4, jobs_waiting=6))


async def asked(page, who, event=PLAIN, session="me", files=()):
    """Ask for an event. -> the key of the words it is refused with, None where it waits"""
    asker = Asker(who, frozenset(files))
    body = SimpleNamespace(fn_index=event, session_hash=session, event_id=None, data=["text"], event_data=None)
    taken, _, state = await page._queue.push(body, SimpleNamespace(scope={ASKER: asker}), None)
    assert taken == (state == "success") == (asker.refused is None)
    return asker.refused and asker.refused.key


def test_files_of_events_are_known_until_these_have_ended_and_nobody_looks_into_their_values(page):
    async def ask():
        for who, files in (("one", ["/a"]), ("other", ["/a", "/b"]), ("third", [])):
            assert await asked(page, who, files=files) is None
        events = page._queue.event_ids_to_events
        for event in events.values():
            event.data = None
        assert page._queue.files() == {"/a", "/b"}
        await page._queue.remove_from_queue(list(events)[1])
        assert page._queue.files() == {"/a"}

    asyncio.run(ask())


def test_nobody_has_more_than_a_share_of_the_places(page):
    async def ask():
        assert [await asked(page, "one") for _ in range(6)] == [None] * 4 + ["share"] * 2
        assert await asked(page, "other") is None
        engine = [await asked(page, "third", ENGINE) for _ in range(3)]
        assert engine == [None, None, "share"]  # a third of six
        assert [await asked(page, "fourth", COSTLY) for _ in range(3)] == [None] * MOST_OF_ONE + ["share"]
        [first] = [
            event for event in page._queue.event_ids_to_events.values() if event.request.scope[ASKER].who == "other"
        ]
        await page._queue.remove_from_queue(first._id)
        assert [await asked(page, "other") for _ in range(5)][3:] == [None, "share"]

    asyncio.run(ask())


def test_shares_hold_for_what_is_asked_for_at_once_and_there_are_none_on_ones_own_machine(page):
    async def at_once(page, *kinds):
        async with page._queue.pending_message_lock:  # where an event that comes in may have to wait
            asking = [asyncio.ensure_future(asked(page, "one", kind)) for kind in kinds]
            await asyncio.sleep(0)
        return await asyncio.gather(*asking)

    limits = Settings(events_each=4, jobs_waiting=6)
    assert asyncio.run(at_once(page, *[PLAIN] * 20)).count(None) == 4
    assert asyncio.run(at_once(page_of(limits), *[ENGINE] * 20)).count(None) == 2
    assert asyncio.run(at_once(page_of(limits), *[COSTLY] * 20)).count(None) == MOST_OF_ONE
    assert asyncio.run(at_once(page_of(limits), PLAIN, PLAIN, COSTLY)) == [None] * 3  # each kind by itself
    assert asyncio.run(at_once(page_of(Settings()), *[PLAIN] * 20)).count(None) == 20


def test_addresses_take_turns(page):
    async def served():
        for session in ("a1", "a2", "a3"):
            await asked(page, "a", session=session)
        await asked(page, "b", session="b1")
        await asked(page, "c", session="c1")
        return [page._queue.get_events()[0][0].session_hash for _ in range(5)]

    assert asyncio.run(served()) == ["a1", "b1", "c1", "a2", "a3"]


def test_the_mailbox_of_an_event_that_waits_stays_and_others_go(page, monkeypatch):
    queue = page._queue
    queue.pending_messages_per_session.max_size = 3

    async def ask():
        await asked(page, "one", session="waits")
        for number in range(10):
            await asked(page, f"of {number}", session=f"idle{number}")
            last = next(reversed(queue.event_ids_to_events))
            await queue.remove_from_queue(last)
        assert list(queue.pending_messages_per_session) == ["waits", "idle8", "idle9"]

    asyncio.run(ask())


def test_what_is_said_to_an_unknown_session_is_dropped_and_places_are_not_piled_up(page):
    queue = page._queue

    async def ask():
        for number in range(4):
            await asked(page, f"of {number}", session=f"s{number}")
        for _ in range(50):
            queue.broadcast_estimations(next(iter(queue.event_queue_per_concurrency_id)))
        assert [box.qsize() for box in queue.pending_messages_per_session.values()] == [1] * 4
        queue.pending_messages_per_session.clear()
        queue.broadcast_estimations(next(iter(queue.event_queue_per_concurrency_id)))

    asyncio.run(ask())


def test_a_loop_that_fails_goes_on_and_one_line_says_so(page, monkeypatch, caplog):
    queue, seen = page._queue, []
    monkeypatch.setattr(module, "PAUSE", 0.0)

    def take():
        seen.append(queue.stopped)
        if len(seen) < 3:
            raise KeyError("a session")
        queue.close()

    monkeypatch.setattr(queue, "get_events", take)

    async def run():
        await asked(page, "one")
        await asyncio.wait_for(queue.start_processing(), 5)

    asyncio.run(run())
    assert seen == [False] * 3
    assert len(caplog.records) == 2
    assert queue.stopped


def test_an_event_that_is_cancelled_before_it_begins_gives_its_place_back(page):
    queue = page._queue

    async def run():
        await asked(page, "one", COSTLY)
        events, batch, concurrency = queue.get_events()
        queue.active_jobs[0] = events
        queue.event_queue_per_concurrency_id[concurrency].current_concurrency += 1
        queue.event_queue_per_concurrency_id[concurrency].start_times_per_fn[events[0].fn].add(1.0)
        task = asyncio.ensure_future(queue.process_events(events, batch, 1.0, events[0].fn))
        task.cancel()
        await asyncio.wait([task])
        del task
        return queue.event_queue_per_concurrency_id[concurrency]

    waiting = asyncio.run(run())
    assert waiting.current_concurrency == 0
    assert queue.active_jobs == [None] * 8
    assert queue.event_ids_to_events == {}


def test_whoever_asks_without_listening_is_told_and_then_forgotten(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    boxes = Mailboxes(10, lambda: {"busy"})
    for name, who in (("mine", "me"), ("busy", "me"), ("heard", "me"), ("other", "you")):
        boxes[name] = Mailbox(who)
        for _ in range(MOST_UNREAD):
            boxes[name].put_nowait("a message")
    assert boxes.unread("me") == 0  # they may be about to listen
    now[0] = LISTENING + 1
    asyncio.run(boxes["heard"].get())
    assert (boxes.unread("me"), boxes.unread("you")) == (2 * MOST_UNREAD, MOST_UNREAD)
    now[0] = FORGOTTEN + LOOKED_AFTER
    boxes.sweep()
    assert list(boxes) == ["busy", "heard"]


def test_a_new_visitors_state_holds_no_copy_of_the_page(page):
    states = LightStates()
    states.set_blocks(page)
    state = states["new"]
    assert states["new"] is state
    assert list(state.components) == []
    [box] = [block for block in page.blocks.values() if isinstance(block, gr.Textbox)]
    assert state[box._id] is box
    changed = gr.Textbox("other")
    state[box._id] = changed
    state._update_value_in_config(box._id, "other")
    assert state[box._id] is changed
    assert page.blocks[box._id] is box
    assert list(state.components) == []


def test_who_does_not_listen_is_told_so_wherever_an_answer_would_be_added(page):
    async def ask():
        assert await asked(page, "one") is None
        for _ in range(MOST_UNREAD + 1):
            page._queue._boxes["me"].put_nowait("message")
        assert await asked(page, "one") == "unread"
        assert page._queue.unread("one", "me").key == "unread"
        assert page._queue.unread("one", "other") is None  # who listens there, as far as is known
        page._queue._boxes["me"].heard -= LISTENING + 1
        assert page._queue.unread("one", "other").key == "unread"
        assert page._queue.unread("two", "other") is None
        for box in page._queue._boxes.values():
            box.heard -= FORGOTTEN
        page._queue._boxes._looked -= LOOKED_AFTER
        page._queue.event_ids_to_events.clear()
        assert await asked(page, "one", session="later") is None, "what nobody will hear any more refuses nobody"

    asyncio.run(ask())


@pytest.mark.parametrize("listens", [True, False])
def test_an_event_that_nobody_ever_listens_for_is_ended(page, monkeypatch, listens):
    monkeypatch.setattr(module, "LISTENING", 0.2)

    async def ask():
        assert await asked(page, "one", session="mine") is None
        [name] = page._queue.event_ids_to_events
        for _ in range(5):
            if listens:
                with suppress(TimeoutError):
                    await asyncio.wait_for(page._queue._boxes["mine"].get(), 0.05)
            await asyncio.sleep(0.08)
        assert page._queue.has_event(name, "mine") == listens
        if not listens:  # whoever comes later hears its end
            said = [page._queue._boxes["mine"].get_nowait() for _ in range(page._queue._boxes["mine"].qsize())]
            assert (said[-1].msg, said[-1].success, said[-1].event_id) == ("process_completed", False, name)
            assert said[-1].output == {"error": ""}, "the gate puts the words there"

    asyncio.run(ask())


def test_an_event_is_of_its_session_alone_until_it_ends(page):
    async def ask():
        assert await asked(page, "one", session="mine") is None
        [name] = page._queue.event_ids_to_events
        assert page._queue.has_event(name, "mine")
        assert not page._queue.has_event(name, "other")
        assert not page._queue.has_event("other", "mine")
        await page._queue.remove_from_queue(name)
        assert not page._queue.has_event(name, "mine")

    asyncio.run(ask())


def test_nothing_is_summed_up_of_events_that_were(page, monkeypatch):
    monkeypatch.setattr(page._queue, "_get_df", lambda records: pytest.fail("a table is made"))

    async def ask():
        for who in ("one", "two", "three"):
            assert await asked(page, who) is None
        assert len(page._queue.event_analytics) == 1
        page._queue.compute_analytics_summary(list(page._queue.event_analytics.values()))

    asyncio.run(ask())
