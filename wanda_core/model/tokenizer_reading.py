"""Making a stranger's tokenizer in a process of its own before it is made here.

The package that reads a tokenizer.json is no Python: nothing ends it, it keeps Python's lock meanwhile, and where
memory is not to be had it ends the process. And transformers turns many kinds of files into others, in ways that take
any time and any memory. What is known of such files is refused before; this is for what nobody has thought of.
"""

import math
import os
import re
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from transformers import PreTrainedConfig, PreTrainedTokenizerBase
from transformers.models.auto import tokenization_auto as auto
from transformers.tokenization_utils_tokenizers import TokenizersBackend
from transformers.utils import is_mistral_common_available

from wanda_core.errors import ModelError, shortened_path
from wanda_core.machine.helper import Helper, NotStartedError
from wanda_core.machine.json_file import read_json
from wanda_core.model import made_apart
from wanda_core.model.made_apart import have_made
from wanda_core.model.tokenizer_weight import Weight, weight_of_numbered

FILE, SETTINGS, TEKKEN, CODE = "tokenizer.json", "tokenizer_config.json", "tekken.json", "auto_map"
HALVES = ("vocab.", "merges.")  # of one vocabulary, that are read both
# What transformers looks for where no file is called tokenizer.json, or longer: it takes what is found first.
WITHOUT = re.compile(r"tekken\.json|tokenizer\.model\.*|tiktoken\.model")
CHOSEN_BY = ("model_type", "tokenizer_class", "model_name", "_name_or_path")  # of a configuration, a tokenizer's class
FOR_ALL = ("TokenizersBackend", "PreTrainedTokenizerFast", "PythonBackend", "MistralCommonBackend")
NUMBERED, LINES = ("vocab.json", "byte_maps.json"), (".txt", ".bpe", ".codes")
PLAIN = (None, "TokenizersBackend", "PreTrainedTokenizerFast")  # classes that take a tokenizer.json as it is
SECONDS, MEMORY = 2.0, 30 * 10**6  # of a processor, and bytes, for a small file
# Of files that hold a vocabulary: more seconds for each megabyte but blanks, and bytes for each byte: more than the
# largest take: gemma3's tokenizer.json of 14 MB 3 s and 324 MB, gpt-oss's of 12 MB 263 MB, llama3's of 6 MB 160 MB
# where its class makes it anew, a tekken.json of 9 MB with its words 8 s and 235 MB, a tiktoken file of 2.2 MB with
# these 5 s and 233 MB, one of sentencepiece of 5.2 MB with gemma's 4 s and 309 MB, for the merges that are looked for.
COSTS = {
    **{TEKKEN: (2.0, 32)},
    **dict.fromkeys(("*.model", "*.spm", "*.tiktoken"), (6.0, 130)),
    **dict.fromkeys((FILE, "vocab.*", "merges.txt", "byte_maps.json", "dict.txt", "bpe.codes"), (1.0, 34)),
}
# What may stand beside the words of a file, whatever it is, such as a map of characters of 700,000 letters; and seconds
# for each megabyte of it, and bytes for each byte.
MOST_OTHER, COST_OF_OTHER = 10**6, (1.0, 8)
BYTES_OF_JSON = 12  # for each letter of a tokenizer.json that a class in Python reads for what it adds
# A Unigram model of a tokenizer.json, whose vocabulary is a list, has a tree beside: 260,000 pieces in all the
# languages of the world take 376 MB, of a file of 6 MB.
UNIGRAM_MEMORY, TIMES_UNIGRAM = 320 * 10**6, 32  # beside that, whichever is less
# For each entry of a GGUF file's lists: gemma's 786,000 take 24 s and 685 MB, gpt-oss's 846,000 25 s and 989 MB.
SECONDS_OF_ENTRY, MEMORY_OF_GGUF, BYTES_OF_ENTRY = 1e-4, 60 * 10**6, 1600
MOST_SECONDS, MOST_MEMORY = 60.0, 15 * 10**8  # more, of any file
PART = 2**20  # bytes that are looked at together


