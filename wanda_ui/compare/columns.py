"""The two columns of Compare as HTML: greeting, invitation, and answers with a mark where they part."""

from dataclasses import dataclass
from html import escape

from wanda_core.evaluation.generation import Generated, common_tokens
from wanda_core.evaluation.perplexity import Perplexity
from wanda_core.model.language_model import LanguageModel
from wanda_ui import markup
from wanda_ui.app_state import Result
from wanda_ui.language import Say

NOTHING = Generated("", ())
CURSOR = '<span class="wl-cursor" aria-hidden="true"></span>'


@dataclass(frozen=True)
class Columns:
    """HTML of both columns and of the line below them."""

    dense: str
    pruned: str
    verdict: str = ""


@dataclass(frozen=True)
class Answers:
    """Both answers as far as they have come. result: the variant that answers, None where nothing is pruned."""

    lm: LanguageModel
    result: Result | None
    dense: Generated = NOTHING
    pruned: Generated = NOTHING

    @property
    def begun(self) -> bool:
        """Whether either model has said a token."""
        return bool(self.dense.tokens or self.pruned.tokens)


def welcome(say: Say) -> Columns:
    """Say what the columns are for, before anything is pruned."""
    return Columns(
        card("dense", say("compare.dense"), markup.empty(say("compare.dense_hint"))),
        card("pruned", say("compare.pruned"), markup.empty(say("compare.pruned_hint"))),
    )


def invitation(result: Result, say: Say) -> Columns:
    """Ask for a question, after a pruning."""
    ask = markup.empty(say("compare.ask"))
    return Columns(
        card("dense", say("compare.dense"), ask, cost=_cost(result.dense, say)),
        card("pruned", result.variant.spec.label, ask, cost=_cost(result.pruned, say)),
    )


def running(answers: Answers, say: Say) -> Columns:
    """Show answers that go on: each column ends in a cursor."""
    return _columns(answers, say, CURSOR)


def ended(answers: Answers, say: Say) -> Columns:
    """Show answers that are complete, and say below whether they part."""
    return _columns(answers, say, "")


def stopped(answers: Answers | None, say: Say) -> Columns:
    """Show answers as far as they came; nobody knows what differs later. answers: None where no model was asked yet."""
    if answers is None or not answers.begun:
        result = None if answers is None else answers.result
        return welcome(say) if result is None else invitation(result, say)
    columns = ended(answers, say)
    return Columns(columns.dense, columns.pruned)


def _columns(answers: Answers, say: Say, cursor: str) -> Columns:
    """Show answers, each with the cursor behind it; without one they are complete."""
    dense, pruned, result = answers.dense, answers.pruned, answers.result
    if result is None:
        body = marked(dense.text, "", "") + cursor
        return Columns(
            card("dense", say("compare.dense"), body, _length(dense, say)),
            card("pruned", say("compare.pruned"), markup.empty(say("compare.prune_first"))),
        )
    same = common_tokens(dense.tokens, pruned.tokens)
    lengths = len(dense.tokens), len(pruned.tokens)
    complete = not cursor
    part = same < min(lengths) or (complete and lengths[0] != lengths[1])
    shared = answers.lm.decode(dense.tokens[:same]) if same else ""
    mark = say("compare.mark") if part else ""
    left, right = (
        card(which, title, marked(answer.text, shared, mark) + cursor, _length(answer, say), _cost(cost, say))
        for which, title, answer, cost in (
            ("dense", say("compare.dense"), dense, result.dense),
            ("pruned", result.variant.spec.label, pruned, result.pruned),
        )
    )
    verdict = ""
    if part:
        verdict = say("compare.part", same=same, next=same + 1) if same else say("compare.part_at_once")
    elif complete:
        verdict = say("compare.same", same=same)
    return Columns(left, right, markup.sentence(verdict) if verdict else "")


def card(which: str, title: str, body: str, note: str = "", cost: str = "") -> str:
    """Write one column. which: `dense` or `pruned`; body: HTML already escaped; cost: the perplexity, in words."""
    beside = f"<span>{escape(cost)}</span>" if cost else ""
    foot = f"<footer>{escape(note)}</footer>" if note else ""
    return (
        f'<article class="wl-answer wl-{which}-card"><header><b>{escape(title)}</b>{beside}</header>'
        f'<div class="wl-text" aria-live="polite">{body}</div>{foot}</article>'
    )


def marked(text: str, shared: str, title: str) -> str:
    """Mark the first word of a text that differs from the other answer.

    shared: what both begin with; title: what the mark says, empty when there is no difference.
    """
    if not title:
        return escape(text)
    at = len(shared)
    while at and not text.startswith(shared[:at]):  # a token may end inside a character
        at -= 1
    rest = text[at:]
    end = next((i for i, c in enumerate(rest) if i and c.isspace() and rest[:i].strip()), len(rest))
    first = rest[:end]
    return f'{escape(text[:at])}<mark title="{escape(title)}">{escape(first)}</mark>{escape(rest[end:])}'


def _length(answer: Generated, say: Say) -> str:
    return say("compare.tokens", count=len(answer.tokens))


def _cost(measured: Perplexity, say: Say) -> str:
    return say("compare.perplexity", value=markup.number(measured.perplexity))
