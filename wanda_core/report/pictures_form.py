"""The form of the pictures of a run: checks of what may stand beside its curve and its answers."""

import base64
import binascii
from typing import Any

from wanda_core.checks import MAX_SEQ_LEN
from wanda_core.report.form import (
    Check,
    WrongError,
    and_then,
    listed,
    matching,
    maybe,
    number,
    same_length,
    table,
    text,
    truth,
    whole,
)

MOST_BLOCKS, MOST_KINDS, MOST_BINS, MOST_CHANNELS = 1000, 1000, 512, 4096
MOST_CELLS = 20_000  # of a decision plane
MOST_SIDE = 1024  # of a tile
MOST_LINEARS = 12  # that are shown
MOST_RECIPES = 3  # laid over a linear

_NAME, _NUMBER, _COUNT, _SHARE = text(), number(), whole(), number(0, 1)
_TWO = listed(_NUMBER, 2, 2)
_CUT = maybe(table({"metric": matching("size|score", "a metric"), "median": _NUMBER, "low": _NUMBER, "high": _NUMBER}))
_SHARES = listed(_SHARE, 1, MOST_RECIPES)
_GRID = table(
    {
        "edges": _TWO,
        "share": listed(listed(_COUNT, 1, MOST_BINS), 1, MOST_BLOCKS),
        "median": listed(maybe(_NUMBER), 1, MOST_BLOCKS),
    }
)


def _grids(value: Any, where: str) -> None:
    blocks = len(value["blocks"])
    for metric in ("score", "size"):
        grid, place = value[metric], f"{where}.{metric}"
        same_length(grid, ("share", "median"), place)
        if len(grid["median"]) != blocks or any(len(row) != value["bins"] for row in grid["share"]):
            raise WrongError(f"{place} does not have {blocks} blocks of {value['bins']} bins")
    for name in ("cuts", "sparsities"):
        if any(len(row) != blocks for row in value[name]):
            raise WrongError(f"{where}.{name} does not have {blocks} blocks")


SCORES = and_then(
    table(
        {
            "sparsity": number(0, 100),
            "kind": _NAME,
            "bins": whole(1, MOST_BINS),
            "blocks": listed(_COUNT, 1, MOST_BLOCKS),
            "score": _GRID,
            "size": _GRID,
            "cuts": listed(listed(_CUT, 1, MOST_BLOCKS), 0, MOST_RECIPES),
            "sparsities": listed(listed(_SHARE, 1, MOST_BLOCKS), 0, MOST_RECIPES),
        }
    ),
    _grids,
)
_BARS = and_then(
    table(
        {
            "edges": _TWO,
            "kept": listed(_COUNT, 1, MOST_BINS),
            "removed": listed(_COUNT, 1, MOST_BINS),
            "zeros": _COUNT,
            "misplaced": _SHARE,
        }
    ),
    lambda value, where: same_length(value, ("kept", "removed"), where),
)
_PLANE = table(
    {
        "x": _TWO,
        "y": _TWO,
        "bins": listed(whole(1, MOST_BINS), 2, 2),
        "cells": listed(listed(_COUNT, 6, 6), 0, MOST_CELLS),
        "cuts": listed(_CUT, 2, 2),
        "differ": _SHARE,
        "loudest_tenth": table({"columns": _COUNT, "first": _SHARE, "second": _SHARE}),
        "loudest": table({"column": _COUNT, "first": _SHARE, "second": _SHARE}),
    }
)


def _sheets(value: Any, where: str) -> None:
    for name, sheet in (("size", value["size"]), *((f"kept[{i}]", kept) for i, kept in enumerate(value["kept"]))):
        try:
            held = len(base64.b64decode(sheet, validate=True))
        except (binascii.Error, ValueError):
            held = -1
        if held != value["height"] * value["width"]:
            raise WrongError(f"{where}.{name} is not base64 of {value['height']} × {value['width']} bytes")


