"""What stands beside the eight steps: a place to sketch a prediction, a piece to prune by hand, and the end of the
lesson, with its test and what a learner hands in. All of it is drawn in the browser by `assets/lesson`, which keeps the
answers; the server draws the test's items, cuts other pieces, and has none of what was answered.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict
from functools import cache, partial
from html import escape
from typing import Any

import gradio as gr

from wanda_core.assets import PIECE
from wanda_core.checks import check_whole
from wanda_core.explain.toy_example import LOUD_INPUT, choose, example_inputs, example_matrix
from wanda_core.progress import Steps
from wanda_core.report import exam
from wanda_core.report.piece import stored_steps
from wanda_ui.engine.loaded import Loaded
from wanda_ui.gate.arrivals import arrival_of
from wanda_ui.inputs import as_int
from wanda_ui.jobs import ENGINE, Update, watched
from wanda_ui.language import label, say, speaker
from wanda_ui.lesson.answers import Answer
from wanda_ui.lesson.layout import SLOT
from wanda_ui.lesson.plan import STEPS
from wanda_ui.tab_context import TabContext

END = len(STEPS) + 1  # number of the test, in the row of steps and in the address
BEAT = "masks"  # the step at whose end a piece is pruned by hand
SKETCHED = ("matrix", "ablate", "cost")  # steps whose answer is sketched first
MOST_SEED = 2**31 - 1
Json = dict[str, Any]


def truth(step: str, answer: Answer) -> str:
    """Write what a sketch of a step is laid over, for its script; nothing for a step that has no sketch."""
    values: Any = None
    if step == "matrix":
        chosen = choose(example_matrix(), example_inputs(float(answer.numbers["size"])), "wanda")
        values = chosen.cut.tolist()
    elif step == "ablate":
        zero = answer.data["zero"]
        random_one = max(perplexity for _, perplexity in answer.data["random"])
        values = [answer.data["untouched"], random_one, zero["first"], zero["others"], zero["all"]]
    elif step == "cost":
        values = [answer.data["dense"], *(perplexity for _, perplexity in answer.data["along"]["magnitude"])]
    if values is None:
        return ""
    return f"<span class='wl-truth' hidden data-truth='{escape(json.dumps(values), quote=True)}'></span>"


def told_to_page(language: str) -> Json:
    """Collect what the scripts need from the start: steps, the stored piece, the matrix of step 2."""
    W = example_matrix()
    return {
        "steps": [[step.name, say(language, f"lesson.{step.name}.title")] for step in STEPS],
        "piece": stored_piece(),
        "matrix": {"w": [[round(value, 2) for value in row] for row in W.tolist()], "loud": LOUD_INPUT},
    }


@cache
def stored_piece() -> Json:
    """Read the stored piece, as `wanda_core/report/piece.py` writes it."""
    piece: Json = json.loads(PIECE.read_text(encoding="utf-8"))
    return piece


def sketch_place(number: int, step: str) -> None:
    """Lay out the place for a sketch, where a step has one. number: of the step."""
    if step in SKETCHED:
        mount = f"window.WandaLab?.lesson?.sketch(element, {json.dumps(step)}, {number});"
        gr.HTML("", html_template=SLOT, js_on_load=mount, elem_id=f"lesson-{number}-sketch", elem_classes="wl-try")


# The server's words come as a value of the component; what it is asked goes by an event of the component's own.
MOUNT = """
window.WandaLab?.lesson?.%s(element, {
    ask: data => trigger('%s', data),
    watch: call => watch('value', () => call(props.value)),
});
"""


def beat_place(context: TabContext) -> None:
    """Lay out the piece that is pruned by hand; another one is cut out of the chosen model when it is asked for."""
    beat, status = _place("beat", "cut"), gr.HTML("", elem_id="lesson-beat-status")

    def cut(request: gr.Request, name: str, event: gr.EventData) -> Iterator[Update]:
        steps = _cut(context, name, event)
        told = yield from watched(steps, lambda html: {status: html}, speaker(request), arrival=arrival_of(request))
        if told is not None:
            yield {status: "", beat: json.dumps(told)}

    beat.cut(cut, context.model, [beat, status], **ENGINE)  # type: ignore[attr-defined] # an event of its own


def end(context: TabContext) -> None:
    """Lay out the end of the lesson: the test and what is handed in."""
    gr.HTML(f"<h2>{label('try.exam.title')}</h2>", elem_classes="wl-try-title")
    gr.HTML(f"<p>{label('try.exam.story')}</p>", elem_classes="wl-try-title")
    place, status = _place("exam", "draw"), gr.HTML("", elem_id="lesson-exam-status")

    def draw(request: gr.Request, name: str, event: gr.EventData) -> Iterator[Update]:
        steps = _items(context, name, event)
        told = yield from watched(steps, lambda html: {status: html}, speaker(request), arrival=arrival_of(request))
        if told is not None:
            yield {status: "", place: json.dumps(told)}

    place.draw(draw, context.model, [place, status], **ENGINE)  # type: ignore[attr-defined] # an event of its own
    gr.HTML("", html_template=SLOT, js_on_load="window.WandaLab?.lesson?.handIn(element);", elem_classes="wl-try")


def _place(name: str, event: str) -> gr.HTML:
    """Make a component that a script of the same name draws. event: what it asks the server."""
    return gr.HTML(
        "", html_template=SLOT, js_on_load=MOUNT % (name, event), elem_id=f"lesson-{name}", elem_classes="wl-try"
    )


def told_whole(event: gr.EventData, name: str, least: int, most: int) -> int:
    """Return the whole number that an event of a script carries. Raises InputError for anything else."""
    given: Any = as_int(event._data.get(name) if isinstance(event._data, dict) else None)
    check_whole(name, given, least, most)
    return int(given)


def _cut(context: TabContext, name: str, event: gr.EventData) -> Steps[Json]:
    """Cut the piece that an event asks for."""
    seed = told_whole(event, "seed", 0, MOST_SEED)
    return (yield from context.state.measurement_steps(name, ("piece", seed), partial(_piece, seed=seed)))


def _items(context: TabContext, name: str, event: gr.EventData) -> Steps[Json]:
    """Draw the test's items from a model, which is opened for the first who asks."""
    seed = told_whole(event, "seed", 0, MOST_SEED)
    loaded = yield from context.state.open_steps(name)
    assert loaded.analysis is not None  # made by open_steps
    items = exam.draw(loaded.lm, loaded.analysis, seed)
    return {"seed": seed, "model": loaded.lm.title, "items": [asdict(item) for item in items]}


def _piece(loaded: Loaded, seed: int) -> Steps[Json]:
    """Cut a piece; a measurement for the engine."""
    return stored_steps(loaded.lm, seed)
