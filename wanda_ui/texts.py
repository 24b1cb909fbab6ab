"""Small pieces of HTML and the sentences under the figures. Every value that a visitor gave is escaped."""

from html import escape

import pandas as pd

from wanda_core.outliers.activations import MASSIVE_MAGNITUDE, MASSIVE_RATIO, Analysis, StandOut
from wanda_core.progress import Progress
from wanda_core.summaries import Disagreement, Grid, Histogram
from wanda_ui.studio import EVAL_SEQ_LEN, Loaded, Result


def header(loaded: Loaded | None) -> str:
    """The line at the top: name of the product, and which model runs where."""
    chip = "loading the model …" if loaded is None else f"{escape(loaded.lm.title)} · {_place(loaded)}"
    return f'<div class="wl-head"><h1>Wanda Lab</h1><span class="wl-chip">{chip}</span></div>'


def progress(step: Progress) -> str:
    """A bar with what is being done."""
    percent = round(100 * step.fraction)
    return (
        f'<div class="wl-progress" role="progressbar" aria-valuenow="{percent}" aria-valuemin="0" '
        f'aria-valuemax="100"><div class="wl-bar"><i style="width:{percent}%"></i></div>'
        f"<span><b>{escape(step.stage)}</b> {percent}% · {escape(step.detail)}</span></div>"
    )


def problem(message: str) -> str:
    """One readable message."""
    return f'<div class="wl-problem" role="alert">{escape(message)}</div>'


def ready(loaded: Loaded, note: str = "") -> str:
    """The status before anything is pruned."""
    more = f"<p>{escape(note)}</p>" if note else "<p>Ready. Press <b>Prune</b> to make the pruned model.</p>"
    return f'<div class="wl-status">{_facts(loaded)}{more}</div>'


def done(result: Result) -> str:
    """The status after pruning: what was reached, how long it took, what it cost."""
    report = result.variant.report
    spec = result.variant.spec
    order = f" · {spec.order}" if spec.needs_calibration else ""
    dead = sum(linear.dead_columns for linear in report.linears)
    extra = f"<p>{dead} dead input columns were ordered by magnitude.</p>" if dead else ""
    if report.by_magnitude:
        extra += f"<p>{report.by_magnitude} matrices of experts saw too few tokens and were pruned by magnitude.</p>"
    return (
        f'<div class="wl-status">{_facts(result.loaded)}<p class="wl-big"><b>{escape(result.variant.spec.label)}</b>'
        f"<br>{report.sparsity:.1%} zeros · {report.seconds:.1f} s{order}</p>"
        f'<div class="wl-ppl"><span>perplexity</span>'
        f'<span class="wl-dense">dense {number(result.dense.perplexity)}</span>'
        f'<span class="wl-pruned">pruned {number(result.pruned.perplexity)}</span></div>'
        f"<p>Built-in evaluation text, {result.pruned.windows} windows of {EVAL_SEQ_LEN} tokens.</p>{extra}</div>"
    )


def answer(which: str, title: str, body: str, note: str = "", perplexity: float | None = None) -> str:
    """A column of Compare. which: `dense` or `pruned`; body: HTML already escaped."""
    cost = "" if perplexity is None else f"<span>perplexity {number(perplexity)}</span>"
    foot = f"<footer>{escape(note)}</footer>" if note else ""
    return (
        f'<article class="wl-answer wl-{which}-card"><header><b>{escape(title)}</b>{cost}</header>'
        f'<div class="wl-text" aria-live="polite">{body}</div>{foot}</article>'
    )


def marked(text: str, shared: str, parts: bool) -> str:
    """A text whose first difference from the other answer is marked. shared: what both begin with."""
    if not parts:
        return escape(text)
    at = len(shared)
    while at and not text.startswith(shared[:at]):  # a token may end inside a character
        at -= 1
    rest = text[at:]
    end = next((i for i, c in enumerate(rest) if i and c.isspace() and rest[:i].strip()), len(rest))
    first = rest[:end]
    return f'{escape(text[:at])}<mark title="the answers part here">{escape(first)}</mark>{escape(rest[end:])}'


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
    body = frame.to_html(index=False, border=0, classes="wl-table")
    return f'<h3 class="wl-finding">{escape(caption)}</h3><div class="wl-scroll">{body}</div>'


