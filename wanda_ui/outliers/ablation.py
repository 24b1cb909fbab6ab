"""Section: what if they are taken away? Chosen channels ablated, against as many random ones."""

import math
import re
from functools import partial
from typing import Any

import gradio as gr

from wanda_core.assets import BUILTIN_EVALUATION
from wanda_core.checks import ABLATION_WINDOWS, EVAL_SEQ_LEN
from wanda_core.errors import InputError
from wanda_core.outliers.ablation import (
    PLACES,
    VALUES,
    Ablation,
    AblationReport,
    ablate_steps,
    channel_means_steps,
)
from wanda_core.outliers.analysis import Analysis, standing_out
from wanda_core.outliers.interventions import LEAST_DRAWS
from wanda_core.outliers.verdict import HARM, harms, verdict
from wanda_core.progress import Steps
from wanda_core.text.files import read_text
from wanda_core.text.windows import calibrate
from wanda_ui.engine.loaded import Loaded
from wanda_ui.inputs import as_int, typed_number
from wanda_ui.jobs import LIGHT, Update
from wanda_ui.language import Say, label
from wanda_ui.outliers.figures.strips import ablation_strip
from wanda_ui.outliers.section import Section, buttons, question, section_table
from wanda_ui.outliers.words import channel_list, generated_line, perplexity
from wanda_ui.picture import Drawing, picture
from wanda_ui.tab_context import TabContext

MOST_DRAWS, MOST_WINDOWS = 12, 8  # on the page, where others wait; the engine takes more
MOST_CHARACTERS = 20_000  # of the list of channels
PROMPT, LINE_TOKENS = "The sky is blue because", 16
COLUMNS = ("what", "channels", "perplexity", "times_untouched", "line")


def build(context: TabContext) -> gr.Textbox:
    """Lay the section out; return the box of channels, which is filled when a model has been analysed."""
    question("ablation")
    with gr.Row(elem_classes="wl-options wl-ask"):
        channels = gr.Textbox(
            "",
            label=label("outliers.ablation.channels"),
            elem_id="ablation-channels",
            max_length=MOST_CHARACTERS,
            min_width=150,
            scale=2,
        )
        take = gr.Button(label("outliers.ablation.take"), elem_id="ablation-take", scale=0, min_width=160, size="md")
        run, cancel = buttons("ablation")
    with gr.Row(elem_classes="wl-options"):
        value = gr.Radio(
            [(label(f"outliers.ablation.{name}"), name) for name in VALUES],
            value="zero",
            label=label("outliers.ablation.value"),
            elem_id="ablation-value",
            min_width=160,
        )
        tokens = gr.Radio(
            [(label(f"outliers.ablation.{name}"), name) for name in PLACES],
            value="all",
            label=label("outliers.ablation.tokens"),
            elem_id="ablation-tokens",
            min_width=260,
        )
        from_block = gr.Number(0, label=label("outliers.ablation.from_block"), elem_id="ablation-from", min_width=90)
        draws = gr.Slider(
            LEAST_DRAWS,
            MOST_DRAWS,
            value=LEAST_DRAWS,
            step=1,
            label=label("outliers.ablation.draws"),
            elem_id="ablation-draws",
            buttons=[],
            min_width=210,
        )
        windows = gr.Slider(
            1,
            MOST_WINDOWS,
            value=ABLATION_WINDOWS,
            step=1,
            label=label("outliers.ablation.windows"),
            elem_id="ablation-windows",
            buttons=[],
            min_width=210,
        )
    prompt = prompt_box("ablation")
    status = gr.HTML("", elem_id="ablation-status")
    strip = picture("ablation-strip")
    table = gr.HTML("", elem_id="ablation-table", elem_classes="wl-lines")

    def steps(
        name: str, typed: str, value: str, tokens: str, start: float, draws: float, windows: float, prompt: str
    ) -> Steps[AblationReport]:
        chosen = Ablation(channels_of(typed), value, tokens, as_int(start))
        settings = page_settings(draws, windows, prompt)
        key = ("ablation", chosen, *settings.values())
        make = partial(_ablated, chosen=chosen, settings=settings)
        check = partial(_check_fits, chosen=chosen)
        return (yield from context.state.measurement_steps(name, key, make, check))

    def fill(report: AblationReport, say: Say, *_: object) -> Update:
        drawing, rows = show(report, say)
        return {**strip.show(drawing), table: rows}

    inputs = [channels, value, tokens, from_block, draws, windows, prompt]
    section = Section(context, status, run, cancel, [strip], [table])
    section.wire(steps, fill, inputs, again=[channels.submit])

    def take_massive(name: str) -> object:
        loaded = context.ready(name)
        return gr.skip() if loaded is None or loaded.analysis is None else massive_channels(loaded.analysis)

    take.click(take_massive, context.model, channels, **LIGHT)
    return channels


def massive_channels(analysis: Analysis) -> str:
    """List the channels with massive activations on the calibration text, or the one that stands out most."""
    channels = standing_out(analysis)
    return ", ".join(str(channel.channel) for channel in channels if channel.massive) or str(channels[0].channel)


