"""State of the server, the same for all visitors: loaded models, their analyses and a few variants, behind one lock."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Literal, TypeVar

from wanda_core.assets import BUILTIN_EVALUATION
from wanda_core.errors import InputError
from wanda_core.evaluation.perplexity import Agreement, Perplexity, agreement_steps, perplexity_steps
from wanda_core.model import builtin
from wanda_core.model.language_model import LanguageModel
from wanda_core.model.loading import load_model
from wanda_core.outliers.analysis import Analysis, analyse_steps
from wanda_core.progress import Progress, Steps, as_stage
from wanda_core.pruning.prune import prune_steps
from wanda_core.pruning.variant import Variant
from wanda_core.recipe import PruneSpec
from wanda_core.text.files import read_text
from wanda_core.text.windows import Calibration, calibrate

T = TypeVar("T")

MAX_MODELS = 2  # kept in memory at once; the one unused longest goes
MAX_VARIANTS = 2  # pruned copies kept at once, each about as large as the model's linears
EVAL_WINDOWS = 4  # of EVAL_SEQ_LEN tokens: a perplexity in some three seconds on two cores
EVAL_SEQ_LEN = 512
AGREEMENT_WINDOWS = 1  # it runs both models
MAX_MEASUREMENTS = 8  # kept with a model; what is read from one sentence by a large model is 100 MB
POLL = 0.2  # seconds between looks at a job in another thread


@dataclass
class Loaded:
    """A model and what is known about it. measurements: those of the outlier lab, the one unused longest first."""

    lm: LanguageModel
    analysis: Analysis | None = None
    calibration: Calibration | None = None  # what the analysis was made on
    dense: Perplexity | None = None
    analysing: threading.Lock = field(default_factory=threading.Lock)
    measurements: "OrderedDict[Hashable, object]" = field(default_factory=OrderedDict)

    def blocks_with(self, kind: str) -> list[int]:
        """List the blocks that have a linear of a kind."""
        return [linear.block for linear in self.lm.of_kind(kind)]

    def linear_to_show(self, kind: str | None, block: int | None) -> tuple[str, int]:
        """Return the chosen kind and block where the model has them, else its first kind and a middle block."""
        kinds = self.lm.kinds
        shown = kind if kind in kinds else kinds[0]
        blocks = self.blocks_with(shown)
        return shown, block if block in blocks else blocks[len(blocks) // 2]


@dataclass(frozen=True)
class Result:
    """A pruned model with its measurements. key: what a visitor's session holds instead of the model."""

    key: str
    loaded: Loaded
    variant: Variant
    dense: Perplexity
    pruned: Perplexity
    agreement: Agreement


