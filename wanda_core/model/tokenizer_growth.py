"""How long a stranger's tokenizer makes a text before it is cut into tokens.

What each rule can do at most is counted when it is loaded; what all of them do to one text is measured, piece by piece,
where that could be too much.
"""

import base64
import contextlib
import math
import re
import struct
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

from wanda_core.errors import ModelError
from wanda_core.machine.json_file import parsed
from wanda_core.model.tokenizer_python import growth_of_maps, is_of_python, letters_with_emoji

MOST_SPECIAL = 1000  # tokens that a template puts around a text; 2 are met
MORE_LETTERS, TIMES_LETTERS = 10**6, 4  # of what a text becomes before it is cut into tokens, each of 400 bytes
MORE_WORK, TIMES_WORK = 2 * 10**7, 100  # of the same at all its steps together, each letter of which takes 0.1 µs
# Letters at once, and where a regular expression goes through them, which may take a second for a few, and keeps
# Python's lock as long.
AT_ONCE, AT_ONCE_OF_PATTERN = 10_000, 50
# Regular expressions that Python and Oniguruma read alike; of any other one it is taken that it fits between letters.
ALIKE = re.compile(r"(\\[sdwntr.]|[\w .,;:!<>'\"`-]|\{\d{1,3}(,\d{0,3})?\}|[+*?|]){1,1000}")
RULES = ("normalizer", "pre_tokenizer", "post_processor", "decoder")
# Letters that Unicode's own rules put in the place of one. They follow from each other, so that a tokenizer may well
# have several, and are no choice of the file's: they count for each text that is read, not when it is loaded.
UNICODE = {"NFC": 3, "NFD": 4, "NFKC": 18, "NFKD": 18, "Lowercase": 3, "BertNormalizer": 4}
BYTES = 4  # of a letter at most, each of which becomes a letter, or a token


def chosen_growth(rules: dict[str, Any]) -> float:
    """Return how many times as long a text may become by what a tokenizer's rules choose. rules: some of its parts, by
    the names in RULES; `model` among them, without its vocabulary."""
    return math.prod(map(_growth, parts_of(list(rules.values())))) * _growth_of_words(rules.get("pre_tokenizer"))


def _growth_of_words(rules: object) -> float:
    """Return how many times as long a text may become when it is cut into words: what is put before each, and bytes.
    Infinite where a float cannot say it; a whole number would get a digit with each rule."""
    growth = 1.0
    for part in parts_of(rules):
        if part.get("type") == "Metaspace":
            growth *= 2
        elif part.get("type") == "ByteLevel":
            growth *= BYTES + (part.get("add_prefix_space") is not False)
    return growth


def whole_growth(tokenizer: PreTrainedTokenizerBase, chosen: float) -> float:
    """Return how many times as long a text may become in all. chosen: as `chosen_growth` has it."""
    backend: Any = getattr(tokenizer, "backend_tokenizer", None)
    kinds = [str(part.get("type")) for part in parts_of(rules_of(backend).get("normalizer"))]
    in_bytes = kinds.count("ByteLevel") + _takes_bytes(backend)
    grown = chosen * math.prod(float(UNICODE.get(kind, 1)) for kind in kinds) * math.prod([float(BYTES)] * in_bytes)
    return grown * growth_of_maps(tokenizer)


def _takes_bytes(backend: Any) -> bool:
    """Tell whether a model has a token for each byte, of letters that it does not know."""
    return bool(getattr(getattr(backend, "model", None), "byte_fallback", False))


def rules_of(backend: Any) -> dict[str, Any]:
    """Return the rules that a tokenizer was loaded with, by the names in RULES."""
    rules = {}
    for part in RULES:
        with contextlib.suppress(Exception):  # no part, or one of Python
            rules[part] = parsed(getattr(backend, part).__getstate__())
    return rules


