"""Having a stranger's files read, or made into others, by a process of its own, within bounds of time and of memory."""

from collections.abc import Mapping
from threading import Thread
from typing import Any

from wanda_core.machine.disk_faults import disk_error
from wanda_core.machine.helper import EndedError, Helper, LateError
from wanda_core.progress import GivenUpError, still_wanted

WAITS = 8.0  # seconds of the clock for each of a processor's, on a machine that is busy

# One thread, and one arena of memory, so that they take the addresses they need; and macOS lets their copies do what it
# would otherwise end them for.
ALONE = {
    **{"TOKENIZERS_PARALLELISM": "false", "RAYON_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1", "OMP_NUM_THREADS": "1"},
    **{"OBJC_DISABLE_INITIALIZE_FORK_SAFETY": "YES"},
}
# No GPU: what drives one takes more addresses than its copies have.
OFFLINE = ALONE | {"HF_HUB_OFFLINE": "1", "HF_DEACTIVATE_ASYNC_LOAD": "1", "CUDA_VISIBLE_DEVICES": ""}
reader = Helper("wanda_core.model.tokenizer_worker", ALONE)  # of tokenizer.json, with nothing but that package
maker = Helper("wanda_core.model.maker", OFFLINE)
# Another for GGUF files, which take it up to minutes: whoever opens an ordinary model does not wait for them.
converter = Helper("wanda_core.model.maker", OFFLINE)


def prepare() -> None:
    """Start the process that makes tokenizers, which takes seconds, before there is anything for it to do."""
    maker.start()


def have_made(helper: Helper, request: Mapping[str, Any], seconds: int, memory: int) -> str:
    """Have something made. seconds: of a processor; memory: bytes. -> "" where it came to its end, "time" or "memory"
    where that was not enough.

    Raises NotStartedError, GivenUpError, OSError where the disk refuses it, and ValueError where it fails otherwise.
    """
    try:
        answer = helper.ask({**request, "seconds": seconds, "memory": memory}, WAITS * seconds, still_wanted)
    except GivenUpError:
        if helper is maker:  # whoever leaves ends it: the next one is not to wait until it has started
            Thread(target=helper.start, name="maker", daemon=True).start()
        raise
    except LateError:
        return "time"
    except EndedError:
        return "memory"
    if answer["ended"] or (answer["bytes"] or 0) > memory:
        return "time" if answer["ended"] == "time" else "memory"
    if answer["said"]:
        raise disk_error(answer["said"]) or ValueError(answer["said"])
    return ""