def channels_of(typed: object) -> tuple[int, ...]:
    """Read channels from a typed list. Raises InputError for what is no whole number."""
    parts = re.split(r"[,;\s]+", typed[:MOST_CHARACTERS].strip(" ,;\n\t")) if isinstance(typed, str) else [""]
    if parts == [""]:
        raise InputError("no channel is given; type one or more, such as 507, or take the found ones")
    channels = []
    for part in parts:
        channel = typed_number(part)
        if channel is None:
            raise InputError(f"{part[:40]!r} is not a channel; type whole numbers from 0, with commas between them")
        channels.append(channel)
    return tuple(channels)


def show(report: AblationReport, say: Say) -> tuple[Drawing, str]:
    """Draw the dots with what they say, and a table with a row for every run."""
    chosen = report.ablation.channels
    low, high = report.random_range
    values = {
        "channels": say(f"outliers.ablation.{'one' if len(chosen) == 1 else 'several'}", channels=channel_list(chosen)),
        "count": len(chosen),
        "untouched": perplexity(report.untouched),
        "chosen": perplexity(report.chosen.perplexity),
        "times": perplexity(report.chosen.perplexity / report.untouched),
        "low": perplexity(low),
        "high": perplexity(high),
        "draws": len(report.random),
        "windows": report.windows,
        "seq_len": report.seq_len,
        "harm": HARM,
        "over": perplexity(report.chosen.perplexity / high),
        "zeroed": perplexity(report.zeroed.perplexity if report.zeroed is not None else math.nan),
    }
    title = say(f"outliers.ablation.{report.ablation.value}_title", **values)
    words = " ".join(say(f"outliers.ablation.{key}", **values) for key in findings(report))
    rows: list[list[object]] = [
        [say("outliers.ablation.untouched"), "–", values["untouched"], "1.00", generated_line(report.line)]
    ]
    runs = [(say("outliers.ablation.chosen"), report.chosen)]
    if report.zeroed is not None:
        runs.append((say("outliers.ablation.zeroed"), report.zeroed))
    runs += [(say("outliers.ablation.draw", draw=draw), run) for draw, run in enumerate(report.random, start=1)]
    for what, run in runs:
        ratio = perplexity(run.perplexity / report.untouched)
        rows.append([what, channel_list(run.channels), perplexity(run.perplexity), ratio, generated_line(run.line)])
    drawing = Drawing(title, ablation_strip(report, say), f"{words} {say('outliers.ablation.read', **values)}")
    return drawing, section_table(say, "ablation", COLUMNS, rows)


def findings(report: AblationReport) -> list[str]:
    """List what the perplexities show, as keys: whether it matters which channels are changed, and what for."""
    said = verdict(report.untouched, report.chosen.perplexity, [draw.perplexity for draw in report.random])
    if report.zeroed is None:
        return [f"{said}_text", *(["try_mean"] if said == "these" else [])]
    mean, zero = (harms(report.untouched, run.perplexity) for run in (report.chosen, report.zeroed))
    return [
        f"{said}_text",
        {(0, 1): "constant", (0, 0): "spare", (1, 1): "both_harm", (1, 0): "mean_harms"}[mean, zero],
    ]


def prompt_box(name: str) -> gr.Textbox:
    """Lay out the box with the text that every setting of the model continues; empty, nothing is generated."""
    return gr.Textbox(
        PROMPT, label=label("outliers.ablation.prompt"), elem_id=f"{name}-prompt", max_length=20_000, max_lines=4
    )


def page_settings(draws: object, windows: object, prompt: object) -> dict[str, Any]:
    """Return the settings of a measurement. Raises InputError for more than the page runs; the engine checks again."""
    counts = {"draws": (as_int(draws), MOST_DRAWS), "windows": (as_int(windows), MOST_WINDOWS)}
    for name, (value, most) in counts.items():
        if isinstance(value, int) and value > most:
            raise InputError(f"{name} {value} is more than the {most} that the page runs; take the engine for more")
    line = prompt if isinstance(prompt, str) and prompt.strip() else None
    return {"draws": counts["draws"][0], "windows": counts["windows"][0], "prompt": line, "line_tokens": LINE_TOKENS}


def evaluation(loaded: Loaded) -> tuple[str, int]:
    """Return the text that perplexity is measured on, and how many tokens its windows have for this model."""
    return read_text(BUILTIN_EVALUATION), min(EVAL_SEQ_LEN, loaded.lm.longest or EVAL_SEQ_LEN)


def _check_fits(loaded: Loaded, chosen: Ablation) -> None:
    """Raise InputError for channels or a block that the model does not have."""
    chosen.check_fits(loaded.lm.stream_width, len(loaded.lm.linears))


def _ablated(loaded: Loaded, chosen: Ablation, settings: dict[str, Any]) -> Steps[AblationReport]:
    """Measure the channels' means if they are to stand in for the channels, then what the ablation does."""
    lm = loaded.lm
    means = None
    chosen.check_fits(lm.stream_width, len(lm.linears))
    if chosen.value == "mean":
        means = yield from channel_means_steps(lm, loaded.calibration or calibrate(lm))
    text, seq_len = evaluation(loaded)
    return (yield from ablate_steps(lm, chosen, text, means=means, seq_len=seq_len, **settings))
