"""Options that several commands share, and how they load a model by them."""

import sys
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wanda_core.console import Stopwatch, say

if TYPE_CHECKING:  # torch and transformers take seconds to import; --help and bad input must not wait for them
    from wanda_core.models import LanguageModel


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

    from wanda_core import low_memory, models

    told: set[str] = set()

    def tell(what: str, share: float) -> None:
        if what not in told and sys.stderr.isatty():
            told.add(what)
            say(what)

    kind = getattr(torch, dtype.value) if dtype else None
    load_model = low_memory.load_model if on_disk else models.load_model
    lm = load_model(name, device=device, dtype=kind, on_progress=tell)
    seconds = watch.lap()
    say(f"{'looked at' if on_disk else 'loaded'} {lm.title} on {lm.device.type} in {seconds:.1f} s")
    return lm, {"load": seconds}
