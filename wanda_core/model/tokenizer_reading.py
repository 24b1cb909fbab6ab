"""Reading a stranger's tokenizer.json in a process of its own before it is read here.

The package that reads it is no Python: nothing ends it, it keeps Python's lock meanwhile, and where memory is not to be
had it ends the process. What is known of such files is refused before; this is for what nobody has thought of.
"""

import math
import re
from pathlib import Path

from wanda_core.errors import ModelError, shortened_path
from wanda_core.machine.helper import EndedError, Helper, LateError, NotStartedError
from wanda_core.progress import still_wanted

FILE = "tokenizer.json"
# Of a processor, and more for each megabyte of the file: five times what those of the largest vocabularies take.
SECONDS, SECONDS_OF_MB = 1.0, 0.2
# Bytes, and more for each of the file's: gemma3's 33 MB take 385 MB, gpt-oss's 28 MB 328 MB, llama2's 1.8 MB 34 MB. A
# Unigram model, whose vocabulary is a list, has a tree beside: 262,144 pieces in all the languages of the world take
# 265 MB, of a file of 8.7 MB.
MEMORY, TIMES_MEMORY = 60 * 10**6, 12
UNIGRAM_MEMORY, TIMES_UNIGRAM = 200 * 10**6, 20  # beside that, whichever is less
UNIGRAM = re.compile(rb'"vocab"\s*:\s*\[')
PART = 2**20  # bytes that are looked at together
WAITS = 8.0  # seconds of the clock for each of those, on a machine that is busy

# One thread, and one arena of memory, so that it takes the addresses it needs.
_worker = Helper(
    "wanda_core.model.tokenizer_worker",
    {"TOKENIZERS_PARALLELISM": "false", "RAYON_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"},
)


def check_reading(folder: Path, name: str) -> None:
    """Raise ModelError for a tokenizer.json that takes far more time or memory to be read than any does, or ends the
    process that reads it. name: of the model."""
    file = folder / FILE
    if not file.is_file():
        return
    size = file.stat().st_size
    seconds = math.ceil(SECONDS + SECONDS_OF_MB * size / 1e6)
    memory = MEMORY + TIMES_MEMORY * size
    if _unigram(file):
        memory += min(UNIGRAM_MEMORY, TIMES_UNIGRAM * size)
    asked = {"file": str(file), "seconds": seconds, "memory": memory}
    of = shortened_path(name)
    try:
        answer = _worker.ask(asked, WAITS * seconds, still_wanted)
    except NotStartedError:
        raise ModelError(
            f"the tokenizer of {of} was not read, because the process that reads it first does not start here; allow "
            "that"
        ) from None
    except LateError:
        answer = {"ended": "time", "bytes": None}
    except EndedError:
        answer = {"ended": "memory", "bytes": None}
    if answer["ended"] == "time":
        raise ModelError(
            f"the tokenizer of {of} takes more than {seconds} s to be read; take the tokenizer of the model it was "
            "made from"
        )
    if answer["ended"] or (answer["bytes"] or 0) > memory:
        raise ModelError(
            f"the tokenizer of {of} takes more than {memory / 1e6:,.0f} MB to be read, or breaks what reads it; take "
            "the tokenizer of the model it was made from"
        )


def _unigram(file: Path) -> bool:
    """Tell whether a tokenizer.json has a Unigram model, by a look at its bytes."""
    before = b""
    with file.open("rb") as opened:
        while part := opened.read(PART):
            if UNIGRAM.search(before + part):
                return True
            before = part[-100:]
    return False
