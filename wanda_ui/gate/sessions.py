"""What Gradio keeps of sessions, bounded so that nobody's open one goes for a stranger's."""

import asyncio
import time
from collections.abc import Callable
from copy import copy
from datetime import datetime
from typing import Any

from gradio.blocks import Blocks
from gradio.components import State
from gradio.state_holder import SessionState, StateHolder
from gradio.utils import LRUCache

LISTENING = 15.0  # seconds within which who listens asks for the next message
FORGOTTEN = 300.0  # seconds, after which messages are let go that nobody listened for
LOOKED_AFTER = 5.0  # seconds between two looks for them
KEPT_CLOSED = 3600  # seconds, that a closed page's state is kept


class Sessions(dict[str, set[str]]):
    """The events of each session that have not ended. Of sessions without any the latest stay, as many as Gradio keeps
    messages of; Gradio itself would keep them all."""

    MOST = 2000

    def __setitem__(self, session: str, events: set[str]) -> None:
        """Add a session, and let the oldest go that wait for nothing."""
        super().__setitem__(session, events)
        if len(self) > self.MOST:
            idle = [name for name, waiting in self.items() if not waiting and name != session]
            for name in idle[: len(self) - self.MOST]:
                del self[name]


class Mailbox(asyncio.Queue[Any]):
    """Messages that wait for a session. who: by what shares are counted."""

    def __init__(self, who: str = "") -> None:
        super().__init__()
        self.who, self.heard = who, time.monotonic()

    async def get(self) -> Any:
        """Take the next message, as whoever listens does again and again."""
        self.heard = time.monotonic()
        return await super().get()

    def unheard(self, seconds: float) -> bool:
        """Whether nobody has listened for so long."""
        return time.monotonic() - self.heard > seconds


class Mailboxes(LRUCache[str, Any]):
    """The mailboxes of the latest sessions; one with an event that waits or runs is never let go.

    busy: returns the sessions that have such an event.
    """

    def __init__(self, most: int, busy: Callable[[], set[str]]) -> None:
        super().__init__(most)
        self._busy, self._looked = busy, time.monotonic()

    def __setitem__(self, session: str, box: Any) -> None:
        """Add a mailbox, and let the oldest go that nothing will come for."""
        if session not in self and len(self) >= self.max_size:
            busy = self._busy()
            for name in [name for name in self if name not in busy][: len(self) + 1 - self.max_size]:
                del self[name]
        super(LRUCache, self).__setitem__(session, box)
        self.move_to_end(session)

    def unread(self, who: str) -> int:
        """Return how many messages wait for sessions of one who does not listen."""
        return sum(box.qsize() for box in self.values() if box.who == who and box.qsize() and box.unheard(LISTENING))

    def sweep(self) -> None:
        """Let messages go that nobody listened for in a long time."""
        now = time.monotonic()
        if now - self._looked < LOOKED_AFTER:
            return
        self._looked, busy = now, self._busy()
        for name in [name for name, box in self.items() if box.qsize() and box.unheard(FORGOTTEN)]:
            if name not in busy:
                del self[name]


class LightState(SessionState):
    """What a visitor's page holds by itself, without a copy of every component's properties: Gradio keeps them for
    links that reopen a page as it is, of which there are none here, and takes a tenth of a second to gather them."""

    def __init__(self, blocks: Blocks) -> None:
        self.blocks_config = copy(blocks.default_config)
        self.config_values: dict[int, Any] = {}
        self.state_data: dict[int, Any] = {}
        self._state_ttl: dict[int, Any] = {}
        self.is_closed = False
        self.STATE_TTL_WHEN_CLOSED = KEPT_CLOSED

    def __setitem__(self, key: int, value: Any) -> None:
        """Keep a value of a state, or a component as it is on this page."""
        block = self.blocks_config.blocks.get(key)
        if isinstance(block, State):
            self._state_ttl[key] = (block.time_to_live, datetime.now())
            self.state_data[key] = value
        else:
            self.blocks_config.blocks[key] = value

    def _update_config(self, key: int) -> None:
        """Keep nothing."""

    def _update_value_in_config(self, key: int, value: Any) -> None:
        """Keep nothing."""


class LightStates(StateHolder):
    """The states of all visitors' pages."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def __getitem__(self, session_id: str) -> SessionState:
        """Return a session's, which begins if it is new."""
        if session_id not in self.session_data:
            self.session_data[session_id] = LightState(self.blocks)
        self.update(session_id)
        self.time_last_used[session_id] = datetime.now()
        return self.session_data[session_id]
