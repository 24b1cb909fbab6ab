"""Options that several commands share, and how a text and a model are found by them."""

import importlib.metadata
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wanda_core.checks import MAX_SEQ_LEN, check_whole
from wanda_core.cli.console import Stopwatch, described, say
from wanda_core.errors import InputError, ModelError, first_line
from wanda_core.model.names import normal_name
from wanda_core.progress import Progress
from wanda_core.text import corpora

if TYPE_CHECKING:  # torch and transformers take seconds to import; --help and bad input must not wait for them
    from collections.abc import Callable

    from wanda_core.model.language_model import LanguageModel

# --low-memory uses functions of transformers that change from version to version.
WORKING_TRANSFORMERS = ">=5.16,<6"  # 5.15 and older want another argument; what a later one changes cannot be known
TESTED_TRANSFORMERS = "5.23.0"  # the version in constraints.txt


class Dtype(StrEnum):
    """Number format that weights are held in."""

    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


def option(text: str, *names: str, metavar: str | None = None) -> Any:
    """Declare an option of a command, with the text that --help shows."""
    return typer.Option(*names, help=text, metavar=metavar)


Model = Annotated[
    str,
    option(
        "'builtin', a folder, a GGUF file, or a Hugging Face hub id such as HuggingFaceTB/SmolLM2-360M.", metavar="NAME"
    ),
]
CalibrationText = Annotated[
    str | None,
    option(
        "Text that input norms are measured on: a UTF-8 text file, wikitext2, c4, or a Hugging Face data set. "
        "Default: built-in text, or c4 with --preset paper.",
        metavar="FILE|NAME",
    ),
]
Device = Annotated[
    str | None,
    option(
        "cpu, cuda, cuda:1, mps, or auto, which spreads the model over all GPUs. Default: a GPU if there is one, "
        "else the CPU.",
        metavar="NAME",
    ),
]
HeldIn = Annotated[Dtype | None, option("Number format of the weights. Default: bfloat16 on a CUDA GPU, else float32.")]
Json = Annotated[bool, option("Print one JSON object on stdout and nothing else there.", "--json")]


def load(
    name: str, device: str | None, dtype: Dtype | None, watch: Stopwatch, on_disk: bool = False
) -> "tuple[LanguageModel, dict[str, float]]":
    """Load a model; return it and the seconds that took. on_disk: leave its weights there, for --low-memory."""
    name = normal_name(name)  # before torch, which takes seconds to import
    import torch

    load_model = _loader_on_disk() if on_disk else _loader()
    announced: set[str] = set()

    def announce(step: Progress) -> None:
        if step.stage not in announced and sys.stderr.isatty():
            announced.add(step.stage)
            say(described(step))

    kind = getattr(torch, dtype.value) if dtype else None
    lm = load_model(name, device=device, dtype=kind, on_progress=announce)
    seconds = watch.lap()
    say(f"{'looked at' if on_disk else 'loaded'} {lm.title} on {lm.device.type} in {seconds:.1f} s")
    return lm, {"load": seconds}


def _loader() -> "Callable[..., LanguageModel]":
    from wanda_core.model.loading import load_model

    return load_model


def _loader_on_disk() -> "Callable[..., LanguageModel]":
    """Import low memory, now that it is asked for. Raises ModelError where this transformers does not serve it."""
    try:
        from wanda_core.low_memory.model_on_disk import open_model
    except (ImportError, AttributeError) as error:
        raise ModelError(
            f"--low-memory does not work with transformers {importlib.metadata.version('transformers')} "
            f"({first_line(error)}); install transformers{WORKING_TRANSFORMERS} (tested: {TESTED_TRANSFORMERS}), or "
            "leave --low-memory out, for everything else goes on working"
        ) from error
    return open_model


def text_of(given: str | None, builtin: Path, seq_len: int, to_measure: bool = False) -> tuple[Any, str]:
    """Return a text, or the documents of a data set, and what to call it, before any model is loaded.

    given: a file or the name of a data set; builtin: the file to read where nothing is given; to_measure: take the
    data set's evaluation text. Raises InputError when it cannot be read or is too short for a window of `seq_len`.
    """
    check_whole("seq_len", seq_len, 2, MAX_SEQ_LEN)
    if given is not None and corpora.is_named(given):
        return (corpora.evaluation_text(given) if to_measure else corpora.calibration_text(given)), given
    return _text_file(given, builtin, seq_len)


def _text_file(file: str | None, builtin: Path, seq_len: int) -> tuple[str, str]:
    from wanda_core.text.files import read_text

    source = "built-in text" if file is None else Path(file).name
    text = read_text(builtin if file is None else file)
    if len(text.encode()) < seq_len:  # no tokenizer makes more tokens than bytes
        raise InputError(
            f"{source} has {len(text.encode())} bytes, too few for a window of {seq_len} tokens; "
            "give a longer text or a smaller --seq-len"
        )
    return text, source
