"""What runs in the engine: functions of the loaded models and plain arguments, whose results can be pickled.

So a job can be handed to another process, which sends back masks and numbers: nothing that a job does to its own copy
of a model or of the server's state is seen by anybody else.
"""

import time
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor

from wanda_core.calibration.profile import Profile, profile_steps
from wanda_core.checks import AGREEMENT_WINDOWS as AGREEMENT_WINDOWS
from wanda_core.checks import EVAL_SEQ_LEN as EVAL_SEQ_LEN
from wanda_core.checks import EVAL_WINDOWS as EVAL_WINDOWS
from wanda_core.explain.mask_agreement import MaskAgreement, mask_agreement_steps
from wanda_core.maths.sensitivity import Sensitivities
from wanda_core.model.language_model import LanguageModel
from wanda_core.model.linears import Linear
from wanda_core.outliers.analysis import Analysis, analyse_steps
from wanda_core.outliers.kept_analysis import load_analysis, save_analysis
from wanda_core.progress import Progress, Steps
from wanda_core.pruning.packed import PackedVariant
from wanda_core.pruning.sensitivity import sensitivity_steps
from wanda_core.text.windows import Calibration, calibrate
from wanda_ui.engine.loaded import Loaded

T = TypeVar("T")
Models = Mapping[str, Loaded]
Job = Callable[[Models], Generator[Any, None, T]]  # a `partial` of a function at the top level of a module
Draw = Callable[[LanguageModel], Steps[Calibration]]  # reads the text of a calibration; such a `partial` too


def analyse(models: Models, name: str, kept: Path | None = None) -> Steps[tuple[Analysis, Calibration, float]]:
    """Read the activations that the tabs show, on the default calibration. -> with the seconds that it takes.

    kept: a file that holds the analysis from one start of the server to the next, None where none is kept.
    """
    lm = models[name].lm
    yield Progress("reading", 0, 1, "parts")
    calibration = calibrate(lm)
    found = load_analysis(kept, lm, calibration) if kept is not None else None
    if found is not None:
        return found[0], calibration, found[1]
    began = time.monotonic()
    analysis = yield from analyse_steps(lm, calibration)
    seconds = time.monotonic() - began
    if kept is not None:
        save_analysis(analysis, kept, seconds)
    return analysis, calibration, seconds


def measure(models: Models, name: str, make: Callable[[Loaded], Steps[T]]) -> Steps[T]:
    """Run a measurement of a model. make: a function at the top level of a module, or a `partial` of one."""
    return make(models[name])


def masks(models: Models, name: str, variants: Sequence[PackedVariant]) -> Steps[MaskAgreement]:
    """Compare the masks of some variants of a model."""
    lm = models[name].lm

    def removed(linear: Linear) -> list[Tensor]:
        return [variant.pruned_weight(lm, linear.name) == 0 for variant in variants]

    return mask_agreement_steps(lm, len(variants), removed)


def sensitivities(models: Models, name: str, draw: Draw, profile: Profile) -> Steps[Sensitivities]:
    """Measure how sensitive a model's blocks are. profile: the norms on the calibration that is drawn."""
    lm = models[name].lm
    with_them = yield from sensitivity_steps(lm, (yield from draw(lm)), profile)
    assert with_them.sensitivities is not None
    return with_them.sensitivities


def read_profile(loaded: Loaded, draw: Draw) -> Steps[Profile]:
    """Measure the norms of a calibration that is drawn."""
    return (yield from profile_steps(loaded.lm, (yield from draw(loaded.lm))))
