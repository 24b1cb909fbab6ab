"""What runs in the engine: functions of the loaded models and plain arguments, whose results can be pickled.

So a job can be handed to another process, which sends back masks and numbers: nothing that a job does to its own copy
of a model or of the server's state is seen by anybody else.
"""

from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, Literal, TypeVar

from wanda_core.assets import BUILTIN_EVALUATION
from wanda_core.calibration.profile import Profile
from wanda_core.checks import AGREEMENT_WINDOWS, EVAL_SEQ_LEN, EVAL_WINDOWS
from wanda_core.evaluation.generation import Generated, generate
from wanda_core.evaluation.perplexity import Perplexity, agreement_steps, perplexity_steps
from wanda_core.model.language_model import LanguageModel
from wanda_core.outliers.analysis import Analysis, analyse_steps
from wanda_core.progress import Steps, as_stage
from wanda_core.pruning.packed import PackedVariant, fits_a_copy, laid_over, pack, packing_twin
from wanda_core.pruning.prune import prune_steps
from wanda_core.pruning.variant import twin
from wanda_core.recipe import PruneSpec
from wanda_core.text.files import read_text
from wanda_core.text.windows import Calibration, calibrate
from wanda_ui.engine.loaded import Loaded, Measured

T = TypeVar("T")
Models = Mapping[str, Loaded]
Job = Callable[[Models], Generator[Any, None, T]]  # a `partial` of a function at the top level of a module
Draw = Callable[[LanguageModel], Calibration]  # reads the text of a calibration; such a `partial` too


@dataclass(frozen=True)
class Pruned:
    """A variant with what it did, and the calibration it was made on, None where no text was read."""

    variant: PackedVariant
    measured: Measured
    calibration: Calibration | None


@dataclass(frozen=True)
class Answers:
    """Both models' answers as far as they have come; pruned: None where no variant was asked."""

    dense: Generated
    pruned: Generated | None


NOTHING = Generated("", ())


def analyse(models: Models, name: str) -> Steps[tuple[Analysis, Calibration]]:
    """Read the activations that the tabs show, on the default calibration."""
    lm = models[name].lm
    calibration = calibrate(lm)
    return (yield from analyse_steps(lm, calibration)), calibration


def prune(
    models: Models, name: str, spec: PruneSpec, draw: Draw | None, profile: Profile | None, measured: Measured | None
) -> Steps[Pruned]:
    """Prune a model, pack the variant, and measure both unless that is known.

    draw: the calibration, None where no text is read; profile: the dense model's norms where they are to decide.
    """
    loaded = models[name]
    lm = loaded.lm
    calibration = draw(lm) if draw is not None else None
    make_twin = twin if fits_a_copy(lm) else packing_twin
    variant = yield from prune_steps(lm, spec, calibration, profile, make_twin=make_twin)
    if measured is None:
        text = read_text(BUILTIN_EVALUATION)
        dense = loaded.dense or (yield from _measure(lm, text, "dense"))
        pruned = yield from _measure(variant.lm, text, "pruned")
        agreement = yield from agreement_steps(lm, variant.lm, text, seq_len=EVAL_SEQ_LEN, windows=AGREEMENT_WINDOWS)
        measured = Measured(dense, pruned, agreement)
    return Pruned(pack(lm, variant), measured, calibration)


def answer(
    models: Models, name: str, variant: PackedVariant | None, prompt: str, settings: Mapping[str, Any]
) -> Generator[Answers, None, Answers]:
    """Answer a prompt by a model and its variant, token by token in turn; yields longer and longer answers.

    settings: of `generate`. -> the whole answers.
    """
    lm = models[name].lm
    with ExitStack() as held:
        lms = [lm, *([held.enter_context(laid_over(lm, variant))] if variant is not None else [])]
        streams = [generate(model, prompt, **settings) for model in lms]
        for stream in streams:
            held.callback(stream.close)  # type: ignore[attr-defined]
        answers = Answers(NOTHING, None if variant is None else NOTHING)
        for dense, *pruned in zip_longest(*streams):
            answers = Answers(dense or answers.dense, *(new or answers.pruned for new in pruned or [None]))
            yield answers
    return answers


def measure(models: Models, name: str, make: Callable[[Loaded], Steps[T]]) -> Steps[T]:
    """Run a measurement of a model. make: a function at the top level of a module, or a `partial` of one."""
    return make(models[name])


def _measure(lm: LanguageModel, text: str, which: Literal["dense", "pruned"]) -> Steps[Perplexity]:
    """Measure the perplexity on the built-in evaluation text."""
    return as_stage(perplexity_steps(lm, text, seq_len=EVAL_SEQ_LEN, windows=EVAL_WINDOWS), which)


def drawn(lm: LanguageModel, calibration: Calibration) -> Calibration:
    """Return a calibration that was drawn before; a `Draw`."""
    return calibration
