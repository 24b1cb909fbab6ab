"""Options that several commands share, and how a text and a model are found by them."""

import importlib.metadata
import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wanda_core.checkpoint.read import was_trained
from wanda_core.checks import MAX_SEQ_LEN, check_whole
from wanda_core.cli.console import Stopwatch, described, say
from wanda_core.errors import InputError, ModelError, first_line, shortened
from wanda_core.model.names import is_path, normal_name
from wanda_core.progress import Progress
from wanda_core.text import corpora
from wanda_core.text.files import read_text

if TYPE_CHECKING:  # torch and transformers take seconds to import; --help and bad input must not wait for them
    from collections.abc import Callable

    import torch

    from wanda_core.model.language_model import LanguageModel
    from wanda_core.text.windows import Calibration

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
        "Text that input norms are measured on: a text file, a table (.jsonl, .json, .csv, .tsv, .parquet; .gz and "
        ".zst too), a folder of either, wikitext2, c4, or a Hugging Face data set. Default: built-in text, or c4 with "
        "--preset paper.",
        metavar="PATH|NAME",
    ),
]
MeasuredText = Annotated[
    str | None,
    option(
        "Text that perplexity is measured on: a text file, a table (.jsonl, .json, .csv, .tsv, .parquet; .gz and .zst "
        "too), a folder of either, wikitext2, c4, or a Hugging Face data set. Default: built-in evaluation text.",
        metavar="PATH|NAME",
    ),
]
Column = Annotated[
    str | None,
    option(
        "Column of the table that holds the text, or chats as lists of messages. Default: text, else messages, else "
        "the first of strings.",
        metavar="NAME",
    ),
]
Pack = Annotated[
    bool | None,
    option(
        "Join the documents, so that a window may span several. Default: only where none is long enough for a window.",
        "--pack/--no-pack",
    ),
]
Bos = Annotated[
    bool,
    option(
        "Put the begin token before every window. Default: as in the paper, only where the text begins, if the "
        "tokenizer puts it there.",
        "--bos",
    ),
]
Samples = Annotated[int, option("Windows of calibration text.")]
SeqLen = Annotated[int, option("Tokens in a window.")]
OutputFolder = Annotated[
    str, option("Folder to write; a new or empty one, or an earlier checkpoint, which is replaced.", metavar="DIR")
]
SavedIn = Annotated[Dtype | None, option("Number format of the saved weights. Default: that of the dense checkpoint.")]
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


def folder_of(model: str) -> Path | None:
    """Return the folder that a model is read from, None where it is not named by one."""
    name = normal_name(model)
    return Path(name) if is_path(name) and os.path.isdir(name) else None


def number_in(given: str | None) -> Any:
    """Return the number that a text stands for, else the text itself, which the recipe refuses by name."""
    try:
        return None if given is None else float(given)
    except ValueError:
        return given


def load(
    name: str, device: str | None, dtype: Dtype | None, watch: Stopwatch, on_disk: bool = False
) -> "tuple[LanguageModel, dict[str, float]]":
    """Load a model; return it and the seconds that took. on_disk: leave its weights there, for --low-memory."""
    name = normal_name(name)  # before torch, which takes seconds to import
    load_model = _loader_on_disk() if on_disk else _loader()
    announced: set[str] = set()

    def announce(step: Progress) -> None:
        if step.stage not in announced and sys.stderr.isatty():
            announced.add(step.stage)
            say(described(step))

    lm = load_model(name, device=device, dtype=torch_dtype(dtype), on_progress=announce)
    seconds = watch.lap()
    say(f"{'looked at' if on_disk else 'loaded'} {lm.title} on {lm.device.type} in {seconds:.1f} s")
    if lm.folder is not None and was_trained(lm.folder):
        say(f"note: {lm.title} was trained after pruning, so its figures are not those of pruning alone")
    return lm, {"load": seconds}


def torch_dtype(dtype: Dtype | None) -> "torch.dtype | None":
    """Return torch's own name of a number format."""
    import torch

    return None if dtype is None else getattr(torch, dtype.value)  # type: ignore[no-any-return]


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


def text_of(
    given: str | None, builtin: Path, seq_len: int, to_measure: bool = False, column: str | None = None
) -> tuple[Any, str]:
    """Return a text, or documents, and what to call it, before any model is loaded.

    given: a path or the name of a data set; builtin: the file to read where nothing is given; to_measure: take the
    data set's evaluation text; column: of a table. Raises InputError when it cannot be read or is too short for a
    window of `seq_len`.
    """
    check_whole("seq_len", seq_len, 2, MAX_SEQ_LEN)
    if given is None:
        if column is not None:
            raise InputError(f"column {shortened(column)} is that of a table, and no text was given; leave it out")
        return read_text(builtin), "built-in text"
    source = corpora.name_of(given)
    read = corpora.evaluation_text if to_measure else corpora.calibration_text
    text = read(given, column, say)
    if isinstance(text, str) and len(text.encode()) < seq_len:  # no tokenizer makes more tokens than bytes
        raise InputError(
            f"{source} has {len(text.encode())} bytes, too few for a window of {seq_len} tokens; "
            "give a longer text or a smaller --seq-len"
        )
    return text, source


def note_begin(lm: "LanguageModel", bos: bool) -> None:
    """Say that most windows lack the begin token where the tokenizer puts it before a text by itself."""
    from wanda_core.text.windows import begins_texts

    if not bos and begins_texts(lm):
        say(
            f"note: the tokenizer of {lm.title} puts {lm.tokenizer.bos_token} before a text, and by the paper's "
            "protocol other windows than the first lack it; --bos puts it before every window"
        )


def drawn_from(
    lm: "LanguageModel", text: Any, source: str, *, pack: bool | None, bos: bool, **draw: int
) -> "Calibration":
    """Draw windows as `calibrate` does, and say what one would not expect of them."""
    from wanda_core.text.windows import calibrate

    calibration = calibrate(lm, text, source=source, pack=pack, bos=bos, **draw)
    if calibration.packed and pack is None:
        say(
            f"note: no document of {source} has more than {calibration.seq_len} tokens, so they were joined; --no-pack "
            "refuses them instead"
        )
    note_begin(lm, bos)
    return calibration
