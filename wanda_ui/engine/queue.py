"""One queue, one thread: every job that runs a model waits here, in order of arrival, and runs here; a request of many
long jobs lets others go between them.

A visitor's event calls `Engine.run`, a generator in the event's own thread. It submits the job, yields how many are
before it, then the job's own progress, and returns its result; closing it takes the job out of the queue, or ends it
between two steps or two of a model's modules. The job itself, a generator too, runs in the engine's thread alone: so
jobs cannot overtake one another, and all that models compute comes from one arena of the C library's memory, which is
given back after each job.
What is drawn from weights alone is not run here.
"""

import atexit
import threading
import time
import traceback
from collections.abc import Callable, Generator, Hashable, Iterator
from contextlib import contextmanager
from contextvars import Context, ContextVar, copy_context
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from wanda_core.errors import WandaError
from wanda_core.machine import threads
from wanda_core.machine.process import release_freed_memory
from wanda_core.progress import GivenUpError, Progress, end_when
from wanda_ui.engine.durations import Durations
from wanda_ui.engine.leaving import ended_between_modules
from wanda_ui.faults import note

T = TypeVar("T")
Run = Generator[Any, None, T]  # yields progress, or what its event shows while it runs

MOST_CLAIMS = 150  # events that run or wait for jobs at once; each holds one of the page's threads
PACE = 0.1  # seconds between two steps of one stage that wake their event: waking it takes from the job's own time
TURN = 60.0  # seconds of one request's jobs, after which its next goes behind all that wait
MOST_REQUESTS = 1000  # whose seconds are known
POLL = 0.2  # seconds after which an event gets something to yield: only between two yields can it be closed
_arrival: ContextVar[int | None] = ContextVar("arrival", default=None)


class BusyError(WandaError):
    """The queue is full."""


@contextmanager
def arrived(number: int | None) -> Iterator[None]:
    """Context manager: what is submitted inside arrived as that request; None: now."""
    token = _arrival.set(number)
    try:
        yield
    finally:
        _arrival.reset(token)


@dataclass(eq=False)
class _Task(Generic[T]):
    """A job in the queue, shared by the events that asked for it and the engine's thread, under the engine's lock.

    start: begins the job; arrival: orders the queue; kind: of jobs that take alike long; quiet: whether others go
    first; shared: what tells that two events ask for the same job; claims: how many do; context: of the event that
    asked first, by which a GPU is lent to its visitor. steps: the job once it has begun, kept by a quiet one that was
    interrupted; news: what it yielded last.
    """

    start: Callable[[], Run[T]]
    arrival: tuple[int, int]
    kind: tuple[Hashable, ...]
    quiet: bool
    shared: Hashable
    request: int | None
    claims: int = 1
    context: Context = field(default_factory=copy_context)
    steps: Run[T] | None = None
    ran: float = 0.0  # seconds, of the times it ran before it was interrupted
    began: float | None = None  # when it last began or went on, None while it waits
    news: Any = None
    ended: bool = False
    result: T | None = None
    error: BaseException | None = None

    @property
    def spent(self) -> float:
        """Seconds that it ran so far."""
        return self.ran + (time.monotonic() - self.began if self.began is not None else 0.0)

    @property
    def given_up(self) -> bool:
        """Whether nobody wants its result any more."""
        return not self.claims


