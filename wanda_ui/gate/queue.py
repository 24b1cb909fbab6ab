"""Gradio's queue of events, which goes on whatever happens in it, and of which nobody has more than a share."""

import asyncio
import weakref
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from gradio.queueing import Event, Queue
from gradio.server_messages import EstimationMessage, ProcessCompletedMessage

from wanda_ui.faults import note
from wanda_ui.gate.refusal import RefusedError
from wanda_ui.gate.sessions import LISTENING, Mailbox, Mailboxes, Sessions
from wanda_ui.jobs import ENGINE
from wanda_ui.settings import Settings

ASKER = "wanda.asker"  # in a request's scope: the `Asker`, which the gate puts there
MOST_SESSIONS = 2000  # whose messages are kept, the latest, and all that have an event here
MOST_UNREAD = 200  # messages that wait for one visitor; whoever asks without listening would fill the memory
MOST_OF_ONE = 2  # events of one address of a kind of which one runs at a time
ENGINE_SHARE = 3  # a third of the engine's places, at most, are of one address
MOST_SERVED = 1000  # addresses whose last turn is known
PAUSE = 0.2  # seconds before a loop that failed goes on


@dataclass
class Asker:
    """Who asks for an event. who: by what shares are counted; files: real paths of those that the event names; unheard:
    what is said where nobody listened for it in time; refused: why it was not taken into the queue."""

    who: str = ""
    files: frozenset[str] = frozenset()
    unheard: str = ""
    refused: RefusedError | None = None


