"""State of the server, the same for all visitors: loaded models and what is known of them, variants, the engine."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Generator, Hashable, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar, cast

from wanda_core.errors import InputError, WandaError
from wanda_core.evaluation.generation import Generated
from wanda_core.explain.mask_agreement import MaskAgreement
from wanda_core.model import builtin, chat_template, tokenizer_apart
from wanda_core.model.loading import Located, load_located
from wanda_core.model.names import normal_name
from wanda_core.progress import Progress, Steps, finish
from wanda_core.pruning.packed import PackedVariant, needed_bytes
from wanda_core.pruning.prune import needs_text
from wanda_core.recipe import PruneSpec
from wanda_ui.away.tickets import Tickets
from wanda_ui.engine import look as looks
from wanda_ui.engine import work
from wanda_ui.engine.expecting import Expected, expected, kind_of
from wanda_ui.engine.fetching import Fetching, located
from wanda_ui.engine.kept import Kept
from wanda_ui.engine.kept_variants import KeptVariants, counted_bytes
from wanda_ui.engine.loaded import Both, Loaded, Measured, Result, left_of, seconds_of
from wanda_ui.engine.look import WHOLE, How, Made, Point, Seen, Wanted
from wanda_ui.engine.looked import Look, Looking, only_progress, with_answer
from wanda_ui.engine.queue import BusyError, Engine
from wanda_ui.engine.recipe import PLAIN, Asked, KeptTexts, Recipe
from wanda_ui.engine.sensitive import sensitive_steps
from wanda_ui.engine.smaller import SmallerModels, base_steps, drawing
from wanda_ui.engine.tokens import Place, Told, told_at
from wanda_ui.engine.work import Job, Models
from wanda_ui.settings import Settings

T = TypeVar("T")
Runner = Callable[[Job[T], Models], Generator[Any, None, T]]

MAX_MODELS = 2  # kept in memory at once; the one unused longest goes, unless somebody downloads what was made of it
MAX_MEASUREMENTS = 8  # kept with a model; what is read from one sentence by a large model is 100 MB
MOST_MEASURED = 5000  # recipes whose numbers are kept, 300 bytes each
MOST_LESSONS = 500  # measurements of the lesson's kept, twenty kilobytes each at most
MOST_ANSWERS = 200  # kept, some ten kilobytes each, as many as a hundred at most


def in_this_process(job: Job[T], models: Models) -> Generator[Any, None, T]:
    """Run a job where it is."""
    return job(models)


class AppState:
    """State of one server. settings: of the server; lends: whether jobs run where a GPU is lent to each (`run_by`), so
    that the models of this process stay on its CPU.

    models: in memory, by the normal form of their names, the one unused longest first.
    """

    def __init__(self, settings: Settings | None = None, lends: bool = False) -> None:
        self.settings = settings or Settings()
        self.lends = lends
        self.engine = Engine(self.settings.jobs_waiting)
        self.models: OrderedDict[str, Loaded] = OrderedDict()
        self.variants = KeptVariants(self.settings.variant_bytes)
        self.tickets = Tickets()
        self.texts = KeptTexts()
        self.smaller = SmallerModels()
        self.measured: Kept[str, Measured] = Kept(MOST_MEASURED)
        self.answers: Kept[tuple[str, str, str, Asked | None], Generated] = Kept(MOST_ANSWERS)
        self.lessons: Kept[tuple[Hashable, ...], dict[str, Any]] = Kept(MOST_LESSONS)
        self._run: Runner[Any] = in_this_process
        self._fetching = Fetching(partial(located, settings=self.settings, device="cpu" if lends else None))

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

    def model_steps(self, name: str, token: str | None = None) -> Steps[Loaded]:
        """Return a model, fetched and loaded for the first who asks; others wait for the same.

        token: of the hub, for this fetch alone; by default the machine's own.
        """
        name = self.normal(name)
        if not self.settings.allows(name):
            raise InputError(f"model {name!r} is not one of those this server offers; choose one from the list")
        loaded = self.models.get(name)
        if loaded is not None and loaded.has_changed():
            loaded = None  # its folder was written anew
        if loaded is None and self._run is not in_this_process:
            raise InputError(f"model {name!r} is not loaded, and this server runs {', '.join(list(self.models))} alone")
        if loaded is None:
            more = {} if token is None else {"token": token}
            found = yield from self._fetching.steps(name, **more)
            kind = ("load", name)
            loaded = yield from self.engine.run(partial(self._load, name, found), kind, shared=(*kind, id(found)))
        self._used(name)
        return loaded

    def open_steps(self, name: str, quiet: bool = False) -> Steps[Loaded]:
        """Return a model with the analysis that the tabs show before anything is pruned.

        quiet: whether nobody asked for it, so that everybody else's jobs go first.
        """
        loaded = yield from self.model_steps(name)
        if loaded.analysis is None:
            kind = ("analyse", loaded.name)
            kept = builtin.analysis_file() if loaded.lm.name == builtin.NAME else None
            job = partial(work.analyse, name=loaded.name, kept=kept)
            analysing = self.work_steps(loaded, job, kind, quiet=quiet, shared=(*kind, loaded.state))
            try:
                loaded.analysis, loaded.calibration, seconds = yield from analysing
            except WandaError as error:
                if not isinstance(error, BusyError):  # which is no fault of the model's
                    loaded.problem = str(error)
                raise
            self.engine.durations.add(("pass", loaded.name), seconds)
        return loaded

    def key_of(self, loaded: Loaded, recipe: Recipe) -> str:
        """Return the name that a variant of a model has here: the same recipe, the same name."""
        return repr((loaded.name, loaded.state, recipe))

    def prune_steps(self, name: str, recipe: Recipe) -> Steps[Result]:
        """Prune and measure, without an answer."""
        look = yield from only_progress(self.look_steps(name, recipe))
        assert look.result is not None  # there was a recipe
        return look.result

    def look_steps(
        self, name: str, recipe: Recipe | None, asked: Asked | None = None, wanted: Wanted = WHOLE
    ) -> Looking:
        """Look at a model, or at a variant of it, which is made if it is not kept: its answer and what it costs.

        recipe: None for the dense model; asked: None where no answer is wanted; wanted: what is measured. What is
        known is not run again. Yields progress and longer and longer `Look`; what was made is kept, also where the
        rest is given up.
        """
        whole = yield from self.model_steps(name)
        key = "" if recipe is None else self.key_of(whole, recipe)
        result = self.variants.get(key)
        measured = self.measured.get(key)
        answer = self.answers.get((whole.name, whole.state, key, asked))
        dense = whole.dense
        seen = Seen(  # no answer: the job is shared with others, who asked something else
            None,
            measured.perplexity if measured is not None else dense if recipe is None else None,
            dense,
            measured.agreement if measured is not None else None,
        )
        look = Look(result, measured, seen, measured is not None)
        measured_all = seen.perplexity is not None or not wanted.perplexity
        if recipe is not None:
            compared = seen.agreement is not None and dense is not None
            measured_all &= result is not None and (compared or not wanted.agreement)
            measured_all &= not wanted.at_hand or self.smaller.at_hand(whole, recipe)
        if measured_all and (asked is None or answer is not None):
            return replace(look, seen=replace(seen, answer=answer, ended=True))
        if result is None and recipe is not None:
            self._check_room(whole, recipe.spec)
        loaded = yield from base_steps(self, whole, recipe)
        how = yield from self._how(loaded, recipe, result)
        whole.check_unchanged()
        variant = result.variant if result is not None else None
        if answer is not None:
            asked = None
        job = partial(looks.look, name=loaded.name, how=how, variant=variant, asked=asked, known=seen, wanted=wanted)
        job = partial(job, whole=whole.name)
        kind = ("look", whole.name, *kind_of(recipe), asked is not None, wanted)
        shared = ("look", whole.name, whole.state, key, asked, wanted)
        both = Both(whole, loaded, recipe, key, asked)
        looking = self.engine.run(lambda: self._looking(both, job, look), kind, shared=shared)
        return (yield from looking if answer is None else with_answer(looking, answer))

    def point_steps(self, name: str, recipe: Recipe) -> Steps[Point]:
        """Prune and measure one point of a curve; nothing but its numbers is kept."""
        whole = yield from self.model_steps(name)
        key = self.key_of(whole, recipe)
        measured = self.measured.get(key)
        if measured is not None:
            return Point(measured.sparsity, measured.seconds, measured.perplexity)
        loaded = yield from base_steps(self, whole, recipe)
        how = yield from self._how(loaded, recipe, None)
        assert how is not None  # there is a recipe
        whole.check_unchanged()
        job = partial(looks.point, name=loaded.name, how=how)
        kind = ("point", whole.name, *kind_of(recipe))
        point: Point = yield from self.work_steps(loaded, job, kind, shared=("point", key))
        point = replace(point, seconds=point.seconds + seconds_of(loaded))
        self.measured.put(key, Measured(point.sparsity, point.seconds, point.perplexity, None, left_of(loaded)))
        self._learned(whole, recipe, point.seconds)
        return point

    def told_steps(self, name: str, recipes: Sequence[Recipe], asked: Asked, place: Place) -> Steps[Told]:
        """Return what a model and some variants of it say at a place of an answer."""
        loaded = yield from self.model_steps(name)
        variants = yield from self.made_steps(name, recipes)
        models, named = {loaded.name: loaded}, []
        for recipe, variant in zip(recipes, variants, strict=True):
            base = yield from base_steps(self, loaded, recipe)
            models[base.name] = base
            named.append((base.name, variant))
        loaded.check_unchanged()
        job = partial(told_at, name=loaded.name, variants=named, asked=asked, place=place)
        told: Told = yield from self.engine.run(lambda: self._run(job, models), ("told", loaded.name))
        return told

    def masks_steps(self, name: str, recipes: Sequence[Recipe]) -> Steps[MaskAgreement]:
        """Compare the masks of some recipes, which are pruned first where they are not made yet."""
        loaded = yield from self.model_steps(name)
        variants = yield from self.made_steps(name, recipes)
        loaded.check_unchanged()
        job = partial(work.masks, name=loaded.name, variants=variants)
        return (yield from self.work_steps(loaded, job, ("masks", loaded.name)))

    def made_steps(self, name: str, recipes: Sequence[Recipe]) -> Steps[list[PackedVariant]]:
        """Return the variants of some recipes, which are made where they are not kept; nothing is measured."""
        made = []
        for recipe in recipes:
            look = yield from only_progress(self.look_steps(name, recipe, None, Wanted(False, False)))
            assert look.result is not None  # there was a recipe
            made.append(look.result.variant)
        return made

    def expected(self, name: str, recipe: Recipe) -> Expected:
        """Return how long a recipe will take here."""
        loaded = self.loaded(name)
        if loaded is None:
            return Expected()
        unknown = recipe.spec.needs_sensitivities and loaded.sensitivities.get(recipe.reading) is None
        return expected(self.engine.durations, loaded.name, recipe, len(loaded.lm.linears), unknown)

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
        kind, shared = (key[0], loaded.name), ("measurement", loaded.name, loaded.state, *key)
        measurement = yield from self.work_steps(loaded, job, kind, shared=shared)
        with loaded.lock:
            loaded.measurements[key] = measurement
            loaded.measurements.move_to_end(key)
            while len(loaded.measurements) > MAX_MEASUREMENTS:
                loaded.measurements.popitem(last=False)
        return measurement

    def alone_steps(
        self, loaded: Loaded, what: str, make: Callable[[Loaded], Steps[T]], shared: Hashable = None
    ) -> Steps[T]:
        """Run a measurement that is not kept. what: its kind; make: as of `work.measure`; shared: as of the engine."""
        job = partial(work.measure, name=loaded.name, make=make)
        return self.work_steps(loaded, job, (what, loaded.name), shared=shared)

    def needed_bytes(self, name: str, spec: PruneSpec) -> int | None:
        """Return how many bytes a variant will take; None for a model that is not in memory."""
        loaded = self.loaded(name)
        return None if loaded is None else counted_bytes(needed_bytes(loaded.lm, spec))

    def _how(self, loaded: Loaded, recipe: Recipe | None, result: Result | None) -> Steps[How | None]:
        """Say how a variant is made, and measure first the norms that decide it where they are kept for many recipes.

        result: of a variant that is made already.
        """
        if recipe is None or result is not None:
            return None if recipe is None else How(recipe.spec)
        spec, reading = recipe.spec, recipe.reading
        if not spec.needs_calibration:
            return How(spec)
        loaded.lm.check_length(reading.seq_len)
        draw = drawing(self.texts, reading)
        if not spec.needs_profile:
            return How(spec, draw)
        if reading == PLAIN:
            loaded = yield from self.open_steps(loaded.name)
            assert loaded.analysis is not None  # made by open_steps
            profile = loaded.analysis.profile
        else:
            make = partial(work.read_profile, draw=draw)
            profile = yield from self.measurement_steps(loaded.name, ("profile", reading), make)
        if spec.needs_sensitivities:
            profile = yield from sensitive_steps(self, loaded, reading, draw, profile)
        return How(spec, draw if needs_text(spec, profile) else None, profile)

    def _looking(self, both: Both, job: Job[Seen], look: Look) -> Looking:
        """Run a look and keep what it finds out, in the engine's thread: an event that listens seldom misses steps."""
        steps = self._run(job, {both.loaded.name: both.loaded, both.whole.name: both.whole})
        with closing(steps):
            try:
                while True:
                    step = next(steps)
                    look = self._noticed(both, look, step)
                    yield step if isinstance(step, Progress) else look
            except StopIteration as stop:
                return self._noticed(both, look, stop.value)

    def _noticed(self, both: Both, look: Look, step: Progress | Made | Seen) -> Look:
        """Keep what a look has found out, and return the longer look."""
        whole, key, asked = both.whole, both.key, both.asked
        if isinstance(step, Made):
            result = Result(key, whole.name, whole.state, whole.about, step.variant)
            self.tickets.sweep()  # what they hold of variants that are let go here is not counted
            self.variants.put(result)
            if both.recipe is not None:
                self._learned(whole, both.recipe, step.variant.report.seconds + seconds_of(both.loaded))
            return replace(look, result=result)
        if not isinstance(step, Seen):
            return look
        look = replace(look, seen=step)
        if step.dense is not None:
            whole.dense = step.dense
        if step.ended and step.answer is not None and asked is not None:
            self.answers.put((whole.name, whole.state, key, asked), step.answer)
        if look.result is not None and step.perplexity is not None and step.perplexity.windows >= work.EVAL_WINDOWS:
            report = look.result.variant.report
            seconds = report.seconds + seconds_of(both.loaded)
            measured = Measured(report.sparsity, seconds, step.perplexity, step.agreement, left_of(both.loaded))
            self.measured.put(key, measured)
            look = replace(look, measured=measured)
        return look

    def _learned(self, loaded: Loaded, recipe: Recipe, seconds: float) -> None:
        """Remember how long a pruning took."""
        self.engine.durations.add(("pruning", loaded.name, *kind_of(recipe)), seconds)

    def _check_room(self, loaded: Loaded, spec: PruneSpec) -> None:
        """Raise InputError for a variant that alone would take more than all may take together."""
        needed, budget = needed_bytes(loaded.lm, spec), self.variants.budget
        if needed > budget:
            raise InputError(
                f"a variant of {loaded.lm.title} whose kept weights change takes {needed / 1e9:.2f} GB and this server "
                f"keeps {budget / 1e9:.2f} GB of variants; choose a recipe without an update of the kept weights"
            )

    def work_steps(
        self, loaded: Loaded, job: Job[T], kind: tuple[Hashable, ...], quiet: bool = False, shared: Hashable = None
    ) -> Generator[Any, None, T]:
        """Run a job on one model in its turn. While it waits the model stays in memory, whatever others load."""
        models = {loaded.name: loaded}
        return self.engine.run(lambda: self._run(job, models), kind, quiet, shared)

    def _load(self, name: str, located: Located) -> Steps[Loaded]:
        """Load a model whose files are here; the one unused longest goes, of those that no download needs. Before that
        goes what the files were before they were written anew: for both there may be no room."""
        if name in self.models and self.models[name].has_changed():
            self._let_go(name)
        if name not in self.models:
            yield Progress("loading", 0, 1, "parts", name)
            self.models[name] = Loaded(load_located(located, one_thread=True), name, "cuda" if self.lends else "")
            self.tickets.sweep()
            idle = [other for other, loaded in list(self.models.items()) if not loaded.claims and other != name]
            for other in idle[: max(0, len(self.models) - MAX_MODELS)]:
                self._let_go(other)
        return self.models[name]

    def _let_go(self, name: str) -> None:
        """Keep a model no longer, nor what other processes hold of it."""
        del self.models[name]
        chat_template.end_worker()
        tokenizer_apart.end_worker()

    def _used(self, name: str) -> None:
        """Count a model as used now; another thread may just have let it go."""
        with suppress(KeyError):
            self.models.move_to_end(name)
