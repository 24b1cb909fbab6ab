"""What the pictures beside the curve are drawn from, as plain values for JSON."""

from statistics import median
from typing import Any

from torch import Tensor

from wanda_core.calibration.profile import Profile
from wanda_core.explain.decision_plane import DecisionPlane, Kept, decision_plane, magnitude_cut, wanda_cut
from wanda_core.explain.histograms import GRID_BINS, score_grid
from wanda_core.explain.mask_comparison import two_masks
from wanda_core.explain.toy_example import two_weights
from wanda_core.model.language_model import LanguageModel
from wanda_core.outliers.ablation import Ablation, ablate_steps
from wanda_core.outliers.analysis import Analysis, standing_out
from wanda_core.progress import Steps
from wanda_core.report.numbers import all_significant, logs, rounded, significant
from wanda_core.report.plan import TWO_WEIGHTS, Plan
from wanda_core.report.points import Dense

Json = dict[str, Any]


def scores(lm: LanguageModel, profile: Profile, plan: Plan) -> Json:
    """Describe how the scores of one kind of linear lie in every block, by Wanda and by magnitude.

    edges: log10 of the lowest and the highest score shown, with `bins` of equal width between; share: of each block,
    the weights in every bin, per mille; median, cut: of each block, log10 of the median score and of the threshold, by
    Wanda the median of its rows' thresholds; cut is None where nothing is cut.
    """
    linears = lm.of_kind(plan.kind)
    pairs = [two_masks(x.weight, profile.norms[x.name], plan.sparsity / 100, "matrix") for x in linears]
    cuts: dict[str, list[float | None]] = {
        "wanda": [
            wanda_cut(x.weight, profile.norms[x.name].to(x.weight.device), by_wanda)
            for x, (_, by_wanda) in zip(linears, pairs, strict=True)
        ],
        "magnitude": [magnitude_cut(x.weight, by_size) for x, (by_size, _) in zip(linears, pairs, strict=True)],
    }
    found: Json = {"kind": plan.kind, "sparsity": plan.sparsity}
    for name, norms in (("wanda", profile.norms), ("magnitude", None)):
        grid = score_grid(linears, norms)
        found[name] = {
            "edges": logs([float(grid.edges[0]), float(grid.edges[-1])]),
            "bins": GRID_BINS,
            "share": (1000 * grid.share).round().int().tolist(),
            "median": logs(grid.median.tolist()),
            "cut": logs(cuts[name]),
        }
    return found


def planes(lm: LanguageModel, profile: Profile, plan: Plan) -> list[Json]:
    """Describe the decision planes of some blocks."""
    linears = {linear.block: linear for linear in lm.of_kind(plan.kind)}
    found = []
    for block in plan.blocks:
        linear, norms = linears[block], profile.norms[linears[block].name]
        by_magnitude, by_wanda = two_masks(linear.weight, norms, plan.sparsity / 100, "matrix")
        plane = decision_plane(linear.weight, norms, by_magnitude, by_wanda)
        found.append({"kind": plan.kind, "block": block, "sparsity": plan.sparsity, **plane_of(plane)})
    return found


def plane_of(plane: DecisionPlane) -> Json:
    """Put a decision plane down.

    x, y: log10 of the norm and of |W| at both ends; bins: columns and rows; cells: of those that hold a weight, column,
    row, and how many both keep, Wanda alone, magnitude alone, and neither; level, slant: of the two cuts.
    """
    fates = (plane.both, plane.wanda, plane.magnitude, plane.cut)
    rows, columns = plane.both.shape
    held = sum(fates[1:], fates[0]).nonzero().tolist()
    return {
        "x": _ends(plane.x_edges),
        "y": _ends(plane.y_edges),
        "bins": [columns, rows],
        "cells": [[column, row, *(int(fate[row, column]) for fate in fates)] for row, column in held],
        "level": None if plane.level is None else rounded(plane.level),
        "slant": None if plane.slant is None else rounded(plane.slant),
        "differ": rounded(plane.differ),
        "loudest_tenth": {"columns": plane.loudest_tenth.columns, **_shares(plane.loudest_tenth)},
        "loudest": {"column": plane.loudest.columns, **_shares(plane.loudest)},
    }


def stream(analysis: Analysis) -> Json:
    """Describe the channel of the residual stream that stands out most.

    largest: its |x| at most, after each block; median: of all |x| there; ratio: the largest multiple of that median, at
    `block`; massive: the first and the last block where it is a massive activation, None where it never is.
    """
    towering = standing_out(analysis)[0]
    return {
        "channel": towering.channel,
        "largest": all_significant(analysis.channel_max[:, towering.channel]),
        "median": all_significant(analysis.median),
        "ratio": significant(towering.ratio),
        "block": towering.block,
        "massive": [towering.massive[0], towering.massive[-1]] if towering.massive else None,
    }


def ablation_steps(dense: Dense, channel: int, plan: Plan) -> Steps[Json]:
    """Measure the model with a channel set to zero after every block, and with random channels instead.

    -> perplexities: nothing, channel, and of the random draws the median, the lowest and the highest.
    """
    ablation = Ablation((channel,))
    report = yield from ablate_steps(
        dense.lm, ablation, dense.text, seq_len=plan.seq_len, windows=plan.ablation_windows
    )
    low, high = report.random_range
    return {
        "tokens": ablation.tokens,
        "value": ablation.value,
        "channels": list(ablation.channels),
        "nothing": significant(report.untouched),
        "channel": significant(report.chosen.perplexity),
        "random": significant(median(draw.perplexity for draw in report.random)),
        "low": significant(low),
        "high": significant(high),
        "draws": len(report.random),
        "windows": report.windows,
        "seq_len": report.seq_len,
    }


def toy() -> Json:
    """Work out the motivating example: which of two weights each metric cuts, from 0, and what either loss costs."""
    (w1, w2), (x1, x2) = TWO_WEIGHTS
    found = two_weights(w1, w2, x1, x2)
    return {
        "w": [w1, w2],
        "x": [x1, x2],
        "y": significant(found.y),
        "errors": [significant(error) for error in found.errors],
        "magnitude": found.magnitude,
        "wanda": found.wanda,
        "cheaper": found.cheaper,
    }


def _ends(edges: Tensor) -> list[float]:
    return [rounded(float(edges[0])), rounded(float(edges[-1]))]


def _shares(kept: Kept) -> dict[str, float]:
    return {"wanda": rounded(kept.wanda), "magnitude": rounded(kept.magnitude)}
