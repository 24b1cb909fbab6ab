"""Can one weight matter more than millions of others? The candidate is found, and zeroed alone."""

from typing import Any

import gradio as gr

from wanda_core.outliers.super_weight import (
    SuperWeight,
    SuperWeightReport,
    ZeroedWeight,
    super_weight_steps,
    super_weights_steps,
)
from wanda_core.progress import Steps
from wanda_ui import markup
from wanda_ui.app_state import Loaded
from wanda_ui.language import Say
from wanda_ui.outliers.ablation import WINDOWS, evaluation, page_settings, prompt_box, written
from wanda_ui.outliers.figures.strips import super_strip
from wanda_ui.outliers.section import Section, buttons, listed, question
from wanda_ui.outliers.sentence import SENTENCE
from wanda_ui.outliers.words import perplexity, weight_name
from wanda_ui.picture import drawn, picture
from wanda_ui.tab_context import TabContext

DRAWS = 5
MOST_ROWS = 5  # candidates, the strongest first
COLUMNS = "what where weight perplexity times_untouched line"
CANDIDATES = "at_block where weight spike share times_median"
Found = tuple[int, tuple[SuperWeight, ...], SuperWeightReport]


def build(context: TabContext) -> None:
    """One button: find, zero, compare."""
    question("super_weight")
    with gr.Row(elem_classes="wl-ask"):
        prompt = prompt_box("super")
        run, cancel = buttons("super")
    status = gr.HTML("", elem_id="super-status")
    dots = picture("super-strip")
    table = gr.HTML("", elem_id="super-table", elem_classes="wl-lines")
    candidates = gr.HTML("", elem_id="super-candidates")

    def steps(name: str, prompt: str) -> Steps[Found]:
        settings = page_settings(DRAWS, WINDOWS, prompt)

        def look(loaded: Loaded) -> Steps[Found]:
            found = yield from super_weights_steps(loaded.lm, SENTENCE)
            first = found[0]
            text, seq_len = evaluation(loaded)
            intervention = super_weight_steps(
                loaded.lm, first.linear, first.row, first.column, text, seq_len=seq_len, **settings
            )
            sizes = (linear.shape for linear in loaded.lm.all_linears)
            return sum(rows * columns for rows, columns in sizes), found, (yield from intervention)

        return (yield from context.state.found_steps(name, ("super weight", *settings.values()), look))

    section = Section(context, status, run, cancel, [*dots.outputs, table, candidates])
    section.wire(steps, show, [prompt], again=[prompt.submit])


def show(found: Found, say: Say, *_: object) -> list:
    """The dots, what they say, a row for every run, and the candidates of the other blocks."""
    of, weights, report = found
    first = weights[0]
    low, high = report.random_range
    values: dict[str, Any] = {
        "where": weight_name(first.linear, first.row, first.column),
        "weight": first.weight,
        "millions": of / 1e6,
        "share": first.share,
        "spike": markup.number(first.spike),
        "block": first.block,
        "token": first.token,
        "untouched": perplexity(report.untouched),
        "chosen": perplexity(report.chosen.perplexity),
        "times": perplexity(report.chosen.perplexity / report.untouched),
        "largest": perplexity(report.largest.perplexity),
        "largest_weight": report.largest.weight,
        "low": perplexity(low),
        "high": perplexity(high),
        "draws": len(report.random),
        "windows": report.windows,
        "seq_len": report.seq_len,
    }
    matters = report.chosen.perplexity > max(high, report.largest.perplexity)
    words = [say("outliers.super_weight.spike", **values)]
    words.append(say(f"outliers.super_weight.{'more' if matters else 'same'}_text", **values))
    words.append(say("outliers.ablation.read", **values))
    rows: list[list[object]] = [
        [say("outliers.ablation.untouched"), "–", "–", values["untouched"], "1.00", written(report.line)]
    ]
    runs = [("outliers.super_weight.chosen", report.chosen), ("outliers.super_weight.largest", report.largest)]
    rows += [_row(say(key), one, report) for key, one in runs]
    rows += [_row(say("outliers.ablation.draw", draw=draw), one, report) for draw, one in enumerate(report.random, 1)]
    others: list[list[object]] = [
        [
            one.block,
            weight_name(one.linear, one.row, one.column),
            f"{one.weight:.3g}",
            markup.number(one.spike),
            f"{one.share:.0%}",
            markup.number(one.ratio),
        ]
        for one in weights[:MOST_ROWS]
    ]
    return [
        *drawn(say("outliers.super_weight.title", **values), super_strip(report, say), " ".join(words)),
        listed(say, "super_weight", COLUMNS, rows),
        listed(say, "candidates", CANDIDATES, others),
    ]


def _row(what: str, one: ZeroedWeight, report: SuperWeightReport) -> list[object]:
    ratio = perplexity(one.perplexity / report.untouched)
    where = weight_name(one.linear, one.row, one.column)
    return [what, where, f"{one.weight:.3g}", perplexity(one.perplexity), ratio, written(one.line)]
