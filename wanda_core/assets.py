"""Paths of the texts, the stored run, the style and the pictures that come with the program."""

from pathlib import Path

_HERE = Path(__file__).resolve().parent
# In a wheel they lie inside the package, in a checkout beside it.
ASSETS = _HERE / "assets" if (_HERE / "assets").is_dir() else _HERE.parent / "assets"
BUILTIN_CALIBRATION = ASSETS / "text" / "calibration.txt"
BUILTIN_EVALUATION = ASSETS / "text" / "evaluation.txt"
REPLAY = ASSETS / "replay.json"  # a stored run of the built-in model, written by `make replay`
PIECE = ASSETS / "piece.json"  # of the built-in model, to be pruned by hand, written likewise
LESSON = ASSETS / "lesson.json"  # the stored answers of the lesson, written by `make replay` too
