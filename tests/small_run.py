"""A run of no model that exists: small, whole, with all pictures."""

import base64
import copy
from typing import Any

from wanda_core.report.keys import Key
from wanda_core.report.run import recipe_of

FATE = {"metric": "score", "removed": False, "scope": "row", "of": 2, "removed_there": 1, "rank": 1, "cut": 0.5}
CUT = {"metric": "score", "median": -0.5, "low": -0.6, "high": -0.4}
BARS = {"edges": [-1, 1], "kept": [0, 2], "removed": [2, 0], "zeros": 0, "misplaced": 0}
GRID = {"edges": [-1.0, 1.0], "share": [[400, 600], [500, 500]], "median": [0.1, None]}
BYTES = base64.b64encode(b"\x00\xff\x80\x10").decode()


def line(key: str, at: list[float], perplexity: list[float], **more: Any) -> dict[str, Any]:
    """A line whose other values are the same everywhere."""
    count = len(at)
    values = {"perplexity": perplexity, "top1": [0.5] * count, "kl": [0.25] * count, "seconds": [1.5] * count}
    return {"key": key, "recipe": recipe_of(Key.parse(key)), "calibration": None, "at": at, **values, **more}


def answer(*pieces: str) -> dict[str, Any]:
    """An answer, each piece with half the probability."""
    return {"t": list(pieces), "p": [50] * len(pieces)}


RUN: dict[str, Any] = {
    "format": 1,
    "made": {
        "date": "2026-01-31",
        "model": "Tiny",
        "name": "owner/tiny",
        "revision": "abc",
        "parameters": 100,
        "prunable": 80,
        "dtype": "float32",
        "versions": {"wanda": "1.2", "torch": "2.8", "transformers": "5.1"},
        "calibration": {
            "source": "built-in text",
            "samples": 16,
            "seq_len": 256,
            "seed": 0,
            "fingerprint": "0123456789abcdef" * 4,
            "seconds": 1.5,
        },
        "windows": 4,
        "agreement_windows": 1,
        "seq_len": 512,
        "bos": False,
        "eval": "0123456789abcdef",
        "answer_tokens": 48,
    },
    "shown": {"at": 50, "keys": ["wanda"], "prompt": None},
    "dense": {"perplexity": 10.0},
    "lines": [
        line("wanda", [0, 50, 62.5], [10.0, 20.0, 40.0]),
        line("wanda,pattern=1:3", [100 * (1 - 1 / 3)], [90.0]),
        line("magnitude", [50, 80], [30.0, 1e300], top1=[0.5, None], kl=[0.25, None], seconds=[1.5, None]),
        line(
            "wanda,order=faithful,text=0123456789abcdef0123456789abcdef,samples=2",
            [50],
            [18.0],
            calibration={"source": "mine.txt", "samples": 2, "seq_len": 256, "seed": 0},
        ),
    ],
    "prompts": [{"id": "sky", "text": "Why is the sky blue?", "word": None}, {"text": "하나 더하기 하나는?"}],
    "answers": {
        "dense": [answer("It", " is"), None],
        "wanda@50": [answer("It", " was"), answer("\n", "")],
        "wanda,pattern=1:3@66.66666666666667": [None, answer()],
    },
    "scores": {
        "sparsity": 45,
        "kind": "mlp.up_proj",
        "bins": 2,
        "blocks": [0, 1],
        "score": GRID,
        "size": GRID,
        "cuts": [[CUT, None], [CUT, CUT]],
        "sparsities": [[0.4, 0.5], [0.45, 0.45]],
    },
    "linears": [
        {
            "kind": "mlp.up_proj",
            "block": 1,
            "sparsity": 45,
            "rows": 2,
            "columns": 2,
            "kept": [0.5, 0.5],
            "plane": {
                "x": [0, 1],
                "y": [-2.5, 0.5],
                "bins": [2, 2],
                "cells": [[0, 0, 1, 0, 0, 0], [1, 1, 0, 1, 1, 1]],
                "cuts": [CUT, None],
                "differ": 0.5,
                "loudest_tenth": {"columns": 1, "first": 0.5, "second": 0.5},
                "loudest": {"column": 1, "first": 1.0, "second": 0},
            },
            "score": BARS,
            "size": BARS,
            "norm": [1.5, 2.5],
            "levels": 0,
            "overview": {"height": 2, "width": 2, "size": BYTES, "kept": [BYTES, BYTES]},
            "near": {"at": [0, 0], "height": 1, "width": 4, "size": BYTES, "kept": [BYTES, BYTES]},
            "told": {
                "place": 1,
                "weight": {
                    **dict.fromkeys(("row", "column"), 1),
                    **{"columns": 2, "value": -0.5, "norm": 2.5, "loudness": 1, "median": 1.5, "score": 1.25},
                    **{"by_size": 2, "by_score": 1, "fates": [FATE, {**FATE, "rank": None, "cut": None}]},
                },
                "column": {
                    **{"column": 1, "columns": 2, "rows": 2, "norm": 2.5, "loudness": 1, "median": 1.5},
                    "kept": [1, 0],
                    "feature": {"meets": True, "magnitude": 6, "layers": 0.5, "positions": 0.1, "least": [0.25, 0.06]},
                },
                "row": {
                    **{"row": 1, "columns": 2, "size": 0.5, "score": 1.25, "kept": [0.5, 0.5]},
                    **{"size_cuts": [0.1, 0.2], "score_cuts": [0.1, 0.2]},
                },
            },
        }
    ],
    "masks": {"kinds": ["mlp.up_proj"], "pairs": [[0, 1]], "differ": [[[0.25, None]]], "overall": [0.25]},
    "stream": {
        "channel": 7,
        "largest": [1.5, 300],
        "median": [0.5, 0.5],
        "ratio": 600,
        "block": 1,
        "massive": None,
    },
    "ablation": {
        **{"tokens": "all", "value": "zero", "channels": [7], "nothing": 10, "channel": 1e300, "random": 10.5},
        **{"low": 10, "high": 11.5, "draws": 5, "windows": 2, "seq_len": 512},
    },
    "toy": {"w": [0.5, 2], "x": [40, 1], "y": 22, "errors": [20, 2], "magnitude": 0, "wanda": 1, "cheaper": 1},
}


def small_run(**changes: Any) -> dict[str, Any]:
    """A run of one's own, but for some of its fields."""
    return {**copy.deepcopy(RUN), **changes}
