"""What a stranger's tokenizer may ask for, checked before transformers reads its files: which class, which files, and
how long its rules make a text."""

import base64
import contextlib
import math
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from transformers import PreTrainedConfig, PreTrainedTokenizerBase
from transformers.models.auto.tokenization_auto import tokenizer_class_from_name

from wanda_core.errors import ModelError, shortened, shortened_path
from wanda_core.machine.json_file import parsed, read_json

MOST_GROWTH = 100  # times as long as a text may become before it is cut into tokens; 33 is the most that is met
MOST_SPECIAL = 1000  # tokens that a template puts around a text; 2 are met
MOST_PIECE = 10_000  # letters of a token; the longest of the built-in model has 81
MOST_NUMBER, MOST_OF = 10**6, {"extra_ids": 1000, "offset": 1000, "num_sentinel_tokens": 1000}
# Letters of a word that WordPiece looks for pieces in, in a time that grows with their cube; 100 are met.
WORD, MOST_WORD = "max_input_chars_per_word", 1000
LENGTH = re.compile(r"length|_id$|^is_|^id$")  # names of numbers that nothing is made of
MOST_RULES = 100  # of a tokenizer; 20 are met
MOST_WORK = 1000  # rules, times how long the text becomes that each of them goes through; 33 times 15 is met
MORE_LETTERS, TIMES_LETTERS = 10**6, 4  # of what a text becomes before it is cut into tokens, each of 400 bytes
AT_ONCE = 10_000  # letters
# Regular expressions that Python and Oniguruma read alike; of any other one it is taken that it fits between letters.
ALIKE = re.compile(r"(\\[sdwntr.]|[\w .,;:!<>'\"`-]|\{\d{1,3}(,\d{0,3})?\}|[+*?|]){1,1000}")
RULES = ("normalizer", "pre_tokenizer", "post_processor", "decoder")
SETTINGS, SPECIAL = "tokenizer_config.json", "special_tokens_map.json"
# Arguments of transformers' tokenizers by which one would read another file than those of its folder, whose paths
# transformers puts in itself.
REACHING = ("init_inputs", "vocab", "merges", "tokenizer_object", "gguf_file", "fast_tokenizer_files", "cache_dir")
# Of special_tokens_map.json, which is put over those paths.
LEADING = re.compile("|".join(REACHING) + r"|\w*(file|spm|vocab|merges|kwargs|path|local|revision)\w*|token")
REMEDY = "take the tokenizer of the model it was made from"


def check_settings(folder: Path, name: str, config: PreTrainedConfig) -> None:
    """Raise ModelError for settings that name another class than a tokenizer, or lead to other files.

    transformers takes a class of any name that it has, and gives the settings to it as arguments.
    """
    settings, special = _mapping(folder / SETTINGS), _mapping(folder / SPECIAL)
    for asked in (settings.get("tokenizer_class"), getattr(config, "tokenizer_class", None)):
        for kind in (asked, f"{asked}Fast", str(asked).removesuffix("Fast")) if asked else ():
            found = tokenizer_class_from_name(kind) if isinstance(kind, str) else object
            lacking = hasattr(found, "_backends") or getattr(found, "__name__", "") == "Placeholder"  # a package is
            if found is None or lacking:
                continue
            if not (isinstance(found, type) and issubclass(found, PreTrainedTokenizerBase)):
                raise ModelError(f"{shortened_path(name)} names {shortened(asked)} as its tokenizer's class; {REMEDY}")
    for key, value in [*settings.items(), *special.items()]:
        most = MOST_OF.get(key, math.inf if LENGTH.search(key) else MOST_NUMBER)
        _check_number(key, value, MOST_WORD if key == WORD else most, name)
    leading = [key for key in REACHING if settings.get(key)] + [key for key in special if LEADING.fullmatch(key)]
    if leading:
        raise ModelError(
            f"{shortened_path(name)} has {shortened(leading[0])} in its tokenizer's settings, which could lead to "
            f"files outside its folder; take it out, or {REMEDY}"
        )