def check_letters(tokenizer: PreTrainedTokenizerBase, text: str, growth: float) -> None:
    """Raise ModelError for a text that the tokenizer makes so long that its tokens would fill the memory.

    growth: how many times as long its rules may make a text; what they make of this one is looked at only where they
    could make too much of it, step by step and in pieces, for a later step may take away what an earlier one made.
    """
    most = MORE_LETTERS + TIMES_LETTERS * len(text)
    if is_of_python(tokenizer):
        check_tokens_made(letters_with_emoji(tokenizer, text, most), text)
    if grows_little(text, growth):
        return
    if is_of_python(tokenizer):
        made: float = 0.0
        for piece in _in_pieces(text):
            made += len(tokenizer.tokenize(piece))
            check_tokens_made(made, text)
        return
    backend: Any = getattr(tokenizer, "backend_tokenizer", None)
    rules, steps = rules_of(backend), list(_steps(getattr(backend, "normalizer", None)))
    times = math.prod(map(_growth, parts_of(rules.get("post_processor"))))
    words = _growth_of_words(rules.get("pre_tokenizer")) * (BYTES if _takes_bytes(backend) else 1)
    if _is_within(most, text, steps, times * words):  # without cutting it, which takes longer
        return
    if not _is_within(most, text, [*steps, _cut(backend)], times):
        check_tokens_made(math.inf, text)


def grows_little(text: str, growth: float) -> bool:
    """Tell whether a text need not be looked at. growth: how many times as long a tokenizer's rules may make one."""
    return growth * len(text) <= MORE_LETTERS + TIMES_LETTERS * len(text)


def check_tokens_made(made: float, text: str) -> None:
    """Raise ModelError where what a tokenizer has made of a text, letters or tokens, is far more than the text."""
    most = MORE_LETTERS + TIMES_LETTERS * len(text)
    if made > most:
        raise ModelError(
            f"the model's tokenizer makes more than {most:,} letters of a text of {len(text):,}; take that of the "
            "model it was made from, or choose another model"
        )


def _is_within(most: float, text: str, steps: Sequence[Callable[[str], str]], times: float) -> bool:
    """Tell whether no step makes more letters of a text, and all of them no more work. times: what follows makes of
    each letter."""
    made, work = [0.0] * len(steps), times * (MORE_WORK + TIMES_WORK * len(text))
    waiting = [(0, iter((text,)))]
    while waiting:
        step, pieces = waiting[-1]
        piece = next(pieces, None)
        if piece is None:
            waiting.pop()
            continue
        after = steps[step](piece)
        made[step] += len(after) * times
        if made[step] > most or sum(made) > work:
            return False
        if step + 1 < len(steps):
            waiting.append((step + 1, _in_pieces(after)))
    return True


def _in_pieces(text: str, letters: int = AT_ONCE) -> Iterator[str]:
    return (text[start : start + letters] for start in range(0, len(text), letters))


def _steps(normalizer: Any) -> Iterator[Callable[[str], str]]:
    """Yield what a normalizer does, one rule after the other; first of all it is cut into pieces."""
    yield str
    waiting = [] if normalizer is None else [normalizer]
    while waiting:
        rule = waiting.pop(0)
        try:
            waiting[:0] = [rule[place] for place in range(len(rule))]
        except TypeError:  # no sequence of others
            yield _few_at_once(rule.normalize_str) if b'"Regex"' in rule.__getstate__() else rule.normalize_str


def _few_at_once(step: Callable[[str], str]) -> Callable[[str], str]:
    """Return the same step, taken a few letters after the other, between which others get Python's lock."""

    def steps(text: str) -> str:
        return "".join(map(step, _in_pieces(text, AT_ONCE_OF_PATTERN)))

    return steps


def _cut(backend: Any) -> Callable[[str], str]:
    """Return what the words are that a text is cut into, put together again; in bytes where the model takes them."""
    cutter = getattr(backend, "pre_tokenizer", None)
    in_bytes = _takes_bytes(backend)

    def cut(text: str) -> str:
        whole = text if cutter is None else "".join(word for word, _ in cutter.pre_tokenize_str(text))
        return whole.encode(errors="replace").decode("latin-1") if in_bytes else whole

    return _few_at_once(cut) if cutter is not None and b'"Regex"' in cutter.__getstate__() else cut


def parts_of(rules: object) -> Iterator[dict[str, Any]]:
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
    """Return how many letters a map of characters, as sentencepiece has it, puts in the place of one: a table of so
    many bytes as its first four tell, then texts with zeros between."""
    try:
        content = base64.b64decode(encoded) if isinstance(encoded, str) else b""
        (table,) = struct.unpack_from("<I", content)
    except (ValueError, struct.error):
        return 1.0
    texts = content[4 + table :].decode(errors="replace")
    return float(max((len(text[0]) for text in re.finditer(r"[^\0]+", texts)), default=1))
