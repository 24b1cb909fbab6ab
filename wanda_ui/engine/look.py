"""Look at one model: prune it if need be, hear its answer and measure its perplexity, a little of each in turn.

A job of the engine like those of `work.py`. What a person waits for comes first: the first word of the answer, then a
perplexity of two windows, then the rest of both.
"""

from collections.abc import Generator
from contextlib import ExitStack
from dataclasses import dataclass, replace

from wanda_core.assets import BUILTIN_EVALUATION
from wanda_core.calibration.profile import Profile
from wanda_core.evaluation.generation import Generated, generate
from wanda_core.evaluation.perplexity import (
    Agreement,
    Perplexity,
    agreement_steps,
    growing_perplexity,
    perplexity_steps,
)
from wanda_core.model.language_model import LanguageModel
from wanda_core.progress import Progress, Steps, as_stage
from wanda_core.pruning.packed import PackedVariant, fits_a_copy, laid_over, pack_steps, packing_twin
from wanda_core.pruning.prune import prune_steps
from wanda_core.pruning.variant import Variant, twin
from wanda_core.recipe import PruneSpec
from wanda_core.text.files import read_text
from wanda_ui.engine import work
from wanda_ui.engine.recipe import Asked
from wanda_ui.engine.work import Draw, Models

TOKENS_A_WINDOW = 6  # of the answer between two windows of perplexity: both grow while one watches


@dataclass(frozen=True)
class How:
    """How a variant is made. draw: the calibration, None where no text is read; profile: the dense model's norms where
    they are to decide."""

    spec: PruneSpec
    draw: Draw | None = None
    profile: Profile | None = None


@dataclass(frozen=True)
class Seen:
    """What a look has seen so far, each None until then or where it was not asked for.

    answer: as far as it has come; perplexity: of the windows so far, of the model that is looked at; dense: of the
    dense model, whole; agreement: of both, whole; ended: whether nothing more comes.
    """

    answer: Generated | None = None
    perplexity: Perplexity | None = None
    dense: Perplexity | None = None
    agreement: Agreement | None = None
    ended: bool = False


@dataclass(frozen=True)
class Wanted:
    """What a look is to measure. agreement: with the dense model, whose perplexity comes with it; at_hand: whether a
    smaller model is to be in memory at the end, also where all is known of it."""

    perplexity: bool = True
    agreement: bool = True
    at_hand: bool = False


WHOLE = Wanted()


@dataclass(frozen=True)
class Made:
    """A variant that has just been made."""

    variant: PackedVariant


Looking = Generator[Progress | Made | Seen, None, Seen]


def look(
    models: Models,
    name: str,
    how: How | None,
    variant: PackedVariant | None,
    asked: Asked | None,
    known: Seen,
    wanted: Wanted = WHOLE,
    whole: str | None = None,
) -> Looking:
    """Look at a model, or at a variant of it.

    whole: the model that it is compared with, itself by default.
    how: makes the variant, None for the dense model itself; variant: where it is made already; asked: None where no
    answer is wanted; known: what need not be measured again. Yields `Made` once, and longer and longer `Seen`.
    """
    lm, whole_lm = models[name].lm, models[name if whole is None else whole].lm
    with ExitStack() as held:
        if how is None:
            model, fresh = lm, None
        elif variant is not None:
            model, fresh = held.enter_context(laid_over(lm, variant)), None
        else:
            fresh = yield from _prune(lm, how)
            model = fresh.lm
        answer = generate(model, asked.prompt, **asked.settings) if asked is not None else None
        if answer is not None:
            held.callback(answer.close)  # type: ignore[attr-defined]
            known = replace(known, answer=next(answer))
            yield known
        if fresh is not None:
            yield Made((yield from pack_steps(lm, fresh)))
        windows = _windows(model) if wanted.perplexity and known.perplexity is None else None
        while answer is not None or windows is not None:
            if windows is not None:
                measured = next(windows, None)
                if measured is None:
                    windows = None
                else:
                    known = replace(known, perplexity=measured)
                    yield known
            for _ in range(TOKENS_A_WINDOW if answer is not None else 0):
                grown = next(answer, None)  # type: ignore[arg-type]
                if grown is None:
                    answer = None
                    break
                known = replace(known, answer=grown)
                yield known
        if how is None:
            known = replace(known, dense=known.perplexity)
        elif wanted.agreement and known.dense is None:
            dense = yield from _measure_dense(whole_lm)
            known = replace(known, dense=dense)
        if how is not None and wanted.agreement and known.agreement is None:
            text = read_text(BUILTIN_EVALUATION)
            length, count = work.EVAL_SEQ_LEN, work.AGREEMENT_WINDOWS
            agreement = yield from agreement_steps(whole_lm, model, text, seq_len=length, windows=count)
            known = replace(known, agreement=agreement)
    return replace(known, ended=True)


@dataclass(frozen=True)
class Point:
    """One point of a curve. sparsity: share of zeros reached; seconds: of the pruning."""

    sparsity: float
    seconds: float
    perplexity: Perplexity


def point(models: Models, name: str, how: How) -> Steps[Point]:
    """Prune and measure, and keep nothing but the numbers."""
    lm = models[name].lm
    fresh = yield from _prune(lm, how)
    windows = _windows(fresh.lm)
    for index, measured in enumerate(windows, 1):  # noqa: B007 # the last is the whole
        yield Progress("pruned", index, work.EVAL_WINDOWS, "windows")
    return Point(fresh.report.sparsity, fresh.report.seconds, measured)


def _prune(lm: LanguageModel, how: How) -> Steps[Variant]:
    """Make a variant, over copies of the weights where there is room for them."""
    calibration = (yield from how.draw(lm)) if how.draw is not None else None
    make_twin = twin if fits_a_copy(lm) else packing_twin
    return (yield from prune_steps(lm, how.spec, calibration, how.profile, make_twin=make_twin))


def _windows(lm: LanguageModel) -> Generator[Perplexity, None, None]:
    """Measure the perplexity on the page's windows, one after the other."""
    text = read_text(BUILTIN_EVALUATION)
    growing = growing_perplexity(lm, text, seq_len=work.EVAL_SEQ_LEN, windows=work.EVAL_WINDOWS)
    next(growing)  # what is to be measured
    return growing


def _measure_dense(lm: LanguageModel) -> Steps[Perplexity]:
    """Measure the dense model's perplexity on the same windows."""
    text = read_text(BUILTIN_EVALUATION)
    steps = perplexity_steps(lm, text, seq_len=work.EVAL_SEQ_LEN, windows=work.EVAL_WINDOWS)
    return (yield from as_stage(steps, "dense"))
