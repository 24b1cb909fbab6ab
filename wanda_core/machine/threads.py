"""Starting threads where memory may run out just then.

`Thread.start` waits until the new thread says that it has begun, for ever where that ran out of memory before it could.
"""

import threading

LOOKS, LOOK = 30, 0.1  # how often a thread is looked for that has not begun, and for how many seconds each time


class _Begun(threading.Event):
    """What a thread's start waits for, in place of its own. given_up: whether it has waited enough."""

    given_up = False

    def wait(self, timeout: float | None = None) -> bool:
        """Wait as an Event does. Raises MemoryError where it was to wait for ever, and nothing comes.

        What keeps this thread from looking keeps the other from beginning, and is one look.
        """
        if timeout is not None:
            return super().wait(timeout)
        if not any(super(_Begun, self).wait(LOOK) for _ in range(LOOKS)):
            self.given_up = True
            raise MemoryError("a thread could not begin")
        return True


def start(thread: threading.Thread) -> threading.Thread:
    """Start a thread and return it. Raises MemoryError where it does not begin, and RuntimeError where there are too
    many."""
    _bound(thread)
    thread.start()
    return thread


def bound_starts() -> None:
    """Have all threads of this process be started so, those of other packages too. For a server, which one that is
    waited for without end would hold up for good."""
    begin = threading.Thread.start

    def bounded(thread: threading.Thread) -> None:
        _bound(thread)
        begin(thread)

    threading.Thread.start = bounded  # type: ignore[method-assign, assignment]


def _bound(thread: threading.Thread) -> None:
    """Have a thread's start wait no longer than it may."""
    if isinstance(thread._started, _Begun) or thread._started.is_set():  # type: ignore[attr-defined]
        return
    begun, run = _Begun(), thread.run

    def unless_given_up() -> None:
        if not begun.given_up:  # else it begins after all, when nobody counts on it
            run()

    thread._started, thread.run = begun, unless_given_up  # type: ignore[attr-defined, method-assign]
