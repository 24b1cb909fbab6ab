"""Options that several commands share, and how they find a text and load a model by them."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wanda_core.checks import MAX_SEQ_LEN, check_whole
from wanda_core.cli.console import Stopwatch, described, say
from wanda_core.errors import InputError, ModelError, first_line
from wanda_core.progress import Progress
from wanda_core.text import corpora

TESTED_TRANSFORMERS = "5.23.0"  # as constraints.txt pins it; --low-memory stands on what only some versions have

if TYPE_CHECKING:  # torch and transformers take seconds to import; --help and bad input must not wait for them
    from collections.abc import Callable

    from wanda_core.model.language_model import LanguageModel


class Dtype(StrEnum):
    """What weights are held in."""

    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


def option(text: str, *names: str, metavar: str | None = None) -> Any:
    """One option and what --help says of it."""
    return typer.Option(*names, help=text, metavar=metavar)


Model = Annotated[
    str, option("'builtin', a folder, or a Hugging Face hub id such as HuggingFaceTB/SmolLM2-360M.", metavar="NAME")
]
CalibrationText = Annotated[
    str | None,
    option(
        "What input norms are measured on: a UTF-8 text file, wikitext2, c4, or a Hugging Face data set. "
        "Left out: built-in text, or c4 with --preset paper.",
        metavar="FILE|NAME",
    ),
]
Device = Annotated[
    str | None,
    option(
        "cpu, cuda, cuda:1, mps, or auto, which spreads the model over all GPUs. Left out: a GPU if there is one, "
        "else the CPU.",
        metavar="NAME",
    ),
]
HeldIn = Annotated[Dtype | None, option("What weights are held in. Left out: bfloat16 on a CUDA GPU, else float32.")]
Json = Annotated[bool, option("Print one JSON object on stdout and nothing else there.", "--json")]


def load(
    name: str, device: str | None, dtype: Dtype | None, watch: Stopwatch, on_disk: bool = False
) -> "tuple[LanguageModel, dict]":
    """The model and the seconds it took. on_disk: its weights stay there."""
    import torch

    load_model = _loader_of(on_disk)
    told: set[str] = set()

    def tell(step: Progress) -> None:
        if step.stage not in told and sys.stderr.isatty():
            told.add(step.stage)
            say(described(step))

    kind = getattr(torch, dtype.value) if dtype else None
    lm = load_model(name, device=device, dtype=kind, on_progress=tell)
    seconds = watch.lap()
    say(f"{'looked at' if on_disk else 'loaded'} {lm.title} on {lm.device.type} in {seconds:.1f} s")
    return lm, {"load": seconds}


def _loader_of(on_disk: bool) -> "Callable[..., LanguageModel]":
    """The function that loads a model; the one for models larger than memory is imported only when asked for."""
    if not on_disk:
        from wanda_core.model.loading import load_model

        return load_model
    try:
        from wanda_core.low_memory.prune import open_model
    except ImportError as error:
        import transformers

        raise ModelError(
            f"--low-memory takes parts of transformers that version {transformers.__version__} does not have "
            f"({first_line(error)}); install transformers {TESTED_TRANSFORMERS}, or leave --low-memory out"
        ) from error
    return open_model


def text_of(given: str | None, builtin: Path, seq_len: int, to_measure: bool = False) -> tuple[Any, str]:
    """A text, or the documents of a data set, and what to call it, before any model is loaded."""

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
