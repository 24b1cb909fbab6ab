"""What tests of the view's events share: what it sends when nothing was touched, and its events without a browser."""

import asyncio
import threading
import time
from types import SimpleNamespace

import pytest

from wanda_core.progress import Progress
from wanda_ui import page as whole_page
from wanda_ui.language import ENGLISH

WINDOW = 128  # tokens; the tiny model reads no more than 256
SOON = 60  # seconds
CANCELLED = ENGLISH("view.cancelled")

RECIPE = {
    "method": "wanda",
    "pattern": "unstructured",
    "order": "default",
    "group": "default",
    "allocation": "default",
    "update": "default",
    "score": "default",
    "zeros": "default",
    "text": "",
    "samples": 16,
    "seq_len": 256,
    "seed": 0,
}
COLUMN = {**RECIPE, "id": 0, "key": "wanda", "at": 50}
ASK = {"prompt": "The sky is", "length": 48, "temperature": 0, "seed": 0, "chat": True}
DATA = {"run": 1, "model": "builtin", "recipes": [COLUMN], "ask": ASK}
PATTERNED = {"pattern": "2:4", "order": "faithful"}
WHY = {"run": 1, "model": "builtin", "recipes": [COLUMN], "ask": ASK, "tokens": [1, 2, 3], "index": 2, "text": " blue"}
WHY["rest"] = " sky"


def column(number=0, **changes):
    """-> a recipe as the view sends it, on two short windows."""
    return {**COLUMN, "samples": 2, "seq_len": 64, "id": number, "key": f"recipe {number}", **changes}


def event(*columns, model="tiny", run=1, length=12, **more):
    """-> an event of the view, and what it carries. more: of the prompt where it has such a setting, else beside it."""
    settings = {name: more.pop(name) for name in list(more) if name in ASK}
    data = {"run": run, "model": model, "recipes": list(columns), "ask": {**ASK, "length": length, **settings}, **more}
    return SimpleNamespace(_data=data)


def visitor(name="visitor", language="en"):
    """-> the request of an event."""
    return SimpleNamespace(session_hash=name, headers={}, query_params={"lang": language})


def built_page(state):
    """The page, built while an event loop runs: Gradio would else make loops of its own and leave them open."""

    async def build():
        return whole_page.build(state)

    return asyncio.run(build())


def view_over(state):
    """-> the view over a state. The page's other tabs and its queue take seven times as long, and it needs neither."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(whole_page, "TABS", {"compare": whole_page.TABS["compare"]})
        patch.setattr(whole_page.GuardedPage, "queue", lambda page, **limits: page)
        return view_of(built_page(state))


def view_of(page):
    """-> the view of a page, whose methods are its events."""
    return next(event.fn.__wrapped__.__self__ for event in page.fns.values() if event.name == "look")


def told(view, updates, kind):
    """-> the messages of a kind among an event's updates, without their numbers."""
    messages = [update[view.view][kind] for update in updates if kind in update.get(view.view, {})]
    numbers = [message["number"] for message in messages]
    assert numbers == sorted(set(numbers))  # the browser takes a number for another message
    return [{name: value for name, value in message.items() if name != "number"} for message in messages]


def looked(view, *columns, who="visitor", **more):
    """Look to the end. -> the messages, and the updates."""
    updates = list(view.look(visitor(who), event(*columns, **more)))
    return told(view, updates, "run"), updates


class Held:
    """Prunings, which are counted, and which go on when they are let. prune: makes a variant."""

    def __init__(self, prune):
        self.prune, self.specs = prune, []
        self.began, self.go = threading.Event(), threading.Event()
        self.go.set()

    def __call__(self, lm, how):
        self.specs.append(how.spec)
        self.began.set()
        while not self.go.wait(0.01):
            yield Progress("pruning", 0, 1, "blocks")
        return (yield from self.prune(lm, how))


class Visit(threading.Thread):
    """A long event in a thread of its own; the messages of its kind as they come."""

    def __init__(self, view, updates, kind="run"):
        super().__init__(daemon=True)
        self.view, self.updates, self.kind = view, updates, kind
        self.messages = []
        self.start()

    def run(self):
        for update in self.updates:
            self.messages += told(self.view, [update], self.kind)

    def ends(self, seconds=SOON):
        self.join(seconds)
        assert not self.is_alive()
        return self.messages[-1]


def until(condition, seconds=SOON):
    """Wait for something. -> the seconds that took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds
        time.sleep(0.01)
    return time.monotonic() - began
