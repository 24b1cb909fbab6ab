"""Look-ups and downloads of models, each in a thread of its own: a hub that does not answer holds up nobody else."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from wanda_core.errors import WandaError
from wanda_core.machine import threads
from wanda_core.model.loading import Located, locate
from wanda_core.progress import Progress, Steps, end_when
from wanda_ui.settings import Settings

MOST_FETCHES = 4  # models at once
POLL = 0.2  # seconds between looks at a thread


class _GivenUpError(Exception):
    """Nobody waits for the model any more."""


@dataclass(eq=False)
class _Fetch:
    """One model on its way. claims: how many events wait for it."""

    name: str
    news: Progress
    claims: int = 1
    found: Located | None = None
    error: BaseException | None = None
    done: threading.Event = field(default_factory=threading.Event)

    def tell(self, step: Progress) -> None:
        """Take note of progress. Raises _GivenUpError where nobody waits for it."""
        if not self.claims:
            raise _GivenUpError
        self.news = step


class Fetching:
    """The models that are being fetched, by name. fetch: finds one, telling its progress, and returns its files."""

    def __init__(self, fetch: Callable[..., Located]) -> None:
        self._fetch = fetch
        self._fetches: dict[tuple[str, int], _Fetch] = {}
        self._lock = threading.Lock()

    def steps(self, name: str, **more: str | None) -> Steps[Located]:
        """Fetch a model, or wait for those who do already; the last to go has it given up.

        more: for the fetch, by which it is told from others too, such as one with another token; it is not kept. Raises
        what the fetch raises, and WandaError where too many models are on their way.
        """
        asked = (name, hash(tuple(sorted(more.items()))))
        fetch = self._claim(asked, more)
        try:
            while not fetch.done.wait(POLL):
                yield fetch.news
            if fetch.error is not None:
                raise fetch.error
            assert fetch.found is not None  # done without an error
            return fetch.found
        finally:
            with self._lock:
                fetch.claims -= 1
                if not fetch.claims and self._fetches.get(asked) is fetch:
                    del self._fetches[asked]

    def _claim(self, asked: tuple[str, int], more: dict[str, str | None]) -> _Fetch:
        """Join a fetch or begin one."""
        with self._lock:
            fetch, name = self._fetches.get(asked), asked[0]
            if fetch is None:
                if len(self._fetches) >= MOST_FETCHES:
                    raise WandaError(
                        f"{len(self._fetches)} other models are being fetched, the most at once; try again in a minute"
                    )
                fetch = _Fetch(name, Progress("loading", 0, 1, "parts", name))
                self._fetches[asked] = fetch
                work = threading.Thread(target=self._work, args=(fetch, more), name="fetch", daemon=True)
                try:
                    threads.start(work)
                except BaseException:
                    del self._fetches[asked]
                    raise
            else:
                fetch.claims += 1
            return fetch

    def _work(self, fetch: _Fetch, more: dict[str, str | None]) -> None:
        """Fetch one model; a thread's own work, which ends within its long steps too where nobody waits for it."""
        end_when(lambda: not fetch.claims)
        try:
            fetch.found = self._fetch(fetch.name, fetch.tell, **more)
        except BaseException as error:
            fetch.error = error
        fetch.done.set()


def located(
    name: str,
    tell: Callable[[Progress], object],
    settings: Settings,
    device: str | None,
    token: str | None = None,
) -> Located:
    """Find a model's files or bring them here, at the commit that the server's list pins it to."""
    commit = settings.commit(name)
    pinned = name if commit is None else f"{name}@{commit}"
    return locate(pinned, device=device, on_progress=tell, local_folders=settings.local_folders, token=token)
