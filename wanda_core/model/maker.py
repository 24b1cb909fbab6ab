"""The program that does with a stranger's files what may take transformers any time and any memory: it makes tokenizers
before the app does, and checkpoints of GGUF files.

It is started by `made_apart.py`, reads a request a line and answers each by one line of JSON, as `in_copy` has
it: each is made by a copy of the process, which has bounds of its own.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf  # noqa: F401  # what a copy would import otherwise, each anew
import torch
from transformers import (
    CONFIG_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
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


def convert(file: str, config: str, folder: str, title: str, dtype: str, found: str) -> None:
    """Make an ordinary checkpoint of a GGUF file, alone in its folder. Raises whatever transformers does.

    config: the folder of the model's configuration; folder: that it is written to; title: the name that its
    configuration gets; dtype: that its weights get; found: the file that tells what is missing or has another shape
    """
    with no_foreign_code():
        described = AutoConfig.from_pretrained(config, trust_remote_code=False)
        source: dict[str, Any] = {"gguf_file": Path(file).name, "trust_remote_code": False, "output_loading_info": True}
        read: Any = AutoModelForCausalLM.from_pretrained(
            Path(file).parent, config=described, dtype=getattr(torch, dtype), **source
        )
        model, info = read
        told = {"mismatched": sorted(info["mismatched_keys"]), "missing": sorted(info["missing_keys"])}
        Path(found).write_text(json.dumps(told, default=list))
        if any(told.values()):  # it is refused by whoever asked
            return
        # It is a plain model now; transformers would otherwise refuse to save a "quantised" one.
        del model.config.quantization_config
        vars(model).update(hf_quantizer=None, is_quantized=False)
        model.config._name_or_path = title
        model.save_pretrained(folder)


MADE: dict[str, Callable[..., None]] = {"tokenizer": make, "model": convert}


def answer(seconds: int, memory: int, what: str, **asked: Any) -> dict[str, Any]:
    """Make something in a copy. what: of `MADE`; asked: as that takes it."""
    return in_copy(lambda: MADE[what](**asked), seconds, memory)


def main() -> None:
    """Answer requests until the input ends."""
    answer_lines(answer)


if __name__ == "__main__":
    main()
