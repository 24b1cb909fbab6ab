"""The command that counts zeros in a model on the disk."""

from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import typer

from wanda_core.cli import tables
from wanda_core.cli.console import Stopwatch, bar, check_alone, print_json, quiet
from wanda_core.cli.options import Json, load, option
from wanda_core.progress import Progress
from wanda_core.recipe import parse_pattern


def sparsity(
    model: Annotated[str, typer.Argument(help="A folder, 'builtin' or a hub id.", metavar="FOLDER")],
    against: Annotated[
        str | None, option("The dense model that it was made from: counts what changed since.", metavar="NAME")
    ] = None,
    pattern: Annotated[str | None, option("N:M, such as 2:4: tells whether it holds, and where not.")] = None,
    as_json: Json = False,
) -> None:
    """Count the zeros of a model: in every linear, in every block, in all; which N:M patterns hold; what changed.

    Weights are read block by block, so the model may be larger than memory.
    """
    check_alone("sparsity")
    watch = Stopwatch()
    with quiet():
        asked = parse_pattern(pattern) if pattern is not None else None
        from wanda_core.pruning.count import count_all, patterns

        blocks, total, seconds = _blocks(model, watch)
        dense = _blocks(against, watch)[0] if against is not None else None
        with bar() as on_progress:
            counts = count_all(
                blocks,
                dense,
                asked[1] if asked else None,
                lambda n: on_progress(Progress("checking", n, total, "blocks")),
            )
        seconds["count"] = watch.lap()
    found = [f"{n}:{m}" for n, m in patterns(counts)]
    broken = [linear.name for linear in counts if asked and not linear.holds(*asked)]
    if as_json:
        print_json(_told(model, against, counts, found, pattern, broken) | {"seconds": seconds})
    else:
        tables.counted(counts, found, pattern, broken)


def _blocks(name: str, watch: Stopwatch) -> tuple[Iterator[Sequence[Any]], int, dict[str, float]]:
    """Return an iterator over a model's blocks, each with its linears while it is at hand, and how many there are."""
    from wanda_core.model.linears import prunable_linears

    lm: Any
    lm, seconds = load(name, "cpu", None, watch, on_disk=True)
    linears = prunable_linears(lm.model)

    def blocks() -> Iterator[Sequence[Any]]:
        for index, block in enumerate(linears):
            with lm.loader.at_hand(lm.model, index):
                yield block

    return blocks(), len(linears), seconds


def _told(
    model: str, against: str | None, counts: Sequence[Any], found: list[str], pattern: str | None, broken: list[str]
) -> dict[str, Any]:
    """Collect what --json prints."""
    blocks: dict[int, list[Any]] = {}
    for linear in counts:
        blocks.setdefault(linear.block, []).append(linear)
    told: dict[str, Any] = {"model": model, **_sum(counts), "patterns": found}
    if pattern is not None:
        told["pattern"] = {"asked": pattern, "holds": not broken, "broken": broken}
    if against is not None:
        told["against"] = against
    told["blocks"] = [_sum(linears) for linears in blocks.values()]
    told["linears"] = [{"name": linear.name, "shape": list(linear.shape), **_sum([linear])} for linear in counts]
    return told


def _sum(counts: Sequence[Any]) -> dict[str, Any]:
    weights, zeros = sum(c.weights for c in counts), sum(c.zeros for c in counts)
    told: dict[str, Any] = {"weights": weights, "zeros": zeros, "sparsity": zeros / weights}
    if counts[0].since is not None:
        told |= {"zeros_before": sum(c.since.zeros for c in counts), "changed": sum(c.since.changed for c in counts)}
    return told
