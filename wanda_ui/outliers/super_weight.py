"""Section: can one weight matter more than millions of others? The strongest candidate is zeroed alone."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr

from wanda_core.checks import ABLATION_WINDOWS
from wanda_core.outliers.super_weight import (
    SuperWeight,
    SuperWeightReport,
    ZeroedWeight,
    strongest,
    super_weight_steps,
    super_weights_steps,
)
from wanda_core.outliers.verdict import HARM, verdict
from wanda_core.progress import Steps
from wanda_ui import markup
from wanda_ui.engine.loaded import Loaded
from wanda_ui.jobs import Update
from wanda_ui.language import Say
from wanda_ui.outliers.ablation import evaluation, page_settings, prompt_box
from wanda_ui.outliers.figures.strips import super_strip
from wanda_ui.outliers.section import Section, buttons, question, section_table
from wanda_ui.outliers.sentence import SENTENCE
from wanda_ui.outliers.words import generated_line, perplexity, weight_name
from wanda_ui.picture import Drawing, picture
from wanda_ui.tab_context import TabContext

DRAWS = 5
MOST_ROWS = 5  # candidates, the strongest first
COLUMNS = ("what", "where", "weight", "perplexity", "times_untouched", "line")
CANDIDATES = ("at_block", "where", "weight", "spike", "share", "times_median")


@dataclass(frozen=True)
class Search:
    """Outcome of a search for a super weight.

    weights: how many were searched; candidates: the strongest first; report: what zeroing the first of them does.
    """

    weights: int
    candidates: tuple[SuperWeight, ...]
    report: SuperWeightReport


def build(context: TabContext) -> None:
    """Lay the section out: one button finds, zeroes and compares."""
    question("super_weight")
    with gr.Row(elem_classes="wl-ask"):
        prompt = prompt_box("super")
        run, cancel = buttons("super")
    status = gr.HTML("", elem_id="super-status")
    dots = picture("super-strip")
    table = gr.HTML("", elem_id="super-table", elem_classes="wl-lines")
    candidates = gr.HTML("", elem_id="super-candidates")

    def steps(name: str, prompt: str) -> Steps[Search]:
        settings = page_settings(DRAWS, ABLATION_WINDOWS, prompt)
        make = partial(searched, settings=settings)
        return (yield from context.state.measurement_steps(name, ("super weight", *settings.values()), make))

    def fill(search: Search, say: Say, *_: object) -> Update:
        drawing, runs, others = show(search, say)
        return {**dots.show(drawing), table: runs, candidates: others}

    section = Section(context, status, run, cancel, [dots], [table, candidates])
    section.wire(steps, fill, [prompt], again=[prompt.submit])


def searched(loaded: Loaded, settings: Mapping[str, Any]) -> Steps[Search]:
    """Find the candidates, then zero the strongest. settings: of `super_weight_steps`."""
    candidates = yield from super_weights_steps(loaded.lm, SENTENCE)
    first = strongest(loaded.lm, candidates)
    text, seq_len = evaluation(loaded)
    intervention = super_weight_steps(
        loaded.lm, first.linear, first.row, first.column, text, seq_len=seq_len, **settings
    )
    weights = sum(rows * columns for rows, columns in (linear.shape for linear in loaded.lm.all_linears))
    return Search(weights, candidates, (yield from intervention))


def show(search: Search, say: Say) -> tuple[Drawing, str, str]:
    """Draw the dots with what they say, write a table with a row for every run, and one of the candidates."""
    report = search.report
    first = search.candidates[0]
    low, high = report.random_range
    values: dict[str, Any] = {
        "where": weight_name(first.linear, first.row, first.column),
        "weight": first.weight,
        "count": search.weights,
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
        "harm": HARM,
    }
    others = [run.perplexity for run in (report.largest, *report.random)]
    said = verdict(report.untouched, report.chosen.perplexity, others)
    words = [say("outliers.super_weight.spike", **values)]
    words.append(say(f"outliers.super_weight.{said}_text", **values))
    words.append(say("outliers.ablation.read", **values))
    rows: list[list[object]] = [
        [say("outliers.ablation.untouched"), "–", "–", values["untouched"], "1.00", generated_line(report.line)]
    ]
    runs = [("outliers.super_weight.chosen", report.chosen), ("outliers.super_weight.largest", report.largest)]
    rows += [_row(say(key), zeroed, report) for key, zeroed in runs]
    draws = enumerate(report.random, start=1)
    rows += [_row(say("outliers.ablation.draw", draw=draw), zeroed, report) for draw, zeroed in draws]
    found: list[list[object]] = [
        [
            candidate.block,
            weight_name(candidate.linear, candidate.row, candidate.column),
            f"{candidate.weight:.3g}",
            markup.number(candidate.spike),
            f"{candidate.share:.0%}",
            markup.number(candidate.ratio),
        ]
        for candidate in search.candidates[:MOST_ROWS]
    ]
    return (
        Drawing(say("outliers.super_weight.title", **values), super_strip(report, say), " ".join(words)),
        section_table(say, "super_weight", COLUMNS, rows),
        section_table(say, "candidates", CANDIDATES, found),
    )


def _row(what: str, zeroed: ZeroedWeight, report: SuperWeightReport) -> list[object]:
    """Write the cells of one run with a weight at zero."""
    ratio = perplexity(zeroed.perplexity / report.untouched)
    where = weight_name(zeroed.linear, zeroed.row, zeroed.column)
    return [what, where, f"{zeroed.weight:.3g}", perplexity(zeroed.perplexity), ratio, generated_line(zeroed.line)]
