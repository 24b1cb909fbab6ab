"""Making the lesson's stored answers: what every step says of the built-in model where nobody chose anything else.

`python -m wanda_core.report.lesson.making` writes them; `make replay` does it last.
"""

import argparse
import json
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from wanda_core.assets import BUILTIN_EVALUATION, LESSON
from wanda_core.machine.paths import path_of
from wanda_core.model.builtin import NAME
from wanda_core.model.language_model import LanguageModel
from wanda_core.model.loading import load_model
from wanda_core.outliers.analysis import analyse_steps
from wanda_core.progress import Progress, Steps, finish, inside
from wanda_core.report.files import check_writable, write_text
from wanda_core.report.lesson import consequences, sentences
from wanda_core.report.lesson.plan import FORMAT, OTHER_SENTENCE, SENTENCE
from wanda_core.report.making import today
from wanda_core.report.program import write_aloud
from wanda_core.text.chats import fingerprint_of
from wanda_core.text.files import read_text
from wanda_core.text.windows import calibrate
from wanda_core.version import __version__

MOST_BYTES = 200_000  # of the file
Json = dict[str, Any]


def lesson_steps(lm: LanguageModel) -> Steps[Json]:
    """Answer every step that asks a model, by default. -> made: of what and when; and by step what its function in
    `sentences` and `consequences` gives: meet, source, change, sinks, lean, masks, price."""
    places = iter([Progress("recipes", number, 7, "settings") for number in range(7)])
    calibration = calibrate(lm)
    analysis = yield from inside(analyse_steps(lm, calibration), next(places))
    steps: Json = {
        "meet": (yield from inside(sentences.meet_steps(lm, SENTENCE), next(places))),
        "source": (yield from inside(sentences.source_steps(lm), next(places))),
        "change": (yield from inside(sentences.change_steps(lm, OTHER_SENTENCE), next(places))),
        "sinks": (yield from inside(sentences.sinks_steps(lm, SENTENCE), next(places))),
        "lean": (yield from inside(consequences.lean_steps(lm, analysis, calibration), next(places))),
        "masks": consequences.masks(lm, analysis, middle(lm)),
        "price": (yield from inside(consequences.price_steps(lm, analysis), next(places))),
    }
    made = {
        "date": today(),
        "model": lm.title,
        "name": lm.name,
        "revision": lm.revision,
        "calibration": calibration.fingerprint,
        "eval": fingerprint_of(read_text(BUILTIN_EVALUATION)),
        "versions": {"wanda": __version__, "torch": torch.__version__},
    }
    return {"format": FORMAT, "made": made, **steps}


def middle(lm: LanguageModel) -> int:
    """Return the block whose masks are shown where none is chosen."""
    return len(lm.linears) // 2


def write(path: str | os.PathLike[str] = LESSON, on_progress: Callable[[Progress], object] | None = None) -> Path:
    """Answer the lesson by the built-in model, in float32 on the CPU, and write the file in one step. -> the file.

    Raises StorageError when it cannot be written, ModelError when there is no built-in model.
    """
    target = check_writable(path_of(path).absolute(), "lesson")
    lm = load_model(NAME, device="cpu", dtype=torch.float32)
    return write_text(dumped(finish(lesson_steps(lm), on_progress)), target, "lesson")


def dumped(lesson: Json) -> str:
    """Return the lesson's answers as one line of JSON. A number that is not finite is an error."""
    return json.dumps(lesson, ensure_ascii=False, allow_nan=False, separators=(",", ":")) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the lesson's answers, and say on stderr how far it is."""
    parser = argparse.ArgumentParser(prog="python -m wanda_core.report.lesson.making", description=__doc__)
    parser.add_argument("--output", default=str(LESSON), help="the file to write")
    output = parser.parse_args(arguments).output
    write_aloud(partial(write, output))


if __name__ == "__main__":
    main()
