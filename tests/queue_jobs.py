"""Jobs that go on when they are let, and visitors who run them, for the engine's queue."""

import threading
import time
from contextlib import closing

from wanda_core.progress import Progress
from wanda_ui.engine.queue import arrived

SOON = 60.0  # seconds that nothing takes: others use the machine too


class Job:
    """A job that steps when it is let, and says what became of it."""

    def __init__(self, name, log, steps=1, error=None):
        self.name, self.log, self.count, self.error = name, log, steps, error
        self.go, self.began, self.ended = threading.Semaphore(0), threading.Event(), threading.Event()
        self.threads = set()

    def __call__(self):
        self.began.set()
        self.log.append(self.name)
        try:
            for number in range(self.count):
                self.threads.add(threading.current_thread().name)
                yield Progress("pruning", number, self.count, "blocks", self.name)
                assert self.go.acquire(timeout=SOON)
            if self.error is not None:
                raise self.error
            return self.name
        finally:
            self.ended.set()

    def let(self, steps=None):
        for _ in range(steps or self.count):
            self.go.release()
        return self


class Visitor(threading.Thread):
    """An event: runs a job and keeps all it was told."""

    def __init__(self, engine, job, arrival=None, **settings):
        super().__init__(daemon=True)
        self.engine, self.job, self.arrival, self.settings = engine, job, arrival, settings
        self.told, self.result, self.error, self.close = [], None, None, threading.Event()
        self.start()

    def run(self):
        with arrived(self.arrival), closing(self.engine.run(self.job, ("test",), **self.settings)) as steps:
            try:
                while not self.close.is_set():
                    self.told.append(next(steps))
            except StopIteration as stop:
                self.result = stop.value
            except Exception as error:
                self.error = error

    def ends(self):
        self.join(SOON)
        assert not self.is_alive()
        return self.result


def until(condition):
    deadline = time.monotonic() + SOON
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)
