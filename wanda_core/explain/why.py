"""Why a weight is kept or removed, in one English sentence made from its numbers."""

from collections.abc import Sequence

from wanda_core.explain.asking import Fate, WeightTold

SCOPES = {"row": "its row", "matrix": "the whole matrix", "column": "its column", "model": "the whole model"}
METRICS = {"score": "scores", "size": "sizes"}


def why(told: WeightTold, titles: Sequence[str], metrics: Sequence[str]) -> str:
    """Say what a weight is, what it reads, and what each recipe does to it and up to which value.

    titles, metrics: of the recipes in the order of the fates: what people call them, and what they compare weights by,
    `score`, `size` or `other`.
    """
    parts = [f"weight [{told.row}, {told.column}] is {told.value:.3g}, {_place(told.by_size, told.columns)} by size"]
    if told.norm == 0:
        parts.append("it reads an input that was always zero")
    else:
        loudness = f"{_place(told.loudness, told.columns, 'loudest')} of {told.columns:,}, where the median is"
        parts.append(f"it reads an input of norm {told.norm:.3g}, {loudness} {told.median:.3g}")
    rank = _place(told.by_score, told.columns)
    parts.append(f"so its score |W|·‖X‖ is {told.score:.3g}, {rank} by score")
    parts += [_fate(fate, title, metric) for fate, title, metric in zip(told.fates, titles, metrics, strict=True)]
    sentence = "; ".join(parts)
    return sentence[0].upper() + sentence[1:] + "."


def _fate(fate: Fate, title: str, metric: str) -> str:
    """Say what one recipe does, and what had to be fallen short of."""
    verb = "removes" if fate.removed else "keeps"
    if not fate.removed_there:
        return f"{title} {verb} it, as it removes nothing in {_scope(fate)}"
    if fate.cut is None:
        return f"{title} {verb} it, with {fate.removed_there:,} of the {fate.of:,} in {_scope(fate)} removed"
    return f"{title} {verb} it, as {METRICS[metric]} up to {fate.cut:.3g} go in {_scope(fate)}"


def _scope(fate: Fate) -> str:
    """Say which weights a weight was compared with."""
    kind, _, part = fate.scope.partition(":")
    if kind.isdigit():
        return f"its group of {part}"
    return f"its {fate.of:,} weights of {SCOPES[kind]}" if part else SCOPES[kind]


def _place(rank: int, of: int, most: str = "largest") -> str:
    """Say a rank: `the largest`, `the 2nd largest`, `372nd of 576 in its row`."""
    if most != "largest":
        return f"the {most}" if rank == 1 else f"the {ordinal(rank)} {most}"
    return f"the largest of the {of:,} in its row" if rank == 1 else f"{ordinal(rank)} of the {of:,} in its row"


def ordinal(number: int) -> str:
    """Write a place: 1st, 2nd, 3rd, 4th, 11th, 21st."""
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number:,}{ending}"
