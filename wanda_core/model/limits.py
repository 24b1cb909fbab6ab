"""How much a stranger's files may ask for, checked before any of them is read: sizes, kinds of files, numbers.

The bounds lie several times above the largest models that are met; what they keep out would fill the memory or never
end.
"""

import contextlib
import math
import re
import stat
import threading
from collections.abc import Collection, Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch.nn.modules.module import register_module_parameter_registration_hook

from wanda_core.errors import ModelError, shortened, shortened_path
from wanda_core.machine.json_file import read_json
from wanda_core.machine.ordinary_file import open_ordinary
from wanda_core.model import experts
from wanda_core.model.config_keys import check_keys
from wanda_core.model.first_text import CHUNK, bytes_of_first_text
from wanda_core.model.stored_tensors import INDEX, WEIGHTS, shards_in
from wanda_core.model.tokenizer_reading import is_vocabulary

if TYPE_CHECKING:
    from torch import nn

MB = 10**6
# Bytes of files that are read whole, by how their names begin; the largest that are met have 35 MB (tokenizer.json). An
# index of 90,000 names has 9 MB, settings with 65,536 added tokens 12 MB, a configuration with 21,843 labels 1 MB.
LARGEST = {
    **{"config.json": 4, "generation_config.json": 4, "adapter_config.json": 4, "model.safetensors.index.json": 16},
    **{"chat_template": 1, "tokenizer.json": 64, "tekken.json": 64},
    **{"tokenizer_config.json": 16, "special_tokens_map.json": 16, "added_tokens.json": 8},
    **{"normalizer.json": 12, "emoji.json": 12, "word_": 12, "entity_vocab": 12, "target_vocab": 12},
    # Read by tokenizers in Python, a word for each blank, and in MyT5's a table for each byte; at most 6 MB are met.
    **{"vocab.json": 12, "vocab.txt": 12, "merges.txt": 12, "dict.txt": 12, "bpe.codes": 12, "byte_maps.json": 1},
    "": 32,
}
MOST_READ, MOST_FILES = 320 * MB, 500  # bytes of all of them, and how many; 110 MB in 40 files are met
MOST_TEMPLATES = 10 * MB  # of all chat templates
# Bytes that the letters of a file, and of all templates, take in memory: one emoji, and each takes four. A
# tokenizer.json of 35 MB, with words of all languages, takes 135 million.
WIDE = {"tokenizer.json": 150 * MB, "tekken.json": 150 * MB, "": 40 * MB}
MOST_SHARDS = 5_000  # files that weights are divided into; hundreds are met
READ = re.compile(
    r"(generation_|adapter_)?config\.json|tokenizer(_config)?\.json|(special_tokens_map|added_tokens)\.json"
    r"|chat_template\..*|model\.safetensors\.index\.json|additional_chat_templates/.*\.jinja"
    r"|(normalizer|emoji|word_shape|word_pronunciation|(entity_|target_)?vocab(-src|-tgt)?)\.json|\w+\.tokenizer"
)
# Lists, and entries of all, that a file of JSON may have, by the pattern of its name that fits first; a file of lines
# has entries alone. Each list takes 70 bytes in memory, each entry 200. What is met at most: a tokenizer.json with
# 262,144 tokens and 514,906 pairs, a tokenizer_config.json with 65,536 added tokens of six entries, which say the same
# of each and are not counted (TOKEN): settings are read and copied several times, by whoever loads them.
MOST_PARTS = {
    "tokenizer.json": (10**6, 4 * 10**6),
    "tekken.json": (10**6, 4 * 10**6),
    "tokenizer_config.json": (100_000, 100_000),
    "special_tokens_map.json": (100_000, 100_000),
    "added_tokens.json": (1_000, 150_000),
    "*config.json": (100_000, 100_000),
    "*.index.json": (1_000, 250_000),
    "*.json": (100_000, 10**6),
    "*.txt": (math.inf, 10**6),
    "*": (math.inf, 2 * 10**6),  # one of sentencepiece has two such bytes and more for each of 262,144 tokens
}
SETTINGS = ("tokenizer_config.json", "special_tokens_map.json")
TOKEN = re.compile(rb'"content"\s*:|"(?:lstrip|rstrip|normalized|single_word|special)"\s*:\s*(?:true|false)')
TEMPLATE = ".jinja"  # how a template's name ends
BYTES = (".model", ".spm", ".tiktoken", ".tokenizer")  # how names of files end that are not read as text
# What UTF-8 writes behind a letter's first byte, and all bytes below the first of a letter that Python holds in two
# bytes, or four; a text is held as its widest letter is.
BEHIND, NARROW, NOT_WIDEST = bytes(range(0x80, 0xC0)), bytes(range(0xC4)), bytes(range(0xF0))
ESCAPED = {2: re.compile(rb"\\u(?!00)"), 4: re.compile(rb"\\u[dD][89abAB]")}  # such letters, as JSON may write them
MANY = re.compile(r"(^|_)(layers?|blocks?|depths?|experts)$")  # names of numbers that each make so many modules
MOST_MANY = 20_000  # blocks, or experts of one; 126 and 16,384 are met
MOST_CHUNK = 512  # tokens, of which tables are made; 256 is met
# Names of numbers of rounds of a loop; 100 is met.
ROUNDS = re.compile(r"(^|_)(iters?|iterations|cycles|loops|repeats|rounds|hashes|ngram|pretraining_tp)$")
MOST_ROUNDS = 200
SIZE = re.compile(r"(size|dim|width|heads?|embd|inner|rank|state|channels|groups)(_|$)")
MOST_SIZE = 2**20  # 53,248 are met; of a head, it need not make a weight to make tables for each token
LARGER, MOST_LARGER = re.compile(r"vocab|chunk|window"), 2**31 - 1  # of tokens and samples, which others count
# Names of numbers that nothing is made of, or of tables of numbers, which are counted when they are built.
NOTHING = re.compile(
    r"(length|len|tokens|params|parameters|steps?|freq|max|seq|time|date|version|positions?|theta|base|contexts?|window"
    r"|factor|scale|items|flops|ids?|seed|eps|std|limit|embeddings|value)(_|$)"
)
# Labels, of each of which a configuration makes a text and two entries, numbers of them in all its parts together;
# 21,843 are met.
LABELS, MOST_LABELS = re.compile(r"^(num_(labels|classes)|id2label|label2id)$"), 50_000
MOST_OTHER = 10**6  # of any other whole number
MOST_ENTRIES = 10**5  # of a list, and letters of a text
MOST_OF_ANY = 10**40  # of what has no bound else, which is then computed with; 10**30 is met
MOST_TOLD = 10**15  # the least count whose digits are not told
# Parameters that a model may have beside four for each tensor in its files, whose matrices may be cut apart, and beside
# one for so many numbers in them, far fewer than are met: weights of a few numbers cost as much to make as large ones.
MORE_PARAMETERS, PARAMETERS_OF_ONE, NUMBERS_OF_ONE = 1_000, 4, 10_000
# Bytes of tables that a model may have beside its weights where its files have not as many, and of those and what it
# makes with the first texts, beside as many as its files. Tables take twice their size while they are made; of them
# 2**26 are met beside small files (8,192 positions by each other), 134 million beside large ones.
MORE_BUFFERS, MORE_TABLES = 2**26, 2**28
MOST_PARAMETERS = 20_000  # each takes a tenth of a millisecond to make, and 4 kB; 1,554 are met among the defaults
# A model has no more numbers than its files; twice as many where one matrix is embeddings and head.
SHARE_OF_NUMBERS, MORE_NUMBERS = 2, 10**6
# Matrices of experts that lie in one tensor, each of which takes 2 kB, for so many numbers in the files, and some
# beside; one of 100,000 numbers is small among those that are met.
NUMBERS_OF_EXPERT, MORE_EXPERTS = 1_000, 20_000


