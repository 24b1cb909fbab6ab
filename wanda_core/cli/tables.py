"""Tables and lines that commands print on stdout for people."""

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from wanda_core.cli.console import say

if TYPE_CHECKING:
    from wanda_core.evaluation.lm_eval_tasks import Score
    from wanda_core.outliers.ablation import AblationReport
    from wanda_core.outliers.features import FeatureReport
    from wanda_core.outliers.massive import Massive
    from wanda_core.outliers.norms import LargestNorm
    from wanda_core.outliers.super_weight import SuperWeight
    from wanda_core.pruning.count import Count
    from wanda_core.pruning.variant import PruneReport
    from wanda_core.report.run import Run
    from wanda_core.shrinking.report import ShrinkReport


def pruned(report: "PruneReport") -> None:
    """Print a table: per kind of linear its number, their weights and the share of zeros."""
    from wanda_core.model.linears import joint_kind

    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    for linear in report.linears:
        row = counts[joint_kind(_kind(linear.name))]
        for place, amount in enumerate((1, linear.shape[0] * linear.shape[1], linear.zeros)):
            row[place] += amount
    table = _table("linear", ("count", "weights", "sparsity"))
    for kind, row in counts.items():
        table.add_row(kind, *_cells(row))
    table.add_section()
    table.add_row("all", *_cells([sum(column) for column in zip(*counts.values(), strict=True)]))
    _print(table)
    if report.by_magnitude:
        say(f"note: {report.by_magnitude} matrices of experts were sent too few tokens and were pruned by magnitude")


def shrunk(report: "ShrinkReport") -> None:
    """Print a table: what the configuration said and says, and the parameters before and after."""
    table = _table("", ("before", "after", "left"))
    for name, (before, after) in report.settings.items():
        left = f"{after / before:.1%}" if isinstance(before, int) and isinstance(after, int) else ""
        table.add_row(name, str(before), str(after), left)
    before, after = report.parameters
    table.add_row("parameters", f"{before:,}", f"{after:,}", f"{after / before:.1%}")
    _print(table)
    if report.by_magnitude:
        say(f"note: {report.by_magnitude} experts were sent too few tokens and were shrunk by magnitude")


def _kind(name: str) -> str:
    """Return the name of a linear inside its block."""
    return re.sub(r"^.*?\.\d+\.", "", name)


def _cells(row: Iterable[int]) -> tuple[str, str, str]:
    count, weights, zeros = row
    return str(count), f"{weights:,}", f"{zeros / weights:.2%}"


def counted(counts: "Sequence[Count]", found: Sequence[str], pattern: str | None, broken: Sequence[str]) -> None:
    """Print a table of kinds of linears and one of blocks, the patterns that hold, and what changed since."""
    from wanda_core.model.linears import joint_kind

    for title in ("linear", "block"):
        rows: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
        for linear in counts:
            row = rows[joint_kind(_kind(linear.name)) if title == "linear" else str(linear.block + 1)]
            for place, amount in enumerate((1, linear.weights, linear.zeros)):
                row[place] += amount
        table = _table(title, ("count", "weights", "sparsity"))
        for name, row in rows.items():
            table.add_row(name, *_cells(row))
        table.add_section()
        table.add_row("all", *_cells([sum(column) for column in zip(*rows.values(), strict=True)]))
        _print(table)
    _print(f"patterns that hold in every linear: {', '.join(found) or 'none'}")
    if pattern is not None:
        where = f"does not hold in {len(broken)} of {len(counts)} linears, {broken[0]} first" if broken else "holds"
        _print(f"{pattern} {where}")
    since = [linear.since for linear in counts if linear.since is not None]
    if since:
        before, changed = sum(one.zeros for one in since), sum(one.changed for one in since)
        _print(f"since the dense model: {before:,} zeros were there before, {changed:,} kept weights have other values")


def swept(run: "Run") -> None:
    """Print a table: of every point of a run its recipe, what is removed, what it costs and how long pruning took."""
    from wanda_core.report.form import LARGEST
    from wanda_core.report.keys import Key
    from wanda_core.report.run import rows_of

    own = {line["key"] for line in run["lines"] if line["calibration"] is not None}
    table = _table("recipe", ("removed", "perplexity", "same token", "KL", "seconds"))
    for row in rows_of(run):
        perplexity = "∞" if row["perplexity"] >= LARGEST else f"{row['perplexity']:,.2f}"
        known = [(row["top1"], "{:.1%}"), (row["kl"], "{:.4f}"), (row["seconds"], "{:.1f}")]
        others = ("" if value is None else form.format(value) for value, form in known)
        name = row["key"] if row["key"] in own else str(Key.parse(row["key"]).undrawn)  # the draw is the run's
        table.add_row(name, f"{row['percent']:.4g}%", perplexity, *others)
    _print(table)


def scores(measured: "list[Score]") -> None:
    """Print a table: per task and metric the value with its standard error."""
    table = _table("task", ("metric", "value", "standard error", "documents", "shots"))
    for score in measured:
        error = "" if score.stderr is None else f"± {score.stderr:.4f}"
        table.add_row(score.task, score.metric, f"{score.value:.4f}", error, str(score.documents), str(score.shots))
    _print(table)


MOST_ROWS = 12  # in a table about outliers; --json has all


