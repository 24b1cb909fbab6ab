"""Loading a model's tokenizer; a folder without one is refused, where transformers would make an empty one."""

import importlib.util
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from threading import Event
from typing import Any, TypeVar, cast
from weakref import WeakKeyDictionary

from transformers import AutoTokenizer, PreTrainedConfig, PreTrainedTokenizerBase
from transformers.tokenization_utils_base import VERY_LARGE_INTEGER
from transformers.tokenization_utils_tokenizers import TokenizersBackend

from wanda_core.errors import ModelError, first_line, is_fault, out_of_memory, shortened_path
from wanda_core.machine.helper import EndedError, HelperError
from wanda_core.machine.ordinary_file import open_ordinary
from wanda_core.machine.waiting import NoAnswerError, call_apart
from wanda_core.model.chat_template import check_template
from wanda_core.model.foreign_code import no_foreign_code
from wanda_core.model.tokenizer_apart import cut_apart, is_plain
from wanda_core.model.tokenizer_growth import check_letters, check_tokens_made, grows_little
from wanda_core.model.tokenizer_limits import check_loaded, check_rules, check_settings, check_told
from wanda_core.model.tokenizer_python import is_of_python
from wanda_core.model.tokenizer_reading import check_reading, has_vocabulary, needs_files
from wanda_core.model.tokenizer_vocabulary import MOST_UNIGRAM_PIECE, TIKTOKEN, check_longest
from wanda_core.model.watched import ended_after, watched
from wanda_core.progress import GivenUpError, still_wanted

T = TypeVar("T")

TRIED = "The sky is blue, 2 + 2 = 4.\n"  # what every tokenizer is asked to read and to write when it is loaded
PATIENCE, PATIENCE_OF_ONE = 4.0, 5e-5  # seconds for a text, and more for each letter: ten times what a slow one takes
FEW = 100  # tokens, of which a text is made in no time where no regular expression goes through it
# Letters, beyond which a text is cut into tokens in a process of its own, which ends with whoever asked: so many take a
# tenth of a second. So is every text while a call that was left to itself takes longer than it may. What no process
# does waits, for a text as long, until no call is left to itself.
LONG = 100_000
MOST_LEFT = 32  # calls that nobody waits for and that have time left, beside which one is made
LOOK = 0.05  # seconds between looks at whether one of them has ended
TO_END = 0.5  # seconds more until a call that is ended has ended
# The packages that transformers reads a form with, and the module of each.
READERS = {
    "sentencepiece": {"sentencepiece": "sentencepiece", "protobuf": "google.protobuf"},
    "tiktoken": {"tiktoken": "tiktoken"},
}


@dataclass
class Known:
    """What is known of a tokenizer in use. patterns: whether it brings regular expressions of its own, which may take
    any time; decodes: whether its decoder does; python: whether it is written in Python, whose loops may, too, and can
    be ended; plain: whether a process may cut texts in its place; number: its own; growth: how many times as long its
    rules may make a text; left: the calls that were left to themselves, each set once it has ended, and until when it
    may take."""

    patterns: bool
    decodes: bool
    python: bool
    plain: bool
    number: int = field(default_factory=count().__next__)
    growth: float = 1.0
    left: dict[Event, float] = field(default_factory=dict)


_known: WeakKeyDictionary[PreTrainedTokenizerBase, Known] = WeakKeyDictionary()


