"""What the view asks, checked: an event's data may be anything, as requests can be made without the page."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from wanda_core.checks import MAX_SEED, MAX_SEQ_LEN, check_whole
from wanda_core.errors import InputError, shortened
from wanda_core.evaluation.generation import check_prompt, check_settings
from wanda_core.model.hub import checked_token
from wanda_core.recipe import PruneSpec
from wanda_core.report.keys import MOST_CHARACTERS, OWN, SHRINKS, chosen, shrunk, zeros_after
from wanda_ui.engine.recipe import NOT_HERE, Asked, Reading, Recipe
from wanda_ui.engine.tokens import Place
from wanda_ui.inputs import as_int, as_share, is_number, some_text, whole_number
from wanda_ui.language import Say
from wanda_ui.settings import Settings

Owns = Callable[[str], bool]  # whether a text, by its digest, is one that the visitor who asks has brought

DENSE = "dense"
MOST_RECIPES = 3  # looked at together
MOST_POINTS = 96  # of a curve that is measured at once: every percent from 0 to 95
MOST_PROMPTS = 50  # of one's own
MOST_TOKENS = 1024  # of an answer
SETTINGS = ("length", "temperature", "seed", "chat")  # of an answer
NAMES = ("method", "pattern", "order", "group", "allocation", "update")


@dataclass(frozen=True)
class Column:
    """A recipe as the view shows it.

    id: of its column; key: the view's name for it; at: percent removed, as sent; method: of METHODS, RECIPES or
    SHRINKS; smaller_at: of the last, makes the recipe of another percent.
    """

    id: int
    key: str
    at: float
    method: str
    recipe: Recipe
    smaller_at: Callable[[float], Recipe] | None = field(default=None, compare=False)

    @property
    def pattern(self) -> str | None:
        """The pattern that has one place on the curve, None where the handle says how much goes."""
        spec = self.recipe.spec
        return None if self.smaller_at is not None or spec.n_of_m is None else spec.pattern

    def title(self, say: Say, at: float | None = None) -> str:
        """Return what the page calls it: `Wanda 45%`, `Best 2:4`, `Neurons 20% + Wanda 50%`. at: percent removed, if
        not its own."""
        name = say(f"view.method.{self.method}")
        amount = self.pattern or f"{round(self.at if at is None else at, 1):g}%"
        after = f" + {self.recipe.spec.label}" if self.smaller_at is not None and self.recipe.zeros else ""
        return f"{name[0].upper()}{name[1:]} {amount}{after}"


@dataclass(frozen=True)
class Looked:
    """What is to be looked at. run: number that the view gave; settings: of the answer, as they were sent; at_hand:
    whether the models are to be in memory at the end, also where all is known of them."""

    run: int
    model: str
    columns: tuple[Column, ...]
    asked: Asked
    settings: Mapping[str, Any]
    at_hand: bool = False


def no_text(digest: str) -> bool:
    """Say of every text that the visitor has not brought it."""
    return False


def data_of(event: Any) -> Mapping[str, Any]:
    """Return what an event carries. Raises InputError where it carries nothing that the view sends."""
    data = getattr(event, "_data", None)
    if not isinstance(data, dict):
        raise InputError(f"the event carries {shortened(data)} and not what the page sends; load the page again")
    return data


def looked(data: Mapping[str, Any], settings: Settings, owns: Owns = no_text) -> Looked:
    """Read what is to be looked at. owns: of the visitor, as below. Raises InputError for what breaks a rule."""
    asked, sent = ask_of(data, settings)
    at_hand = data.get("at_hand") is True
    return Looked(run_of(data), model_of(data), columns_of(data, settings, owns), asked, sent, at_hand)


def run_of(data: Mapping[str, Any]) -> int:
    """Return the number of a run."""
    return whole_number(data.get("run"), "run")


def model_of(data: Mapping[str, Any]) -> str:
    """Return the name of a model."""
    return some_text(data.get("model"), "name of the model")


def token_of(data: Mapping[str, Any], settings: Settings) -> str | None:
    """Return the token of the hub that was typed, None where none was. Raises InputError, which does not repeat it."""
    token = checked_token(data.get("token"))
    if token is not None and settings.public:
        raise InputError("a public server takes nobody's token; run the lab on your own machine to open this model")
    return token


def ask_of(data: Mapping[str, Any], settings: Settings) -> tuple[Asked, Mapping[str, Any]]:
    """Read a prompt and how it is to be answered. -> that, and the settings as they were sent."""
    given = data.get("ask")
    if not isinstance(given, dict):
        raise InputError(f"the prompt {shortened(given)} is not what the page sends; load the page again")
    sent = {name: value for name, value in given.items() if name in SETTINGS}
    length, seed, temperature, chat = (given.get(name) for name in ("length", "seed", "temperature", "chat"))
    if not isinstance(chat, bool):
        raise InputError(f"chat {shortened(chat)} is neither true nor false; load the page again")
    check_settings(max_new_tokens=as_int(length), temperature=temperature, seed=as_int(seed))
    prompt = prompt_of(given.get("prompt"), settings)
    return Asked(prompt, as_int(length), float(temperature or 0.0), as_int(seed), chat), sent


def prompt_of(given: Any, settings: Settings) -> str:
    """Read a prompt. Raises InputError for one that no model takes, and for more than the page reads."""
    check_prompt(given)
    if len(given) > settings.prompt_characters:
        raise InputError(
            f"a prompt has {len(given):,} characters and {settings.prompt_characters:,} are read; shorten it"
        )
    return str(given)


def columns_of(data: Mapping[str, Any], settings: Settings, owns: Owns = no_text) -> tuple[Column, ...]:
    """Read the recipes."""
    given = data.get("recipes")
    if not isinstance(given, list) or len(given) > MOST_RECIPES:
        raise InputError(
            f"the recipes {shortened(given)} are not a list of {MOST_RECIPES} at most; load the page again"
        )
    return tuple(column_of(recipe, settings, owns) for recipe in given)


def column_of(given: Any, settings: Settings, owns: Owns = no_text) -> Column:
    """Read one recipe."""
    if not isinstance(given, dict):
        raise InputError(f"the recipe {shortened(given)} is not what the page sends; load the page again")
    for name in NAMES:
        if not isinstance(given.get(name), str):
            raise InputError(f"{name} {shortened(given.get(name))} is no choice of the page; load the page again")
    key = given.get("key")
    if not isinstance(key, str) or len(key) > MOST_CHARACTERS:
        raise InputError(f"the recipe's name {shortened(key)} is not what the page sends; load the page again")
    at = given.get("at")
    if not is_number(at):
        raise InputError(f"the sparsity {shortened(at)} is no number; it is the percent of weights to remove, try 50")
    number, reading = whole_number(given.get("id"), "id"), reading_of(given, settings, owns)
    if given["method"] in SHRINKS:
        smaller_at = partial(smaller_of, given=given, reading=reading)
        return Column(number, key, at, given["method"], smaller_at(at), smaller_at)
    spec = spec_of(at, **{name: given[name] for name in NAMES})
    return Column(number, key, at, given["method"], Recipe(spec, reading))


def smaller_of(percent: float, given: Mapping[str, Any], reading: Reading) -> Recipe:
    """Make a recipe of parts that go for good: at 0% nothing does. Raises InputError for what is no such recipe."""
    zeros = zeros_after(given.get("zeros", OWN))
    if not percent:
        return Recipe(zeros, reading)
    return Recipe(zeros, reading, shrunk(given["method"], percent, given.get("score", OWN)))


def spec_of(
    percent: object, *, method: str, pattern: str, order: str, group: str, allocation: str, update: str
) -> PruneSpec:
    """Make a recipe of what was chosen. percent: of an unstructured recipe."""
    return chosen(
        method, as_share(percent), pattern=pattern, order=order, group=group, allocation=allocation, update=update
    )


def reading_of(given: Mapping[str, Any], settings: Settings, owns: Owns = no_text) -> Reading:
    """Read how the calibration is drawn. A text of another visitor's is named like one that nobody brought, so that
    nothing which was made of it answers. Raises InputError for more than the page runs."""
    text = given.get("text") or None
    if text is not None and not isinstance(text, str):
        raise InputError(f"the text {shortened(text)} is not one that was brought here; choose the file again")
    count, length = whole_number(given.get("samples"), "samples"), whole_number(given.get("seq_len"), "length")
    seed = check_whole("seed", whole_number(given.get("seed"), "seed"), 0, MAX_SEED)
    if not (1 <= count <= settings.samples and 2 <= length <= MAX_SEQ_LEN and count * length <= settings.tokens):
        raise InputError(
            f"{shortened(count)} samples of {shortened(length)} tokens are outside what this page runs "
            f"({settings.samples:,} samples and {settings.tokens:,} tokens in all at most); choose fewer, or use the "
            "command line"
        )
    return Reading(NOT_HERE if text is not None and not owns(text) else text, count, length, seed)


def places_of(data: Mapping[str, Any]) -> list[float]:
    """Return the percents of a curve that is to be measured."""
    places = data.get("places")
    if not isinstance(places, list) or len(places) > MOST_POINTS or not all(is_number(place) for place in places):
        raise InputError(f"the places {shortened(places)} are not a list of numbers; load the page again")
    return places


def prompts_of(data: Mapping[str, Any], settings: Settings) -> list[str]:
    """Return one's own prompts. Raises InputError for none, for too many, and for one that no model takes."""
    prompts = data.get("prompts")
    if not isinstance(prompts, list) or not 1 <= len(prompts) <= MOST_PROMPTS:
        count = len(prompts) if isinstance(prompts, list) else 0
        raise InputError(f"{count} prompts were given and 1 to {MOST_PROMPTS} are answered; give a line for each")
    return [prompt_of(prompt, settings) for prompt in prompts]


