"""A stand-in for `spaces`, the package by which a ZeroGPU Space lends its GPU: no GPU, but everything else is as there.

A function's process is forked at its first call and serves those that follow; arguments and all that it yields are
pickled; it goes on by itself while its caller is slow, and is told at its next step that nobody listens any more; one
that dies, a value that cannot be pickled and a quota that is used up become errors of Gradio's.
"""

import multiprocessing
import pickle
import queue
import threading
import types
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from multiprocessing.queues import SimpleQueue

import gradio as gr
from gradio.context import LocalContext

FORK = multiprocessing.get_context("fork")


class Worker:
    """A process with the GPU, and its two queues. function: a generator function, which it calls."""

    def __init__(self, function):
        self.calls, self.results = SimpleQueue(ctx=FORK), SimpleQueue(ctx=FORK)
        self.stopped = FORK.Event()
        self.process = FORK.Process(target=self.serve, args=(function,), daemon=True)
        self.process.start()
        threading.Thread(target=self.watch, daemon=True).start()

    def watch(self):
        """Tell whoever listens that the process has ended."""
        self.process.join()
        self.results.put(None)

    def serve(self, function):
        """Serve calls, one after the other, each in a thread; the process's own work."""
        while True:
            arguments = self.calls.get()
            self.stopped.clear()
            with ThreadPoolExecutor() as pool:
                pool.submit(self.iterate, function, arguments)
            self.results.put(("end", None))

    def iterate(self, function, arguments):
        generator = function(*arguments)
        while True:
            try:
                value = next(generator)
            except StopIteration:
                return
            except Exception as error:
                self.results.put(("failed", type(error).__name__))
                return
            if self.stopped.is_set():
                generator.close()
                return
            self.results.put(("value", value))


class Space(types.ModuleType):
    """The package. forks, calls: how many there were; asked: the session of each call's visitor, None where nobody's is
    known; durations: seconds that were asked for; refuse: what the platform says instead of lending."""

    def __init__(self):
        super().__init__("spaces")
        self.forks, self.calls, self.asked, self.durations, self.refuse = 0, 0, [], [], None
        self.workers = []

    def GPU(self, duration):  # noqa: N802 - its name there
        def decorate(function):
            def lent(*arguments):
                request = LocalContext.request.get(None)
                self.calls += 1
                self.asked.append(getattr(request, "session_hash", None))
                self.durations.append(duration)
                if self.refuse is not None:
                    raise gr.Error(self.refuse, print_exception=False)
                worker = (
                    self.workers[-1] if self.workers and self.workers[-1].process.is_alive() else self.fork(function)
                )
                worker.calls.put(pickle.loads(pickle.dumps(arguments)))
                yield from self.through(worker)

            return lent

        return decorate

    def fork(self, function):
        self.forks += 1
        self.workers.append(Worker(function))
        return self.workers[-1]

    def through(self, worker):
        """Pass on what a call yields."""
        heard = queue.Queue()

        def listen():
            while True:
                heard.put(worker.results.get())
                if heard.queue[-1] is None or heard.queue[-1][0] in ("end", "failed"):
                    return

        with ThreadPoolExecutor(1) as pool:  # whose end waits for the call's own
            pool.submit(copy_context().run, listen)
            while True:
                said = heard.get()
                if said is None:
                    raise gr.Error("GPU task aborted", print_exception=False)
                kind, value = said
                if kind == "end":
                    return
                if kind == "failed":
                    raise gr.Error(value, print_exception=False)
                try:
                    yield value
                except GeneratorExit:
                    worker.stopped.set()
                    raise

    def close(self):
        for worker in self.workers:
            worker.process.terminate()
            worker.process.join(10)
