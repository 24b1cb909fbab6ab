"""What does each mask protect? Columns by their input norm, against what magnitude and Wanda cut of them."""

from typing import Any

import gradio as gr

from wanda_core.errors import InputError
from wanda_core.explain.mask_comparison import (
    WITHIN,
    ColumnDetail,
    ModelProtection,
    Protection,
    column_detail,
    model_protection_steps,
    protection,
)
from wanda_core.model.linears import Linear
from wanda_core.progress import Progress, Steps
from wanda_ui.app_state import Loaded
from wanda_ui.inputs import is_number, typed_number
from wanda_ui.jobs import LIGHT
from wanda_ui.language import Say, label
from wanda_ui.outliers.figures.protection import column_weights, parting_heatmap, protection_curve
from wanda_ui.outliers.section import Section, buttons, listed, question
from wanda_ui.picture import drawn, picture
from wanda_ui.scores.tab import choices
from wanda_ui.tab_context import TabContext

SPARSITY = 50  # percent
MOST_ROWS = 20  # columns told one by one; the engine has more
COLUMNS = "column norm cut_magnitude cut_wanda differ"
# A clicked mark is typed into the box of the column, as a person could have done.
CLICK = """() => requestAnimationFrame(function bind() {
    const plot = document.querySelector('#protection-curve .js-plotly-plot');
    if (!plot?.on) return void requestAnimationFrame(bind);
    plot.on('plotly_click', ({points}) => {
        const box = document.querySelector('#protection-column input, #protection-column textarea');
        if (points[0].customdata === undefined) return;
        box.value = points[0].customdata;
        box.dispatchEvent(new Event('input', {bubbles: true}));
        setTimeout(() => document.getElementById('protection-run').click(), 100);
    });
})"""
Seen = tuple[Loaded, Linear, Protection, ColumnDetail]


def build(context: TabContext, start: Any) -> None:
    """start: the event that shows the section for the first time."""
    question("protection")
    with gr.Row(elem_classes="wl-options wl-ask"):
        kind = gr.Dropdown([], label=label("outliers.protection.kind"), elem_id="protection-kind", min_width=190)
        block = gr.Dropdown([], label=label("outliers.protection.block"), elem_id="protection-block", min_width=80)
        sparsity = gr.Number(
            SPARSITY, label=label("outliers.protection.sparsity"), elem_id="protection-sparsity", min_width=100
        )
        column = gr.Textbox(
            "", label=label("outliers.protection.column"), elem_id="protection-column", max_length=40, min_width=150
        )
        run, cancel = buttons("protection")
    within = gr.Radio(
        [(label(f"outliers.protection.within_{name}"), name) for name in WITHIN],
        value=WITHIN[0],
        label=label("outliers.protection.within"),
        elem_id="protection-within",
    )
    status = gr.HTML("", elem_id="protection-status")
    curve = picture("protection-curve")
    curve.plot.change(None, js=CLICK, **LIGHT)
    weights = picture("protection-weights")
    table = gr.HTML("", elem_id="protection-table")
    question("parting")
    with gr.Row(elem_classes="wl-ask"):
        run_all, cancel_all = buttons("parting")
    status_all = gr.HTML("", elem_id="parting-status")
    heat = picture("parting-heatmap")

    def look(name: str, kind: str, block: int, sparsity: float, within: str, column: str) -> Steps[Seen]:
        loaded = yield from context.state.open_steps(name)
        assert loaded.analysis is not None  # made by open_steps
        yield Progress("masks", 0, 1, "parts")
        linear = _linear(loaded, kind, block)
        W, X_norm = linear.weight.float(), loaded.analysis.profile.norms[linear.name]
        found = protection(W, X_norm, _share(sparsity), within)
        place = column_of(column)
        detail = column_detail(W, X_norm, _share(sparsity), found.top[0].index if place is None else place, within)
        return loaded, linear, found, detail

    def all_steps(name: str, sparsity: float, within: str) -> Steps[ModelProtection]:
        loaded = yield from context.state.open_steps(name)
        assert loaded.analysis is not None  # made by open_steps
        profile, share = loaded.analysis.profile, _share(sparsity)
        key = ("parting", share, within)
        return (
            yield from context.state.found_steps(
                name, key, lambda loaded: model_protection_steps(loaded.lm, profile, share, within)
            )
        )

    one = Section(context, status, run, cancel, [kind, block, *curve.outputs, *weights.outputs, table])
    again = [kind.input, block.input, sparsity.submit, within.input, column.submit]
    one.wire(look, show, [kind, block, sparsity, within, column], again=again, start=[start])
    whole = Section(context, status_all, run_all, cancel_all, heat.outputs)
    whole.wire(all_steps, show_all, [sparsity, within])


