"""Having the tensors of a GGUF file dequantised and saved by a process of its own: it takes seconds to minutes, keeps
Python's lock, and meanwhile no other model could be built here."""

import json
import math
from pathlib import Path

import torch
from transformers import PreTrainedConfig

from wanda_core.errors import ModelError, shortened_path
from wanda_core.machine.helper import NotStartedError
from wanda_core.model.gguf_header import Header
from wanda_core.model.made_apart import converter, have_made
from wanda_core.model.stored_tensors import check_complete, check_shapes

CONFIGURATION, FOUND = "described", "found.json"  # beside the folder of the model
# Seconds of a processor that transformers may take: in all, for each tensor, for each entry of a list, each of its
# several readings 15 µs, and for each number.
SECONDS, SECONDS_OF_ONE, SECONDS_OF_ENTRY, SECONDS_OF_NUMBER = 4.0, 0.005, 5e-4, 1e-6
# Bytes beside: for each number, of which it holds several copies at once, for each entry, and for itself.
BYTES_OF_NUMBER, BYTES_OF_ENTRY, BYTES = 24, 1600, 500 * 10**6


def save_model(
    gguf: Path, folder: Path, name: str, title: str, dtype: torch.dtype, header: Header, config: PreTrainedConfig
) -> None:
    """Dequantise a GGUF file's tensors, alone in its folder, and save the model as an ordinary checkpoint.

    folder: of the model, in which its tokenizer lies already; name: of the file, for messages; title: the name that the
    configuration gets; header: the file's; config: of the model that it describes. Raises ModelError where its tensors
    are not all of the model's, or take far more time or memory than any, and ValueError where transformers does not
    read them.
    """
    config.save_pretrained(folder.parent / CONFIGURATION)
    found = folder.parent / FOUND
    request = {
        "what": "model",
        **{"file": str(gguf), "config": str(folder.parent / CONFIGURATION), "found": str(found)},
        **{"folder": str(folder), "title": title, "dtype": str(dtype).removeprefix("torch.")},
    }
    more = SECONDS_OF_ONE * header.tensors + SECONDS_OF_ENTRY * header.entries + SECONDS_OF_NUMBER * header.numbers
    seconds = math.ceil(SECONDS + more)
    memory = BYTES + BYTES_OF_ENTRY * header.entries + BYTES_OF_NUMBER * header.numbers + gguf.stat().st_size
    of = shortened_path(name)
    try:
        ended = have_made(converter, request, seconds, memory)
    except NotStartedError:
        raise ModelError(
            f"{of} was not converted, because the process that does so does not start here; allow that"
        ) from None
    if ended == "time":
        raise ModelError(
            f"{of} takes more than {seconds} s to be converted; give the model's folder with safetensors, or its hub id"
        )
    if ended:
        raise ModelError(
            f"{of} takes more than {memory / 1e6:,.0f} MB to be converted, or breaks what reads it; give the model's "
            "folder with safetensors, or its hub id"
        )
    told = json.loads(found.read_text())
    check_shapes(name, [(place, tuple(had), tuple(asked)) for place, had, asked in told["mismatched"]])
    check_complete(name, told["missing"])