@dataclass
class AppState:
    """State of one server. Jobs that run a model hold its lock, however they are called.

    local_folders: whether a model may be a folder of this machine.
    """

    local_folders: bool = True
    models: "OrderedDict[str, Loaded]" = field(default_factory=OrderedDict)
    results: "OrderedDict[str, Result]" = field(default_factory=OrderedDict)
    _engine: threading.Lock = field(default_factory=threading.Lock)
    _loads: dict[str, Future[LanguageModel]] = field(default_factory=dict)
    _load_progress: dict[str, Progress] = field(default_factory=dict)
    _loader: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "load"))

    def start(self) -> None:
        """Begin to load the built-in model, without waiting for it."""
        self._load(builtin.NAME)

    def model_steps(self, name: str) -> Steps[Loaded]:
        """Return a model, loaded for the first who asks; others wait for the same load."""
        if not isinstance(name, str) or not name.strip():
            raise InputError("no model is chosen; take one from the list or type a Hugging Face id")
        if name in self.models:
            self.models.move_to_end(name)
            return self.models[name]
        future = self._load(name)
        while not future.done():
            yield self._load_progress.get(name, Progress("loading", 0, 1, "parts", name))
            threading.Event().wait(POLL)
        self._loads.pop(name, None)
        if name not in self.models:
            self.models[name] = Loaded(future.result())
            while len(self.models) > MAX_MODELS:
                self.models.popitem(last=False)
        return self.models[name]

    def open_steps(self, name: str) -> Steps[Loaded]:
        """Return a model with the analysis that the tabs show before anything is pruned."""
        loaded = yield from self.model_steps(name)
        if loaded.analysis is None:
            yield from _holding(loaded.analysing, self._analyse(loaded))
        return loaded

    def prune_steps(self, name: str, spec: PruneSpec, draw: dict[str, object]) -> Steps[Result]:
        """Prune and measure. draw: text, source, samples, seq_len and seed of the calibration."""
        loaded = yield from self.model_steps(name)
        calibration = calibrate(loaded.lm, **draw) if spec.needs_calibration else None  # type: ignore[arg-type]
        key = f"{name}|{spec}|{calibration.fingerprint if calibration else ''}"
        return (yield from self._kept_result(key, loaded, spec, calibration))

    def _kept_result(self, key: str, loaded: Loaded, spec: PruneSpec, calibration: Calibration | None) -> Steps[Result]:
        """Return the result that is kept under a key, or make it; the one unused longest goes."""
        if key not in self.results:
            result = yield from self.alone(self._prune(key, loaded, spec, calibration))
            self.results[key] = result
            while len(self.results) > MAX_VARIANTS:
                self.results.popitem(last=False)
        self.results.move_to_end(key)
        return self.results[key]

    def slide_steps(self, name: str, spec: PruneSpec) -> Steps[Result]:
        """Prune from the norms the tabs already show, without running the model, and measure."""
        loaded = yield from self.open_steps(name)
        return (yield from self._kept_result(f"{name}|{spec}|analysis", loaded, spec, None))

    def measurement_steps(self, name: str, key: Hashable, make: Callable[[Loaded], Steps[T]]) -> Steps[T]:
        """Return a measurement of a model that is kept under a key, or make it; the one unused longest goes.

        key: what the measurement depends on.
        """
        loaded = yield from self.model_steps(name)
        if key not in loaded.measurements:
            loaded.measurements[key] = yield from self.alone(make(loaded))
            while len(loaded.measurements) > MAX_MEASUREMENTS:
                loaded.measurements.popitem(last=False)
        measurement: T = loaded.measurements[key]  # type: ignore[assignment]
        loaded.measurements.move_to_end(key)
        return measurement

    def alone(self, steps: Steps[T]) -> Steps[T]:
        """Run steps while nobody else runs a model here."""
        return _holding(self._engine, steps)

    def _load(self, name: str) -> Future[LanguageModel]:
        """Start to load a model in the loader's thread, unless that has begun."""
        if name not in self._loads:
            self._loads[name] = self._loader.submit(
                load_model,
                name,
                on_progress=lambda step: self._load_progress.__setitem__(name, step),
                local_folders=self.local_folders,
            )
        return self._loads[name]

    def _analyse(self, loaded: Loaded) -> Steps[None]:
        """Read the activations that the tabs show.

        Nobody asked for it, so the engine is let go after every block: whoever presses Prune goes first.
        """
        if loaded.analysis is not None:  # someone else did it while we waited
            return
        calibration = calibrate(loaded.lm)
        steps = analyse_steps(loaded.lm, calibration)
        while True:
            while not self._engine.acquire(timeout=POLL):
                yield Progress("waiting", 0, 1, "jobs")
            try:
                step = next(steps)
            except StopIteration as stop:
                loaded.analysis, loaded.calibration = stop.value, calibration
                return
            finally:
                self._engine.release()
            yield step

    def _prune(self, key: str, loaded: Loaded, spec: PruneSpec, calibration: Calibration | None) -> Steps[Result]:
        """Prune, from the analysis where there is no calibration, then measure both models."""
        profile = loaded.analysis.profile if calibration is None and loaded.analysis else None
        variant = yield from prune_steps(loaded.lm, spec, calibration, profile)
        text = read_text(BUILTIN_EVALUATION)
        if loaded.dense is None:
            loaded.dense = yield from _measure(loaded.lm, text, "dense")
        pruned = yield from _measure(variant.lm, text, "pruned")
        agreement = yield from agreement_steps(
            loaded.lm, variant.lm, text, seq_len=EVAL_SEQ_LEN, windows=AGREEMENT_WINDOWS
        )
        return Result(key, loaded, variant, loaded.dense, pruned, agreement)


def _holding(lock: threading.Lock, steps: Steps[T]) -> Steps[T]:
    """Run steps while holding a lock; progress says so while it is not free."""
    while not lock.acquire(timeout=POLL):
        yield Progress("waiting", 0, 1, "jobs")
    try:
        return (yield from steps)
    finally:
        lock.release()


def _measure(lm: LanguageModel, text: str, which: Literal["dense", "pruned"]) -> Steps[Perplexity]:
    """Measure the perplexity on the built-in evaluation text."""
    return as_stage(perplexity_steps(lm, text, seq_len=EVAL_SEQ_LEN, windows=EVAL_WINDOWS), which)
