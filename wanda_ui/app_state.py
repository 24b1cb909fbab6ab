"""State of the server, the same for all visitors: loaded models and what is known of them, variants, the engine."""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Generator, Hashable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar, cast

from wanda_core.errors import InputError, WandaError
from wanda_core.model import builtin
from wanda_core.model.loading import Located, load_located, locate
from wanda_core.model.names import normal_name
from wanda_core.progress import Progress, Steps, finish
from wanda_core.pruning.packed import needed_bytes
from wanda_core.recipe import PruneSpec
from wanda_core.text.windows import calibrate
from wanda_ui.engine import work
from wanda_ui.engine.fetching import Fetching
from wanda_ui.engine.kept_variants import KeptVariants, Making, counted_bytes
from wanda_ui.engine.loaded import Loaded, Measured, Result
from wanda_ui.engine.queue import Engine
from wanda_ui.engine.work import Answers, Draw, Job, Models, Pruned
from wanda_ui.settings import Settings

T = TypeVar("T")
Runner = Callable[[Job[T], Models], Generator[Any, None, T]]

MAX_MODELS = 2  # kept in memory at once; the one unused longest goes
MAX_MEASUREMENTS = 8  # kept with a model; what is read from one sentence by a large model is 100 MB


def in_this_process(job: Job[T], models: Models) -> Generator[Any, None, T]:
    """Run a job where it is."""
    return job(models)


