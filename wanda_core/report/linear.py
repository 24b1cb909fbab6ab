"""What is told of one linear and of single weights, as plain values for JSON."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from torch import Tensor

from wanda_core.explain import tiles
from wanda_core.explain.asking import ColumnTold, RowTold, WeightTold
from wanda_core.explain.decision_plane import Cut, DecisionPlane, Kept, cut_of, decision_plane
from wanda_core.explain.histograms import BINS, Grid, Histogram, histogram, score_grid
from wanda_core.explain.mask_agreement import MaskAgreement
from wanda_core.explain.masked_linear import MaskedLinear
from wanda_core.maths import scores
from wanda_core.model.linears import Linear
from wanda_core.outliers.features import LAYER_SHARE, POSITION_SHARE, FeatureCounts, feature_of
from wanda_core.report.numbers import logs, rounded, significant

Json = dict[str, Any]


def linear_of(linear: MaskedLinear) -> Json:
    """Describe a linear under its recipes: plane, histograms, the share that each keeps, and its overview.

    levels: the level of tiles at which one holds the matrix; norm: the median and the largest of its columns.
    """
    rows, columns = linear.W.shape
    W, gone = linear.W.float(), linear.choices[0].removed
    return {
        "rows": rows,
        "columns": columns,
        "kept": [rounded(1 - float(choice.removed.float().mean()), 6) for choice in linear.choices],
        "plane": plane_of(decision_plane(linear)),
        "score": histogram_of(histogram(scores.wanda(W, linear.X_norm.to(W.device)), gone)),
        "size": histogram_of(histogram(scores.magnitude(W), gone)),
        "norm": [significant(float(linear.X_norm.median())), significant(float(linear.X_norm.max()))],
        "levels": tiles.levels(rows, columns),
    }


def plane_of(plane: DecisionPlane) -> Json:
    """Put a decision plane down.

    x, y: log10 of the norm and of |W| at both ends; bins: columns and rows; cells: of those that hold a weight, column,
    row, and how many both keep, the first alone, the second alone, and neither.
    """
    fates = (plane.both, plane.first, plane.second, plane.neither)
    rows, columns = plane.both.shape
    held = sum(fates[1:], fates[0]).nonzero().tolist()
    return {
        "x": _ends(plane.x_edges),
        "y": _ends(plane.y_edges),
        "bins": [columns, rows],
        "cells": [[column, row, *(int(fate[row, column]) for fate in fates)] for row, column in held],
        "cuts": [cut_json(cut) for cut in plane.cuts],
        "differ": rounded(plane.differ, 6),
        "loudest_tenth": {"columns": plane.loudest_tenth.columns, **_shares(plane.loudest_tenth)},
        "loudest": {"column": plane.loudest.columns, **_shares(plane.loudest)},
    }


def cut_json(cut: Cut | None) -> Json | None:
    """Put a cut down, in log10 of its metric."""
    if cut is None:
        return None
    return {"metric": cut.metric, **{name: rounded(getattr(cut, name)) for name in ("median", "low", "high")}}


def histogram_of(counts: Histogram) -> Json:
    """Put a histogram down. edges: log10 at both ends of its bins."""
    return {
        "edges": _ends(counts.edges),
        "kept": counts.kept.int().tolist(),
        "removed": counts.removed.int().tolist(),
        "zeros": counts.zeros,
        "misplaced": rounded(counts.misplaced, 6),
    }


def blocks_of(linears: Sequence[Linear], norms: Mapping[str, Tensor], masked: Sequence[MaskedLinear]) -> Json:
    """Describe how the scores of one kind of linear lie in every block, by Wanda and by magnitude.

    masked: the same linears under one or two recipes. edges: log10 of the lowest and the highest value shown, with
    `bins` of equal width between; share: of each block, the weights in every bin, per mille; median: log10 of each
    block's median; cuts: of each recipe, block by block; sparsities: likewise the share that it removes.
    """
    held = range(len(masked[0].choices)) if masked else range(0)
    return {
        "kind": linears[0].kind,
        "bins": BINS,
        "blocks": [linear.block for linear in linears],
        "score": _grid(score_grid(list(linears), norms)),
        "size": _grid(score_grid(list(linears), None)),
        "cuts": [[cut_json(cut_of(linear, linear.choices[place])) for linear in masked] for place in held],
        "sparsities": [
            [rounded(float(linear.choices[place].removed.float().mean()), 5) for linear in masked] for place in held
        ],
    }


def masks_of(agreement: MaskAgreement) -> Json:
    """Put down where masks differ: of each pair, kind by kind, the share of weights in every block, None where it has
    no such linear; overall: of all weights."""
    return {
        "kinds": list(agreement.kinds),
        "pairs": [list(pair) for pair in agreement.pairs],
        "differ": [
            [[None if value != value else rounded(value) for value in row] for row in pair]
            for pair in agreement.differ.tolist()
        ],
        "overall": [rounded(value, 6) for value in agreement.overall.tolist()],
    }


def tile_of(tile: tiles.Tile) -> Json:
    """Put a tile down. size, kept: bytes row by row in base64, of each recipe its own."""
    height, width = tile.size.shape
    return {"height": height, "width": width, "size": _base64(tile.size), "kept": [_base64(kept) for kept in tile.kept]}


def told(answer: WeightTold | ColumnTold | RowTold) -> Json:
    """Put an answer down, numbers to five digits."""
    return {name: _short(value) for name, value in asdict(answer).items()}


def channel_of(counts: FeatureCounts | None, kind: str, column: int) -> Json | None:
    """Tell whether the channel of the stream that a column reads is an outlier feature, None where it reads none.

    layers, positions: the shares in which |x| reaches `magnitude`; least: those that the definition asks.
    """
    feature = None if counts is None else feature_of(counts, kind, column)
    if counts is None or feature is None:
        return None
    return {
        "meets": feature.meets,
        "magnitude": counts.magnitude,
        "layers": rounded(feature.layer_share),
        "positions": rounded(feature.position_share),
        "least": [LAYER_SHARE, POSITION_SHARE],
    }


def _short(value: Any) -> Any:
    if isinstance(value, float):
        return significant(value)
    if isinstance(value, dict):
        return {name: _short(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_short(part) for part in value]
    return value


def _grid(grid: Grid) -> Json:
    return {
        "edges": _ends(grid.edges),
        "share": (1000 * grid.share).round().int().tolist(),
        "median": logs(None if value != value else value for value in grid.median.tolist()),
    }


def _ends(edges: Tensor) -> list[float]:
    return [rounded(float(edges[0])), rounded(float(edges[-1]))]


def _shares(kept: Kept) -> Json:
    return {"first": rounded(kept.first, 6), "second": rounded(kept.second, 6)}


def _base64(values: Tensor) -> str:
    return base64.b64encode(values.contiguous().numpy().tobytes()).decode()
