"""Below the last step: what the zeros do not buy, and what parts buy that are gone, measured on the learner's model."""

from collections.abc import Iterator
from typing import Any

import gradio as gr
import pandas as pd
from gradio.components import Component

from wanda_core.errors import WandaError
from wanda_core.progress import Steps
from wanda_core.recipe import PruneSpec
from wanda_core.report.lesson.plan import SPARSITY
from wanda_core.shrinking.spec import ShrinkSpec
from wanda_ui import markup
from wanda_ui.app_state import AppState
from wanda_ui.engine.buying import Bought, bought_steps
from wanda_ui.engine.recipe import PLAIN, Recipe
from wanda_ui.gate.arrivals import arrival_of
from wanda_ui.jobs import AT_ONCE, ENGINE, Cancel, Update, watched
from wanda_ui.language import Say, label, speaker
from wanda_ui.lesson.layout import cancel_button
from wanda_ui.tab_context import TabContext

SHARE = 0.2  # of the neurons that are gone in the comparison
NOTICED = 0.05  # of a speed: a smaller difference is one of the machine's moods
ZEROS = Recipe(PruneSpec("wanda", SPARSITY, order="one-shot"))
SMALLER = Recipe(PruneSpec("magnitude", 0.0), PLAIN, ShrinkSpec(neurons=SHARE))
Both = tuple[Bought, Bought | str]


def lay_out(context: TabContext, number: int) -> None:
    """Lay out and wire what the last step offers besides. number: of the step."""
    with gr.Column(elem_classes="wl-ask-step", elem_id=f"lesson-{number}-buys"):
        gr.HTML(f"<h2>{label('lesson.buys.question')}</h2>")
        gr.HTML(f"<p>{label('lesson.buys.story')}</p>")
        with gr.Row(elem_classes="wl-buttons"):
            measure = gr.Button(label("lesson.buys.measure"), elem_id=f"lesson-{number}-buys-measure")
            stop = cancel_button(f"lesson-{number}-buys-cancel")
        shown = gr.HTML("", elem_id=f"lesson-{number}-bought")
    cancel = Cancel()

    def press(request: gr.Request, values: dict[Component, Any]) -> Iterator[Update]:
        say = speaker(request)
        stopped = cancel.since(request, lambda: markup.empty(say("lesson.cancelled")))

        def tell(html: str) -> Update:
            return {shown: html}

        steps = both_steps(context.state, values[context.model])
        both = yield from watched(steps, tell, say, stopped, arrival_of(request))
        if both is not None:
            yield tell(told(both, say))

    measure.click(press, {context.model}, [shown], **ENGINE)
    stop.click(cancel.press, None, None, **AT_ONCE)


def both_steps(state: AppState, name: str) -> Steps[Both]:
    """Measure what zeros buy a model, and what it buys to have a share of its neurons gone.

    -> both; the second is the reason in words where the model cannot be made smaller.
    """
    zeros = yield from bought_steps(state, name, ZEROS)
    try:
        return zeros, (yield from bought_steps(state, name, SMALLER))
    except WandaError as error:
        return zeros, str(error)


def told(both: Both, say: Say) -> str:
    """Write the finding, its table, and why."""
    zeros, smaller = both
    rows = [_row(say("lesson.buys.dense"), zeros, 0), _row(say("lesson.buys.zeros", share=SPARSITY), zeros, 1)]
    if isinstance(smaller, str):
        finding, why = say("lesson.buys.finding_zeros", share=SPARSITY), markup.problem(smaller)
    else:
        rows.append(_row(say("lesson.buys.smaller", share=SHARE), smaller, 1))
        less = 1 - smaller.footprints[1].nbytes / smaller.footprints[0].nbytes
        faster = _faster(smaller)
        key = "finding" if faster >= NOTICED else "finding_same"
        finding = say(f"lesson.buys.{key}", share=SPARSITY, gone=SHARE, less=less, faster=faster)
        why = markup.sentence(say("lesson.buys.why"))
    if _faster(zeros) >= NOTICED:
        why += markup.sentence(say("lesson.buys.zeros_faster", faster=_faster(zeros)))
    columns = [say(f"lesson.buys.column.{name}") for name in ("model", "weights", "nonzero", "size", "speed")]
    return (
        markup.figure_title(finding) + markup.table(say("lesson.buys.table"), pd.DataFrame(rows, columns=columns)) + why
    )


def _row(name: str, bought: Bought, place: int) -> list[str]:
    held = bought.footprints[place]
    # Of the dense model's in the same turns: from one pair of turns to the next the machine itself changes its pace.
    speed = "–" if bought.speeds is None else f"{bought.speeds[place].decode / bought.speeds[0].decode:.2f}"
    size = f"{held.nbytes / 1e6:,.0f} MB"
    return [name, f"{held.parameters / 1e6:.1f} M", f"{held.nonzero / 1e6:.1f} M", size, speed]


def _faster(bought: Bought) -> float:
    """By which share more tokens a second are written; 0 where that was not measured."""
    return 0.0 if bought.speeds is None else bought.speeds[1].decode / bought.speeds[0].decode - 1
