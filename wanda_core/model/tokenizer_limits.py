"""What a stranger's tokenizer may ask for, checked before transformers reads its files: which class, which files, which
words and rules."""

import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from transformers import PreTrainedConfig, PreTrainedTokenizerBase
from transformers.models.auto.tokenization_auto import tokenizer_class_from_name

from wanda_core.errors import ModelError, shortened, shortened_path
from wanda_core.machine.json_file import read_json
from wanda_core.model.tokenizer_added import NUMBERED, check_left, check_normalized, check_numbered
from wanda_core.model.tokenizer_growth import RULES, chosen_growth, parts_of, rules_of, whole_growth
from wanda_core.model.tokenizer_python import growth_of_maps
from wanda_core.model.tokenizer_vocabulary import (
    NAMED,
    check_added,
    check_compared,
    check_other_vocabularies,
    check_vocabulary,
    listed_tokens,
    named_tokens,
    words_of,
)
from wanda_core.model.tokenizer_weight import Weight

MOST_GROWTH = 100  # times as long as a text may become before it is cut into tokens; 33 is the most that is met
MOST_NUMBER, MOST_OF = 10**6, {"extra_ids": 1000, "offset": 1000, "num_sentinel_tokens": 1000}
MOST_OF["default_num_special_tokens"] = 10_000  # of tekken.json; 1,000 are met
# Letters of a word that WordPiece looks for pieces in, in a time that grows with their cube and nobody can end; 100 are
# met.
WORD, MOST_WORD = "max_input_chars_per_word", 200
LENGTH = re.compile(r"length|_id$|^is_|^id$")  # names of numbers that nothing is made of
MOST_RULES = 100  # of a tokenizer; 20 are met
MOST_WORK = 1000  # rules, times how long the text becomes that each of them goes through; 33 times 15 is met
# Letters of a regular expression, and of all that a tokenizer has; one is met with 1,500. Within these none that was
# tried takes more than a second and 150 MB to be compiled, which nothing can interrupt: classes that regard no case
# take the most, and `\g` alone any time, for it puts the groups of a pattern into each other.
MOST_PATTERN, MOST_PATTERNS, CALL = 4000, 8000, r"\g"
# Letters of a map of characters, as sentencepiece has it, in base64; 650,000 are met.
CHARSMAP, MOST_CHARSMAP = "precompiled_charsmap", 3 * 10**6
LISTS = ("normalizers", "pretokenizers", "processors", "decoders")  # of a sequence, its rules
LONGEST_CLASS = 200  # letters of a class's name, which transformers takes apart, ending after ending; 40 are met
SETTINGS, SPECIAL = "tokenizer_config.json", "special_tokens_map.json"
ADDED, TEKKEN = "added_tokens.json", "tekken.json"
EXTRA = "extra_special_tokens"  # which those of special_tokens_map.json are appended to, of settings without numbers
# Arguments of transformers' tokenizers by which one would read another file than those of its folder, whose paths
# transformers puts in itself.
REACHING = ("init_inputs", "vocab", "merges", "tokenizer_object", "gguf_file", "fast_tokenizer_files", "cache_dir")
# Settings that name a file or a folder. Some of a class's own arguments are such, and transformers puts its own paths
# over those alone that the class says it reads; files of models have them with the paths of whoever saved them, so that
# they are left out, with what sentencepiece is to be given, where nobody means them.
NAMING = re.compile(r"(\w*_)?(files?|filename|paths?|dirs?|directory|folders?|spm|option)|sp_model_kwargs")
TOLD = re.compile(r"template$|schema$")  # settings that tell what a text looks like, by names of their own
NAME_OR_PATH = "name_or_path"  # which transformers puts its own in the place of
# Of special_tokens_map.json, which is put over those paths.
LEADING = re.compile("|".join(REACHING) + r"|\w*(file|spm|vocab|merges|kwargs|path|local|revision)\w*|token")
REMEDY = "take the tokenizer of the model it was made from"


