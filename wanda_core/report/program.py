"""A program that writes a stored file: how far it is, how large the file became, and what went wrong in a sentence."""

import sys
import time
from collections.abc import Callable
from pathlib import Path

from wanda_core.errors import WandaError
from wanda_core.progress import Progress


def write_aloud(
    write: Callable[[Callable[[Progress], object]], Path], words: Callable[[Progress], str] = lambda step: ""
) -> None:
    """Write a file, say on stderr how far that is, and at the end what was written.

    write: takes what hears its progress, and returns the file; words: of a step. A mistake ends the program.
    """
    started, seen = time.perf_counter(), -1

    def say(step: Progress) -> None:
        nonlocal seen
        if step.done != seen:
            seen = step.done
            print(f"{step.number} of {step.total}{words(step)}", file=sys.stderr, flush=True)

    try:
        target = write(say)
    except WandaError as error:
        sys.exit(f"error: {error}")
    print(f"{target}: {target.stat().st_size:,} bytes, {time.perf_counter() - started:.0f} s")