def check_reading(
    folder: Path,
    name: str,
    config: PreTrainedConfig,
    given: Mapping[str, None] | None = None,
    weights: Mapping[str, Weight] | None = None,
) -> float:
    """Raise ModelError for a tokenizer that takes far more time or memory to be made than any does, or ends the process
    that makes it; ValueError for one that is not made. name: of the model; config: the model's; given: arguments with
    which it is to be made; weights: of files by their names, others of these forms having no words.

    -> seconds more of a processor that it may take to be made here than one of small files
    """
    known, kind = weights or {}, _class_of(folder, config)
    read = [path for path in map(folder.joinpath, _files_read(folder, kind)) if path.is_file()]
    in_rust = issubclass(kind, TokenizersBackend) or _may_be_for_all(config)
    costs = {path.name: _costs(path, _weight(path, known), in_rust) for path in read}
    both = [cost for name, cost in costs.items() if name.startswith(HALVES)]
    most = [*costs.values(), (sum(seconds for seconds, _ in both), sum(memory for _, memory in both))]
    # Of several, one is read, or small ones are.
    more, bytes_ = min(max(cost[0] for cost in most), MOST_SECONDS), min(max(cost[1] for cost in most), MOST_MEMORY)
    seconds, memory = math.ceil(SECONDS + more), MEMORY + bytes_
    if _is_taken_as_it_is(folder, config):
        _have_made(made_apart.reader, {"file": str(folder / FILE)}, name, seconds, memory)
    else:
        _have_made(made_apart.maker, _request(folder, config, given or {}), name, seconds, memory)
    return more


def make_of_gguf(gguf: Path, folder: Path, name: str, entries: int) -> None:
    """Make the tokenizer of a GGUF file, alone in its folder, and save it to another. name: of the model; entries: how
    many its lists have. Raises ModelError as `check_reading`, and ValueError where transformers does not make it.
    """
    request = _request(gguf.parent, None, {"gguf_file": gguf.name}, folder)
    seconds = math.ceil(SECONDS + SECONDS_OF_ENTRY * entries)
    _have_made(made_apart.converter, request, name, seconds, MEMORY_OF_GGUF + BYTES_OF_ENTRY * entries)


def is_vocabulary(name: str) -> bool:
    """Tell whether a file of this name holds a tokenizer's vocabulary."""
    return any(fnmatchcase(name, known) for known in COSTS)


def has_vocabulary(folder: Path) -> bool:
    """Tell whether a folder holds a file with a tokenizer's vocabulary."""
    return any(is_vocabulary(path.name) for path in folder.iterdir() if path.exists())


def needs_files(folder: Path, config: PreTrainedConfig) -> bool:
    """Tell whether a folder's tokenizer is of a class that has its vocabulary in files, as all but those of bytes."""
    return bool(_class_of(folder, config).vocab_files_names)


def _settings(folder: Path) -> dict[str, Any]:
    return read_json(folder / SETTINGS) if (folder / SETTINGS).exists() else {}


def _named(folder: Path, config: PreTrainedConfig) -> Any:
    """Return what a model calls its tokenizer's class; where it names none, or one that transformers knows to be wrong,
    that of its kind."""
    settings = _settings(folder)
    named = settings.get("tokenizer_class") or getattr(config, "tokenizer_class", None)
    wrong = {config.model_type, getattr(config, "model_name", None)} & auto.MODELS_WITH_INCORRECT_HUB_TOKENIZER_CLASS
    if CODE in settings:  # of its own, which is not run; then the name counts, right or wrong
        wrong = set()
    return named if named and not wrong else auto.TOKENIZER_MAPPING_NAMES.get(config.model_type)


def _class_of(folder: Path, config: PreTrainedConfig) -> type[PreTrainedTokenizerBase]:
    """Return a tokenizer's class by its name; where transformers has none of it, it takes its one for all."""
    named = _named(folder, config)
    found = auto.tokenizer_class_from_name(named) if isinstance(named, str) else None
    return found if isinstance(found, type) and issubclass(found, PreTrainedTokenizerBase) else TokenizersBackend


