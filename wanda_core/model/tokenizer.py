"""Loading a model's tokenizer; a folder without one is refused, where transformers would make an empty one."""

import importlib.util
import json
import re
from fnmatch import fnmatchcase
from pathlib import Path

from transformers import AutoTokenizer, PreTrainedConfig, PreTrainedTokenizerBase

from wanda_core.errors import ModelError, first_line, shortened_path
from wanda_core.model.chat_template import check_template

# Files that hold a vocabulary, of any kind of tokenizer.
VOCABULARIES = (
    *("tokenizer.json", "tekken.json", "vocab.*", "merges.txt", "byte_maps.json", "dict.txt", "bpe.codes"),
    *("*.model", "*.spm", "*.tiktoken"),
)
MOST_GROWTH = 1000  # times as long as a text may become before it is cut into tokens; 1 to 5 are met
TIKTOKEN = re.compile(rb"[A-Za-z0-9+/]+={0,2} \d+\r?\n")  # how a file of tiktoken begins; others are protobuf
# The packages that transformers reads a form with, and the module of each.
READERS = {
    "sentencepiece": {"sentencepiece": "sentencepiece", "protobuf": "google.protobuf"},
    "tiktoken": {"tiktoken": "tiktoken"},
}


def has_vocabulary(folder: Path) -> bool:
    """Tell whether a folder holds a file with a tokenizer's vocabulary."""
    return any(any(fnmatchcase(path.name, name) for name in VOCABULARIES) for path in folder.iterdir() if path.exists())


def load_tokenizer(folder: Path, name: str, config: PreTrainedConfig) -> PreTrainedTokenizerBase:
    """Load a model's tokenizer. name: of the model, for messages; config: the model's, which tells the kind.

    Raises ModelError for a folder without one, for one that knows no word, and for one that cannot be read.
    """
    check_expansions(folder, name)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, config=config, trust_remote_code=False)
    except Exception as error:  # a stranger's files: their readers raise types of their own
        raise ModelError(
            _why_none(folder, name)
            or f"the tokenizer of {shortened_path(name)} could not be loaded: {first_line(error)}; copy its files anew "
            "from the model it belongs to, or choose another model"
        ) from error
    if not has_vocabulary(folder) and tokenizer.vocab_files_names:  # one that cuts a text into bytes needs no file
        raise ModelError(_why_none(folder, name))
    if set(tokenizer.get_vocab()) <= set(tokenizer.get_added_vocab()):
        raise ModelError(
            _why_none(folder, name)
            or f"the tokenizer of {shortened_path(name)} knows no word, only {len(tokenizer)} special tokens; copy the "
            "tokenizer.json of the model it was made from"
        )
    check_template(tokenizer, name)
    return tokenizer


def check_expansions(folder: Path, name: str) -> None:
    """Raise ModelError for a tokenizer.json whose rules make a long text of a short one: twenty that put ten letters in
    the place of one fill any memory, and end the process, with the first prompt."""
    try:
        rules = json.loads((folder / "tokenizer.json").read_bytes())
        growth = _growth([rules.get(part) for part in ("normalizer", "pre_tokenizer", "decoder")])
    except (OSError, ValueError, AttributeError, RecursionError):  # there is none, or what reads it says what is wrong
        return
    if growth > MOST_GROWTH:
        raise ModelError(
            f"{shortened_path(name)} has a tokenizer whose rules make a text up to {growth:.0e} times as long, and "
            f"{MOST_GROWTH} are allowed; take the tokenizer of the model it was made from"
        )


def _growth(rules: object) -> float:
    """Return how many times as long a text may become by what tokenizer.json calls Replace, in all rules together."""
    growth, waiting = 1.0, [rules]
    while waiting:
        part = waiting.pop()
        if isinstance(part, list):
            waiting += part
        elif isinstance(part, dict):
            waiting += part.values()
            if part.get("type") == "Replace" and isinstance(content := part.get("content"), str):
                pattern = part.get("pattern")
                literal = pattern.get("String") if isinstance(pattern, dict) else None
                growth *= max(1.0, len(content) / max(1, len(literal) if isinstance(literal, str) else 1))
    return growth


def _why_none(folder: Path, name: str) -> str | None:
    """Say why a folder gives no tokenizer, None where its files do not tell."""
    here = {path.name for path in folder.iterdir() if path.exists()}
    if not has_vocabulary(folder):
        return (
            f"{shortened_path(name)} holds no tokenizer (tokenizer.json, tokenizer.model, vocab.json or the like), and "
            "without one a model can neither read nor write; copy the tokenizer's files from the model it was made from"
        )
    if here & {"tokenizer.json", "tekken.json"}:
        return None
    halves = here & {"vocab.json", "merges.txt"}
    if len(halves) == 1:
        (there,) = halves
        (lacking,) = {"vocab.json", "merges.txt"} - halves
        return (
            f"{shortened_path(name)} holds {there} of its tokenizer without {lacking}; copy that too from the model it "
            "was made from"
        )
    for file in sorted(file for file in here if file.endswith((".model", ".tiktoken"))):
        with (folder / file).open("rb") as opened:
            kind = "tiktoken" if TIKTOKEN.match(opened.read(1000)) else "sentencepiece"
        missing = [package for package, module in READERS[kind].items() if not _is_installed(module)]
        if missing:
            return (
                f"the tokenizer of {shortened_path(name)} is in {file}, in the form of {kind}, and "
                f"{' and '.join(missing)} to read it {'are' if len(missing) > 1 else 'is'} not installed; "
                f"pip install {' '.join(missing)}, or put the model's tokenizer.json beside it"
            )
    return None


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # the package around it is not there
        return False
