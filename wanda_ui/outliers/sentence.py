"""Section: massive activations on the reader's own sentence. Which token, which channel, how large?"""

from functools import partial
from typing import Any

import gradio as gr

from wanda_core.outliers.massive import (
    MASSIVE_MAGNITUDE,
    MASSIVE_RATIO,
    MOST_LISTED,
    Massive,
    massive,
    top_and_median,
    top_channels,
)
from wanda_core.outliers.sentence import Sentence, read_sentence_steps, sentence_tokens
from wanda_core.progress import Steps
from wanda_ui import markup
from wanda_ui.engine.loaded import Loaded
from wanda_ui.inputs import some_text
from wanda_ui.jobs import Update
from wanda_ui.language import Say, label
from wanda_ui.outliers.figures.sentence import token_channels, token_surface
from wanda_ui.outliers.figures.stream import magnitude_lines
from wanda_ui.outliers.section import Section, buttons, question, section_table
from wanda_ui.picture import Drawing, picture
from wanda_ui.tab_context import TabContext

SENTENCE = "The sky is blue because sunlight is scattered by the air. At dusk the light is red."
MOST_ROWS = 40  # of the table; the sentence says how many there are
MOST_NAMED = 8  # tokens or channels in a sentence
COLUMNS = ("at_block", "token_place", "token", "channel", "value", "times_median")


def sentence_steps(context: TabContext, name: str, text: str) -> Steps[Sentence]:
    """Read a sentence by the model of that name, unless it was read before. Refuses a blank one before any wait."""
    words = some_text(text, "sentence")

    def check(loaded: Loaded) -> object:
        return sentence_tokens(loaded.lm, words)

    return (yield from context.state.measurement_steps(name, ("sentence", words), partial(read, text=words), check))


def read(loaded: Loaded, text: str) -> Steps[Sentence]:
    """Read a sentence."""
    return read_sentence_steps(loaded.lm, text)


def build(context: TabContext, start: Any) -> None:
    """Lay the section out. start: the event that shows it for the first time."""
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
    section = Section(context, status, run, cancel, [cells, lines], [table], [block])

    def steps(name: str, text: str, *_: object) -> Steps[Sentence]:
        return sentence_steps(context, name, text)

    def fill(
        sentence: Sentence, say: Say, text: str, at_block: int | None, magnitude: float, ratio: float, solid: bool
    ) -> Update:
        massives = massive(sentence.hidden, magnitude, ratio)
        shown_block = block_to_show(sentence, massives, at_block)
        return {
            block: gr.Dropdown(list(range(len(sentence.hidden))), value=shown_block),
            **cells.show(draw_cells(sentence, massives, shown_block, (magnitude, ratio), say, solid)),
            **lines.show(draw_lines(sentence, shown_block, say)),
            table: massive_table(sentence, massives, say),
        }

    section.wire(
        steps,
        fill,
        [text, block, magnitude, ratio, solid],
        again=[block.input, magnitude.submit, ratio.submit, solid.input, text.submit],
        start=[start],
    )


def textbox(name: str) -> gr.Textbox:
    """Lay out the box for a sentence; the engine says how long it may be."""
    return gr.Textbox(
        SENTENCE,
        label=label("outliers.sentence.box"),
        lines=1,
        max_lines=4,
        max_length=50_000,
        scale=5,
        elem_id=f"{name}-text-box",
    )


def block_to_show(sentence: Sentence, massives: list[Massive], chosen: object) -> int:
    """Return the chosen block, else that of the largest massive activation, else where the largest value stands out."""
    if isinstance(chosen, int) and 0 <= chosen < len(sentence.hidden):
        return chosen
    if massives:
        return massives[0].block
    top, median = top_and_median(sentence.hidden)
    return int((top[:, 0] / median.clamp_min(1e-12)).argmax())


def draw_cells(
    sentence: Sentence,
    massives: list[Massive],
    block: int,
    criterion: tuple[float, float],
    say: Say,
    solid: bool = False,
) -> Drawing:
    """Draw one block, token × channel.

    massives: what passes in any block; criterion: least magnitude and least multiple of the median to pass; solid:
    draw a surface and not a plane.
    """
    magnitude, ratio = criterion
    figure = token_surface(sentence, block, say) if solid else token_channels(sentence, block, say, magnitude, ratio)
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
        "count": len(massives),
        "tokens": ", ".join(f"“{sentence.tokens[t]}”" for t in sorted({m.token for m in massives})[:MOST_NAMED]),
        "channels": ", ".join(str(c) for c in sorted({m.channel for m in massives})[:MOST_NAMED]),
        "magnitude": magnitude,
        "times": ratio,
    }
    here = any(m.block == block for m in massives)
    amount = "none" if not massives else "some" if len(massives) < MOST_LISTED else "many"
    return Drawing(
        say(f"outliers.sentence.{'cells' if here else 'even'}_title", **values),
        figure,
        say(f"outliers.sentence.{amount}_text", **values),
    )


def draw_lines(sentence: Sentence, block: int, say: Say) -> Drawing:
    """Draw the largest values of all blocks against the median; the sentence tells those of one block."""
    top, median = top_and_median(sentence.hidden)
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
    return Drawing(
        say("outliers.sentence.lines_title", **values),
        magnitude_lines(top, median, say),
        say("outliers.sentence.lines_text", **values),
    )


def massive_table(sentence: Sentence, massives: list[Massive], say: Say) -> str:
    """Write a table with a row for each of the largest massive activations."""
    rows: list[list[object]] = [
        [m.block, m.token, sentence.tokens[m.token], m.channel, markup.number(m.value), markup.number(m.ratio)]
        for m in massives[:MOST_ROWS]
    ]
    return section_table(say, "sentence", COLUMNS, rows)
