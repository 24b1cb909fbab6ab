"""Massive activations on the reader's own sentence: which token, which channel, how large."""

import gradio as gr

from wanda_core.outliers.analysis import MASSIVE_MAGNITUDE, MASSIVE_RATIO
from wanda_core.outliers.massive import MOST_LISTED, Massive, massive, top_and_median, top_channels
from wanda_core.outliers.sentence import Sentence, read_sentence_steps
from wanda_core.progress import Steps
from wanda_ui import markup
from wanda_ui.language import Say, label
from wanda_ui.outliers.figures.sentence import token_channels, token_surface
from wanda_ui.outliers.figures.stream import magnitude_lines
from wanda_ui.outliers.section import Section, buttons, listed, question
from wanda_ui.picture import drawn, picture
from wanda_ui.tab_context import TabContext

SENTENCE = "The sky is blue because sunlight is scattered by the air. At dusk the light is red."
MOST_ROWS = 40  # of the table; the sentence says how many there are
MOST_NAMED = 8  # tokens or channels in a sentence
COLUMNS = "at_block token_place token channel value times_median"


def sentence_steps(context: TabContext, name: str, text: str) -> Steps[Sentence]:
    """A sentence read by the model of that name, now or before."""
    return context.state.found_steps(name, ("sentence", text), lambda loaded: read_sentence_steps(loaded.lm, text))


def build(context: TabContext, start: object) -> None:
    """start: the event that shows the section for the first time."""
    question("sentence")
    with gr.Row(elem_classes="wl-ask"):
        text = textbox("sentence")
        run, cancel = buttons("sentence")
    with gr.Row(elem_classes="wl-options"):
        block = gr.Dropdown([], label=label("outliers.sentence.block"), elem_id="sentence-block", min_width=110)
        magnitude = gr.Number(
            MASSIVE_MAGNITUDE, label=label("outliers.sentence.magnitude"), elem_id="sentence-magnitude", min_width=110
        )
        ratio = gr.Number(
            MASSIVE_RATIO, label=label("outliers.sentence.ratio"), elem_id="sentence-ratio", min_width=130
        )
        solid = gr.Checkbox(False, label=label("outliers.sentence.solid"), elem_id="sentence-solid", min_width=130)
    status = gr.HTML("", elem_id="sentence-status")
    cells, lines = picture("sentence-cells"), picture("sentence-lines")
    table = gr.HTML("", elem_id="sentence-table")
    section = Section(context, status, run, cancel, [block, *cells.outputs, *lines.outputs, table])

    def steps(name: str, text: str, *_: object) -> Steps[Sentence]:
        return sentence_steps(context, name, text)

    section.wire(
        steps,
        show,
        [text, block, magnitude, ratio, solid],
        again=[block.input, magnitude.submit, ratio.submit, solid.input, text.submit],
        start=[start],
    )


def textbox(name: str) -> gr.Textbox:
    """Where a sentence is written; how long it may be is the engine's to say."""
    return gr.Textbox(
        SENTENCE,
        label=label("outliers.sentence.box"),
        lines=1,
        max_lines=4,
        max_length=50_000,
        scale=5,
        elem_id=f"{name}-text-box",
    )


def show(
    sentence: Sentence, say: Say, text: str, block: int | None, magnitude: float, ratio: float, solid: bool
) -> list:
    """The picture of one block, the lines over all of them and the table of what passes."""
    found = massive(sentence.hidden, magnitude, ratio)
    top, median = top_and_median(sentence.hidden)
    blocks = len(median)
    if not isinstance(block, int) or not 0 <= block < blocks:
        block = found[0].block if found else int((top[:, 0] / median.clamp_min(1e-12)).argmax())
    figure = token_surface(sentence, block, say) if solid else token_channels(sentence, block, say, magnitude, ratio)
    title, words = _cells_words(sentence, found, block, {"magnitude": magnitude, "times": ratio}, say)
    rise = int(top[:, 0].argmax())
    values = {
        "top_span": markup.number(float(top[:, 0].max() / top[:, 0].min().clamp_min(1e-12))),
        "median_span": markup.number(float(median.max() / median.min().clamp_min(1e-12))),
        "largest": markup.number(float(top[rise, 0])),
        "rise": rise,
        "rise_median": float(median[rise]),
        "block": block,
        "tops": " · ".join(markup.number(value) for value in top[block].tolist()),
        "median": float(median[block]),
    }
    return [
        gr.Dropdown(list(range(blocks)), value=block),
        *drawn(title, figure, words),
        *drawn(
            say("outliers.sentence.lines_title", **values),
            magnitude_lines(top, median, say),
            say("outliers.sentence.lines_text", **values),
        ),
        listed(say, "sentence", COLUMNS, _rows(sentence, found)),
    ]


def _cells_words(
    sentence: Sentence, found: list[Massive], block: int, criterion: dict[str, float], say: Say
) -> tuple[str, str]:
    """Title and sentence of the token × channel picture."""
    hidden = sentence.hidden[block]
    channel = top_channels(hidden, 1)[0]
    token = int(hidden[:, channel].abs().argmax())
    value = float(hidden[token, channel])
    median = float(top_and_median(hidden[None])[1][0])
    values = {
        "token": sentence.tokens[token],
        "channel": channel,
        "block": block,
        "value": markup.number(value),
        "ratio": markup.number(abs(value) / max(median, 1e-12)),
        "scalars": sentence.hidden.numel(),
        "count": len(found),
        "tokens": ", ".join(f"“{sentence.tokens[t]}”" for t in sorted({m.token for m in found})[:MOST_NAMED]),
        "channels": ", ".join(str(c) for c in sorted({m.channel for m in found})[:MOST_NAMED]),
        **criterion,
    }
    here = any(m.block == block for m in found)
    title = say(f"outliers.sentence.{'cells' if here else 'even'}_title", **values)
    if not found:
        return title, say("outliers.sentence.none_text", **values)
    return title, say(f"outliers.sentence.{'some' if len(found) < MOST_LISTED else 'many'}_text", **values)


def _rows(sentence: Sentence, found: list[Massive]) -> list[list[object]]:
    return [
        [m.block, m.token, sentence.tokens[m.token], m.channel, markup.number(m.value), markup.number(m.ratio)]
        for m in found[:MOST_ROWS]
    ]
