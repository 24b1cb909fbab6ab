"""The words on a model and its variant: the line at the top of the page and the status under the buttons."""

from html import escape

from wanda_core.checks import EVAL_SEQ_LEN
from wanda_ui.engine.loaded import About, Result
from wanda_ui.language import Say
from wanda_ui.markup import number


def header(about: About | None, say: Say) -> str:
    """Write the line at the top: name of the product, and which model runs where."""
    chip = say("status.loading") if about is None else f"{about.title} · {_place(about, say)}"
    return f'<div class="wl-head"><h1>Wanda Lab</h1><span class="wl-chip">{escape(chip)}</span></div>'


def ready(about: About, say: Say, note: str = "status.ready") -> str:
    """Write the status before anything is pruned. note: the key of what to say below the model."""
    return f'<div class="wl-status">{_facts(about, say)}<p>{escape(say(note))}</p></div>'


def done(result: Result, say: Say) -> str:
    """Write the status after pruning: what was reached, how long it took, what it cost."""
    report, spec, measured = result.variant.report, result.variant.spec, result.measured
    agreement = measured.agreement
    order = f" · {spec.order}" if spec.needs_calibration else ""
    reached = say("status.reached", sparsity=report.sparsity, seconds=report.seconds)
    dead = sum(linear.dead_columns for linear in report.linears)
    more = [
        say("status.measured", windows=measured.pruned.windows, seq_len=EVAL_SEQ_LEN),
        say("status.agreement", top1=agreement.top1, kl=agreement.kl, tokens=agreement.tokens),
        *([say("status.owl", low=min(report.blocks), high=max(report.blocks))] if report.outlier_ratios else []),
        *([say("status.dead", count=dead)] if dead else []),
        *([say("status.experts", count=report.by_magnitude)] if report.by_magnitude else []),
    ]
    costs = [("dense", measured.dense), ("pruned", measured.pruned)]
    values = [
        f'<span class="wl-{which}">{escape(say(f"status.{which}", value=number(cost.perplexity)))}</span>'
        for which, cost in costs
    ]
    return (
        f'<div class="wl-status">{_facts(result.about, say)}<p class="wl-big"><b>{escape(spec.label)}</b>'
        f"<br>{escape(reached)}{order}</p>"
        f'<div class="wl-ppl"><span>{escape(say("status.perplexity"))}</span>{"".join(values)}</div>'
        f"{''.join(f'<p>{escape(line)}</p>' for line in more)}</div>"
    )


def _facts(about: About, say: Say) -> str:
    """Write the line on a model: its name, size and place."""
    facts = say("status.facts", model=about.title, millions=about.n_parameters / 1e6, place=_place(about, say))
    return f"<p>{escape(facts)}</p>"


def _place(about: About, say: Say) -> str:
    """Say which device runs a model, and in which number format."""
    device = {"cpu": "CPU", "cuda": "GPU", "mps": say("status.apple")}.get(about.device, about.device)
    return f"{device} {about.dtype}"
