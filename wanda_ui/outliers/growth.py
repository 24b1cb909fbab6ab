"""Section: does it grow with size? Every analysed model adds a point."""

import base64
from functools import partial
from html import escape
from typing import Any

import gradio as gr

from wanda_core.errors import WandaError
from wanda_core.outliers.features import FEATURE_MAGNITUDE, outlier_features
from wanda_core.outliers.published import ROWS, SOURCE
from wanda_core.outliers.run_log import MEASURED_RUNS, Run, Runs, add_run, all_runs, read_runs, run_of, runs_csv
from wanda_core.progress import Steps
from wanda_ui import markup
from wanda_ui.jobs import LIGHT, Update, no_change
from wanda_ui.language import Say, speaker
from wanda_ui.outliers.features import counted
from wanda_ui.outliers.figures.growth import growth_scatter
from wanda_ui.outliers.section import Section, buttons, question, section_table
from wanda_ui.picture import Drawing, picture
from wanda_ui.problems import problem_words
from wanda_ui.tab_context import TabContext

MOST_ROWS = 100  # of the table; the CSV has them all
COLUMNS = ("model", "parameters", "times_median", "channel", "at_block", "features", "blocks_share", "text", "when")
BUILTIN = "built-in text"  # as the engine names the text that comes with it
PUBLISHED = ("model", "parameters", "features", "layers_share", "positions_share")


def build(context: TabContext, start: Any) -> None:
    """Lay the section out. start: the event that shows it for the first time."""
    question("growth")
    with gr.Row(elem_classes="wl-ask"):
        run, cancel = buttons("growth")
    status = gr.HTML("", elem_id="growth-status")
    plane = picture("growth-plane")
    table = gr.HTML("", elem_id="growth-table")
    export = gr.HTML("", elem_id="growth-export")

    def known() -> Runs:
        """The rows that anybody may see: those of the owner's models are the owner's."""
        return all_runs() if context.state.settings.local_folders else read_runs(MEASURED_RUNS)

    def steps(name: str) -> Steps[Runs]:
        loaded = yield from context.state.open_steps(name)
        counts = yield from context.state.measurement_steps(
            name, ("features", FEATURE_MAGNITUDE), partial(counted, magnitude=FEATURE_MAGNITUDE)
        )
        assert loaded.analysis is not None  # made by open_steps
        row = run_of(loaded.lm, loaded.analysis, outlier_features(counts))
        if context.state.settings.local_folders:  # the visitor's own machine, not a public server
            add_run(row)
        runs = known()
        others = tuple(other for other in runs.rows if other.key != row.key)
        return Runs((*others, row), runs.damaged)

    def fill(runs: Runs, say: Say) -> Update:
        drawing, rows, link = show(runs, say)
        return {**plane.show(drawing), table: rows, export: link}

    section = Section(context, status, run, cancel, [plane], [table, export])
    section.wire(steps, fill, [])

    def first(request: gr.Request, shown: str) -> Update:
        """Show the models measured before, until this one is measured too."""
        if shown:
            return no_change()
        try:
            return {**section.tell(""), **fill(known(), speaker(request))}
        except WandaError as error:
            return section.tell(markup.problem(problem_words(error, speaker(request))))

    start(first, plane.title, section.outputs, **LIGHT)


def show(runs: Runs, say: Say) -> tuple[Drawing, str, str]:
    """Draw the points, write a table with a row for each, and a link to all of them as a file."""
    rows = sorted(runs.rows, key=lambda row: row.parameters)
    title, words = growth_words(runs, say)
    cells: list[list[object]] = [
        [
            row.model,
            f"{row.parameters / 1e6:,.0f} M",
            markup.number(row.ratio),
            row.channel,
            row.block,
            row.features,
            f"{row.features_share:.0%}",
            f"{say('leaf.builtin_text') if row.text == BUILTIN else row.text}, {row.samples} × {row.seq_len}",
            row.when[:10],
        ]
        for row in rows[:MOST_ROWS]
    ]
    drawing = Drawing(title, growth_scatter(rows, say), words)
    papers: list[list[object]] = [
        [row.model, f"{row.parameters / 1e6:,.0f} M", row.features, f"{row.layers:.0%}", f"{row.positions:.0%}"]
        for row in ROWS
    ]
    tables = section_table(say, "growth", COLUMNS, cells) + section_table(say, "published", PUBLISHED, papers)
    return drawing, tables, _link(rows, say)


def growth_words(runs: Runs, say: Say) -> tuple[str, str]:
    """Write title and sentence: from the smallest to the largest model, and whether anything can be said yet."""
    rows = sorted(runs.rows, key=lambda row: row.parameters)
    sizes = len({row.parameters for row in rows})
    words = " ".join(
        say(f"outliers.growth.{key}", count=len(rows), sizes=sizes, source=SOURCE)
        for key in ("text", "emergent", "command")
    )
    if runs.damaged:
        words += " " + say("outliers.growth.damaged", lines=", ".join(map(str, runs.damaged)))
    if sizes < 2:
        return say("outliers.growth.one_title", count=len(rows)), words
    ends = {
        "small": rows[0].model,
        "large": rows[-1].model,
        "small_ratio": markup.number(rows[0].ratio),
        "large_ratio": markup.number(rows[-1].ratio),
        "small_share": rows[0].features_share,
        "large_share": rows[-1].features_share,
    }
    return say("outliers.growth.title", **ends), words


def _link(rows: list[Run], say: Say) -> str:
    """Link to the rows as CSV inside the page: nothing is left on the server."""
    content = base64.b64encode(runs_csv(rows).encode()).decode()
    return (
        f'<a class="wl-download" download="wanda-lab-outliers.csv" href="data:text/csv;base64,{content}">'
        f"{escape(say('outliers.growth.export'))}</a>"
    )