def check_file_sizes(name: str, sizes: Mapping[str, int]) -> None:
    """Raise ModelError for files that are read whole, of which one is too large for what it is, or all together are.
    sizes: in bytes, by name."""
    read = {file: size for file, size in sizes.items() if largest_size(file) is not None}
    for file, size in sizes.items():
        most = largest_size(file)
        if most is not None and size > most:
            raise ModelError(
                f"{shortened_path(name)} has a {shortened(file)} of {size / MB:,.0f} MB, and at most {most / MB:,.0f} "
                "MB of such a file are read; choose another model"
            )
    templates = sum(size for file, size in sizes.items() if file.endswith(TEMPLATE))
    if templates > MOST_TEMPLATES:
        raise ModelError(
            f"{shortened_path(name)} has chat templates of {templates / MB:,.0f} MB together, and at most "
            f"{MOST_TEMPLATES / MB:,.0f} MB are read; choose another model"
        )
    if sum(read.values()) > MOST_READ or len(read) > MOST_FILES:
        raise ModelError(
            f"{shortened_path(name)} has {len(read):,} files of {sum(read.values()) / MB:,.0f} MB beside its weights, "
            f"and at most {MOST_FILES} of {MOST_READ / MB:,.0f} MB are read; choose another model"
        )


def _check_parts(path: Path, name: str) -> int:
    """Raise ModelError for a file of so many lists or entries, or of letters so wide, that it takes far more memory
    than it has bytes. -> bytes that its letters take in memory"""
    lists, entries, letters, width, last = 0, 0, 0, 1, b""
    most_wide = next(most for start, most in WIDE.items() if path.name.startswith(start))
    between = b"," if path.suffix == ".json" else b"\n"
    with open_ordinary(path) as opened:
        while block := opened.read(MB):
            lists += block.count(b"[") + block.count(b"{")
            entries += block.count(between)
            if path.name in SETTINGS:
                entries -= sum(1 for _ in TOKEN.finditer(block))
            if between == b"\n":  # a line may end with the other alone
                entries += block.count(b"\r") - block.count(b"\r\n")
            letters += len(block.translate(None, BEHIND))
            if not block.isascii() and block.translate(None, NARROW):
                width = max(width, 4 if block.translate(None, NOT_WIDEST) else 2)
            if most_wide == WIDE[""]:  # of others it is their own words
                width = max(width, *(wide for wide, escaped in ESCAPED.items() if escaped.search(last + block)), 1)
            last = block[-5:]
    most_lists, most = next(most for pattern, most in MOST_PARTS.items() if fnmatchcase(path.name, pattern))
    for given, bound in ((lists, most_lists), (entries, most)):
        if given > bound:
            raise ModelError(
                f"{shortened_path(name)} has a {shortened(path.name)} of {given:,} entries or lists, and at most "
                f"{bound:,} of such a file are read; choose another model"
            )
    if path.suffix in BYTES:
        return 0
    _check_letters(f"a {shortened(path.name)}", letters * width, most_wide, name)
    return letters * width


