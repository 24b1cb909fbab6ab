"""What a step is answered from: the stored values where nobody chose anything else, else measured and shared.

Everything here is deterministic, so it is measured once for all visitors; who asks for what is being measured already
joins that measurement.
"""

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import partial
from typing import Any

from wanda_core.errors import InputError
from wanda_core.outliers.sentence import MAX_SENTENCE_CHARACTERS, MAX_SENTENCE_TOKENS
from wanda_core.progress import Steps
from wanda_core.report.lesson import consequences, sentences
from wanda_core.report.lesson.making import middle
from wanda_core.report.lesson.plan import OTHER_SENTENCE, OWN_LINE_TOKENS, PROMPT, PUBLISHED, SENTENCE
from wanda_ui.engine.loaded import Loaded
from wanda_ui.inputs import typed_number
from wanda_ui.lesson.answers import Asked, UnknownError
from wanda_ui.lesson.stored import stored_for

Json = dict[str, Any]
MOST_ECHOED = 40  # characters of what somebody typed, in the answer to it


@dataclass(frozen=True)
class Told:
    """data: the values that a step is answered from; own: those of what somebody chose beside them, None where nobody
    did; date: when they were stored, empty where they were measured here."""

    data: Json
    own: Json | None = None
    date: str = ""


def meet_steps(asked: Asked, text: object) -> Steps[Told]:
    """Step 3."""
    return (yield from _of_sentence(asked, text, "meet", SENTENCE, _meet))


def change_steps(asked: Asked, text: object) -> Steps[Told]:
    """Step 4. data: of the first sentence and its source; own: of the other one."""
    given = written(asked, text, MAX_SENTENCE_CHARACTERS)
    source = yield from _base(asked, "source", _source)
    other = yield from _of_sentence(asked, given, "change", OTHER_SENTENCE, _change)
    return Told(source.data, other.data, source.date if other.date else "")


def sinks_steps(asked: Asked, text: object) -> Steps[Told]:
    """Step 5."""
    return (yield from _of_sentence(asked, text, "sinks", SENTENCE, _sinks, least=2))


def ablate_steps(asked: Asked, channel: object) -> Steps[Told]:
    """Step 6. data: of the strongest channel; own: `channel` and `zero` of another one."""
    base = yield from _base(asked, "lean", _lean)
    strongest = base.data["channel"]
    if not _text(channel) or _text(channel) == str(strongest):
        return base
    loaded = yield from model_steps(asked)
    chosen = chosen_whole(asked, channel, "channel", loaded.lm.stream_width, strongest)
    if chosen == strongest:
        return base
    zero = yield from shared_steps(asked, loaded, ("without", chosen), partial(_without, channel=chosen))
    return Told(base.data, {"channel": chosen, "zero": zero})


def masks_steps(asked: Asked, block: object) -> Steps[Told]:
    """Step 7."""
    stored = stored_for(asked.state, asked.model)
    if stored is not None and _text(block) in ("", str(stored["masks"]["block"])):
        return Told(stored["masks"], date=stored["made"]["date"])
    loaded = yield from model_steps(asked, opened=True)
    chosen = chosen_whole(asked, block, "block", len(loaded.lm.linears), middle(loaded.lm))
    if not loaded.lm.linears[chosen]:
        raise InputError(asked.say("lesson.problem.no_linear", block=chosen))
    return Told((yield from shared_steps(asked, loaded, ("masks", chosen), partial(_masks, block=chosen))))


def cost_steps(asked: Asked, prompt: object) -> Steps[Told]:
    """Step 8. data: of the lesson's prompt; own: the lines of another one."""
    words = written(asked, prompt, MAX_SENTENCE_CHARACTERS)
    base = yield from _base(asked, "price", _price)
    if words == PROMPT:
        return base
    loaded = yield from model_steps(asked, opened=True)
    own = yield from shared_steps(asked, loaded, ("answers", words), partial(_answers, prompt=words))
    return Told(base.data, own)


def _base(asked: Asked, name: str, make: Callable[[Loaded], Steps[Json]]) -> Steps[Told]:
    """Bring what depends on the model alone. name: in the stored answers."""
    stored = stored_for(asked.state, asked.model)
    if stored is not None:
        return Told(stored[name], date=stored["made"]["date"])
    loaded = yield from model_steps(asked, opened=True)
    return Told((yield from shared_steps(asked, loaded, (name,), make)))