def _mapping(path: Path) -> dict[str, Any]:
    """Read a file of settings; what is wrong with it is said by what reads it next."""
    try:
        read = read_json(path)
    except (OSError, ValueError):
        return {}
    return read if isinstance(read, dict) else {}


def _check_number(key: str, value: object, most: float, name: str) -> None:
    if isinstance(value, (int, float)) and abs(value) > most:
        raise ModelError(
            f"{shortened_path(name)} has {shortened(key)} {shortened(value)} in its tokenizer's settings, and at "
            f"most {most:,} is read; correct it, or {REMEDY}"
        )


def check_rules(folder: Path, name: str) -> None:
    """Raise ModelError for a tokenizer.json whose rules make a long text of a short one: twenty that put ten letters in
    the place of one fill any memory, and end the process, with the first prompt."""
    rules = _mapping(folder / "tokenizer.json")
    check_longest(max(map(len, _tokens(rules)), default=0), name)
    model = rules.get("model")
    own = (
        [{key: value for key, value in model.items() if key not in ("vocab", "merges")}]
        if isinstance(model, dict)
        else []
    )
    _check_parts([*(rules.get(part) for part in RULES), *own], name)


def _check_parts(rules: list[Any], name: str) -> float:
    """Raise ModelError for rules that make a text too long, or take too long for it. -> how many times as long"""
    parts = list(_parts(rules))
    growth = math.prod(map(_growth, parts))
    if growth > MOST_GROWTH:
        raise ModelError(
            f"{shortened_path(name)} has a tokenizer whose rules make a text up to {growth:.0e} times as long, and "
            f"{MOST_GROWTH} are allowed; {REMEDY}"
        )
    most = min(MOST_RULES, int(MOST_WORK / growth))
    if len(parts) > most:
        raise ModelError(
            f"{shortened_path(name)} has a tokenizer of {len(parts):,} rules that make a text up to {growth:.0f} times "
            f"as long, and {most} such rules are allowed; {REMEDY}"
        )
    for part in parts:
        _check_number(WORD, part.get(WORD), MOST_WORD, name)
    return growth


def check_loaded(tokenizer: PreTrainedTokenizerBase, name: str) -> float:
    """Check the rules of a tokenizer as `check_rules` does, whichever file they come from. -> how many times as long
    they make a text at most"""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    rules = []
    for part in RULES:
        with contextlib.suppress(Exception):  # no part, or one of Python
            rules.append(parsed(getattr(backend, part).__getstate__()))
    return _check_parts(rules, name)


def check_letters(tokenizer: PreTrainedTokenizerBase, text: str, growth: float) -> None:
    """Raise ModelError for a text that the tokenizer makes so long that its tokens would fill the memory.

    growth: how many times as long its rules may make a text; what they make of this one is looked at only where they
    could make too much of it.
    """
    most = MORE_LETTERS + TIMES_LETTERS * len(text)
    if growth * len(text) <= most:
        return
    backend: Any = getattr(tokenizer, "backend_tokenizer", None)
    normalizer, letters = getattr(backend, "normalizer", None), 0
    template = parsed(backend.post_processor.__getstate__()) if getattr(backend, "post_processor", None) else {}
    times = math.prod(map(_growth, _parts(template)))
    for start in range(0, len(text), AT_ONCE):
        piece = text[start : start + AT_ONCE]
        letters += len(normalizer.normalize_str(piece) if normalizer is not None else piece)
        if letters * times > most:
            raise ModelError(
                f"the model's tokenizer makes more than {most:,} letters of a text of {len(text):,}; take that of the "
                "model it was made from, or choose another model"
            )


