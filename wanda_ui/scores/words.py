"""Sentences over and under the figures of scores."""

from torch import Tensor

from wanda_core.explain.histograms import Disagreement, Grid, Histogram
from wanda_ui.language import Say


def grid_words(grid: Grid, kind: str, say: Say) -> tuple[str, str]:
    """Write title and sentence of the block × score picture, for one kind of linear."""
    low, high = int(grid.median.argmin()), int(grid.median.argmax())
    least, most = (10 ** float(grid.median[place]) for place in (low, high))
    where = {"low_block": grid.blocks[low], "high_block": grid.blocks[high]}
    title = say("scores.grid_title", kind=kind, factor=most / least)
    return title, say("scores.grid_text", kind=kind, low=least, high=most, **where)


def histogram_words(
    score: Histogram, weight: Histogram, where: str, parting: Disagreement | None, say: Say
) -> tuple[str, str, str]:
    """Write the title of the score histogram, the title of the magnitude one, and the sentence under both.

    score, weight: the same weights by score and by |W|; parting: where magnitude would have cut others.
    """
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


def _last(counts: Tensor) -> int:
    """Return the index of the last count above zero, -1 where there is none."""
    places = counts.nonzero()
    return int(places.max()) if len(places) else -1