def load_tokenizer(folder: Path, name: str, config: PreTrainedConfig) -> PreTrainedTokenizerBase:
    """Load a model's tokenizer. name: of the model, for messages; config: the model's, which tells the kind.

    Raises ModelError for a folder without one, for one that knows no word, and for one that cannot be read.
    """
    tokenizer = None
    try:
        tokenizer = _loaded(folder, name, config)
        vocabulary = tokenizer.get_vocab()
        if not all(isinstance(number, int) for number in vocabulary.values()):
            raise ValueError("it gives a word something else than a number")
        check_longest(max(map(len, vocabulary), default=0), name)
        words = vocabulary.keys() - tokenizer.get_added_vocab().keys()
        if type(getattr(getattr(tokenizer, "backend_tokenizer", None), "model", None)).__name__ == "Unigram":
            check_longest(max(map(len, words), default=0), name, MOST_UNIGRAM_PIECE)
        if not words:
            raise ModelError(
                _why_none(folder, name)
                or f"the tokenizer of {shortened_path(name)} knows no word, only {len(tokenizer)} special tokens; copy "
                "the tokenizer.json of the model it was made from"
            )
        # What is asked of it later without these words is asked here first.
        _ = tokenizer.all_special_ids, tokenizer.bos_token_id, tokenizer.eos_token_id
        check_told(tokenizer, folder, name)
        known_of(tokenizer).growth = check_loaded(tokenizer, name)
        _keep_every_merge(tokenizer)
        text_of(tokenizer, token_ids(tokenizer, TRIED, special=True))
        check_template(tokenizer, name)
    except ModelError:
        raise
    except BaseException as error:  # a stranger's files: their readers raise types of their own
        if not is_fault(error):
            raise
        raise ModelError(
            (_why_none(folder, name) if tokenizer is None else None)
            or f"the tokenizer of {shortened_path(name)} could not be loaded: {first_line(error)}; copy its files anew "
            "from the model it belongs to, or choose another model"
        ) from error
    return tokenizer


def _loaded(folder: Path, name: str, config: PreTrainedConfig) -> PreTrainedTokenizerBase:
    """Let transformers read a tokenizer, once its files have been looked at. Raises whatever its readers do."""
    if not has_vocabulary(folder) and needs_files(folder, config):
        raise ModelError(cast(str, _why_none(folder, name)))
    added, weights = check_rules(folder, name)
    left_out = check_settings(folder, name, config, added)
    seconds = check_reading(folder, name, config, left_out, weights)
    with no_foreign_code(), watched(name, more=seconds):
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            folder, config=config, trust_remote_code=False, **left_out
        )
    if not isinstance(tokenizer.model_max_length, (int, float)):
        tokenizer.model_max_length = VERY_LARGE_INTEGER  # as where none is given
    return tokenizer


def _keep_every_merge(tokenizer: PreTrainedTokenizerBase) -> None:
    """Leave out what a tokenizer does by chance, as when it was trained: it would cut a text otherwise each time."""
    model: Any = getattr(getattr(tokenizer, "backend_tokenizer", None), "model", None)
    if getattr(model, "dropout", None) is not None:
        model.dropout = None


def token_ids(tokenizer: PreTrainedTokenizerBase, text: str, special: bool) -> list[int]:
    """Turn a text into token ids. special: with the tokens that the tokenizer adds by itself.

    Raises ModelError where a stranger's tokenizer fails, takes much longer than any does, or makes far too much of it.
    """
    known = known_of(tokenizer)

    def check() -> None:
        check_letters(tokenizer, text, known.growth)

    def read() -> list[int]:
        check()
        tokens = cast(list[int], tokenizer(text, add_special_tokens=special, verbose=False)["input_ids"])
        if known.python:  # which has no rules that could be counted before
            check_tokens_made(len(tokens), text)
        return tokens

    def read_apart() -> list[int] | None:
        limit, refusal = _limit(len(text))
        try:
            return cut_apart(tokenizer, known.number, text, special, limit)
        except EndedError:
            raise ModelError(
                f"cutting a text of {len(text):,} letters into tokens takes more memory than there is, or was ended "
                "from outside; ask again, or give a shorter text"
            ) from None
        except HelperError:
            raise ModelError(refusal) from None

    late = _is_late(known)  # then nothing more is begun here, and others' texts are cut all the same
    if known.plain and (len(text) > LONG or (late and grows_little(text, known.growth))):
        _asked(tokenizer, check, len(text), apart=not late)
        tokens = _asked(tokenizer, read_apart, len(text), apart=False)
        if tokens is not None:
            return tokens
        known.plain = False  # nor is it the next time
    return _asked(tokenizer, read, len(text))


