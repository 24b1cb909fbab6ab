"""Where does attention go? The share that the first token gets, beside how large that token is."""

import math

import gradio as gr

from wanda_core.outliers.sentence import Sentence
from wanda_core.outliers.sinks import Sinks, sink_report
from wanda_core.progress import Steps
from wanda_ui import markup
from wanda_ui.language import Say
from wanda_ui.outliers.figures.sinks import sink_heatmap
from wanda_ui.outliers.section import Section, buttons, listed, question
from wanda_ui.outliers.sentence import sentence_steps, textbox
from wanda_ui.picture import drawn, picture
from wanda_ui.tab_context import TabContext

COLUMNS = "at_block to_first most_head entering"


def build(context: TabContext, start: object) -> None:
    """start: the event that shows the section for the first time."""
    question("sinks")
    with gr.Row(elem_classes="wl-ask"):
        text = textbox("sinks")
        run, cancel = buttons("sinks")
    status = gr.HTML("", elem_id="sinks-status")
    heat = picture("sinks-heatmap")
    table = gr.HTML("", elem_id="sinks-table")

    def steps(name: str, text: str) -> Steps[Sentence]:
        return sentence_steps(context, name, text)

    section = Section(context, status, run, cancel, [*heat.outputs, table])
    section.wire(steps, show, [text], again=[text.submit], start=[start])


def show(sentence: Sentence, say: Say, text: str) -> list:
    """The picture, its words and a row for every block. Raises InputError for a sentence without attention."""
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
    return [*drawn(title, sink_heatmap(sinks, say), words), listed(say, "sinks", COLUMNS, rows)]


def sinks_words(sinks: Sinks, sentence: Sentence, say: Say) -> tuple[str, str]:
    """Title and sentence: the largest share, what an even one would be, and the correlation."""
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
    """What the first of L tokens would get from the later ones if each of them looked at all it sees alike."""
    return sum(1 / seen for seen in range(2, tokens + 1)) / (tokens - 1)
