"""Pruning a model by a recipe. The dense model is only read: all changes go to a twin that shares its weights."""

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
from wanda_core.pruning.allocation import block_sparsities
from wanda_core.pruning.linear_pruner import LinearPruner, finite
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
    """Prune to the end. `lm` stays dense; the result runs beside it.

    spec: Wanda at 50% when left out. calibration: 16 windows of the built-in text when left out.
    profile: the dense model's norms, for order `one-shot` and allocation `owl`; taken afresh when left out.
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
) -> Steps[Variant]:
    """`prune` as a generator that yields progress; closing it cancels and leaves nothing behind.

    reports: of the linears that an earlier, unfinished run pruned; those of this run are added to it.
    """
    started = time.perf_counter()
    pruned = twin(lm)
    _check_pattern(pruned.all_linears, spec)
    if profile is not None:
        check_matches(profile, lm)
    if needs_text(spec, profile):
        calibration = calibration or calibrate(lm)
        lm.check_length(calibration.seq_len)
    else:
        calibration = None
    if calibration is not None and profile is None and (spec.order == "one-shot" or spec.allocation == "owl"):
        profile = yield from profile_steps(lm, calibration)
    shares, ratios = block_sparsities(spec, lm.walk("read"), profile.norms if profile else None)
    pruner = LinearPruner(spec, shares, reports)
    with experts.apart(pruned.model), experts.apart(lm.model):
        norms = yield from _visited(lm, pruned, spec, calibration, profile, pruner)
    kept = None
    if norms:
        fingerprint = calibration.fingerprint if calibration else profile.calibration if profile else ""
        kept = Profile(norms, fingerprint, spec.order)
    about = _described(calibration, profile if spec.needs_calibration else None)
    seconds = time.perf_counter() - started
    report = PruneReport(
        tuple(pruner.reports),
        seconds,
        about,
        tuple(shares),
        tuple(ratios) if ratios else None,
        distributed.each(seconds, distributed.waited()),
    )
    return Variant(pruned, spec, report, kept)


def needs_text(spec: PruneSpec, profile: Profile | None) -> bool:
    """Whether calibration text is read: not when a profile of the dense model holds all that the recipe asks for."""
    norms_suffice = not spec.needs_gram and (spec.order == "one-shot" or not spec.needs_norms)
    return spec.needs_calibration and not (profile is not None and norms_suffice)


def _visited(
    lm: LanguageModel,
    pruned: LanguageModel,
    spec: PruneSpec,
    calibration: Calibration | None,
    profile: Profile | None,
    pruner: LinearPruner,
) -> Steps[Mapping[str, Tensor]]:
    """Go through the network in the recipe's order; -> the norms that decided."""
    if not spec.needs_norms and not spec.needs_gram:
        yield from _without_inputs(lm, pruned, spec, pruner)
        return {}
    if spec.order == "one-shot":
        assert profile is not None  # given or taken above
        return (yield from orders.one_shot(pruned, profile.norms, profile.tokens, pruner.visit))
    assert calibration is not None  # every other order reads it
    if spec.order == "in-flight":
        dense = lm if spec.solver.dense_share else None
        return (yield from in_flight(pruned, calibration, pruner.visit, spec.needs_gram, dense))
    return (yield from orders.faithful(pruned, calibration, pruner.visit, spec.needs_gram))


def _without_inputs(dense: LanguageModel, lm: LanguageModel, spec: PruneSpec, pruner: LinearPruner) -> Steps[None]:
    """Methods that look at weights alone."""
    blocks = lm.walk("prune")
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
            S = finite(scores.magnitude(linear.weight), linear.name)
            none = torch.zeros_like(S, dtype=torch.bool)
            pruner.put_masked(
                linear, none if threshold is None else masks.at_or_below(S.float(), threshold.to(S.device))
            )
    yield Progress("pruning", len(blocks), len(blocks), "blocks")


def _model_threshold(lm: LanguageModel, spec: PruneSpec) -> Tensor | None:
    total = sum(linear.weight.numel() for linear in lm.all_linears)
    k = int(total * spec.target)

    def matrices() -> Iterator[Tensor]:
        for _, _, linears in lm.walk("read"):
            yield from (finite(scores.magnitude(linear.weight), linear.name) for linear in linears)

    return selection.kth_of_all(matrices, k) if k else None


def _check_pattern(linears: list[Linear], spec: PruneSpec) -> None:
    if spec.n_of_m is None:
        return
    m = spec.n_of_m[1]
    for linear in linears:
        if linear.shape[1] % m:
            raise InputError(
                f"pattern {spec.pattern} needs a number of input columns divisible by {m}, and {linear.name} has "
                f"{linear.shape[1]}; choose another pattern"
            )


def _described(calibration: Calibration | None, profile: Profile | None) -> dict[str, object] | None:
    """Where the statistics came from: the text read, else the one the profile was taken on."""
    if calibration is not None:
        return {
            "source": calibration.source,
            "samples": calibration.samples,
            "seq_len": calibration.seq_len,
            "seed": calibration.seed,
            "fingerprint": calibration.fingerprint,
        }
    if profile is None:
        return None
    source = profile.source
    known = {name: source.get(name) for name in ("samples", "seq_len", "seed")}
    return {"source": source.get("text", "a profile"), **known, "fingerprint": profile.calibration}
