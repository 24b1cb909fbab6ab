"""Cutting long texts into tokens in a process of its own.

The package that does it is no Python: nobody can end it, and whoever leaves meanwhile leaves it at work, beside what
others ask for. The process is ended with whoever asked.
"""

from typing import Any

from transformers import PreTrainedTokenizerBase
from transformers.tokenization_utils_tokenizers import TokenizersBackend

from wanda_core.machine.helper import Helper, NotStartedError
from wanda_core.progress import still_wanted

# Seconds more for each megabyte of a tokenizer's rules, which it reads the first time: five times what that takes.
SECONDS_OF_MB = 1.0
# What transformers does with a text before and after it is cut: the process does the same, and nothing else.
STEPS = (
    *("__call__", "_encode_plus", "_convert_encoding", "_get_padding_truncation_strategies"),
    *("set_truncation_and_padding", "backend_tokenizer"),
)

# One thread, and one arena of memory, which goes back to the system.
_worker = Helper(
    "wanda_core.model.cutting_worker",
    {"TOKENIZERS_PARALLELISM": "false", "RAYON_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"},
)


def end_worker() -> None:
    """End the process, so that nothing of a model's tokenizer stays in it; the next long text starts it anew."""
    _worker.close()


def is_plain(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Tell whether transformers leaves it to the package alone to cut a text into tokens."""
    kind = type(tokenizer)
    plain = all(getattr(kind, step, None) is getattr(TokenizersBackend, step) for step in STEPS)
    return plain and not hasattr(kind, "_switch_to_input_mode")  # by which it changes itself for each text


def cut_apart(
    tokenizer: PreTrainedTokenizerBase, number: int, text: str, special: bool, seconds: float
) -> list[int] | None:
    """Cut a text into tokens, as the tokenizer itself would. number: that is no other tokenizer's; special: with the
    tokens that it adds by itself. None where the process cannot do it.

    Raises HelperError where it takes longer, or more memory than there is, RuntimeError where the tokenizer fails, and
    UnicodeEncodeError for a text that no tokenizer takes.
    """
    asked: dict[str, Any] = {"number": number, "text": text, "special": special}
    asked["split"] = bool(getattr(tokenizer, "split_special_tokens", False))
    text.encode()  # halves of a character, which no tokenizer takes, would become a whole one on the way
    try:
        said = _worker.ask(asked, seconds, still_wanted)
        if "unknown" in said:
            backend: Any = getattr(tokenizer, "backend_tokenizer", None)
            rules = str(backend.to_str())
            said = _worker.ask(asked | {"rules": rules}, seconds + SECONDS_OF_MB * len(rules) / 1e6, still_wanted)
    except NotStartedError:
        return None
    if "failed" in said:
        raise RuntimeError(said["failed"])
    ids: list[int] | None = said.get("ids")
    return ids
