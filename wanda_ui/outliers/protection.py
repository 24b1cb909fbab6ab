"""Section: what does each mask protect? Columns by their input norm, against what magnitude and Wanda cut of them."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr

from wanda_core.calibration.profile import Profile
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
from wanda_ui.engine.loaded import Loaded
from wanda_ui.inputs import is_number, typed_number
from wanda_ui.jobs import LIGHT, Update
from wanda_ui.language import Say, label
from wanda_ui.outliers.figures.protection import column_weights, parting_heatmap, protection_curve
from wanda_ui.outliers.section import Section, buttons, question, section_table
from wanda_ui.picture import Drawing, picture
from wanda_ui.tab_context import TabContext

SPARSITY = 50  # percent
MOST_ROWS = 20  # columns listed one by one; the engine has more
COLUMNS = ("column", "norm", "cut_magnitude", "cut_wanda", "differ")
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


@dataclass(frozen=True)
class Look:
    """One linear as both masks leave it, and one of its columns in detail."""

    loaded: Loaded
    linear: Linear
    protection: Protection
    column: ColumnDetail


def build(context: TabContext, start: Any) -> None:
    """Lay the section out. start: the event that shows it for the first time."""
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

    def look(name: str, kind: str, block: int, sparsity: float, within: str, column: str) -> Steps[Look]:
        loaded = yield from context.state.open_steps(name)
        assert loaded.analysis is not None  # made by open_steps
        yield Progress("masks", 0, 1, "parts")
        linear = _linear(loaded, kind, block)
        W, X_norm = linear.weight.float(), loaded.analysis.profile.norms[linear.name]
        protected = protection(W, X_norm, _share(sparsity), within)
        place = column_of(column)
        detail = column_detail(W, X_norm, _share(sparsity), protected.top[0].index if place is None else place, within)
        return Look(loaded, linear, protected, detail)

    def all_steps(name: str, sparsity: float, within: str) -> Steps[ModelProtection]:
        loaded = yield from context.state.open_steps(name)
        assert loaded.analysis is not None  # made by open_steps
        profile, share = loaded.analysis.profile, _share(sparsity)
        key = ("parting", share, within)
        make = partial(compared, profile=profile, share=share, within=within)
        return (yield from context.state.measurement_steps(name, key, make))

    def fill(look: Look, say: Say, *_: object) -> Update:
        by_norm, one_column, rows = show(look, say)
        return {
            kind: gr.Dropdown(look.loaded.lm.kinds, value=look.linear.kind),
            block: gr.Dropdown(look.loaded.blocks_with(look.linear.kind), value=look.linear.block),
            **curve.show(by_norm),
            **weights.show(one_column),
            table: rows,
        }

    def fill_all(model: ModelProtection, say: Say, *_: object) -> Update:
        return heat.show(show_all(model, say))

    one_linear = Section(context, status, run, cancel, [curve, weights], [table], [kind, block])
    again = [kind.input, block.input, sparsity.submit, within.input, column.submit]
    one_linear.wire(look, fill, [kind, block, sparsity, within, column], again=again, start=[start])
    whole_model = Section(context, status_all, run_all, cancel_all, [heat])
    whole_model.wire(all_steps, fill_all, [sparsity, within])


def compared(loaded: Loaded, profile: Profile, share: float, within: str) -> Steps[ModelProtection]:
    """Compare the masks of every linear. profile: the dense model's norms."""
    return model_protection_steps(loaded.lm, profile, share, within)


def show(look: Look, say: Say) -> tuple[Drawing, Drawing, str]:
    """Draw the columns by norm and one column's weights, and write a table of the columns with the largest norms."""
    linear, protected, detail = look.linear, look.protection, look.column
    where = say("outliers.protection.where", kind=linear.kind, block=linear.block)
    values = {
        "where": where,
        "overall": protected.parting.overall,
        "top": protected.parting.top,
        "columns": protected.parting.columns,
        "share": protected.share_of_parting,
        "sparsity": protected.sparsity,
        "column": detail.column,
        "norm": detail.norm,
        "rank": detail.rank + 1,
        "by_magnitude": detail.cut_by_magnitude,
        "by_wanda": detail.cut_by_wanda,
        "both": detail.cut_by_both,
        "kept": detail.kept_by_both,
    }
    rows: list[list[object]] = [
        [column.index, f"{column.norm:.3g}", f"{column.magnitude:.1%}", f"{column.wanda:.1%}", f"{column.differ:.1%}"]
        for column in protected.top[:MOST_ROWS]
    ]
    return (
        Drawing(
            say("outliers.protection.title", **values),
            protection_curve(protected, say),
            say(f"outliers.protection.text_{protected.within}", **values),
        ),
        Drawing(
            say("outliers.protection.column_title", **values),
            column_weights(detail, say),
            say("outliers.protection.column_text", **values),
        ),
        section_table(say, "protection", COLUMNS, rows),
    )


def show_all(model: ModelProtection, say: Say) -> Drawing:
    """Draw every linear of the model at once."""
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
    return Drawing(say("outliers.protection.all_title", **values), parting_heatmap(model, say), text)


def column_of(typed: object) -> int | None:
    """Read a typed column, None where none is typed. Raises InputError for what is no whole number."""
    text = typed.strip() if isinstance(typed, str) else ""
    if not text:
        return None
    column = typed_number(text)
    if column is None:
        raise InputError(f"{text[:40]!r} is not a column; type a whole number from 0, or nothing for the largest norm")
    return column


def _linear(loaded: Loaded, kind: str, block: int) -> Linear:
    """Return the linear of a kind and block, else the one that the model shows first."""
    kind, block = loaded.linear_to_show(kind, block)
    return next(linear for linear in loaded.lm.of_kind(kind) if linear.block == block)


def _share(percent: Any) -> float:
    """Turn percent into a share. Raises InputError for what is no number; the range is the engine's to check."""
    if not is_number(percent):
        raise InputError(f"sparsity {percent!r} is not a number; type percent, such as 50")
    return percent / 100
