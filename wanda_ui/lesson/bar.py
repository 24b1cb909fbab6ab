"""The row of steps above the lesson: where one is, and which were answered. Pressing one goes there."""

from html import escape

from wanda_ui.language import Say
from wanda_ui.lesson.answers import Run
from wanda_ui.lesson.plan import STEPS
from wanda_ui.lesson.summary import VERDICTS, fits

# The row is drawn anew after every answer; its root hears the presses.
PRESSED = """
element.addEventListener("click", (event) => {
    const button = event.target.closest("[data-step]");
    if (button) trigger("go", { step: Number(button.dataset.step) });
});
"""


def bar(run: Run, now: int, say: Say) -> str:
    """Write the row. now: the step one is at, from 1."""
    items = []
    for number, step in enumerate(STEPS, 1):
        record = run.get(number)
        verdict = "" if record is None else VERDICTS[fits(record)]
        told = say(f"lesson.run.{verdict}") if verdict else ""
        here = " aria-current='step'" if number == now else ""
        more = f"<span class='wl-hidden'> ({escape(told)})</span>" if told else ""
        items.append(
            f"<li class='{verdict and 'wl-'}{verdict}'><button type='button' data-step='{number}'{here}>"
            f"<b>{number}</b> {escape(say(f'lesson.{step.name}.title'))}{more}</button></li>"
        )
    end = len(STEPS) + 1
    here, test = " aria-current='step'" if now == end else "", escape(say("try.exam.title"))
    items.append(f"<li><button type='button' data-step='{end}'{here}><b>{end}</b> {test}</button></li>")
    return f"<nav class='wl-steps' aria-label='{escape(say('lesson.run.steps'))}'><ol>{''.join(items)}</ol></nav>"