def _files_read(folder: Path, kind: type[PreTrainedTokenizerBase]) -> set[str]:
    """Return names of the files that a tokenizer of a class may be made of, whether or not they are there: as
    transformers finds them, which may take its class for all in the place of any."""
    listed = "\n".join(os.listdir(folder))
    found = None if FILE in listed else WITHOUT.search(listed)
    read = {TEKKEN} if is_mistral_common_available() else set()  # which reads that one first
    for one in (kind, TokenizersBackend):
        if (folder / FILE).is_file() and issubclass(one, TokenizersBackend):
            read.add(FILE)
            continue
        names = {**one.vocab_files_names, "tokenizer_file": FILE}
        if found:
            names["spm_file" if "spm_file" in names else "vocab_file"] = found.group()
        read.update(names.values())
    return set(filter(is_vocabulary, read))


def _may_be_for_all(config: PreTrainedConfig) -> bool:
    """Tell whether transformers may take its class for all in the place of another that a model names."""
    place = getattr(config, "_name_or_path", None)
    where = place.lower() if isinstance(place, str) else ""
    known = any(fnmatchcase(where, pattern) for pattern in auto.MODEL_IDS_TO_TOKENIZERS_BACKEND)
    return known or auto.TOKENIZER_MAPPING_NAMES.get(config.model_type) in FOR_ALL


def _is_taken_as_it_is(folder: Path, config: PreTrainedConfig) -> bool:
    """Tell whether transformers has a tokenizer.json read and does nothing else, of its classes for others."""
    alone = (folder / FILE).is_file() and not (folder / TEKKEN).exists() and CODE not in _settings(folder)
    return alone and _named(folder, config) in PLAIN


def _request(
    folder: Path, config: PreTrainedConfig | None, given: Mapping[str, Any], saved: Path | None = None
) -> dict[str, Any]:
    own = None
    if config is not None:
        own = {name: value for name in CHOSEN_BY if isinstance(value := getattr(config, name, None), str)}
    asked = {"folder": str(folder), "config": own, "given": dict(given), "saved": saved and str(saved)}
    return {"what": "tokenizer", **asked}


def _have_made(helper: Helper, request: dict[str, Any], name: str, seconds: int, memory: int) -> None:
    """Have a tokenizer made within bounds. Raises ModelError where they are not enough, ValueError where it fails."""
    of = shortened_path(name)
    try:
        ended = have_made(helper, request, seconds, memory)
    except NotStartedError:
        raise ModelError(
            f"the tokenizer of {of} was not read, because the process that reads it first does not start here; allow "
            "that"
        ) from None
    if ended == "time":
        raise ModelError(
            f"the tokenizer of {of} takes more than {seconds} s to be read; take the tokenizer of the model it was "
            "made from"
        )
    if ended:
        raise ModelError(
            f"the tokenizer of {of} takes more than {memory / 1e6:,.0f} MB to be read, or breaks what reads it; take "
            "the tokenizer of the model it was made from"
        )


def _parts(file: Path) -> Iterable[bytes]:
    with file.open("rb") as opened:
        while part := opened.read(PART):
            yield part


def _weight(file: Path, known: Mapping[str, Weight]) -> Weight | None:
    """Return what a file's words weigh, None for one of lines, of which all letters are words."""
    if file.name in known:
        return known[file.name]
    if file.suffix in LINES:
        return None
    try:
        return weight_of_numbered(read_json(file)) if file.name in NUMBERED else Weight()
    except (OSError, ValueError):  # whoever reads it next says what is wrong with it
        return Weight()


def _costs(file: Path, weight: Weight | None, in_rust: bool) -> tuple[float, int]:
    """Return how many seconds and bytes more a tokenizer may take for one of its files. in_rust: whether its class has
    a tokenizer.json's words, of which others take those alone that are added."""
    letters = sum(len(part.translate(None, b" \t\r\n")) for part in _parts(file))  # of blanks nothing is made
    seconds, times = next(cost for known, cost in COSTS.items() if fnmatchcase(file.name, known))
    if weight is None:
        return seconds * letters / 1e6, times * letters
    words, other = min(letters, weight.words), min(max(0, letters - weight.words), MOST_OTHER)
    if not in_rust and file.name == FILE:
        made = min(words, weight.added)
        return seconds * made / 1e6 + COST_OF_OTHER[0] * other / 1e6, times * made + BYTES_OF_JSON * letters
    tree = min(UNIGRAM_MEMORY, TIMES_UNIGRAM * weight.pieces)
    return (seconds * words + COST_OF_OTHER[0] * other) / 1e6, times * words + COST_OF_OTHER[1] * other + tree
