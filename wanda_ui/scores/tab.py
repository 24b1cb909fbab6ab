"""Scores: the place of the view that the scripts of `assets/view` draw, and what the server answers it."""

import gradio as gr

from wanda_ui.scores.answers import Answers
from wanda_ui.tab_context import Tab, TabContext

# The view stands in front of the page until this moves it here.
BRIDGE = "const page = window.WandaLab && window.WandaLab.page; if (page) page.settle('scores', element);"


def build(context: TabContext) -> Tab:
    """Lay out the place of the view; what it asks is answered outside of the queue."""
    gr.HTML(
        "",
        html_template='<div class="wl-slot"></div>',
        js_on_load=BRIDGE,
        apply_default_css=False,
        elem_id="scores-view",
    )
    page = context.page
    answers = Answers(context.state, lambda: page.settings)
    page.questions["scores"] = lambda given, say, visitors: answers.answer(given, visitors)
    return Tab()
