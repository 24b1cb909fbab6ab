"""Small pieces of HTML and the sentences under the figures. Every value that a visitor gave is escaped."""

from html import escape

import pandas as pd

from wanda_core.explain.histograms import Disagreement, Grid, Histogram
from wanda_core.progress import Progress
from wanda_ui.app_state import EVAL_SEQ_LEN, Loaded, Result
from wanda_ui.language import Say

SETTINGS = ("untouched", "chosen", "largest", "random")  # what the outlier lab measures, by the engine's names


def header(loaded: Loaded | None, say: Say) -> str:
    """The line at the top: name of the product, and which model runs where."""
    chip = say("status.loading") if loaded is None else f"{loaded.lm.title} · {_place(loaded, say)}"
    return f'<div class="wl-head"><h1>Wanda Lab</h1><span class="wl-chip">{escape(chip)}</span></div>'


def progress(step: Progress, say: Say) -> str:
    """A bar with what is being done."""
    percent = round(100 * step.fraction)
    words = progress_words(step, say)
    beside = f" · {escape(words)}" if words else ""
    return (
        f'<div class="wl-progress" role="progressbar" aria-valuenow="{percent}" aria-valuemin="0" '
        f'aria-valuemax="100"><div class="wl-bar"><i style="width:{percent}%"></i></div>'
        f"<span><b>{escape(say(f'status.stage.{step.stage}'))}</b> {percent}%{beside}</span></div>"
    )


def problem(message: str) -> str:
    """One readable message."""
    return f'<div class="wl-problem" role="alert">{escape(message)}</div>'


def ready(loaded: Loaded, say: Say, note: str = "status.ready") -> str:
    """The status before anything is pruned. note: the key of what to say below the model."""
    return f'<div class="wl-status">{_facts(loaded, say)}<p>{escape(say(note))}</p></div>'


def done(result: Result, say: Say) -> str:
    """The status after pruning: what was reached, how long it took, what it cost."""
    report, spec, agreement = result.variant.report, result.variant.spec, result.agreement
    order = f" · {spec.order}" if spec.needs_calibration else ""
    reached = say("status.reached", sparsity=report.sparsity, seconds=report.seconds)
    dead = sum(linear.dead_columns for linear in report.linears)
    more = [
        say("status.measured", windows=result.pruned.windows, seq_len=EVAL_SEQ_LEN),
        say("status.agreement", top1=agreement.top1, kl=agreement.kl, tokens=agreement.tokens),
        *([say("status.owl", low=min(report.blocks), high=max(report.blocks))] if report.outlier_ratios else []),
        *([say("status.dead", count=dead)] if dead else []),
        *([say("status.experts", count=report.by_magnitude)] if report.by_magnitude else []),
    ]
    costs = [("dense", result.dense), ("pruned", result.pruned)]
    values = [
        f'<span class="wl-{which}">{escape(say(f"status.{which}", value=number(found.perplexity)))}</span>'
        for which, found in costs
    ]
    return (
        f'<div class="wl-status">{_facts(result.loaded, say)}<p class="wl-big"><b>{escape(spec.label)}</b>'
        f"<br>{escape(reached)}{order}</p>"
        f'<div class="wl-ppl"><span>{escape(say("status.perplexity"))}</span>{"".join(values)}</div>'
        f"{''.join(f'<p>{escape(line)}</p>' for line in more)}</div>"
    )


def answer(which: str, title: str, body: str, note: str = "", cost: str = "") -> str:
    """A column of Compare. which: `dense` or `pruned`; body: HTML already escaped; cost: the perplexity, in words."""
    beside = f"<span>{escape(cost)}</span>" if cost else ""
    foot = f"<footer>{escape(note)}</footer>" if note else ""
    return (
        f'<article class="wl-answer wl-{which}-card"><header><b>{escape(title)}</b>{beside}</header>'
        f'<div class="wl-text" aria-live="polite">{body}</div>{foot}</article>'
    )


