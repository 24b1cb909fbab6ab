"""Pruning a whole model by a recipe. The dense model is only read: all changes go to a twin that shares its weights."""

import time
from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor

from wanda_core.calibration import orders
from wanda_core.calibration.in_flight import in_flight
from wanda_core.calibration.profile import Profile, check_matches, profile_steps
from wanda_core.errors import InputError
from wanda_core.machine import distributed
from wanda_core.maths import masks, scores, selection
from wanda_core.model import experts
from wanda_core.model.language_model import LanguageModel
from wanda_core.model.linears import Linear
from wanda_core.progress import Progress, Steps, finish
from wanda_core.pruning.allocation import allotted
from wanda_core.pruning.arrangement import arranged_steps
from wanda_core.pruning.linear_pruner import LinearPruner, require_finite
from wanda_core.pruning.sensitivity import sensitivity_steps
from wanda_core.pruning.variant import LinearReport, PruneReport, Variant, twin
from wanda_core.recipe import PruneSpec
from wanda_core.text.windows import Calibration, calibrate


def prune(
    lm: LanguageModel,
    spec: PruneSpec | None = None,
    calibration: Calibration | None = None,
    on_progress: Callable[[Progress], object] | None = None,
    profile: Profile | None = None,
) -> Variant:
    """Prune a model. `lm` stays dense; the variant that is returned runs beside it.

    spec: the recipe, by default Wanda at 50%; calibration: by default 16 windows of the built-in text;
    profile: the dense model's norms, for order `one-shot` and the allocations `owl` and `measured`; what it lacks is
    measured now.
    Raises InputError for a recipe the model cannot take, ModelError for a model that cannot be scored.
    """
    return finish(prune_steps(lm, spec or PruneSpec(), calibration, profile), on_progress)


@torch.no_grad()
def prune_steps(
    lm: LanguageModel,
    spec: PruneSpec,
    calibration: Calibration | None = None,
    profile: Profile | None = None,
    reports: list[LinearReport] | None = None,
    make_twin: Callable[[LanguageModel], LanguageModel] = twin,
) -> Steps[Variant]:
    """Prune as a generator that yields progress; closing it cancels and leaves nothing behind.

    reports: of the linears that an earlier, unfinished run pruned; this run adds its own; make_twin: makes the model
    that is pruned, over the same weights.
    """
    started = time.perf_counter()
    check_pattern(lm.all_linears, spec)
    if profile is not None:
        check_matches(profile, lm)
    if needs_text(spec, profile):
        calibration = calibration or calibrate(lm)
        lm.check_windows(calibration.ids)
    else:
        calibration = None
    if calibration is not None and spec.needs_profile:
        profile = yield from complete_profile_steps(lm, spec, calibration, profile, make_twin)
    if spec.arrange:
        lm, profile = yield from arranged_steps(lm, spec, profile if spec.needs_calibration else None)
    pruned = make_twin(lm)
    allotment = allotted(spec, lm.walk("read"), profile)
    pruner = LinearPruner(spec, allotment.sparsities, reports)
    with experts.apart(pruned.model), experts.apart(lm.model):
        norms = yield from _visit_all(lm, pruned, spec, calibration, profile, pruner)
    deciding_norms = None
    if norms:
        fingerprint = calibration.fingerprint if calibration else profile.calibration if profile else ""
        deciding_norms = Profile(norms, fingerprint, spec.order)
    source = calibration_source(calibration, profile if spec.needs_calibration else None)
    seconds = time.perf_counter() - started
    report = PruneReport(
        tuple(pruner.reports),
        seconds,
        source,
        tuple(allotment.sparsities),
        tuple(allotment.outlier_ratios) if allotment.outlier_ratios else None,
        distributed.each(seconds, distributed.waited()),
        allotment.sensitivities,
    )
    return Variant(pruned, spec, report, deciding_norms)


def complete_profile_steps(
    lm: LanguageModel,
    spec: PruneSpec,
    calibration: Calibration,
    profile: Profile | None,
    make_twin: Callable[[LanguageModel], LanguageModel] = twin,
) -> Steps[Profile]:
    """Measure what a recipe needs to know of the dense model and a profile does not hold yet, all without one."""
    if profile is None:
        profile = yield from profile_steps(lm, calibration)
    if spec.needs_sensitivities and profile.sensitivities is None:
        profile = yield from sensitivity_steps(lm, calibration, profile, make_twin)
    return profile


