"""Compare: the view, which is drawn by the scripts of `assets/view`, and the events by which the server answers it."""

import os
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

import gradio as gr

from wanda_core.errors import GatedError, InputError, WandaError
from wanda_core.progress import Progress
from wanda_core.text.documents import read_documents
from wanda_core.text.opening import kind_of
from wanda_ui.away import wiring
from wanda_ui.compare import asked, looking, messages
from wanda_ui.compare.asked import Column, Looked
from wanda_ui.compare.looking import StoppedError, Telling, Watch
from wanda_ui.compare.messages import Message
from wanda_ui.compare.runs import Newest
from wanda_ui.engine import work
from wanda_ui.engine.kept import Kept
from wanda_ui.engine.recipe import Recipe
from wanda_ui.gate.arrivals import arrival_of
from wanda_ui.gate.refusal import RefusedError
from wanda_ui.gate.rules import check_uploaded
from wanda_ui.gate.visitors import visitors_in
from wanda_ui.inputs import as_share
from wanda_ui.jobs import AT_ONCE, ENGINE, LIGHT, Cancel, Update, no_change
from wanda_ui.language import speaker
from wanda_ui.problems import problem_words
from wanda_ui.tab_context import Tab, TabContext

T = TypeVar("T")

# Names in quotes become events of the component; the view stands in front of the page until this moves it here.
BRIDGE = """
const page = window.WandaLab && window.WandaLab.page;
if (page) page.attach(element, {
    look: data => trigger('look', data), sweep: data => trigger('sweep', data),
    open: data => trigger('open_model', data), expect: data => trigger('expect', data),
    why: data => trigger('why', data), own: data => trigger('own_prompts', data),
    text: data => trigger('bring_text', data), cancel: data => trigger('cancel_look', data),
    cancel_sweep: data => trigger('cancel_sweep', data), upload,
    masks: data => trigger('masks', data), cancel_masks: data => trigger('cancel_masks', data),
    buys: data => trigger('buys', data), cancel_buys: data => trigger('cancel_buys', data),
    push: data => trigger('push', data), cancel_push: data => trigger('cancel_push', data),
    watch: (name, call) => watch(name, () => call(props[name])),
});
"""
MOST_BROUGHT = 1000  # files whose texts are known by digest
# What the server says, by the kind of what was asked: the component's properties.
HEARD = ("run", "sweep", "opened", "expected", "told", "own", "text", "agreed", "bought", "pushed")


