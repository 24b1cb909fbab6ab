"""The two columns of Compare as HTML: greeting, invitation, and answers with a mark where they part."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from wanda_core.evaluation.generation import Generated, common_tokens
from wanda_core.evaluation.perplexity import Perplexity
from wanda_ui import markup
from wanda_ui.engine.loaded import Result
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
class Shown:
    """Both answers as far as they have come.

    result: the variant that answers, None where nothing is pruned; decode: turns token ids into text; again: whether
    the variant had been let go and was made again for this.
    """

    result: Result | None
    decode: Callable[[Sequence[int]], str]
    dense: Generated = NOTHING
    pruned: Generated = NOTHING
    again: bool = False

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
        card("dense", say("compare.dense"), ask, cost=_cost(result.measured.dense, say)),
        card("pruned", result.variant.spec.label, ask, cost=_cost(result.measured.pruned, say)),
    )


def running(answers: Shown, say: Say) -> Columns:
    """Show answers that go on: each column ends in a cursor."""
    return _columns(answers, say, CURSOR)


def ended(answers: Shown, say: Say) -> Columns:
    """Show answers that are complete, and say below whether they part."""
    return _columns(answers, say, "")


def stopped(answers: Shown | None, say: Say) -> Columns:
    """Show answers as far as they came; nobody knows what differs later. answers: None where no model was asked yet."""
    if answers is None or not answers.begun:
        result = None if answers is None else answers.result
        return welcome(say) if result is None else invitation(result, say)
    columns = ended(answers, say)
    return Columns(columns.dense, columns.pruned)


def _columns(answers: Shown, say: Say, cursor: str) -> Columns:
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
    shared = answers.decode(dense.tokens[:same]) if same else ""
    mark = say("compare.mark") if part else ""
    left, right = (
        card(which, title, marked(answer.text, shared, mark) + cursor, _length(answer, say), _cost(cost, say))
        for which, title, answer, cost in (
            ("dense", say("compare.dense"), dense, result.measured.dense),
            ("pruned", result.variant.spec.label, pruned, result.measured.pruned),
        )
    )
    verdict = ""
    if part:
        verdict = say("compare.part", same=same, next=same + 1) if same else say("compare.part_at_once")
    elif complete:
        verdict = say("compare.same", same=same)
    said = [*([say("compare.made_again", label=result.variant.spec.label)] if answers.again else []), verdict]
    return Columns(left, right, "".join(markup.sentence(sentence) for sentence in said if sentence))


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
