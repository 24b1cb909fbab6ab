"""Added tokens that are looked for in a text once it has been normalized: what it costs to normalize them, which is
done in one call when they are read and again with each that settings add, and what of them is left."""

import contextlib
import json
import time
from collections.abc import Iterator
from typing import Any
from unicodedata import normalize

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase

from wanda_core.errors import ModelError, shortened, shortened_path
from wanda_core.machine.waiting import NoAnswerError, call_apart
from wanda_core.model.tokenizer_growth import chosen_growth, parts_of
from wanda_core.model.tokenizer_vocabulary import MOST_ADDED, NAMED
from wanda_core.progress import still_wanted

# Letters that they become, times the rules that each goes through, of which 20 million take a second; 65,536 tokens of
# 20 letters and four rules have five million.
MOST_NORMALIZED = 2 * 10**7
# Seconds for regular expressions to go through them, and more for each, of which 10,000 take a tenth of a second.
PATIENCE, PATIENCE_OF_ONE, AT_ONCE = 2.0, 5e-5, 20
# The number of such a token, of which 901,628 is met. Behind the words of a file of tiktoken transformers makes a token
# of each number up to the largest, of which a thousand are met.
NUMBERED, MOST_NUMBERED, MOST_BEHIND = "added_tokens_decoder", 10**6, 20_000
REMEDY = "take the tokenizer of the model it was made from"
# Knows no letter, so that nothing is done but to normalize.
NOTHING = {"type": "BPE", "vocab": {"a": 0}, "merges": [], "unk_token": "a"}


def check_numbered(settings: list[dict[str, Any]], words: int | None, name: str) -> None:
    """Raise ModelError for settings that give added tokens larger numbers than any have. words: of a file of tiktoken,
    None where there is none."""
    most = MOST_NUMBERED if words is None else words + MOST_BEHIND
    for numbered in [one.get(NUMBERED) for one in settings]:
        for key in numbered if isinstance(numbered, dict) else ():
            with contextlib.suppress(ValueError):  # which what reads it next says
                if int(key) > most:
                    raise ModelError(
                        f"the tokenizer of {shortened_path(name)} has an added token of number {shortened(key)} in its "
                        f"settings, and at most {most:,} is read; {REMEDY}"
                    )


def check_normalized(rules: dict[str, Any], settings: list[dict[str, Any]], beside: list[str], name: str) -> None:
    """Raise ModelError for added tokens that take long to be normalized, which nobody could end.

    rules: the content of tokenizer.json; settings: of the files beside it; beside: tokens that these name without more
    """
    normalizer = rules.get("normalizer")
    if not isinstance(normalizer, dict):
        return
    named = [value for one in settings for key, value in one.items() if NAMED.search(key)]
    tokens = list({*_normalized([rules.get("added_tokens"), named]), *beside})
    parts = list(parts_of(normalizer))
    patterns = [part for part in parts if "Regex" in part or "String" in part]
    letters = sum(max(len(token), len(normalize("NFKD", token))) for token in tokens)
    work = letters * chosen_growth({"normalizer": normalizer}) * (len(parts) - len(patterns))
    if work > MOST_NORMALIZED:
        raise ModelError(
            f"the tokenizer of {shortened_path(name)} has {len(tokens):,} added tokens of {letters:,} letters that its "
            f"normalizer's rules go through, which would take too long; {REMEDY}"
        )
    if tokens and any("Regex" in part for part in patterns):
        _check_time(normalizer, tokens, name)


def _check_time(normalizer: dict[str, Any], tokens: list[str], name: str) -> None:
    """Raise ModelError where regular expressions take long for the tokens: encoded here by nothing but the normalizer,
    some at once, which leaves Python its lock, where to read the file would keep it."""
    limit = PATIENCE + PATIENCE_OF_ONE * min(len(tokens), MOST_ADDED)
    end = time.monotonic() + limit

    def in_time() -> bool:
        try:
            alone = Tokenizer.from_str(json.dumps({"version": "1.0", "normalizer": normalizer, "model": NOTHING}))
        except Exception:  # what reads the file next says what is wrong with it
            return True
        for start in range(0, len(tokens), AT_ONCE):
            if time.monotonic() > end:
                return False
            alone.encode_batch(tokens[start : start + AT_ONCE])
        return True

    try:
        ended = call_apart(in_time, still_wanted, limit)
    except NoAnswerError:
        ended = False
    if not ended:
        raise ModelError(
            f"the tokenizer of {shortened_path(name)} has regular expressions in its normalizer that take more than "
            f"{limit:.0f} s for its {len(tokens):,} added tokens; {REMEDY}"
        )


def _normalized(entries: object) -> Iterator[str]:
    """Yield the tokens of lists and mappings of any depth that are looked for in the normalized text."""
    waiting = [entries]
    while waiting:
        entry = waiting.pop()
        if isinstance(entry, list):
            waiting += entry
        elif isinstance(entry, dict) and "content" not in entry:
            waiting += entry.values()
        elif isinstance(entry, dict) and isinstance(entry["content"], str) and entry.get("normalized") is not False:
            yield entry["content"]


def check_left(tokenizer: PreTrainedTokenizerBase, name: str) -> None:
    """Raise ModelError for an added token of which the normalizer leaves nothing: tokenizers finds it between all
    letters, and with some rules never comes to the end of a text."""
    backend: Any = getattr(tokenizer, "backend_tokenizer", None)
    normalizer = getattr(backend, "normalizer", None)
    if normalizer is None:
        return
    for token in backend.get_added_tokens_decoder().values():
        left = token.content
        if token.normalized:
            with contextlib.suppress(Exception):
                left = normalizer.normalize_str(token.content)
        if not left:
            raise ModelError(
                f"the tokenizer of {shortened_path(name)} has the added token {shortened(token.content)}, of which its "
                f"normalizer leaves nothing; {REMEDY}"
            )
