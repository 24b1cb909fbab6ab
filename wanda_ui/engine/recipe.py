"""All that decides a variant, as the page knows it: a recipe, and the text that is read for it."""

import threading
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from wanda_core.checks import DEFAULT_SAMPLES, DEFAULT_SEQ_LEN
from wanda_core.errors import InputError, WandaError
from wanda_core.recipe import PruneSpec
from wanda_core.shrinking.spec import ShrinkSpec
from wanda_core.text.chats import Document, bytes_of, digest_of
from wanda_ui.owned import Owned, Visitors

Again = Callable[[], str | list[Document]]

NOT_HERE = "not here"  # the name of a text that nobody brought; no digest is like it
MOST_TEXTS = 1000  # of one visitor whose digests are remembered
MOST_TEXT_BYTES = 64 * 2**20  # of all texts that visitors brought; the one unused longest goes
MOST_SOURCES, MOST_AGAIN = 10_000, 16  # texts that can be read again, three hundred bytes each, and from how many files


@dataclass(frozen=True)
class Reading:
    """How a calibration is drawn. text: digest of one in `KeptTexts`, None for the built-in one."""

    text: str | None = None
    samples: int = DEFAULT_SAMPLES
    seq_len: int = DEFAULT_SEQ_LEN
    seed: int = 0


PLAIN = Reading()  # what the analysis of every model is made on


@dataclass(frozen=True)
class Recipe:
    """A recipe with its reading, which is the plain one where no text is read: the same variant has one name.

    smaller: what is removed for good first; zeros are then those of the smaller model.
    """

    spec: PruneSpec
    reading: Reading = PLAIN
    smaller: ShrinkSpec | None = None

    def __post_init__(self) -> None:
        """Forget a reading that decides nothing."""
        if not self.spec.needs_calibration and (self.smaller is None or not self.smaller.needs_inputs):
            object.__setattr__(self, "reading", PLAIN)

    @property
    def zeros(self) -> bool:
        """Whether weights are set to zero."""
        return self.spec.target > 0


@dataclass(frozen=True)
class Asked:
    """A prompt with the settings of `generate`."""

    prompt: str
    max_new_tokens: int = 48
    temperature: float = 0.0
    seed: int = 0
    chat: bool = True

    @property
    def settings(self) -> dict[str, Any]:
        """Return the settings, by the names that `generate` has for them."""
        return {name: value for name, value in vars(self).items() if name != "prompt"}


class KeptTexts:
    """Calibration texts as `bytes_of` writes them, by digest, so that a recipe can name one without carrying it.

    The digest stands in links, saved runs and reports, so it opens a text to those alone who brought it: what a model
    makes of a short piece tells the piece. owned: whose texts are, also of those that made room, since what was made of
    them may be kept still.
    """

    def __init__(self, budget: int = MOST_TEXT_BYTES) -> None:
        self.budget = budget
        self.owned = Owned(MOST_TEXTS)
        self._texts: OrderedDict[str, bytes] = OrderedDict()
        self._again: OrderedDict[str, list[Again]] = OrderedDict()
        self._nbytes = 0
        self._lock = threading.Lock()

    def put(self, text: str | list[Document], again: Again | None = None) -> str:
        """Keep a text, or documents; return its digest, 32 hexadecimal digits. What is kept under it stays.

        again: reads it once more, for when others' texts have taken its room; raises WandaError or OSError where it
        cannot any more
        """
        data = bytes_of(text)
        digest = digest_of(data)
        if again is not None:
            with self._lock:
                self._again[digest] = [*self._again.get(digest, ()), again][-MOST_AGAIN:]
                self._again.move_to_end(digest)
                while len(self._again) > MOST_SOURCES:
                    self._again.popitem(last=False)
        self._keep(digest, data)
        return digest

    def _keep(self, digest: str, data: bytes) -> None:
        with self._lock:
            if digest not in self._texts:
                self._texts[digest] = data
                self._nbytes += len(data)
            self._texts.move_to_end(digest)
            while len(self._texts) > 1 and self._nbytes > self.budget:
                self._nbytes -= len(self._texts.popitem(last=False)[1])

    def of(self, visitors: Visitors) -> Callable[[str], bool]:
        """Make the question whether a text is one that these visitors brought."""
        return partial(self.owned.has, visitors=visitors)

    def holds(self, digest: str) -> bool:
        """Whether a text is kept, which counts as used now."""
        with self._lock:
            if digest in self._texts:
                self._texts.move_to_end(digest)
            return digest in self._texts

    def get(self, digest: str | None) -> bytes | None:
        """Return what `from_bytes` reads, None for None. Raises InputError for a text that is not here any more."""
        if digest is None:
            return None
        with self._lock:
            if digest in self._texts:
                self._texts.move_to_end(digest)
                return self._texts[digest]
            sources = reversed(self._again.get(digest, ()))
        for again in sources:  # of all who brought it: the file of one may be gone
            with suppress(WandaError, OSError):
                if digest_of(data := bytes_of(again())) == digest:
                    self._keep(digest, data)
                    return data
        raise InputError("the calibration text of this recipe is not on the server any more; choose the file again")