def _check_letters(what: str, nbytes: int, most: int, name: str) -> None:
    if nbytes > most:
        raise ModelError(
            f"{shortened_path(name)} has {what} whose letters take {nbytes / MB:,.0f} MB in memory, and at most "
            f"{most / MB:,.0f} MB of such files are read; choose another model"
        )


def largest_size(file: str) -> int | None:
    """Return how many bytes a file of this name may have, None for one that is not read whole."""
    if not READ.fullmatch(file) and not is_vocabulary(file):
        return None
    template = "chat_template" if file.endswith(TEMPLATE) else file
    return next(most for start, most in LARGEST.items() if template.startswith(start)) * MB


def check_files(folder: Path, name: str) -> None:
    """Raise ModelError for a file that is no ordinary one (a device or a pipe never ends), or too large to be read."""
    sizes = {}
    for path in sorted([*folder.iterdir(), *folder.glob("additional_chat_templates/*.jinja")]):
        file = path.relative_to(folder).as_posix()
        if largest_size(file) is None and not file.endswith(WEIGHTS):
            continue
        with contextlib.suppress(FileNotFoundError):  # a link to nothing is missed where it is needed
            _check_ordinary(path, name)
            sizes[file] = path.stat().st_size
    check_file_sizes(name, sizes)
    letters = {file: _check_parts(folder / file, name) for file in sizes if not file.endswith(WEIGHTS)}
    templates = sum(taken for file, taken in letters.items() if file.endswith(TEMPLATE))
    _check_letters("chat templates", templates, WIDE[""], name)
    if INDEX in sizes:
        shards = shards_in(folder)
        check_shards(shards, name)
        for shard in shards:
            with contextlib.suppress(FileNotFoundError):
                _check_ordinary(folder / shard, name)


