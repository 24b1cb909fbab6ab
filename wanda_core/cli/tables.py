"""What commands print for people: tables on stdout."""

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
    from wanda_core.pruning.variant import PruneReport


def pruned(report: "PruneReport") -> None:
    """A table: per kind of linear, how many, how many weights, which share is zero."""
    from wanda_core.model.linears import joint_kind

    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    for linear in report.linears:
        kind = re.sub(r"^.*?\.\d+\.", "", linear.name)
        row = counts[joint_kind(kind)]
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


def _cells(row: Iterable[int]) -> tuple[str, str, str]:
    count, weights, zeros = row
    return str(count), f"{weights:,}", f"{zeros / weights:.2%}"


def scores(found: "list[Score]") -> None:
    """A table: per task and metric the value with its standard error."""
    table = _table("task", ("metric", "value", "standard error", "documents", "shots"))
    for score in found:
        error = "" if score.stderr is None else f"± {score.stderr:.4f}"
        table.add_row(score.task, score.metric, f"{score.value:.4f}", error, str(score.documents), str(score.shots))
    _print(table)


MOST_ROWS = 12  # of a table about outliers; --json has all


def massive(found: "Sequence[Massive]", tokens: Sequence[str]) -> None:
    """A table: per token and channel with a massive activation, after which blocks, and the largest of them."""
    _print("Massive activations of the sentence: |x| > 100 and at least 1,000 × the median of the block's output")
    places: dict[tuple[int, int], list[Massive]] = defaultdict(list)
    for one in found:
        places[one.channel, one.token].append(one)
    table = _table("channel", ("token", "text", "after blocks", "largest", "× median"))
    for (channel, token), same in list(places.items())[:MOST_ROWS]:
        largest = max(same, key=lambda one: one.ratio)
        blocks = _runs(sorted(one.block for one in same))
        table.add_row(str(channel), str(token), tokens[token], blocks, f"{largest.value:,.0f}", f"{largest.ratio:,.0f}")
    _rows(table, len(places), "none: no value of this sentence meets both")


def sinks(found: Mapping[str, Any]) -> None:
    """A line: how much attention goes to the first token, and whether it goes with how large that token is."""
    if found["to_first"] is None:
        _print(found["why"] + "\n")
        return
    shares = [share for share in found["to_first"] if not math.isnan(share)]
    high = max(shares)
    correlation = found["correlation"]
    beside = "" if correlation is None else f"; correlation with log |x| of the first token {correlation:.2f}"
    _print(
        f"Attention sink: of the later tokens' attention {min(shares):.0%} to {high:.0%} goes to the first token, most "
        f"in block {found['to_first'].index(high)}{beside}\n"
    )


def super_weight(found: "SuperWeight | None") -> None:
    """A line: which weight carries most of the largest output of an MLP's last linear."""
    if found is None:
        _print("Super weight: no block ends in a linear that every token passes, so there is no candidate\n")
        return
    _print(
        f"Super weight, the candidate: {found.linear}[{found.row}, {found.column}] = {found.weight:.2f} carries "
        f"{found.share:.0%} of a spike of {found.spike:,.0f} ({found.ratio:,.0f} × the linear's median output)\n"
    )


def features(found: "FeatureReport", text: str) -> None:
    """A table: the outlier features, or the channel that comes nearest."""
    _print(
        f"LLM.int8() outlier features ({text}): |x| ≥ {found.magnitude:g} in {found.layer_share:.0%} of blocks and "
        f"{found.position_share:.0%} of positions, read at {', '.join(found.kinds)}"
    )
    table = _table("channel", ("blocks", "positions", "above zero"))
    for one in found.features[:MOST_ROWS]:
        table.add_row(
            str(one.channel), f"{one.layer_share:.0%}", f"{one.position_share:.1%}", f"{one.positive_share:.0%}"
        )
    near = found.closest
    _rows(
        table,
        len(found.features),
        f"none: channel {near.channel} comes nearest with {near.layer_share:.0%} of blocks and "
        f"{near.position_share:.1%} of positions",
    )


def input_norms(found: "Sequence[LargestNorm]") -> None:
    """A table: per kind of linear the input column whose norm stands out most."""
    _print("Wanda's input norms ‖X_j‖₂: the column that stands out most, by kind of linear")
    table = _table("linear", ("block", "column", "norm", "× median"))
    for one in found:
        table.add_row(one.kind, str(one.block), str(one.column), f"{one.norm:,.1f}", f"{one.ratio:,.1f}")
    _print(table)


def ablation(report: "AblationReport", text: str) -> None:
    """A table: perplexity, and the line if there is one, for every setting."""
    plan = report.ablation
    what = f"set to {'zero' if plan.value == 'zero' else 'their mean'} at {plan.tokens} tokens"
    _print(f"Perplexity ({text}), channels {what} after block {plan.from_block} and every later one")
    table = _table("channels", ("perplexity",))
    rows = [("untouched", report.untouched, report.line), (_names(report.chosen.channels), *_measured(report.chosen))]
    rows += [(f"random: {_names(one.channels)}", *_measured(one)) for one in report.random]
    if report.prompt is not None:
        table.add_column("line")
    for name, value, line in rows:
        table.add_row(name, f"{value:,.2f}", *(() if line is None else (" ".join(line.split()),)))
    _print(table)


def _measured(one: Any) -> tuple[float, str | None]:
    return one.perplexity, one.line


def _names(channels: Sequence[int]) -> str:
    shown = ", ".join(map(str, channels[:MOST_ROWS]))
    return shown if len(channels) <= MOST_ROWS else f"{shown} and {len(channels) - MOST_ROWS} more"


def _runs(numbers: Sequence[int]) -> str:
    """2, 3, 4, 7 -> 2–4, 7."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(str(a) if a == b else f"{a}–{b}" for a, b in runs)


def _rows(table: Any, count: int, none: str) -> None:
    """A table that may be cut off, or the sentence that says why there is none."""
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

    # the words are a model's or a reader's: brackets and colons in them mean nothing
    Console(markup=False, emoji=False, highlight=False).print(what, soft_wrap=isinstance(what, str))