def needs_text(spec: PruneSpec, profile: Profile | None) -> bool:
    """Tell whether calibration text must be read: no if a profile of the dense model holds all the recipe asks for."""
    norms_suffice = not spec.needs_gram and (spec.order == "one-shot" or not spec.needs_norms)
    known = profile is not None and not (spec.needs_sensitivities and profile.sensitivities is None)
    return spec.needs_calibration and not (known and norms_suffice)


def _visit_all(
    lm: LanguageModel,
    pruned: LanguageModel,
    spec: PruneSpec,
    calibration: Calibration | None,
    profile: Profile | None,
    pruner: LinearPruner,
) -> Steps[Mapping[str, Tensor]]:
    """Prune every linear in the recipe's order. -> the norms that decided, by linear name; {} where none did."""
    if not spec.needs_norms and not spec.needs_gram:
        yield from _visit_by_weights_alone(lm, pruned, spec, pruner)
        return {}
    if spec.order == "one-shot":
        assert profile is not None  # given, or measured by the caller
        return (yield from orders.one_shot(pruned, profile.norms, profile.tokens, pruner.visit))
    assert calibration is not None  # every other order reads it
    if spec.order == "in-flight":
        dense = lm if spec.solver.beside else None
        drifts = spec.solver.stream_share > 0
        return (yield from in_flight(pruned, calibration, pruner.visit, spec.needs_gram, dense, drifts))
    return (yield from orders.faithful(pruned, calibration, pruner.visit, spec.needs_gram))


def _visit_by_weights_alone(
    dense: LanguageModel, pruned: LanguageModel, spec: PruneSpec, pruner: LinearPruner
) -> Steps[None]:
    """Prune every linear of `pruned` by a method that looks at no inputs."""
    blocks = pruned.walk("prune")
    threshold = None
    if spec.group == "model":
        yield Progress("threshold", 0, len(blocks), "blocks")
        threshold = _model_threshold(dense, spec)
    for index, _, linears in blocks:
        for linear in linears:
            yield Progress("pruning", index, len(blocks), "blocks", linear.kind)
            if spec.group != "model":
                pruner.visit(linear, None)
                continue
            S = require_finite(scores.magnitude(linear.weight), linear.name)
            if threshold is None:
                mask = torch.zeros_like(S, dtype=torch.bool)
            else:
                mask = masks.at_or_below(S.float(), threshold.to(S.device))
            pruner.put_masked(linear, mask)
    yield Progress("pruning", len(blocks), len(blocks), "blocks")


def _model_threshold(lm: LanguageModel, spec: PruneSpec) -> Tensor | None:
    """Find the magnitude up to which weights of the whole model go, () float32; None when none go."""
    total = sum(linear.weight.numel() for linear in lm.all_linears)
    k = int(total * spec.target)

    def matrices() -> Iterator[Tensor]:
        for _, _, linears in lm.walk("read"):
            yield from (require_finite(scores.magnitude(linear.weight), linear.name) for linear in linears)

    return selection.kth_of_all(matrices, k) if k else None


def check_pattern(linears: list[Linear], spec: PruneSpec) -> None:
    """Raise InputError for an N:M pattern that does not divide the input columns of every linear."""
    if spec.n_of_m is None:
        return
    m = spec.n_of_m[1]
    for linear in linears:
        if linear.shape[1] % m:
            raise InputError(
                f"pattern {spec.pattern} needs a number of input columns divisible by {m}, and {linear.name} has "
                f"{linear.shape[1]}; choose another pattern"
            )


def calibration_source(calibration: Calibration | None, profile: Profile | None = None) -> dict[str, object] | None:
    """Describe the text that was read, else the one the profile was measured on, as plain values for reports."""
    if calibration is not None:
        return {
            "source": calibration.source,
            "samples": calibration.samples,
            "seq_len": calibration.seq_len,
            "seed": calibration.seed,
            "bos": calibration.bos,
            "packed": calibration.packed,
            "fingerprint": calibration.fingerprint,
        }
    if profile is None:
        return None
    source = profile.source
    known = {name: source.get(name) for name in ("samples", "seq_len", "seed", "bos", "packed")}
    return {"source": source.get("text", "a profile"), **known, "fingerprint": profile.calibration}