def _check_ordinary(path: Path, name: str) -> None:
    try:
        ordinary = stat.S_ISREG(path.stat().st_mode)
    except FileNotFoundError:
        raise
    except (OSError, ValueError):  # a name that is none, or a link to itself
        ordinary = False
    if not ordinary:
        raise ModelError(
            f"{shortened_path(name)} holds {shortened(path.name)}, which is no ordinary file; put the file itself there"
        )


def check_shards(files: Collection[str], name: str) -> None:
    """Raise ModelError for files of weights, as an index names them, that are too many, or of which one leads out of
    the model's folder or would be read as something else than safetensors."""
    if len(files) > MOST_SHARDS:
        raise ModelError(
            f"{shortened_path(name)} has an index of its weights, {INDEX}, that names {len(files):,} files, and at "
            f"most {MOST_SHARDS:,} are read; save it in larger shards or choose another model"
        )
    for file in files:
        _check_inside(file, name)
        if not file.endswith(WEIGHTS):  # transformers would take it for a pickle, and other shards with it
            raise ModelError(
                f"{shortened_path(name)} has an index of its weights, {INDEX}, that names {shortened(file)}, and "
                f"weights are read from files called *{WEIGHTS} only; give a folder as save_pretrained writes it"
            )


def _check_inside(file: str, name: str) -> None:
    parts = re.split(r"[/\\]", file)
    if not file or ".." in parts or parts[0] in ("", "~") or ":" in parts[0] or "\0" in file:
        raise ModelError(
            f"{shortened_path(name)} has an index of its weights, {INDEX}, that names {shortened(file)}, which does "
            "not lie in its folder; choose another model"
        )


def check_config_numbers(folder: Path, name: str) -> None:
    """Raise ModelError for a configuration with a number of blocks, experts or features that no model has.

    It is read as text, for transformers makes lists of so many entries while it reads. What else is wrong with it is
    said by transformers.
    """
    try:
        config = read_json(folder / "config.json")
    except (OSError, ValueError):
        return
    check_keys(config, name)
    check_numbers_of(config, name)


def check_numbers_of(config: Any, name: str, where: str = "config.json") -> None:
    """Raise ModelError as `check_config_numbers` does. config: as JSON has it; where: it stands, for messages."""

    def check(key: str, size: float, most: float, given: str) -> None:
        if size > most:
            raise ModelError(
                f"{shortened_path(name)} has {shortened(key)} {given} in its {where}, and models have {most:,} at "
                "most; repair it or choose another model"
            )

    waiting, labels = [(where, config)], 0
    while waiting:
        key, part = waiting.pop()
        if LABELS.search(str(key)):
            many = len(part) if isinstance(part, dict) else 0
            labels += max(0, part) if isinstance(part, int) else 0
            check(key, many or labels, MOST_LABELS, f"of {_told(many or labels)}")
        if isinstance(part, dict):
            waiting += part.items()
        elif isinstance(part, (list, str)):
            check(key, len(part), MOST_ENTRIES, f"of {len(part):,} entries or letters")
            if key == "attention_types":
                blocks = _repeated(part)
                check(key, blocks, MOST_MANY, f"of {_told(blocks)} blocks")
            waiting += [(key, each) for each in part] if isinstance(part, list) else []
        elif isinstance(part, (int, float)) and not isinstance(part, bool):
            check(key, abs(part), _most_of(str(key), isinstance(part, int)), shortened(part))