@dataclass(eq=False)
class Engine:
    """The queue and its thread, which begins with the first job. most_waiting: jobs that may wait at once."""

    most_waiting: int = 20
    durations: Durations = field(default_factory=Durations)
    _waiting: list[_Task[Any]] = field(default_factory=list)
    _running: _Task[Any] | None = None
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _arrived: int = 0
    _claims: int = 0
    _present: set[int] = field(default_factory=set)
    _taken: dict[int, float] = field(default_factory=dict)  # seconds of each request's jobs so far
    _closed: bool = False
    _thread: threading.Thread | None = None

    def run(
        self, start: Callable[[], Run[T]], kind: tuple[Hashable, ...], quiet: bool = False, shared: Hashable = None
    ) -> Run[T]:
        """Run a job in its turn and return its result.

        start: begins the job, in the engine's thread; kind: `(what, model, …)`, of jobs that take alike long; quiet:
        for what nobody asked for, such as reading a model that was just opened; it is interrupted between two steps
        for anybody else's job; shared: of a job that several may ask for at once, it runs once for all of them, until
        the last has gone. Yields `Progress` of stage `waiting` until its turn, then what the job yields.
        Raises BusyError when the queue is full, and whatever the job raises.
        """
        task = self._claim(start, kind, quiet, shared)
        try:
            shown: Any = None
            while True:
                with self._changed:
                    if not task.ended and (task.news is shown or task.news is None):
                        self._changed.wait(POLL)
                    if task.ended:
                        break
                    shown = task.news
                    place = self._place(task) if task.steps is None or shown is None else None
                yield shown if place is None else place
            if task.error is not None:
                raise task.error
            return task.result  # type: ignore[return-value] # it ended without an error
        finally:
            self._withdraw(task)

    @contextmanager
    def present(self, request: int | None) -> Iterator[None]:
        """Context manager: a request that asks for several jobs, one after the other, counts as one that is here."""
        with self._changed:
            if request is not None:
                self._present.add(request)
        try:
            yield
        finally:
            with self._changed:
                self._present.discard(-1 if request is None else request)

    @property
    def waiting(self) -> int:
        """Number of jobs that wait, quiet ones left out."""
        with self._changed:
            return sum(not task.quiet for task in self._waiting)

    @property
    def idle(self) -> bool:
        """Whether nothing runs or waits."""
        with self._changed:
            return self._running is None and not self._waiting

    def settle(self, seconds: float = 60.0) -> bool:
        """Wait until nothing runs or waits; whether that came about in time."""
        with self._changed:
            return self._changed.wait_for(lambda: self._running is None and not self._waiting, seconds)

    def close(self) -> None:
        """End the job that runs, let the others go, and end the thread. Nothing can be run then."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            thread = self._thread
        if thread is not None:
            atexit.unregister(self.close)
            thread.join()

    def _claim(
        self, start: Callable[[], Run[T]], kind: tuple[Hashable, ...], quiet: bool, shared: Hashable
    ) -> _Task[T]:
        """Put a job into the queue, or join one that is there. The arguments are those of `run`."""
        with self._changed:
            if self._closed:
                raise BusyError("the server is closing and takes no more jobs; start it again")
            self._arrived += 1
            came = _arrival.get()
            # What comes without a request's number comes last.
            last = max((task.arrival[0] for task in self._waiting), default=0)
            arrival = (last if came is None else max(last, came) if self._had_its_turn(came) else came, self._arrived)
            if self._claims >= MOST_CLAIMS:
                raise BusyError(self._full(MOST_CLAIMS))
            tasks: list[_Task[Any]] = [*self._waiting, *([self._running] if self._running is not None else [])]
            for task in tasks:
                if shared is not None and task.shared == shared and not task.ended and task.claims:
                    task.claims += 1
                    self._claims += 1
                    if task.quiet and not quiet:
                        task.quiet, task.arrival = False, arrival
                    return task
            if not quiet and sum(not task.quiet for task in self._waiting) >= self.most_waiting:
                raise BusyError(self._full(self.most_waiting))
            task = _Task(start, arrival, kind, quiet, shared, came)
            if self._thread is None:
                self._thread = threads.start(threading.Thread(target=self._work, name="engine", daemon=True))
                atexit.register(self.close)  # an interpreter that ends under a computing thread aborts
            self._waiting.append(task)
            self._claims += 1
            self._changed.notify_all()
        return task

    def _full(self, jobs: int) -> str:
        """Say that the queue is full, and for how long at least. jobs: as many as it holds."""
        seconds = self._seconds([task for task in [self._running] if task is not None])
        when = "in a minute" if seconds is None else f"in {max(1, round(seconds))} s"
        return f"{jobs} jobs wait for this server already, and it queues no more; try again {when}"

    def _withdraw(self, task: _Task[Any]) -> None:
        """Let a job go: the last to do so takes it out of the queue, or has it end."""
        with self._changed:
            task.claims -= 1
            self._claims -= 1
            if task.given_up and task in self._waiting and task.steps is None:
                self._waiting.remove(task)
                task.ended = True
            self._changed.notify_all()

    def _place(self, task: _Task[Any]) -> Progress:
        """Return how many requests are before one, and the seconds of their jobs, None where nobody can know."""
        before = [other for other in self._waiting if other.arrival < task.arrival and other.quiet <= task.quiet]
        if self._running is not None and self._running is not task and self._running.quiet <= task.quiet:
            before.insert(0, self._running)
        earlier = {other.request if other.request is not None else -id(other) for other in before}
        if task.request is not None:
            first = (request for request in self._present if not self._had_its_turn(request))
            earlier |= {request for request in first if request < task.request}
        earlier.discard(task.request)  # an earlier job of the same
        return Progress("waiting", 0, len(earlier), "jobs", seconds=self._seconds(before))

    def _had_its_turn(self, request: int) -> bool:
        return self._taken.get(request, 0.0) > TURN

    def _seconds(self, tasks: list[_Task[Any]]) -> float | None:
        """Estimate how long jobs will take one after the other."""
        expected = [self.durations.left(task.kind, task.spent) for task in tasks]
        return None if None in expected else sum(second for second in expected if second is not None)

    def _work(self) -> None:
        """Run the jobs one after the other; the thread's own loop."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: bool(self._waiting) or self._closed)
                if self._closed:
                    return self._end()
                task = min(self._waiting, key=lambda waiting: (not waiting.given_up, waiting.quiet, waiting.arrival))
                self._waiting.remove(task)
                self._running = task
                task.began = time.monotonic()
            try:
                if self._go_on(task):
                    release_freed_memory()
            except BaseException as error:  # without this thread nobody is served any more
                note("the engine", error)
                if not task.ended:  # what has ended has its result, or an error of its own, and is read already
                    task.error, task.ended = error, True
            with self._changed:
                self._running = None
                if not task.ended:
                    task.ran, task.began = task.ran + time.monotonic() - task.began, None
                    self._waiting.append(task)
                self._changed.notify_all()
            del task  # an idle engine holds nobody's result

    def _end(self) -> None:
        """Tell everybody who waits that the engine has closed."""
        for task in self._waiting:
            task.error, task.ended, task.start = BusyError("the server is closing; start it again"), True, _over
            if task.steps is not None:
                try:
                    task.steps.close()
                except BaseException as error:  # the others are told all the same
                    note("the engine", error)
        self._waiting.clear()
        self._changed.notify_all()

    def _learn(self, task: _Task[Any]) -> None:
        """Remember how long a job took. What fails here is no fault of the job's, which has its result."""
        try:
            self.durations.add(task.kind, task.spent)
        except Exception as error:
            note("the engine", error)

    def _go_on(self, task: _Task[Any]) -> bool:
        """Run a job to its end, or a quiet one until somebody waits; whether it ended."""
        try:
            if task.steps is None:
                task.context.run(end_when, lambda: task.given_up or self._closed)
                task.steps = task.context.run(task.start)
            told, stage = 0.0, None
            while not task.given_up and not self._closed:
                with ended_between_modules():
                    news = task.context.run(next, task.steps)
                with self._changed:
                    task.news = news
                    if not isinstance(news, Progress) or news.stage != stage or time.monotonic() - told >= PACE:
                        told, stage = time.monotonic(), getattr(news, "stage", None)
                        self._changed.notify_all()
                    if task.quiet and any(not other.quiet for other in self._waiting):
                        return False
            task.context.run(task.steps.close)
            raise GivenUpError
        except GivenUpError:  # of a step, or between two
            task.error = BusyError("the job was ended before its time; ask again")  # where somebody still waits
        except StopIteration as stop:
            task.result = stop.value
            self._learn(task)
        except BaseException as error:
            traceback.clear_frames(error.__traceback__)  # they hold what the job was working on
            task.error = error
        task.steps = None
        task.start, task.context = _over, Context()
        with self._changed:
            if task.request is not None:
                self._taken[task.request] = self._taken.pop(task.request, 0.0) + task.spent
                if len(self._taken) > MOST_REQUESTS:
                    del self._taken[next(iter(self._taken))]
            task.ended = True
            self._changed.notify_all()
        return True


def _over() -> Run[Any]:
    """Stand in for a job that has ended, so that what it held is let go."""
    raise AssertionError("the job has ended")