def check_settings(folder: Path, name: str, config: PreTrainedConfig, beside: Iterable[str] = ()) -> dict[str, None]:
    """Raise ModelError for settings that name another class than a tokenizer, lead to other files, or name too many
    tokens. beside: tokens that are added beside those.

    transformers takes a class of any name that it has, and gives the settings to it as arguments.

    -> arguments that go before those settings that name files, so that none of them is opened
    """
    settings, special = _mapping(folder / SETTINGS), _mapping(folder / SPECIAL)
    for asked in (settings.get("tokenizer_class"), getattr(config, "tokenizer_class", None)):
        named = asked if isinstance(asked, str) and len(asked) <= LONGEST_CLASS else None
        kinds = [None] if named is None else [named, f"{named}Fast", named.removesuffix("Fast")]
        for kind in kinds if asked else ():
            found = object if kind is None else tokenizer_class_from_name(kind)
            lacking = hasattr(found, "_backends") or getattr(found, "__name__", "") == "Placeholder"  # a package is
            if found is None or lacking:
                continue
            if not (isinstance(found, type) and issubclass(found, PreTrainedTokenizerBase)):
                raise ModelError(f"{shortened_path(name)} names {shortened(asked)} as its tokenizer's class; {REMEDY}")
    for key, value in [*settings.items(), *special.items()]:
        most = MOST_OF.get(key, math.inf if LENGTH.search(key) else MOST_NUMBER)
        _check_number(key, value, MOST_WORD if key == WORD else most, name)
    added = {*named_tokens(settings), *named_tokens(special), *_mapping(folder / ADDED)}
    check_added(added, name)
    _check_compared(settings, special, added, {*beside, *_mapping(folder / ADDED)}, name)
    leading = [key for key in REACHING if settings.get(key)] + [key for key in special if LEADING.fullmatch(key)]
    left = {key: None for key, value in settings.items() if value and _names_file(key)}
    leading += _naming_within({key: value for key, value in settings.items() if key not in left})
    if leading:
        raise ModelError(
            f"{shortened_path(name)} has {shortened(leading[0])} in its tokenizer's settings, which could lead to "
            f"files outside its folder; take it out, or {REMEDY}"
        )
    return left


def _check_compared(
    settings: dict[str, Any], special: dict[str, Any], added: set[str], files: set[str], name: str
) -> None:
    """Raise ModelError for special tokens that take long to be compared. added: all tokens of the settings; files:
    those that other files add, which are all that are added where the settings describe none."""
    numbered = settings.get(NUMBERED)
    known = files if numbered is None else set(words_of(list(numbered.values()) if isinstance(numbered, dict) else []))
    given = (settings, special) if numbered is None else (settings,)
    listed = [token for one in (settings, special) for token in named_tokens(one, but=NUMBERED)]
    tokens = [token for one in given for token in listed_tokens(one, but=NUMBERED)]
    made = sum(max(0, settings[key]) for key in MOST_OF if isinstance(settings.get(key), int))  # by the class itself
    missing = [described for token, described in tokens if token not in known]
    # Of these each is compared with all before it, known or not.
    again = {EXTRA: special[EXTRA]} if numbered is None and any(missing) and EXTRA in special else {}
    compared = len(missing) + made + sum(token in known for token, _ in listed_tokens(again, but=NUMBERED))
    described = max(len(known), len(numbered) if isinstance(numbered, dict) else 0)
    check_compared(len(listed), len(added | files), name, compared, described, sum(missing))


def _names_file(key: str) -> bool:
    return NAMING.fullmatch(key) is not None and not key.endswith(NAME_OR_PATH)


def _naming_within(settings: dict[str, Any]) -> list[str]:
    """Return the keys that name a file in what settings hold, other than in tokens and schemas, whose keys are names
    of their own: a class of transformers gives such mappings on to other packages."""
    found: list[str] = []
    waiting = [value for key, value in settings.items() if not (NAMED.search(key) or TOLD.search(key))]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            found += [key for key, inner in value.items() if inner and _names_file(key)]
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
    return found


def _mapping(path: Path) -> dict[str, Any]:
    """Read a file of settings or rules, {} where there is none. Raises OSError and ValueError for one that is not read
    here, which others might read, and so see what nobody has checked."""
    if not path.exists():
        return {}
    try:
        read = read_json(path)
    except ValueError as error:
        raise ValueError(f"{path.name}: {error}") from None
    if not isinstance(read, dict):
        raise ValueError(f"{path.name} holds no names with values")
    return read


def _check_number(key: str, value: object, most: float, name: str) -> None:
    if isinstance(value, (int, float)) and abs(value) > most:
        raise ModelError(
            f"{shortened_path(name)} has {shortened(key)} {shortened(value)} in its tokenizer's settings, and at "
            f"most {most:,} is read; correct it, or {REMEDY}"
        )