def check_longest(letters: int, name: str) -> None:
    """Raise ModelError for a tokenizer whose longest token has more letters than any."""
    if letters > MOST_PIECE:
        raise ModelError(
            f"the tokenizer of {shortened_path(name)} has a token of {letters:,} letters, and at most {MOST_PIECE:,} "
            "are read; copy the tokenizer.json of the model it was made from"
        )


def _tokens(rules: dict[str, Any]) -> Iterator[str]:
    """Yield the tokens of a tokenizer.json, in whichever form it has them."""
    model, added = rules.get("model"), rules.get("added_tokens")
    vocabulary = model.get("vocab") if isinstance(model, dict) else ()
    for entries in (vocabulary, added):
        for entry in entries if isinstance(entries, (dict, list)) else ():
            token = entry.get("content") if isinstance(entry, dict) else entry
            token = token[0] if isinstance(token, list) and token else token
            if isinstance(token, str):
                yield token


def _parts(rules: object) -> Iterator[dict[str, Any]]:
    """Yield every part of the rules."""
    waiting = [rules]
    while waiting:
        part = waiting.pop()
        if isinstance(part, list):
            waiting += part
        elif isinstance(part, dict):
            yield part
            waiting += [value for key, value in part.items() if key not in ("single", "pair", "special_tokens")]


def _growth(rule: dict[str, Any]) -> float:
    """Return how many times as long a text may become by one rule, by what it holds: some are read without a type."""
    growth = 1.0
    if "content" in rule:
        growth *= _replaced(rule.get("pattern"), _length(rule["content"]))
    if "precompiled_charsmap" in rule:
        growth *= _longest_of_map(rule["precompiled_charsmap"])
    if "single" in rule:
        growth *= _pieces(rule["single"], rule.get("special_tokens"))
    named = ("prepend", "end_of_word_suffix", "continuing_subword_prefix", "prefix", "suffix", "replacement")
    return growth * math.prod(max(1, _length(rule.get(key))) for key in named)


def _length(text: object) -> int:
    return len(text) if isinstance(text, str) else 0


def _replaced(pattern: object, length: int) -> float:
    """How long a text becomes when what fits a pattern gives way to so many letters, also where the pattern fits
    between two letters."""
    given = pattern if isinstance(pattern, dict) else {}
    literal = given.get("String")
    least = len(literal) if isinstance(literal, str) else _narrowest(given.get("Regex"))
    return max(1.0, length / least) if least else 1.0 + length


def _narrowest(pattern: object) -> int:
    """Return how many letters fit a regular expression at least; 0 where that is not known."""
    if not isinstance(pattern, str) or not ALIKE.fullmatch(pattern):
        return 0
    try:
        return int(re._parser.parse(pattern).getwidth()[0])  # type: ignore[attr-defined] # the only one who tells
    except (re.error, RecursionError, OverflowError, ValueError):
        return 0


def _pieces(pieces: object, special: object) -> float:
    """Count how often a template puts the text in; infinite where it puts too many special tokens around it."""
    known = special if isinstance(special, dict) else {}
    texts, tokens = 0, 0
    for piece in pieces if isinstance(pieces, list) else []:
        token = piece.get("SpecialToken") if isinstance(piece, dict) else None
        if token is None:
            texts += 1
            continue
        ids = known.get(token.get("id"), {}) if isinstance(token, dict) and isinstance(token.get("id"), str) else {}
        listed = ids.get("ids") if isinstance(ids, dict) else None
        tokens += len(listed) if isinstance(listed, list) else 1
    return max(1.0, texts) if tokens <= MOST_SPECIAL else math.inf


def _longest_of_map(encoded: object) -> float:
    """Return how many bytes a map of characters, as sentencepiece has it, puts in the place of one: a table of so many
    bytes as its first four tell, then texts with zeros between."""
    try:
        content = base64.b64decode(encoded) if isinstance(encoded, str) else b""
        (table,) = struct.unpack_from("<I", content)
    except (ValueError, struct.error):
        return 1.0
    return float(max(1, *(map(len, content[4 + table :].split(b"\0")))))
