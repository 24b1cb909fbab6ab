"""Section: where does attention go? The share that the first token gets, beside how large that token is."""

import math
from typing import Any

import gradio as gr

from wanda_core.outliers.sentence import Sentence
from wanda_core.outliers.sinks import Sinks, sink_report
from wanda_core.progress import Steps
from wanda_ui import markup
from wanda_ui.jobs import Update
from wanda_ui.language import Say
from wanda_ui.outliers.figures.sinks import sink_heatmap
from wanda_ui.outliers.section import Section, buttons, question, section_table
from wanda_ui.outliers.sentence import sentence_steps, textbox
from wanda_ui.picture import Drawing, picture
from wanda_ui.tab_context import TabContext

COLUMNS = ("at_block", "to_first", "most_head", "entering")


def build(context: TabContext, start: Any) -> None:
    """Lay the section out. start: the event that shows it for the first time."""
    question("sinks")
    with gr.Row(elem_classes="wl-ask"):
        text = textbox("sinks")
        run, cancel = buttons("sinks")
    status = gr.HTML("", elem_id="sinks-status")
    heat = picture("sinks-heatmap")
    table = gr.HTML("", elem_id="sinks-table")

    def steps(name: str, text: str) -> Steps[Sentence]:
        return sentence_steps(context, name, text)

    def fill(sentence: Sentence, say: Say, text: str) -> Update:
        drawing, rows = show(sentence, say)
        return {**heat.show(drawing), table: rows}

    section = Section(context, status, run, cancel, [heat], [table])
    section.wire(steps, fill, [text], again=[text.submit], start=[start])


def show(sentence: Sentence, say: Say) -> tuple[Drawing, str]:
    """Draw the picture, and a table with a row for every block. Raises InputError for a sentence without attention."""
    sinks = sink_report(sentence)
    rows: list[list[object]] = []
    for block, (share, heads, size) in enumerate(
        zip(sinks.per_block.tolist(), sinks.to_first.tolist(), sinks.entering.tolist(), strict=True)
    ):
        known = [head for head in heads if math.isfinite(head)]
        rows.append(
            [
                block,
                f"{share:.1%}" if known else "–",
                f"{max(known):.1%}" if known else "–",
                markup.number(size) if math.isfinite(size) else "–",
            ]
        )
    title, words = sinks_words(sinks, sentence, say)
    return Drawing(title, sink_heatmap(sinks, say), words), section_table(say, "sinks", COLUMNS, rows)


def sinks_words(sinks: Sinks, sentence: Sentence, say: Say) -> tuple[str, str]:
    """Write title and sentence: the largest share, what an even one would be, and the correlation."""
    known = [(value, block) for block, value in enumerate(sinks.per_block.tolist()) if math.isfinite(value)]
    most, block = max(known)
    values = {
        "token": sentence.tokens[0],
        "most": most,
        "block": block,
        "mean": sum(value for value, _ in known) / len(known),
        "even": even_share(len(sentence.tokens)),
        "last": len(sinks.per_block) - 1,
        "correlation": sinks.correlation,
    }
    title = say("outliers.sinks.title", **values)
    words = say("outliers.sinks.text", **values)
    if sinks.correlation is None:
        return title, f"{words} {say('outliers.sinks.no_correlation')}"
    return title, f"{words} {say('outliers.sinks.correlation', **values)}"


def even_share(tokens: int) -> float:
    """Return the share that the first of L tokens would get if every later one looked alike at all that it sees."""
    return sum(1 / seen for seen in range(2, tokens + 1)) / (tokens - 1)