def number(value: float) -> str:
    """A perplexity or magnitude in as many digits as it is worth."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.1f}"


def grid_words(grid: Grid, kind: str) -> tuple[str, str]:
    """Title and sentence of the block × score picture."""
    low, high = int(grid.median.argmin()), int(grid.median.argmax())
    factor = 10 ** float(grid.median[high] - grid.median[low])
    title = f"Scores of {kind} differ {factor:.1f}-fold between blocks"
    text = (
        f"The median score of {kind} runs from {10 ** float(grid.median[low]):.2g} in block {grid.blocks[low]} to "
        f"{10 ** float(grid.median[high]):.2g} in block {grid.blocks[high]}. Scores are compared inside each output "
        "row, so a block with small scores does not lose more of its weights."
    )
    return title, text


def histogram_words(
    score: Histogram, weight: Histogram, name: str, parting: Disagreement | None
) -> tuple[str, str, str]:
    """Title of the score histogram, title of the magnitude one, and the sentence under both."""
    if score.threshold is None:
        spread = float(score.edges[-1] - score.edges[0])
        return (
            f"Scores of {name} before pruning",
            "The same weights by magnitude alone",
            f"Nothing is pruned yet: the picture spans {spread:.0f} decades below the largest score; "
            "press Prune to see which weights go.",
        )
    total = int(score.kept.sum() + score.cut.sum()) + score.zeros
    cut = int(score.cut.sum()) + score.zeros
    title = f"{cut / total:.1%} of {name} is cut, from the low end of each row"
    overlap = float(weight.kept[: _last(weight.cut) + 1].sum()) / max(float(weight.kept.sum()), 1)
    beside = f"By magnitude alone, {overlap:.0%} of the kept weights lie below the largest one cut"
    text = f"Of {total:,} weights {cut:,} are zero now ({score.zeros:,} had a score of exactly zero). "
    if parting is not None:
        text += (
            f"Magnitude at the same sparsity, row by row, would have decided {parting.overall:.1%} of them "
            f"differently, and {parting.top:.1%} in the {parting.columns} input columns with the largest norms."
        )
    return title, beside, text


def lines_words(analysis: Analysis, found: list[StandOut]) -> tuple[str, str]:
    """Title and sentence of the magnitudes per block."""
    first = found[0]
    blocks = len(analysis.median)
    if not first.massive:
        title = f"No massive activations: the largest is {number(first.ratio)} × the median"
        text = (
            f"Channel {first.channel} reaches {number(first.largest)} at the output of block {first.block}; the "
            f"definition asks for more than {MASSIVE_MAGNITUDE:.0f} and {MASSIVE_RATIO:,.0f} × the median."
        )
        return title, text
    title = f"Channel {first.channel} is {number(first.ratio)} × the median at the output of block {first.block}"
    text = (
        f"From block {first.massive[0]} to {first.massive[-1]} ({len(first.massive)} of {blocks}) the residual stream "
        f"carries a massive activation: more than {MASSIVE_MAGNITUDE:.0f} and {MASSIVE_RATIO:,.0f} × the median. "
        f"Its largest value is {number(first.largest)}, in channel {first.channel}."
    )
    return title, text


def _last(counts) -> int:
    places = counts.nonzero()
    return int(places.max()) if len(places) else -1


def _facts(loaded: Loaded) -> str:
    return f"<p>{escape(loaded.lm.title)} · {loaded.lm.n_parameters / 1e6:,.1f} M parameters · {_place(loaded)}</p>"


def _place(loaded: Loaded) -> str:
    device = {"cpu": "CPU", "cuda": "GPU", "mps": "Apple GPU"}.get(loaded.lm.device.type, loaded.lm.device.type)
    return f"{device} {str(loaded.lm.dtype).removeprefix('torch.')}"