class AppState:
    """State of one server. settings: of the server.

    models: in memory, by the normal form of their names, the one unused longest first.
    """

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or Settings()
        self.engine = Engine(self.settings.jobs_waiting)
        self.models: OrderedDict[str, Loaded] = OrderedDict()
        self.variants = KeptVariants(self.settings.variant_bytes)
        self._run: Runner[Any] = in_this_process
        self._fetching = Fetching(partial(_located, settings=self.settings))

    def run_by(self, run: Runner[Any]) -> None:
        """Have jobs run elsewhere from now on."""
        self._run = run

    def start(self) -> None:
        """Begin to load the built-in model, without waiting for it."""

        def load() -> None:
            with suppress(WandaError):  # every visitor is told by an event of their own
                finish(self.model_steps(builtin.NAME))

        threading.Thread(target=load, name="start", daemon=True).start()

    def normal(self, name: object) -> str:
        """Return the one form of a model's name by which the server knows it. Raises InputError for what is none."""
        return normal_name(name, self.settings.local_folders)

    def loaded(self, name: object) -> Loaded | None:
        """Return a model that is in memory; None for any other, and for what is no name."""
        try:
            return self.models.get(self.normal(name))
        except InputError:
            return None

    def model_steps(self, name: str) -> Steps[Loaded]:
        """Return a model, fetched and loaded for the first who asks; others wait for the same."""
        name = self.normal(name)
        if not self.settings.allows(name):
            raise InputError(f"model {name!r} is not one of those this server offers; choose one from the list")
        loaded = self.models.get(name)
        if loaded is None and self._run is not in_this_process:
            raise InputError(f"model {name!r} is not loaded, and this server runs {', '.join(self.models)} alone")
        if loaded is None:
            located = yield from self._fetching.steps(name)
            kind = ("load", name)
            loaded = yield from self.engine.run(partial(self._load, name, located), kind, shared=kind)
        self._used(name)
        return loaded

    def open_steps(self, name: str, quiet: bool = False) -> Steps[Loaded]:
        """Return a model with the analysis that the tabs show before anything is pruned.

        quiet: whether nobody asked for it, so that everybody else's jobs go first.
        """
        loaded = yield from self.model_steps(name)
        if loaded.analysis is None:
            kind = ("analyse", loaded.name)
            job = partial(work.analyse, name=loaded.name)
            loaded.analysis, loaded.calibration = yield from self._work(loaded, job, kind, quiet=quiet, shared=kind)
        return loaded

    def prune_steps(self, name: str, spec: PruneSpec, draw: Mapping[str, Any]) -> Steps[Result]:
        """Prune and measure. draw: text, source, samples, seq_len and seed of the calibration."""
        loaded = yield from self.model_steps(name)
        source = ""
        if spec.needs_calibration:
            loaded.lm.check_length(draw["seq_len"])
            text = hashlib.sha256((draw["text"] or "").encode()).hexdigest()
            source = f"{text}|{draw['samples']}|{draw['seq_len']}|{draw['seed']}"
        key = f"{loaded.name}|{loaded.state}|{spec}|{source}"
        reading = partial(calibrate, **draw) if spec.needs_calibration else None
        return (yield from self._pruned(key, loaded, spec, reading))

    def slide_steps(self, name: str, spec: PruneSpec) -> Steps[Result]:
        """Prune from the norms the tabs already show, without running the model, and measure."""
        loaded = yield from self.open_steps(name)
        key = f"{loaded.name}|{loaded.state}|{spec}|analysis"
        return (yield from self._pruned(key, loaded, spec, None, by_analysis=True))

    def variant_steps(self, key: str) -> Steps[Result | None]:
        """Return the result of that key, made again if it was let go; None for a key that never was."""
        making = self.variants.let_go(key)
        if making is None:
            return self.variants.get(key)
        loaded = yield from (self.open_steps if making.by_analysis else self.model_steps)(making.model)
        if loaded.state != making.state:  # a folder that was written anew
            return None
        reading = partial(work.drawn, calibration=making.calibration) if making.calibration is not None else None
        return (yield from self._pruned(key, loaded, making.spec, reading, making.by_analysis, making.measured))

    def answer_steps(
        self, name: str, result: Result | None, prompt: str, settings: Mapping[str, Any]
    ) -> Generator[Progress | Answers, None, Answers]:
        """Answer a prompt by a model, and by its variant where there is one. settings: of `generate`.

        Yields progress until its turn, then longer and longer answers.
        """
        loaded = yield from self.model_steps(name)
        variant = result.variant if result is not None else None
        job = partial(work.answer, name=loaded.name, variant=variant, prompt=prompt, settings=dict(settings))
        kind = ("answer", loaded.name, variant is not None, settings.get("max_new_tokens"))
        return (yield from self._work(loaded, job, kind))

    def measurement_steps(
        self,
        name: str,
        key: tuple[Hashable, ...],
        make: Callable[[Loaded], Steps[T]],
        check: Callable[[Loaded], object] | None = None,
    ) -> Steps[T]:
        """Return a measurement of a model that is kept under a key, or make it; the one unused longest goes.

        key: what the measurement depends on, its kind first; make: as of `work.measure`; check: raises InputError for
        what the model cannot be asked, before anything waits for the engine.
        """
        loaded = yield from self.model_steps(name)
        with loaded.lock:
            if key in loaded.measurements:
                loaded.measurements.move_to_end(key)
                return cast(T, loaded.measurements[key])
        if check is not None:
            check(loaded)
        job = partial(work.measure, name=loaded.name, make=make)
        kind = (key[0], loaded.name)
        measurement = yield from self._work(loaded, job, kind, shared=(loaded.name, *key))
        with loaded.lock:
            loaded.measurements[key] = measurement
            loaded.measurements.move_to_end(key)
            while len(loaded.measurements) > MAX_MEASUREMENTS:
                loaded.measurements.popitem(last=False)
        return measurement

    def alone_steps(self, loaded: Loaded, what: str, make: Callable[[Loaded], Steps[T]]) -> Steps[T]:
        """Run a measurement that is not kept. what: its kind; make: as of `work.measure`."""
        job = partial(work.measure, name=loaded.name, make=make)
        return self._work(loaded, job, (what, loaded.name))

    def needed_bytes(self, name: str, spec: PruneSpec) -> int | None:
        """Return how many bytes a variant will take; None for a model that is not in memory."""
        loaded = self.loaded(name)
        return None if loaded is None else counted_bytes(needed_bytes(loaded.lm, spec))

    def _pruned(
        self,
        key: str,
        loaded: Loaded,
        spec: PruneSpec,
        draw: Draw | None,
        by_analysis: bool = False,
        measured: Measured | None = None,
    ) -> Steps[Result]:
        """Return the result that is kept under a key, or make it. The other arguments are those of `work.prune`."""
        kept = self.variants.get(key)
        if kept is not None:
            return kept
        self._check_room(loaded, spec)
        profile = loaded.analysis.profile if by_analysis and loaded.analysis is not None else None
        job = partial(work.prune, name=loaded.name, spec=spec, draw=draw, profile=profile, measured=measured)
        kind = ("prune", loaded.name, spec.method, spec.order, spec.update)
        pruned: Pruned = yield from self._work(loaded, job, kind, shared=("prune", key))
        loaded.dense = pruned.measured.dense
        result = Result(key, loaded.name, loaded.state, loaded.about, pruned.variant, pruned.measured)
        self.variants.put(
            result, Making(key, loaded.name, loaded.state, spec, pruned.calibration, by_analysis, pruned.measured)
        )
        return result

    def _check_room(self, loaded: Loaded, spec: PruneSpec) -> None:
        """Raise InputError for a variant that alone would take more than all may take together."""
        needed, budget = needed_bytes(loaded.lm, spec), self.variants.budget
        if needed > budget:
            raise InputError(
                f"a variant of {loaded.lm.title} whose kept weights change takes {needed / 1e9:.2f} GB and this server "
                f"keeps {budget / 1e9:.2f} GB of variants; choose a recipe without an update of the kept weights"
            )

    def _work(
        self, loaded: Loaded, job: Job[T], kind: tuple[Hashable, ...], quiet: bool = False, shared: Hashable = None
    ) -> Generator[Any, None, T]:
        """Run a job on one model in its turn. While it waits the model stays in memory, whatever others load."""
        models = {loaded.name: loaded}
        return self.engine.run(lambda: self._run(job, models), kind, quiet, shared)

    def _load(self, name: str, located: Located) -> Steps[Loaded]:
        """Load a model whose files are here; the one unused longest goes."""
        if name not in self.models:
            yield Progress("loading", 0, 1, "parts", name)
            self.models[name] = Loaded(load_located(located, one_thread=True), name)
            while len(self.models) > MAX_MODELS:
                self.models.popitem(last=False)
        return self.models[name]

    def _used(self, name: str) -> None:
        """Count a model as used now; another thread may just have let it go."""
        with suppress(KeyError):
            self.models.move_to_end(name)


def _located(name: str, tell: Callable[[Progress], object], settings: Settings) -> Located:
    """Find a model's files or bring them here, at the commit that the server's list pins it to."""
    commit = settings.commit(name)
    pinned = name if commit is None else f"{name}@{commit}"
    return locate(pinned, on_progress=tell, local_folders=settings.local_folders)