def show(seen: Seen, say: Say, *_: object) -> list:
    """The columns by norm, one column's weights, and a row for each of the columns with the largest norms."""
    loaded, linear, found, detail = seen
    where = say("outliers.protection.where", kind=linear.kind, block=linear.block)
    values = {
        "where": where,
        "overall": found.parting.overall,
        "top": found.parting.top,
        "columns": found.parting.columns,
        "share": found.share_of_parting,
        "sparsity": found.sparsity,
        "column": detail.column,
        "norm": detail.norm,
        "rank": detail.rank + 1,
        "by_magnitude": detail.cut_by_magnitude,
        "by_wanda": detail.cut_by_wanda,
        "both": detail.cut_by_both,
        "kept": detail.kept_by_both,
    }
    rows: list[list[object]] = [
        [one.index, f"{one.norm:.3g}", f"{one.magnitude:.1%}", f"{one.wanda:.1%}", f"{one.differ:.1%}"]
        for one in found.top[:MOST_ROWS]
    ]
    blocks = [one.block for one in loaded.lm.of_kind(linear.kind)]
    return [
        gr.Dropdown(loaded.lm.kinds, value=linear.kind),
        gr.Dropdown(blocks, value=linear.block),
        *drawn(
            say("outliers.protection.title", **values),
            protection_curve(found, say),
            say(f"outliers.protection.text_{found.within}", **values),
        ),
        *drawn(
            say("outliers.protection.column_title", **values),
            column_weights(detail, say),
            say("outliers.protection.column_text", **values),
        ),
        listed(say, "protection", COLUMNS, rows),
    ]


def show_all(model: ModelProtection, say: Say, *_: object) -> list:
    """Every linear of the model at once."""
    higher = (model.top > model.overall).sum()
    known = model.top.isfinite()
    place = int(model.top.nan_to_num(nan=-1.0).argmax())
    kind, block = divmod(place, model.top.shape[1])
    values = {
        "kind": model.kinds[kind],
        "block": block,
        "top": float(model.top[kind, block]),
        "overall": float(model.overall[kind, block]),
        "higher": int(higher),
        "linears": int(known.sum()),
        "left_out": model.left_out,
    }
    text = say("outliers.protection.all_text", **values)
    if model.left_out:
        text += " " + say("outliers.protection.left_out", **values)
    return drawn(say("outliers.protection.all_title", **values), parting_heatmap(model, say), text)


def column_of(typed: object) -> int | None:
    """A typed column, None where none is. Raises InputError for what is no whole number."""
    text = typed.strip() if isinstance(typed, str) else ""
    if not text:
        return None
    column = typed_number(text)
    if column is None:
        raise InputError(f"{text[:40]!r} is not a column; type a whole number from 0, or nothing for the largest norm")
    return column


def _linear(loaded: Loaded, kind: str, block: int) -> Linear:
    kind, block = choices(loaded, kind, block)
    return next(linear for linear in loaded.lm.of_kind(kind) if linear.block == block)


def _share(percent: Any) -> float:
    """Percent of the page as a share. Raises InputError for what is no number; the range is the engine's to check."""
    if not is_number(percent):
        raise InputError(f"sparsity {percent!r} is not a number; type percent, such as 50")
    return percent / 100
