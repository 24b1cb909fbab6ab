"""The words on a model and its variant: the line at the top of the page and the status under the buttons."""

from html import escape

from wanda_ui.app_state import EVAL_SEQ_LEN, Loaded, Result
from wanda_ui.language import Say
from wanda_ui.markup import number


def header(loaded: Loaded | None, say: Say) -> str:
    """Write the line at the top: name of the product, and which model runs where."""
    chip = say("status.loading") if loaded is None else f"{loaded.lm.title} · {_place(loaded, say)}"
    return f'<div class="wl-head"><h1>Wanda Lab</h1><span class="wl-chip">{escape(chip)}</span></div>'


def ready(loaded: Loaded, say: Say, note: str = "status.ready") -> str:
    """Write the status before anything is pruned. note: the key of what to say below the model."""
    return f'<div class="wl-status">{_facts(loaded, say)}<p>{escape(say(note))}</p></div>'


def done(result: Result, say: Say) -> str:
    """Write the status after pruning: what was reached, how long it took, what it cost."""
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
        f'<span class="wl-{which}">{escape(say(f"status.{which}", value=number(cost.perplexity)))}</span>'
        for which, cost in costs
    ]
    return (
        f'<div class="wl-status">{_facts(result.loaded, say)}<p class="wl-big"><b>{escape(spec.label)}</b>'
        f"<br>{escape(reached)}{order}</p>"
        f'<div class="wl-ppl"><span>{escape(say("status.perplexity"))}</span>{"".join(values)}</div>'
        f"{''.join(f'<p>{escape(line)}</p>' for line in more)}</div>"
    )


def _facts(loaded: Loaded, say: Say) -> str:
    """Write the line on a model: its name, size and place."""
    about = say("status.facts", model=loaded.lm.title, millions=loaded.lm.n_parameters / 1e6, place=_place(loaded, say))
    return f"<p>{escape(about)}</p>"


def _place(loaded: Loaded, say: Say) -> str:
    """Say which device runs a model, and in which number format."""
    kind = loaded.lm.device.type
    device = {"cpu": "CPU", "cuda": "GPU", "mps": say("status.apple")}.get(kind, kind)
    return f"{device} {str(loaded.lm.dtype).removeprefix('torch.')}"