def check_rules(folder: Path, name: str) -> tuple[set[str], dict[str, Weight]]:
    """Raise ModelError for a tokenizer whose words or patterns fill the memory, or whose rules make a long text of a
    short one: twenty that put ten letters in the place of one end the process with the first prompt.

    -> the tokens that its tokenizer.json adds, and what the words of its files weigh, by the files' names
    """
    rules = _mapping(folder / "tokenizer.json")
    weight = check_vocabulary(rules, name)
    parts, model = {part: rules.get(part) for part in RULES}, rules.get("model")
    _check_named(parts)
    if isinstance(model, dict):
        parts["model"] = {key: value for key, value in model.items() if key not in ("vocab", "merges")}
    _check_parts(parts, name)
    words, weights = check_other_vocabularies(folder, name)
    config = _mapping(folder / TEKKEN).get("config")
    for key, value in config.items() if isinstance(config, dict) else ():
        _check_number(key, value, MOST_OF.get(key, MOST_NUMBER), name)
        if isinstance(value, str):
            _check_patterns([value], name)
    beside = list(words_of(list(_mapping(folder / ADDED))))
    settings = [_mapping(folder / SETTINGS), _mapping(folder / SPECIAL)]
    check_numbered(settings, words, name)
    check_normalized(rules, settings, beside, name)
    return set(words_of(rules.get("added_tokens"))), weights | {"tokenizer.json": weight}


def _check_named(parts: dict[str, Any]) -> None:
    """Raise ValueError for rules whose values are without their names, which tokenizers reads by their order."""
    lists = [part[key] for part in parts_of(parts) for key in LISTS if isinstance(part.get(key), list)]
    listed = [rule for rules in lists for rule in rules]
    if any(isinstance(rule, list) for rule in [*parts.values(), *listed]):
        raise ValueError("it has rules whose values have no names")


def _check_parts(rules: dict[str, Any], name: str) -> float:
    """Raise ModelError for rules that make a text too long, or take too long for it. -> how many times as long"""
    parts = list(parts_of(list(rules.values())))
    if len(parts) > MOST_RULES:  # each of which is looked at below
        raise ModelError(
            f"{shortened_path(name)} has a tokenizer of {len(parts):,} rules, and at most {MOST_RULES} are read; "
            f"{REMEDY}"
        )
    _check_patterns([part[kind] for part in parts for kind in ("Regex", "String") if kind in part], name)
    maps = sum(len(part[CHARSMAP]) for part in parts if isinstance(part.get(CHARSMAP), str))
    _check_letters("maps of characters", maps, MOST_CHARSMAP, name)
    growth = chosen_growth(rules)
    _check_growth(growth, name)
    most = int(MOST_WORK / growth)
    if len(parts) > most:
        raise ModelError(
            f"{shortened_path(name)} has a tokenizer of {len(parts):,} rules that make a text up to {growth:.0f} times "
            f"as long, and {most} such rules are allowed; {REMEDY}"
        )
    for part in parts:
        _check_number(WORD, part.get(WORD), MOST_WORD, name)
    return growth


def _check_growth(growth: float, name: str) -> None:
    if growth > MOST_GROWTH:
        raise ModelError(
            f"{shortened_path(name)} has a tokenizer whose rules make a text up to {growth:.0e} times as long, and "
            f"{MOST_GROWTH} are allowed; {REMEDY}"
        )


def _check_patterns(given: list[Any], name: str) -> None:
    """Raise ModelError for patterns that would take long, or much memory, to be compiled."""
    patterns = [pattern for pattern in given if isinstance(pattern, str)]
    whole = sum(map(len, patterns))
    for length, most in ((max(map(len, patterns), default=0), MOST_PATTERN), (whole, MOST_PATTERNS)):
        _check_letters("a regular expression" if most == MOST_PATTERN else "regular expressions", length, most, name)
    if any(CALL in pattern for pattern in patterns):
        raise ModelError(
            f"{shortened_path(name)} has a regular expression in its tokenizer that calls its own groups ({CALL}), "
            f"which is not read; {REMEDY}"
        )


def _check_letters(what: str, length: int, most: int, name: str) -> None:
    if length > most:
        raise ModelError(
            f"{shortened_path(name)} has {what} of {length:,} letters in its tokenizer, and at most {most:,} are read; "
            f"{REMEDY}"
        )


def check_loaded(tokenizer: PreTrainedTokenizerBase, name: str) -> float:
    """Check the rules of a tokenizer as `check_rules` does, whichever file they come from. -> how many times as long
    they make a text at most"""
    _check_growth(growth_of_maps(tokenizer), name)
    rules = rules_of(getattr(tokenizer, "backend_tokenizer", None))
    check_left(tokenizer, name)
    return whole_growth(tokenizer, _check_parts(rules, name))


def check_told(tokenizer: PreTrainedTokenizerBase, folder: Path, name: str) -> None:
    """Raise ModelError for a special token that is called as an argument in which transformers puts the path of a file,
    and so is that path, which a chat template could print."""
    for key, token in tokenizer.special_tokens_map.items():
        if any(str(place) in str(token) for place in (folder, folder.resolve())):
            raise ModelError(
                f"{shortened_path(name)} has a special token called {shortened(key)}, in whose place its tokenizer "
                "puts a path; call it otherwise"
            )