_SHEET = text(2 * MOST_SIDE * MOST_SIDE)
_TILE = {
    "height": whole(1, MOST_SIDE),
    "width": whole(1, MOST_SIDE),
    "size": _SHEET,
    "kept": listed(_SHEET, 1, MOST_RECIPES),
}
_FATE = table(
    {
        "removed": truth,
        "metric": matching("size|score|importance|other", "a metric"),
        "scope": _NAME,
        "of": _COUNT,
        "removed_there": _COUNT,
        "rank": maybe(_COUNT),
    },
    {"cut": maybe(_NUMBER)},
)
_TOLD_WEIGHT = table(
    {
        **dict.fromkeys(("row", "column", "columns", "loudness", "by_size", "by_score"), _COUNT),
        **dict.fromkeys(("value", "norm", "median", "score"), _NUMBER),
        "fates": listed(_FATE, 1, MOST_RECIPES),
    }
)
_FEATURE = table(
    {"meets": truth, "magnitude": _NUMBER, "layers": _SHARE, "positions": _SHARE, "least": listed(_SHARE, 2, 2)}
)
_TOLD_COLUMN = table(
    {
        **dict.fromkeys(("column", "columns", "rows", "loudness"), _COUNT),
        **dict.fromkeys(("norm", "median"), _NUMBER),
        "kept": _SHARES,
        "feature": maybe(_FEATURE),
    }
)
_CUTS = listed(_NUMBER, 1, MOST_RECIPES)
_TOLD_ROW = table(
    {
        **dict.fromkeys(("row", "columns"), _COUNT),
        **dict.fromkeys(("size", "score"), _NUMBER),
        "kept": _SHARES,
        "size_cuts": _CUTS,
        "score_cuts": _CUTS,
    }
)
LINEAR = table(
    {
        "kind": _NAME,
        "block": _COUNT,
        "sparsity": number(0, 100),
        "rows": whole(1),
        "columns": whole(1),
        "kept": _SHARES,
        "plane": _PLANE,
        "score": _BARS,
        "size": _BARS,
        "norm": _TWO,
        "levels": whole(0, 32),
    },
    {
        "overview": and_then(table(_TILE), _sheets),
        "near": and_then(table({"at": listed(_COUNT, 2, 2), **_TILE}), _sheets),
        "told": table({"place": _COUNT, "weight": _TOLD_WEIGHT, "column": _TOLD_COLUMN, "row": _TOLD_ROW}),
    },
)


def _pairs(value: Any, where: str) -> None:
    same_length(value, ("pairs", "differ", "overall"), where)
    kinds = len(value["kinds"])
    if any(len(pair) != kinds for pair in value["differ"]):
        raise WrongError(f"{where}.differ does not have {kinds} kinds of linears")
    if len({len(row) for pair in value["differ"] for row in pair}) > 1:
        raise WrongError(f"{where}.differ has rows of different lengths")


MASKS = and_then(
    table(
        {
            "kinds": listed(_NAME, 1, MOST_KINDS),
            "pairs": listed(listed(whole(0, 2), 2, 2), 1, MOST_RECIPES),
            "differ": listed(listed(listed(maybe(_SHARE), 1, MOST_BLOCKS), 1, MOST_KINDS), 1, MOST_RECIPES),
            "overall": _SHARES,
        }
    ),
    _pairs,
)
STREAM = and_then(
    table(
        {
            "channel": _COUNT,
            "largest": listed(number(0), 1, MOST_BLOCKS),
            "median": listed(number(0), 1, MOST_BLOCKS),
            "ratio": number(0),
            "block": _COUNT,
            "massive": maybe(listed(_COUNT, 2, 2)),
        }
    ),
    lambda value, where: same_length(value, ("largest", "median"), where),
)
_PERPLEXITIES = dict.fromkeys(("nothing", "channel", "random", "low", "high"), number(0))
ABLATION = table(
    {
        "tokens": _NAME,
        "value": _NAME,
        "channels": listed(_COUNT, 1, MOST_CHANNELS),
        **_PERPLEXITIES,
        "draws": whole(1),
        "windows": whole(1),
        "seq_len": whole(2, MAX_SEQ_LEN),
    }
)
TOY = table(
    {
        "w": _TWO,
        "x": _TWO,
        "y": _NUMBER,
        "errors": _TWO,
        "magnitude": whole(0, 1),
        "wanda": whole(0, 1),
        "cheaper": whole(0, 1),
    }
)
PICTURE_FORMS: dict[str, Check] = {
    "scores": SCORES,
    "linears": listed(LINEAR, 1, MOST_LINEARS),
    "masks": MASKS,
    "stream": STREAM,
    "ablation": ABLATION,
    "toy": TOY,
}
