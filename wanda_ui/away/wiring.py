"""What the room adds to the page: two questions, the checkpoint's address, and pushing."""

from itertools import count

import gradio as gr

from wanda_ui.away.pushing import Pushing
from wanda_ui.away.take import Take
from wanda_ui.compare.messages import Message
from wanda_ui.jobs import AT_ONCE, ENGINE, Cancel, Update
from wanda_ui.tab_context import TabContext


def wire(context: TabContext, view: gr.HTML) -> None:
    """Answer what the view asks. view: the component, whose events `push` and `cancel_push` are heard here."""
    page, numbers = context.page, count(1)
    take = Take(context.state, lambda: page.settings)
    page.questions |= {"take": take.answer, "checkpoint": take.checkpoint}
    page.downloads["checkpoint"] = context.state.tickets.get

    def tell(message: Message) -> Update:
        return {view: {**gr.update(), "pushed": {**message, "number": next(numbers)}}}

    pushing = Pushing(take, Cancel(), tell)
    view.push(pushing.push, None, view, trigger_mode="multiple", **ENGINE)
    view.cancel_push(pushing.cancel.press, None, None, **AT_ONCE)
