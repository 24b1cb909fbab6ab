"""The program that makes a tokenizer before the app does, in a process of its own: transformers turns the files of many
kinds of tokenizers into another, which may take any time and any memory.

It is started by `tokenizer_reading.py`, reads a request a line and answers each by one line of JSON, as `in_copy` has
it: each tokenizer is made by a copy of the process, which has bounds of its own.
"""

from typing import Any

import gguf  # noqa: F401  # what a copy would import otherwise, each anew
from transformers import (
    CONFIG_MAPPING,
    AutoConfig,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedTokenizerBase,
    convert_slow_tokenizer,  # noqa: F401
    modeling_utils,  # noqa: F401
)
from transformers.integrations import gguf as their_gguf  # noqa: F401

from wanda_core.machine.answering import answer_lines
from wanda_core.machine.bounded_copy import in_copy
from wanda_core.model.foreign_code import no_foreign_code


def make(folder: str, config: dict[str, str] | None, given: dict[str, Any], saved: str | None) -> None:
    """Make a tokenizer as transformers does. Raises whatever it does.

    config: of the model's configuration what its tokenizer's class is chosen by, None where it says so itself; given:
    further arguments of transformers; saved: the folder that it is written to, None for nowhere
    """
    if config is not None:
        kind = config.get("model_type", "")
        own = AutoConfig.for_model(kind) if kind in CONFIG_MAPPING else PreTrainedConfig()
        for name, value in config.items():
            setattr(own, name, value)
        given = given | {"config": own}
    with no_foreign_code():
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, **given)
        if saved is not None:
            tokenizer.save_pretrained(saved)


def answer(seconds: int, memory: int, **asked: Any) -> dict[str, Any]:
    """Make a tokenizer in a copy. asked: as `make` takes it."""
    return in_copy(lambda: make(**asked), seconds, memory)


def main() -> None:
    """Answer requests until the input ends."""
    answer_lines(answer)


if __name__ == "__main__":
    main()