def place_of(
    data: Mapping[str, Any], settings: Settings, owns: Owns = no_text
) -> tuple[tuple[Column, ...], Asked, Place]:
    """Read which token is asked about: the recipes on the page, the prompt, and what came before it and after.

    tokens: the whole answer's where they are known, `index` the place; else text before and from it on.
    """
    tokens, index, text, rest = (data.get(name) for name in ("tokens", "index", "text", "rest"))
    asked, _ = ask_of(data, settings)
    columns = columns_of(data, settings, owns)
    if tokens is not None and not (
        isinstance(tokens, list) and len(tokens) <= MOST_TOKENS and all(type(token) is int for token in tokens)
    ):
        raise InputError(f"the tokens {shortened(tokens)} are not those of an answer; ask for it first")
    for part in (text, rest):
        if not isinstance(part, str) or len(part) > settings.prompt_characters:
            raise InputError(f"the text {shortened(part)} is not that of an answer; ask for it first")
    if tokens is None:
        return columns, asked, Place(str(text), str(rest))
    at = whole_number(index, "place")
    if not 0 <= at <= len(tokens):
        raise InputError(f"place {shortened(index)} lies outside an answer of {len(tokens)} tokens; ask for it first")
    return columns, asked, Place(tuple(tokens[:at]), tuple(tokens[at:]))


def check_whole_size(columns: Iterable[Column]) -> None:
    """Raise InputError for a recipe of a smaller model where single weights are compared: not all are there."""
    for column in columns:
        if column.recipe.smaller is not None:
            raise InputError(
                f"with {column.at:g}% of the {column.method} gone the matrices have other sizes, so their weights "
                "cannot be laid beside each other; choose a method that sets weights to zero, or remove that column"
            )