def _told(count: int) -> str:
    """Return a count's digits, of one that anybody may have written only few."""
    return f"{count:,}" if abs(count) < MOST_TOLD else f"more than {MOST_TOLD:,}"


def _repeated(types: object) -> int:
    """Count the blocks of GPT-Neo's kinds of attention: lists of kinds, each with how often it is repeated."""
    pairs = [pair for pair in types if isinstance(pair, list) and len(pair) == 2] if isinstance(types, list) else []
    return sum(len(kinds) * times for kinds, times in pairs if isinstance(kinds, list) and isinstance(times, int))


def _most_of(key: str, whole: bool) -> float:
    """Return the largest number that a configuration may have under a name. whole: nothing is made of other ones."""
    for names, most in ((MANY, MOST_MANY), (CHUNK, MOST_CHUNK), (ROUNDS, MOST_ROUNDS)):
        if names.search(key):
            return most
    if SIZE.search(key):
        return MOST_LARGER if LARGER.search(key) else MOST_SIZE
    if not whole:
        return math.inf
    return MOST_OF_ANY if NOTHING.search(key) else MOST_OTHER


@contextlib.contextmanager
def few_parameters(name: str, stored: int, numbers: int) -> Iterator[None]:
    """Context manager: raise ModelError as soon as this thread has made more parameters than a model of so many stored
    tensors can have. stored: how many tensors its files hold; numbers: of all of them."""
    most = min(MORE_PARAMETERS + min(PARAMETERS_OF_ONE * stored, numbers // NUMBERS_OF_ONE), MOST_PARAMETERS)
    thread, made = threading.get_ident(), 0

    def count(module: "nn.Module", own: str, parameter: object) -> None:
        nonlocal made
        if threading.get_ident() != thread:
            return
        made += parameter is not None
        if made > most:
            raise ModelError(
                f"{shortened_path(name)} has a config.json that makes more than {most:,} weight tensors, and its files "
                f"hold {stored:,}; repair config.json, such as its number of layers, or choose another model"
            )

    hook = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        hook.remove()


def check_count(name: str, model: "nn.Module", there: int, nbytes: int) -> None:
    """Raise ModelError for a model whose configuration makes far more numbers than its files hold, or far larger tables
    (of positions, say, or of chunks, with the first text): they would be made before the lack is found.

    there: numbers in its files; nbytes: of all.
    """
    buffers = sum(buffer.nbytes for buffer in model.buffers())
    tables = buffers + bytes_of_first_text(model)
    if buffers > max(MORE_BUFFERS, nbytes) or tables > MORE_TABLES + nbytes:
        raise ModelError(
            f"{shortened_path(name)} has a config.json that makes tables of {tables / 1e9:,.1f} GB beside its weights; "
            "repair it, such as its number of positions, or choose another model"
        )
    made = sum(parameter.numel() for parameter in model.parameters())
    if made > SHARE_OF_NUMBERS * there + MORE_NUMBERS:
        raise ModelError(
            f"{shortened_path(name)} has a config.json that makes {made:,} weights, and its files hold {there:,}; give "
            "the files that belong together"
        )


def check_experts(name: str, model: "nn.Module", there: int) -> None:
    """Raise ModelError for a model whose configuration makes far more experts than its files can hold. there: numbers
    in these."""
    matrices, most = experts.count(model), there // NUMBERS_OF_EXPERT + MORE_EXPERTS
    if matrices > most:
        raise ModelError(
            f"{shortened_path(name)} has a config.json that makes {matrices:,} matrices of experts, and of files with "
            f"{there:,} numbers {most:,} are read at most; repair it, such as its number of experts, or choose another "
            "model"
        )