def text_of(tokenizer: PreTrainedTokenizerBase, tokens: Sequence[int], special: bool = False) -> str:
    """Turn token ids into text, spaces as they were written. special: with special tokens. Raises as `token_ids`."""
    given, known = list(tokens), known_of(tokenizer)

    def write() -> str:
        backend: Any = getattr(tokenizer, "backend_tokenizer", None)
        plain = getattr(type(tokenizer), "_decode", None) is TokenizersBackend._decode
        if backend is not None and (plain or known.decodes):  # for one alone it keeps Python's lock
            return str(backend.decode_batch([given], skip_special_tokens=not special)[0])
        return str(tokenizer.decode(given, skip_special_tokens=not special, clean_up_tokenization_spaces=False))

    dear = known.python or known.decodes
    return _asked(tokenizer, write, len(given), apart=dear or len(given) > FEW, dear=dear)


def _asked(
    tokenizer: PreTrainedTokenizerBase, call: Callable[[], T], length: int, apart: bool = True, dear: bool = True
) -> T:
    """Make a call into a stranger's tokenizer. What it raises, of whatever type, is a ModelError. apart: whether it
    could take long; dear: whether what it does could never end."""
    try:
        return _in_time(known_of(tokenizer), call, length, dear) if apart else call()
    except ModelError:
        raise
    except BaseException as error:
        if not is_fault(error) or out_of_memory(error):
            raise
        raise ModelError(
            f"the model's tokenizer failed ({first_line(error)}); take that of the model it was made from, or choose "
            "another model"
        ) from error


def _in_time(known: Known, call: Callable[[], T], length: int, dear: bool) -> T:
    """Make a call that may never end, in a thread of its own. What Python does is ended there; what nobody can end is
    left to itself after a while, and nothing more that could never end, or is `dear`, is asked here until it has ended.
    Nor is it waited for where nobody wants what it makes any more: then more is asked beside it, or once there are
    fewer such calls."""
    limit, refusal = _limit(length)
    if dear:
        _wait_for_those_left(known, length, refusal)
    ended, until = Event(), time.monotonic() + limit

    def apart() -> T:
        try:
            with ended_after(limit, refusal) if known.python or known.patterns else nullcontext():
                return call()
        finally:
            ended.set()

    try:
        return call_apart(apart, still_wanted, limit + TO_END * known.python)
    except NoAnswerError:
        known.left[ended] = until
        raise ModelError(refusal) from None
    except GivenUpError:
        known.left[ended] = until
        raise


def _limit(length: int) -> tuple[float, str]:
    """Return how many seconds a call may take, and what is said of one that takes longer."""
    limit = PATIENCE + PATIENCE_OF_ONE * length
    return limit, (
        f"the model's tokenizer takes more than {limit:.0f} s for one text; give another one, or take the "
        "tokenizer of the model it was made from"
    )


def _wait_for_those_left(known: Known, length: int, refusal: str) -> None:
    """Wait until calls that are left to themselves are few enough for one more. Raises ModelError with the refusal
    where one takes longer than it may."""
    while True:
        if _is_late(known):
            raise ModelError(refusal)
        if not known.left or (len(known.left) < MOST_LEFT and length <= LONG):
            return
        still_wanted()
        time.sleep(LOOK)


def _is_late(known: Known) -> bool:
    """Tell whether a call that was left to itself takes longer than it may."""
    for ended in [left for left in list(known.left) if left.is_set()]:  # other threads add some
        known.left.pop(ended, None)
    return any(until < time.monotonic() for until in list(known.left.values()))


def known_of(tokenizer: PreTrainedTokenizerBase) -> Known:
    """Return what is known of a tokenizer."""
    if tokenizer not in _known:
        inner = getattr(tokenizer, "backend_tokenizer", None)
        parts = [getattr(inner, name, None) for name in ("normalizer", "pre_tokenizer", "decoder")]
        patterns = [part is not None and b'"Regex"' in part.__getstate__() for part in parts]
        _known[tokenizer] = Known(any(patterns), patterns[-1], is_of_python(tokenizer), is_plain(tokenizer))
    return _known[tokenizer]


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
        with open_ordinary(folder / file) as opened:
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
