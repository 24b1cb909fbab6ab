"""What commands print for people: tables on stdout."""

import re
from collections import defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from wanda_core.console import say

if TYPE_CHECKING:
    from wanda_core.tasks import Score
    from wanda_core.variant import PruneReport


def pruned(report: "PruneReport") -> None:
    """A table: per kind of linear, how many, how many weights, which share is zero."""
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    for linear in report.linears:
        kind = re.sub(r"^.*?\.\d+\.", "", linear.name)
        row = counts[re.sub(r"(expert.*)\.\d+\.", r"\1.*.", kind)]
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


def _table(first: str, others: tuple[str, ...]) -> Any:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE)
    table.add_column(first)
    for title in others:
        table.add_column(title, justify="right")
    return table


def _print(table: Any) -> None:
    from rich.console import Console

    Console().print(table)