def massive(activations: "Sequence[Massive]", tokens: Sequence[str]) -> None:
    """Print a table: per token and channel the blocks after which the activation is massive, and the largest value."""
    _print("Massive activations of the sentence: |x| > 100 and at least 1,000 × the median of the block's output")
    places: dict[tuple[int, int], list[Massive]] = defaultdict(list)
    for activation in activations:
        places[activation.channel, activation.token].append(activation)
    table = _table("channel", ("token", "text", "after blocks", "largest", "× median"))
    for (channel, token), same in list(places.items())[:MOST_ROWS]:
        largest = max(same, key=lambda activation: activation.ratio)
        blocks = _runs(sorted(activation.block for activation in same))
        table.add_row(str(channel), str(token), tokens[token], blocks, f"{largest.value:,.0f}", f"{largest.ratio:,.0f}")
    _rows(table, len(places), "none: no value of this sentence meets both")


def sinks(report: Mapping[str, Any]) -> None:
    """Print a line: how much attention goes to the first token, and whether that follows the token's size."""
    if report["to_first"] is None:
        _print(report["why"] + "\n")
        return
    shares = [share for share in report["to_first"] if not math.isnan(share)]
    high = max(shares)
    correlation = report["correlation"]
    beside = "" if correlation is None else f"; correlation with log |x| of the first token {correlation:.2f}"
    _print(
        f"Attention sink: of the later tokens' attention {min(shares):.0%} to {high:.0%} goes to the first token, most "
        f"in block {report['to_first'].index(high)}{beside}\n"
    )


def super_weight(candidate: "SuperWeight | None") -> None:
    """Print a line: the weight that carries most of the largest output of an MLP's last linear."""
    if candidate is None:
        _print("Super weight: no block ends in a linear that every token passes, so there is no candidate\n")
        return
    _print(
        f"Super weight, the candidate: {candidate.linear}[{candidate.row}, {candidate.column}] = "
        f"{candidate.weight:.2f} carries {candidate.share:.0%} of a spike of {candidate.spike:,.0f} "
        f"({candidate.ratio:,.0f} × the linear's median output)\n"
    )


def features(report: "FeatureReport", text: str) -> None:
    """Print a table of the outlier features, or the channel that comes nearest. text: what they were found on."""
    _print(
        f"LLM.int8() outlier features ({text}): |x| ≥ {report.magnitude:g} in {report.layer_share:.0%} of blocks and "
        f"{report.position_share:.0%} of positions, read at {', '.join(report.kinds)}"
    )
    column = "channel" if report.one_stream else "column"
    table = _table(column, ("blocks", "positions", "above zero"))
    for feature in report.features[:MOST_ROWS]:
        shares = f"{feature.layer_share:.0%}", f"{feature.position_share:.1%}", f"{feature.positive_share:.0%}"
        table.add_row(str(feature.channel), *shares)
    near = report.closest
    _rows(
        table,
        len(report.features),
        f"none: {column} {near.channel} comes nearest with {near.layer_share:.0%} of blocks and "
        f"{near.position_share:.1%} of positions",
    )


def input_norms(norms: "Sequence[LargestNorm]") -> None:
    """Print a table: per kind of linear the input column whose norm stands out most."""
    _print("Wanda's input norms ‖X_j‖₂: the column that stands out most, by kind of linear")
    table = _table("linear", ("block", "column", "norm", "× median"))
    for largest in norms:
        place = str(largest.block), str(largest.column)
        table.add_row(largest.kind, *place, f"{largest.norm:,.1f}", f"{largest.ratio:,.1f}")
    _print(table)


def ablation(report: "AblationReport", text: str) -> None:
    """Print a table: perplexity, and the continued prompt if there is one, for every setting. text: measured on it."""
    plan = report.ablation
    what = f"set to {'zero' if plan.value == 'zero' else 'their mean'} at {plan.tokens} tokens"
    _print(f"Perplexity ({text}), channels {what} after block {plan.from_block} and every later one")
    table = _table("channels", ("perplexity",))
    rows = [("untouched", report.untouched, report.line)]
    rows += [(_names(report.chosen.channels), report.chosen.perplexity, report.chosen.line)]
    if report.zeroed is not None:
        rows.append((f"{_names(report.zeroed.channels)}, at zero", report.zeroed.perplexity, report.zeroed.line))
    rows += [(f"random: {_names(draw.channels)}", draw.perplexity, draw.line) for draw in report.random]
    if report.prompt is not None:
        table.add_column("line")
    for name, value, line in rows:
        table.add_row(name, f"{value:,.2f}", *(() if line is None else (" ".join(line.split()),)))
    _print(table)


def _names(channels: Sequence[int]) -> str:
    """List channels, of many the first ones and how many more there are."""
    shown = ", ".join(map(str, channels[:MOST_ROWS]))
    return shown if len(channels) <= MOST_ROWS else f"{shown} and {len(channels) - MOST_ROWS} more"


def _runs(numbers: Sequence[int]) -> str:
    """Shorten ascending numbers: 2, 3, 4, 7 -> 2–4, 7."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(str(a) if a == b else f"{a}–{b}" for a, b in runs)


def _rows(table: Any, count: int, none: str) -> None:
    """Print a table and how many of its `count` rows were cut off; for no rows the sentence `none` instead."""
    if not count:
        _print(f"{none}\n")
        return
    _print(table)
    if count > MOST_ROWS:
        _print(f"and {count - MOST_ROWS} more; --json has them\n")


def _table(first: str, others: tuple[str, ...]) -> Any:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE)
    table.add_column(first)
    for title in others:
        table.add_column(title, justify="right")
    return table


def _print(what: Any) -> None:
    from rich.console import Console

    # the words are a model's or a reader's: brackets and colons in them are no markup
    Console(markup=False, emoji=False, highlight=False).print(what, soft_wrap=isinstance(what, str))