@dataclass(frozen=True)
class View:
    """The view's component and its events."""

    context: TabContext
    view: gr.HTML
    cancel: Cancel
    cancel_sweep: Cancel
    cancel_masks: Cancel
    cancel_buys: Cancel
    newest: Newest
    numbers: "count[int]"
    brought: Kept[tuple[Any, ...], str]

    def wire(self) -> None:
        """Connect the events."""
        view, context = self.view, self.context
        many: dict[str, Any] = {"trigger_mode": "multiple", **ENGINE}
        view.look(self.look, None, view, **many)
        view.sweep(self.sweep, None, view, **many)
        view.own_prompts(self.own, None, view, **many)
        view.why(self.why, None, view, **many)
        opened = view.open_model(self.open, None, [view, context.model], **many)
        opened.success(self.analyse, context.model, view, **ENGINE)
        view.expect(self.expect, None, view, trigger_mode="always_last", **LIGHT)
        view.bring_text(self.bring_text, None, view, **LIGHT, concurrency_limit=1)  # each may take much memory
        view.cancel_look(self.cancel.press, None, None, **AT_ONCE)
        view.masks(self.masks, None, view, **many)
        view.cancel_masks(self.cancel_masks.press, None, None, **AT_ONCE)
        view.buys(self.buys, None, view, **many)
        view.cancel_buys(self.cancel_buys.press, None, None, **AT_ONCE)
        view.cancel_sweep(self.cancel_sweep.press, None, None, **AT_ONCE)

    def look(self, request: gr.Request, event: gr.EventData) -> Iterator[Update]:
        """Prune what is not made yet, and show answers and perplexities as they come."""

        def messages_of(wanted: Looked, watch: Watch) -> Telling[None]:
            return looking.look(self.context.state, wanted, watch)

        yield from self._long(request, event, "run", self.cancel, messages_of, newest=True)

    def sweep(self, request: gr.Request, event: gr.EventData) -> Iterator[Update]:
        """Measure the curve; what is measured stays known, so that asking again goes on."""

        def messages_of(wanted: Looked, watch: Watch) -> Telling[None]:
            places = asked.places_of(asked.data_of(event))
            return looking.curve(self.context.state, wanted, places, recipe_at, watch)

        yield from self._long(request, event, "sweep", self.cancel_sweep, messages_of)

    def masks(self, request: gr.Request, event: gr.EventData) -> Iterator[Update]:
        """Compare the masks of the recipes on the page."""

        def messages_of(wanted: Looked, watch: Watch) -> Telling[None]:
            if len(wanted.columns) < 2:
                raise InputError("one recipe has nothing to differ from; choose a second one under Against")
            return looking.masks(self.context.state, wanted, watch)

        yield from self._long(request, event, "agreed", self.cancel_masks, messages_of)

    def buys(self, request: gr.Request, event: gr.EventData) -> Iterator[Update]:
        """Measure what a recipe buys."""

        def messages_of(wanted: Looked, watch: Watch) -> Telling[None]:
            if len(wanted.columns) != 1:
                raise InputError("one recipe at a time is measured; give one")
            return looking.buys(self.context.state, wanted, watch)

        yield from self._long(request, event, "bought", self.cancel_buys, messages_of)

    def own(self, request: gr.Request, event: gr.EventData) -> Iterator[Update]:
        """Answer one's own prompts."""

        def messages_of(wanted: Looked, watch: Watch) -> Telling[None]:
            prompts = asked.prompts_of(asked.data_of(event), self.settings)
            if not wanted.columns:
                raise InputError("no recipe was given; choose a method")
            return looking.own_prompts(self.context.state, wanted, prompts, watch)

        yield from self._long(request, event, "own", self.cancel, messages_of)

    def why(self, request: gr.Request, event: gr.EventData) -> Iterator[Update]:
        """Tell what every model on the page finds likeliest where a token stands, and how they part."""
        say, state = speaker(request), self.context.state
        run = None
        try:
            data = asked.data_of(event)
            run = asked.run_of(data)
            model = asked.model_of(data)
            columns, prompt, place = asked.place_of(data, self.settings, self._owns(request))
            watch = Watch(say, arrival_of(request), lambda: None, lambda: False)

            def tell(step: Any) -> Message | None:
                if not isinstance(step, Progress):
                    return None
                return {"run": run, "words": messages.progress(step, say)["words"]}

            steps = state.told_steps(model, [column.recipe for column in columns], prompt, place)
            found = yield from self._passing("told", watch.through(steps, tell))
            told = {"run": run, **messages.told(found, [column.id for column in columns])}
            yield self._tell("told", told)
        except WandaError as error:
            yield self._tell("told", {"run": run, "problem": problem_words(error, say)})

    def open(self, request: gr.Request, event: gr.EventData) -> Iterator[Update]:
        """Load a model; one that fails changes nothing. A `token` of the hub is for this download alone."""
        say, state, context = speaker(request), self.context.state, self.context
        name: object = None
        stopped = self.cancel.since(request, str)
        try:
            data = asked.data_of(event)
            name, token = asked.model_of(data), asked.token_of(data, self.settings)
            watch = Watch(say, arrival_of(request), lambda: None, lambda: stopped() is not None)

            def tell(step: Any) -> Message:
                loading = say("view.loading", model=str(name)[:100])
                return {"model": name, "progress": messages.progress(step, say), "chip": loading}

            steps = state.model_steps(name, token)
            loaded = yield from self._passing("opened", watch.through(steps, tell))
            told = {
                "model": name,
                "ready": True,
                "title": loaded.lm.title,
                "chip": messages.chip(loaded.about, say),
                "windows": say("view.windows", windows=work.EVAL_WINDOWS, seq_len=work.EVAL_SEQ_LEN),
                "dense": messages.dense(loaded.dense),
            }
            yield {**self._tell("opened", told), context.model: loaded.name}
        except StoppedError:
            yield self._tell("opened", {"model": name, "problem": say("view.cancelled")})
        except GatedError as error:  # a token may be typed where it stays on this machine
            gated = None if self.settings.public else error.address
            yield self._tell("opened", {"model": name, "problem": problem_words(error, say), "gated": gated})
        except WandaError as error:
            yield self._tell("opened", {"model": name, "problem": problem_words(error, say)})

    def analyse(self, request: gr.Request, model: str) -> Iterator[Update]:
        """Read the activations that the tabs show and fast recipes need, when nobody waits for anything else."""
        if self.context.state.loaded(model) is None:
            return
        steps = self.context.state.open_steps(model, quiet=True)
        watch = Watch(speaker(request), arrival_of(request), lambda: None, lambda: False)
        for _ in watch.through(steps, lambda step: {}):
            yield no_change()

    def expect(self, request: gr.Request, event: gr.EventData) -> Update:
        """Tell how long the recipes will take."""
        say, state = speaker(request), self.context.state
        try:
            data = asked.data_of(event)
            model, columns = asked.model_of(data), asked.columns_of(data, self.settings, self._owns(request))
        except InputError as error:
            return self._tell("expected", {"seconds": None, "words": problem_words(error, say)})
        expected = [state.expected(model, column.recipe) for column in columns]
        needed = [state.needed_bytes(model, column.recipe.spec) for column in columns]
        known = [each.pruning for each in expected if each.pruning is not None]
        words = ""
        if needed and needed[0] is not None:
            words = say("view.need", megabytes=f"{needed[0] / 1e6:,.0f}")
        whole = sum(known) if len(known) == len(columns) and known else None
        return self._tell("expected", {"seconds": whole, "words": words, "points": [each.point for each in expected]})

    def bring_text(self, request: gr.Request, event: gr.EventData) -> Update:
        """Keep a calibration text that was uploaded."""
        say = speaker(request)
        try:
            data = asked.data_of(event)
            path, name = data.get("path"), data.get("name")
            check_uploaded(say("view.calibration"), path, self.view.GRADIO_CACHE, self.settings)
            real = Path(os.path.realpath(str(path)))
            if self.settings.public and kind_of(real) == ".parquet":
                raise RefusedError(400, "parquet")  # its pages unpack to what they say only when they are read
            digest = self._digest_of(real)
            self.context.state.texts.owned.add(digest, visitors_in(request))
            told = {"digest": digest, "name": str(name)[:100]}
        except RefusedError as error:
            told = {"problem": error.words(say)}
        except WandaError as error:
            told = {"problem": problem_words(error, say)}
        return self._tell("text", told)

    def _digest_of(self, file: Path) -> str:
        """Return the digest of a text, which is read unless it was before and is kept still."""
        texts = self.context.state.texts
        try:
            about = file.stat()
        except OSError:  # uploads are not kept for ever
            raise RefusedError(400, "file_gone", control="path") from None
        key = (str(file), about.st_size, about.st_mtime_ns)
        digest = self.brought.get(key)
        if digest is None or not texts.holds(digest):
            read = partial(read_documents, file, most=self.settings.upload_bytes)
            digest = texts.put(read(), read)
            self.brought.put(key, digest)
        return digest

    def _owns(self, request: gr.Request) -> asked.Owns:
        """Make the question whether the visitor has brought a text."""
        return self.context.state.texts.of(visitors_in(request))

    @property
    def settings(self) -> Any:
        """The settings of the server."""
        return self.context.page.settings

    def _long(
        self,
        request: gr.Request,
        event: gr.EventData,
        kind: str,
        cancel: Cancel,
        messages_of: Callable[[Looked, Watch], Telling[None]],
        newest: bool = False,
    ) -> Iterator[Update]:
        """Run a long event and pass its messages on; its last says that it has ended, whatever happened.

        newest: whether a newer one of the same visitor ends it.
        """
        say, visitor = speaker(request), str(request.session_hash)
        pressed = cancel.since(request, str)
        number = self.newest.number()

        def placed() -> None:
            if newest:
                self.newest.place(visitor, number)

        def stopped() -> bool:
            return pressed() is not None or (newest and self.newest.is_old(visitor, number))

        last: Message = {"run": None, "columns": {}, "points": {}, "keys": {}, "rows": []}
        try:
            data = asked.data_of(event)
            last["run"] = asked.run_of(data)
            wanted = asked.looked(data, self.settings, self._owns(request))
            last["model"] = wanted.model
            arrival = arrival_of(request)
            with self.context.state.engine.present(arrival):
                for message in messages_of(wanted, Watch(say, arrival, placed, stopped)):
                    last = message if message is not None else last
                    yield self._tell(kind, message)
        except StoppedError:
            yield self._tell(kind, {**last, "progress": None, "ended": True, "done": say("view.cancelled")})
        except WandaError as error:
            yield self._tell(kind, {**last, "progress": None, "ended": True, "problem": problem_words(error, say)})

    def _passing(self, kind: str, telling: Telling[T]) -> Generator[Update, None, T]:
        """Pass messages on, and return the result behind them."""
        try:
            while True:
                yield self._tell(kind, next(telling))
        except StopIteration as stop:
            result: T = stop.value
            return result

    def _tell(self, kind: str, message: Message | None) -> Update:
        """Send a message. Its number tells the browser that it is another: what is added deep inside goes unnoticed."""
        if message is None:
            return no_change()
        return {self.view: {**gr.update(), kind: {**message, "number": next(self.numbers)}}}


def recipe_at(column: Column, percent: float) -> Recipe:
    """Return a column's recipe at another sparsity, or with another share of its parts gone."""
    if column.smaller_at is not None:
        return column.smaller_at(percent)
    recipe, spec = column.recipe, column.recipe.spec
    if spec.n_of_m is not None:
        return recipe
    return replace(recipe, spec=replace(spec, sparsity=as_share(percent)))


def build(context: TabContext) -> Tab:
    """Lay out the place of the view, and what happens when it asks for something."""
    heard: dict[str, Any] = dict.fromkeys(HEARD)
    view = gr.HTML(
        "",
        html_template='<div class="wl-slot"></div>',
        js_on_load=BRIDGE,
        apply_default_css=False,
        elem_id="view",
        **heard,
    )
    View(context, view, Cancel(), Cancel(), Cancel(), Cancel(), Newest(), count(1), Kept(MOST_BROUGHT)).wire()
    wiring.wire(context, view)
    return Tab()