def marked(text: str, shared: str, title: str) -> str:
    """A text whose first difference from the other answer is marked.

    shared: what both begin with; title: what the mark says, empty when there is no difference.
    """
    if not title:
        return escape(text)
    at = len(shared)
    while at and not text.startswith(shared[:at]):  # a token may end inside a character
        at -= 1
    rest = text[at:]
    end = next((i for i, c in enumerate(rest) if i and c.isspace() and rest[:i].strip()), len(rest))
    first = rest[:end]
    return f'{escape(text[:at])}<mark title="{escape(title)}">{escape(first)}</mark>{escape(rest[end:])}'


def figure_title(text: str) -> str:
    """A finding, above its figure."""
    return f'<h3 class="wl-finding">{escape(text)}</h3>'


def sentence(text: str) -> str:
    """What the figure shows for this model, under it."""
    return f'<p class="wl-sentence">{escape(text)}</p>'


def empty(text: str) -> str:
    """What stands where nothing is yet."""
    return f'<p class="wl-empty">{escape(text)}</p>'


def table(caption: str, frame: pd.DataFrame) -> str:
    """A plain table that scrolls inside itself on a narrow screen."""
    with pd.option_context("display.max_colwidth", None):  # a text is never cut
        body = frame.to_html(index=False, border=0, classes="wl-table")
    return f'<h3 class="wl-finding">{escape(caption)}</h3><div class="wl-scroll">{body}</div>'


def number(value: float) -> str:
    """A perplexity or magnitude in as many digits as it is worth."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.1f}"


def grid_words(grid: Grid, kind: str, say: Say) -> tuple[str, str]:
    """Title and sentence of the block × score picture."""
    low, high = int(grid.median.argmin()), int(grid.median.argmax())
    least, most = (10 ** float(grid.median[place]) for place in (low, high))
    where = {"low_block": grid.blocks[low], "high_block": grid.blocks[high]}
    title = say("scores.grid_title", kind=kind, factor=most / least)
    return title, say("scores.grid_text", kind=kind, low=least, high=most, **where)


def histogram_words(
    score: Histogram, weight: Histogram, where: str, parting: Disagreement | None, say: Say
) -> tuple[str, str, str]:
    """Title of the score histogram, title of the magnitude one, and the sentence under both."""
    if score.threshold is None:
        return (
            say("scores.before_title", where=where),
            say("scores.before_beside"),
            say("scores.before_text", decades=float(score.edges[-1] - score.edges[0])),
        )
    total = int(score.kept.sum() + score.cut.sum()) + score.zeros
    cut = int(score.cut.sum()) + score.zeros
    overlap = float(weight.kept[: _last(weight.cut) + 1].sum()) / max(float(weight.kept.sum()), 1)
    text = say("scores.cut_text", total=total, cut=cut, zeros=score.zeros)
    if parting is not None:
        shares = {"overall": parting.overall, "top": parting.top, "columns": parting.columns}
        text += " " + say("scores.parting", **shares)
    return (
        say("scores.cut_title", share=cut / total, where=where),
        say("scores.cut_beside", overlap=overlap),
        text,
    )


def _last(counts) -> int:
    places = counts.nonzero()
    return int(places.max()) if len(places) else -1


def _facts(loaded: Loaded, say: Say) -> str:
    about = say("status.facts", model=loaded.lm.title, millions=loaded.lm.n_parameters / 1e6, place=_place(loaded, say))
    return f"<p>{escape(about)}</p>"


def _place(loaded: Loaded, say: Say) -> str:
    kind = loaded.lm.device.type
    device = {"cpu": "CPU", "cuda": "GPU", "mps": say("status.apple")}.get(kind, kind)
    return f"{device} {str(loaded.lm.dtype).removeprefix('torch.')}"


def progress_words(step: Progress, say: Say) -> str:
    """Which unit is at work, and what is done to it: `block 3 of 30 · self_attn.q_proj`."""
    at_work = step.innermost
    units = [_unit(step, say), *([_unit(at_work, say)] if at_work is not step else [])]
    detail = say(f"status.detail.{step.detail}") if step.detail in SETTINGS else step.detail
    return " · ".join(filter(None, [*units, detail]))


def _unit(step: Progress, say: Say) -> str:
    """Parts and jobs are not counted for a reader: they have no names."""
    if step.unit in ("parts", "jobs"):
        return ""
    return say(f"status.unit.{step.unit}", number=step.number, total=step.total, megabytes=step.total / 1e6)