def _of_sentence(
    asked: Asked, text: object, name: str, usual: str, make: Callable[..., Steps[Json]], least: int = 1
) -> Steps[Told]:
    """Bring what depends on a sentence; it is refused in the reader's language where that can be known before.

    usual: the sentence whose answer is stored; least: tokens.
    """
    given = written(asked, text, MAX_SENTENCE_CHARACTERS)
    stored = stored_for(asked.state, asked.model)
    if stored is not None and given == usual:
        return Told(stored[name], date=stored["made"]["date"])
    loaded = yield from model_steps(asked)
    tokens = len(loaded.lm.encode(given))
    if tokens > MAX_SENTENCE_TOKENS:
        raise InputError(asked.say("lesson.problem.tokens", given=tokens, most=MAX_SENTENCE_TOKENS))
    if tokens < least:
        raise InputError(asked.say("lesson.problem.one_token"))
    return Told((yield from shared_steps(asked, loaded, (name, given), partial(make, text=given))))


def shared_steps(
    asked: Asked, loaded: Loaded, key: tuple[Hashable, ...], make: Callable[[Loaded], Steps[Json]]
) -> Steps[Json]:
    """Return a measurement that somebody asked for before, or make it and keep it for everybody. make: top-level."""
    whole = (loaded.name, loaded.state, *key)
    known = asked.state.lessons.get(whole)
    if known is None:
        if asked.only_known:
            raise UnknownError
        known = yield from asked.state.alone_steps(loaded, f"lesson: {key[0]}", make, shared=("lesson", *whole))
        asked.state.lessons.put(whole, known)
    return known


def model_steps(asked: Asked, opened: bool = False) -> Steps[Loaded]:
    """Return the model. opened: with its analysis. Raises UnknownError where that would take work nobody asked for."""
    if asked.only_known:
        loaded = asked.state.loaded(asked.model)
        if loaded is None or (opened and loaded.analysis is None):
            raise UnknownError
    return (yield from (asked.state.open_steps if opened else asked.state.model_steps)(asked.model))


def chosen_whole(asked: Asked, given: object, what: str, count: int, otherwise: int) -> int:
    """Read a channel or block that exists; `otherwise` where none is typed. Raises InputError for any other.

    what: `channel` or `block`; count: how many the model has.
    """
    text = _text(given)
    if not text:
        return otherwise
    place = typed_number(text)
    if place is None or place >= count:
        raise InputError(asked.say(f"lesson.problem.{what}", given=text[:MOST_ECHOED], last=count - 1))
    return place


def written(asked: Asked, text: object, most: int) -> str:
    """Check that a text is there and not too long. Raises InputError in the reader's language."""
    if not isinstance(text, str) or not text.strip():
        raise InputError(asked.say("lesson.problem.empty"))
    if len(text) > most:
        raise InputError(asked.say("lesson.problem.long", given=len(text), most=most))
    return text


def _text(given: object) -> str:
    return str(given if given is not None else "").strip()


# Jobs of the engine -------------------------------------------------------------------------------------------------
def _meet(loaded: Loaded, text: str) -> Steps[Json]:
    return sentences.meet_steps(loaded.lm, text)


def _source(loaded: Loaded) -> Steps[Json]:
    return sentences.source_steps(loaded.lm)


def _change(loaded: Loaded, text: str) -> Steps[Json]:
    return sentences.change_steps(loaded.lm, text)


def _sinks(loaded: Loaded, text: str) -> Steps[Json]:
    return sentences.sinks_steps(loaded.lm, text)


def _lean(loaded: Loaded) -> Steps[Json]:
    assert loaded.analysis is not None  # opened before
    assert loaded.calibration is not None
    return consequences.lean_steps(loaded.lm, loaded.analysis, loaded.calibration)


def _without(loaded: Loaded, channel: int) -> Steps[Json]:
    return consequences.without_steps(loaded.lm, channel)


def _masks(loaded: Loaded, block: int) -> Steps[Json]:
    assert loaded.analysis is not None  # opened before
    return consequences.masks(loaded.lm, loaded.analysis, block)
    yield  # a generator, as all jobs are


def _price(loaded: Loaded) -> Steps[Json]:
    assert loaded.analysis is not None  # opened before
    return consequences.price_steps(loaded.lm, loaded.analysis)


def _answers(loaded: Loaded, prompt: str) -> Steps[Json]:
    assert loaded.analysis is not None  # opened before
    return consequences.answers_steps(loaded.lm, loaded.analysis, prompt, OWN_LINE_TOKENS, PUBLISHED)
