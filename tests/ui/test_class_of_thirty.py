"""A class of thirty on one laptop: pages open, then everybody answers steps 1 to 6 by their defaults, in public limits.

Each is a client of its own address, as devices in a network are, and speaks what a browser speaks: it asks for an event
through the queue and listens to its messages.
"""

import http.client
import re
import sys
import threading
import time
from contextlib import closing

import pytest
from engine_room import serving
from raw_requests import Raw, is_ended

from wanda_ui.app_state import AppState
from wanda_ui.lesson.stored import lesson
from wanda_ui.lesson.wording import number
from wanda_ui.settings import Settings

pytestmark = [
    pytest.mark.alone,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux has more loopback addresses than one"),
]
PUPILS, SECONDS, STEPS = 30, 60.0, 6


class Pupil(Raw):
    """A client that comes from an address of its own."""

    def __init__(self, address, place):
        self.own = f"127.0.1.{place}"
        super().__init__(address)

    def connection(self):
        return http.client.HTTPConnection(
            self.address.hostname, self.address.port, timeout=SECONDS, source_address=(self.own, 0)
        )


def see_event(page, step):
    """-> number of the event of a step's See, its inputs in order, and the first guess."""
    for key, event in page.fns.items():
        trigger = [page.blocks[block].elem_id for block, kind in event.targets if kind == "click"]
        if trigger == [f"lesson-{step}-see"]:
            return key, event.inputs
    raise LookupError(step)


def values_of(inputs, step):
    """What a browser sends: the first guess, every other control as it stands."""
    sent = []
    for control in inputs:
        name = getattr(control, "elem_id", None) or ""
        state = type(control).__name__ == "State"
        sent.append(None if state else control.choices[0][1] if name == f"lesson-{step}-guess" else control.value)
    return sent


def test_thirty_answer_steps_one_to_six_within_a_minute():
    settings = Settings.from_environment({"WANDA_PUBLIC": "1"})
    expected = number(lesson()["lean"]["zero"]["all"])
    with serving(AppState(settings)) as (page, address):
        events = [see_event(page, step) for step in range(1, STEPS + 1)]
        opened, start = threading.Barrier(PUPILS + 1), threading.Barrier(PUPILS + 1)
        found, failed = {}, []

        def learn(place):
            try:
                with closing(Pupil(address, place)) as pupil:
                    assert pupil.send("GET", "/?lesson=6", headers={"accept-encoding": "gzip"}).status == 200
                    opened.wait(120)
                    start.wait(120)
                    for step, (event, inputs) in enumerate(events, 1):
                        session = f"pupil{place}x{step}"
                        reply = pupil.join(session, event, values_of(inputs, step))
                        assert reply.status == 200, reply.sentence
                        last = pupil.outcome(session)
                        assert is_ended(last), last
                    found[place] = str(last["output"])
            except BaseException as error:
                failed.append(f"{place}: {type(error).__name__} {error}")
                opened.abort()
                start.abort()

        pupils = [threading.Thread(target=learn, args=(place,)) for place in range(1, PUPILS + 1)]
        for pupil in pupils:
            pupil.start()
        opened.wait(120)
        began = time.monotonic()
        start.wait(120)
        for pupil in pupils:
            pupil.join()
        seconds = time.monotonic() - began
    assert failed == []
    assert len(found) == PUPILS
    assert all(expected in re.sub(r"<[^>]+>", "", told) for told in found.values())
    print(f"{PUPILS} pupils, steps 1 to {STEPS}: {seconds:.1f} s")
    assert seconds < SECONDS