class LastingQueue(Queue):
    """The queue. Addresses take turns in it; what is said to a session that is not known is dropped."""

    def __init__(self, like: Queue, settings: Callable[[], Settings]) -> None:
        """like: Gradio's own queue, whose settings are taken over; settings: of the server."""
        super().__init__(
            like.live_updates,
            like.max_thread_count,
            like.update_intervals,
            like.max_size,
            like.blocks,
            like.default_concurrency_limit,
        )
        self.pending_messages_per_session = self._boxes = Mailboxes(MOST_SESSIONS, self._busy)
        self.pending_event_ids_session = Sessions()
        self.ANALYTICS_MAX_EVENTS = 1  # of which only the monitoring page, which is off, would tell
        self._settings = settings
        self._coming: Counter[tuple[str, str]] = Counter()  # events of whom, of which kind, on their way in
        self._served: OrderedDict[str, int] = OrderedDict()
        self._turn = 0
        self._ending: set[asyncio.Future[None]] = set()  # so that none is let go before it is done

    async def push(self, body: Any, request: Any, username: str | None) -> Any:
        """Take an event into the queue, as Gradio does, unless who asks has a share of it already."""
        asker: Asker = request.scope.get(ASKER) or Asker()
        self._boxes.sweep()  # what nobody will hear any more refuses nobody
        asker.refused = self.unread(asker.who, body.session_hash) or self._refusal(asker.who, body.fn_index)
        if asker.refused is not None:
            return False, asker.refused.key, "queue_full"
        coming = (asker.who, str(self.blocks.fns[body.fn_index].concurrency_id))
        self._coming[coming] += 1
        try:
            if body.session_hash not in self._boxes:
                self._boxes[body.session_hash] = Mailbox(asker.who)
            answer = await super().push(body, request, username)
            if answer[0]:
                asyncio.get_running_loop().call_later(LISTENING, self._end_unheard, str(answer[1]))
            return answer
        finally:
            self._coming[coming] -= 1
            self._coming += Counter()  # without those of whom nothing comes

    def _end_unheard(self, name: str) -> None:
        """End an event that nobody listens for: who asked lost the line before it could be told that they have gone."""
        event = self.event_ids_to_events.get(name)
        box = self._boxes.get(event.session_hash) if event is not None else None
        if event is not None and box is not None and box.unheard(LISTENING):
            # Whoever comes later than that would otherwise wait for its end for ever.
            late = ProcessCompletedMessage(output={"error": _asker(event).unheard}, success=False)
            self.send_message(event, late)
            self._ending.add(ending := asyncio.ensure_future(self.clean_events(event_id=name)))
            ending.add_done_callback(self._ending.discard)

    def unread(self, who: str, session: str) -> RefusedError | None:
        """Say why nothing is taken that a session of one who asks gets an answer for, where too many wait there."""
        box = self._boxes.get(session)
        if max(box.qsize() if box is not None else 0, self._boxes.unread(who)) <= MOST_UNREAD:
            return None
        return RefusedError(429, "unread", most=MOST_UNREAD)

    def compute_analytics_summary(self, records: Any) -> Any:
        """Sum nothing up of the events that were: Gradio would, after each of them, for its monitoring page."""
        return self.cached_event_analytics_summary

    def has_event(self, event: str, session: str) -> bool:
        """Whether an event of that session's waits or runs."""
        found = self.event_ids_to_events.get(event)
        return found is not None and found.session_hash == session

    def send_message(self, event: Event, event_message: Any) -> None:
        """Say something about an event to its session, if that is known. Places in the queue are not piled up."""
        box = self._boxes.get(event.session_hash)
        if box is not None and not (isinstance(event_message, EstimationMessage) and box.qsize()):
            super().send_message(event, event_message)

    def get_events(self) -> Any:
        """Take the next event: of those that wait, one of whoever's turn is longest ago."""
        for waiting in self.event_queue_per_concurrency_id.values():
            if len(waiting.queue) > 1:
                first = min(waiting.queue, key=lambda event: self._served.get(_who(event), 0))
                waiting.queue.remove(first)
                waiting.queue.insert(0, first)
        found = super().get_events()
        if found:
            who = _who(found[0][0])
            self._turn += 1
            self._served.pop(who, None)
            self._served[who] = self._turn
            while len(self._served) > MOST_SERVED:
                self._served.popitem(last=False)
        return found

    def process_events(self, events: Any, batch: bool, begin_time: float, fn: Any) -> Coroutine[Any, Any, None]:
        """Run events."""
        running = super().process_events(events, batch, begin_time, fn)
        weakref.finalize(running, self._free, events, begin_time, fn).atexit = False
        return running

    async def start_processing(self) -> None:
        """Begin one event after the other; the queue's loop."""
        await self._lasting(super().start_processing)

    async def start_progress_updates(self) -> None:
        """Pass on the progress of events; another loop of the queue."""
        await self._lasting(super().start_progress_updates)

    def files(self) -> set[str]:
        """Return the real paths of files that the events which wait or run were given."""
        return {path for event in self.event_ids_to_events.values() for path in _asker(event).files}

    def _busy(self) -> set[str]:
        """Return the sessions that have an event which waits or runs."""
        return {event.session_hash for event in self.event_ids_to_events.values()}

    def _refusal(self, who: str, number: int) -> RefusedError | None:
        """Say why an event is not taken. number: of the event."""
        settings, fn = self._settings(), self.blocks.fns[number]
        if not settings.events_each:
            return None
        mine = [event for event in self.event_ids_to_events.values() if _who(event) == who]
        alike = sum(event.concurrency_id == fn.concurrency_id for event in mine)
        coming = sum(count for (whose, _), count in self._coming.items() if whose == who)
        most = settings.events_each
        if len(mine) + coming >= most:
            return RefusedError(429, "share", most=most)
        if fn.concurrency_id == ENGINE["concurrency_id"]:
            most = min(most, -(-settings.jobs_waiting // ENGINE_SHARE))
        elif fn.concurrency_limit == 1:
            most = min(most, MOST_OF_ONE)
        return (
            RefusedError(429, "share", most=most) if alike + self._coming[who, str(fn.concurrency_id)] >= most else None
        )

    async def _lasting(self, loop: Callable[[], Awaitable[None]]) -> None:
        """Run a loop until the queue is closed, again where it fails."""
        while True:
            try:
                return await loop()
            except Exception as error:
                note("the queue", error)
                self.stopped = False
                await asyncio.sleep(PAUSE)

    def _free(self, events: list[Event], begin_time: float, fn: Any) -> None:
        """Give the place of events back that were cancelled before they began, which Gradio then never does."""
        if events not in self.active_jobs:
            return
        self.active_jobs[self.active_jobs.index(events)] = None
        waiting = self.event_queue_per_concurrency_id[events[0].concurrency_id]
        waiting.current_concurrency -= 1
        waiting.start_times_per_fn[fn].discard(begin_time)
        for event in events:
            self.event_ids_to_events.pop(event._id, None)


def _asker(event: Event) -> Asker:
    """Return who asked for an event."""
    asker: Asker | None = event.request.scope.get(ASKER)
    return asker or Asker()


def _who(event: Event) -> str:
    """Return by what an event's share is counted."""
    return _asker(event).who
