"""The stored piece to prune by hand: cut out of the built-in model, so that it is there before any model is loaded.

`python -m wanda_core.report.piece` writes it; `make replay` does it too.
"""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

import torch

from wanda_core.assets import PIECE
from wanda_core.errors import ModelError, WandaError
from wanda_core.explain.small_piece import Piece, piece_steps
from wanda_core.machine.paths import path_of
from wanda_core.model.builtin import NAME
from wanda_core.model.language_model import LanguageModel
from wanda_core.model.linears import Linear
from wanda_core.model.loading import load_model
from wanda_core.progress import Steps, finish
from wanda_core.report.files import check_writable, write_text
from wanda_core.report.making import today
from wanda_core.text.windows import calibrate

FORMAT = "wanda-piece-1"
MOST_BYTES = 30_000  # of the file
DIGITS = 6  # of a product of inputs
Json = dict[str, Any]


def told(piece: Piece) -> Json:
    """Turn a piece into plain values: linear, rows, columns, w (R, C), gram (C, C), windows, seq_len, budget."""
    return {
        "linear": piece.linear,
        "rows": list(piece.rows),
        "columns": list(piece.columns),
        "w": [[round(value, 4) for value in row] for row in piece.W.tolist()],
        "gram": [[float(f"{value:.{DIGITS}g}") for value in row] for row in piece.gram.tolist()],
        "windows": piece.windows,
        "seq_len": piece.seq_len,
        "budget": piece.budget,
    }


def stored_steps(lm: LanguageModel, seed: int = 0) -> Steps[Json]:
    """Cut the lesson's piece out of a model and say of what and when. seed: other ones draw other rows and columns."""
    calibration = calibrate(lm)
    piece = yield from piece_steps(lm, lesson_linear(lm), calibration, seed)
    made = {"date": today(), "model": lm.title, "revision": lm.revision, "calibration": calibration.fingerprint}
    return {"format": FORMAT, "made": made, **told(piece)}


def lesson_linear(lm: LanguageModel) -> Linear:
    """Choose the first linear of the middle block, whose masks the lesson compares. Raises ModelError where there is
    none in any block."""
    middle = len(lm.linears) // 2
    for block in [lm.linears[middle], *lm.linears]:
        if block:
            return block[0]
    raise ModelError(f"{lm.title} has no prunable matrix; choose another model")


def main() -> None:
    """Write the piece of the built-in model, in float32 on the CPU."""
    parser = argparse.ArgumentParser(prog="python -m wanda_core.report.piece", description=__doc__)
    parser.add_argument("--output", default=str(PIECE), help="the file to write")
    output = parser.parse_args().output
    try:
        target = write(output)
    except WandaError as error:
        sys.exit(f"error: {error}")
    print(f"{target}: {target.stat().st_size:,} bytes")


def write(path: str | os.PathLike[str] = PIECE) -> Path:
    """Write the file in one step. -> the file. Raises StorageError when it cannot be written."""
    target = check_writable(path_of(path).absolute(), "piece")
    lm = load_model(NAME, device="cpu", dtype=torch.float32)
    text = json.dumps(finish(stored_steps(lm)), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return write_text(text + "\n", target, "piece")


if __name__ == "__main__":
    main()
