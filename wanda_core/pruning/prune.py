"""Pruning a model by a recipe. The dense model is only read: all changes go to a twin that shares its weights."""

import time
from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor

from wanda_core.calibration import orders
from wanda_core.calibration.input_norms import Moments
from wanda_core.calibration.profile import Profile, check_matches, profile_steps
from wanda_core.errors import InputError, ModelError
from wanda_core.machine import distributed
from wanda_core.machine.matmul import matmul
from wanda_core.maths import masks, scores, updates
from wanda_core.model import experts
from wanda_core.model.linears import Linear
from wanda_core.model.loading import LanguageModel
from wanda_core.progress import Progress, Steps, finish
from wanda_core.pruning.allocation import block_sparsities
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
    _check_pattern(pruned.linears, spec)
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
    work = Work(spec, shares, reports)
    with experts.apart(pruned.model), experts.apart(lm.model):
        norms = yield from _visited(lm, pruned, spec, calibration, profile, work)
    kept = None
    if norms:
        fingerprint = calibration.fingerprint if calibration else profile.calibration if profile else ""
        kept = Profile(norms, fingerprint, spec.order)
    about = _described(calibration, profile if spec.needs_calibration else None)
    seconds = time.perf_counter() - started
    report = PruneReport(
        tuple(work.reports),
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
    work: "Work",
) -> Steps[Mapping[str, Tensor]]:
    """Go through the network in the recipe's order; -> the norms that decided."""
    if not spec.needs_norms and not spec.needs_gram:
        yield from _without_inputs(lm, pruned, spec, work)
        return {}
    if spec.order == "one-shot":
        assert profile is not None  # given or taken above
        return (yield from orders.one_shot(pruned, profile.norms, profile.tokens, work.visit))
    assert calibration is not None  # every other order reads it
    if spec.order == "in-flight":
        dense = lm if spec.solver.dense_share else None
        return (yield from orders.in_flight(pruned, calibration, work.visit, spec.needs_gram, dense))
    return (yield from orders.faithful(pruned, calibration, work.visit, spec.needs_gram))


LEAST_TOKENS = 16  # of an expert: the norms of fewer say more about these tokens than about the expert


class Work:
    """What is done to each linear, and the reports of what was. Of several processes each does its part of the rows."""

    def __init__(self, spec: PruneSpec, shares: list[float], reports: list[LinearReport] | None = None) -> None:
        self.spec, self.shares = spec, shares
        self.reports: list[LinearReport] = [] if reports is None else reports

    def visit(self, linear: Linear, moments: Moments | None, cross: Tensor | None = None) -> None:
        """Prune one linear. moments: of its inputs; None for methods that do not look at them."""
        W = linear.weight[distributed.part(linear.shape[0])]
        few = moments is not None and linear.routed and moments.norms.tokens < LEAST_TOKENS
        if moments is None or few:
            mask = self._mask(W, None, linear)
            self._put(linear, masks.without(W, mask), None, few and self.spec.method != "random")
            return
        X_norm, gram = moments.norms.norms, moments.gram
        if gram is None:
            mask = self._mask(W, X_norm, linear)
            self._put(linear, masks.without(W, mask), X_norm)
        elif self.spec.update == "obs":
            self._put(linear, self._obs(W.float(), gram, X_norm, linear), X_norm)
        else:
            self._put(linear, self._least_squares(W.float(), gram, cross, X_norm, linear), X_norm)

    def _mask(self, W: Tensor, X_norm: Tensor | None, linear: Linear) -> Tensor:
        """Which weights go, by the recipe's score. -> bool, as W, which is this process's part of the rows."""
        height = linear.shape[0]
        if not self.spec.by_row:
            W = distributed.whole(W, height)
        S = self._score(W, X_norm)
        if X_norm is not None and self.spec.needs_norms:
            S = scores.dead_columns_by_magnitude(S, W, X_norm)
        mask = masks.removal_mask(_finite(S, linear.name), self.spec, self.shares[linear.block])
        return mask if self.spec.by_row else mask[distributed.part(height)]

    def _score(self, W: Tensor, X_norm: Tensor | None) -> Tensor:
        method = self.spec.method
        if method == "random":
            return scores.random(W, self.spec.seed, len(self.reports))
        if method == "magnitude" or X_norm is None:
            return scores.magnitude(W)
        return scores.ria(W, X_norm) if method == "ria" else scores.wanda(W, X_norm)

    def _obs(self, W: Tensor, gram: Tensor, X_norm: Tensor | None, linear: Linear) -> Tensor:
        """SparseGPT's sweep, with its own mask or the recipe's."""
        if self.spec.method != "sparsegpt":
            fixed = self._mask(W, X_norm, linear)
            return updates.obs(W, gram, lambda part, root, start: fixed[:, start : start + part.shape[1]])[0]
        n_of_m = self.spec.n_of_m
        share = self.shares[linear.block]

        def choose(part: Tensor, root: Tensor, start: int) -> Tensor:
            S = (part / root) ** 2
            if n_of_m:
                return masks.lowest_n_of_m(S, *n_of_m)
            every = distributed.whole(S, linear.shape[0])  # one threshold for all rows
            k = int(every.numel() * share)
            none = torch.zeros_like(S, dtype=torch.bool)
            return masks.at_or_below(S, masks.kth_smallest(every.reshape(1, -1), k + 1)) if k else none

        return updates.obs(W, gram, choose, n_of_m[1] if n_of_m else updates.OBS_COLUMNS)[0]

    def _least_squares(
        self, W: Tensor, gram: Tensor, cross: Tensor | None, X_norm: Tensor | None, linear: Linear
    ) -> Tensor:
        """The kept weights re-solved; then, round by round, the mask chosen afresh and solved again."""
        solver = self.spec.solver
        H = updates.damped(gram, solver.damping, solver.shrinkage)
        # B - W H, B being W H and, in part, what the dense model's own inputs add to it
        R = torch.zeros_like(W) if cross is None else matmul(W, (cross - gram) * solver.dense_share)
        keep = ~(self._obs_mask(W, gram, linear) if self.spec.method == "sparsegpt" else self._mask(W, X_norm, linear))
        for _ in range(solver.rounds):
            W, R = updates.least_squares(W, keep, H, R, (solver.steps + 1) // 2)  # only the mask is taken from it
            keep = ~self._mask(updates.pull(W, H, R), X_norm, linear)
        return updates.least_squares(W, keep, H, R, solver.steps)[0]

    def _obs_mask(self, W: Tensor, gram: Tensor, linear: Linear) -> Tensor:
        return self._obs(W, gram, None, linear) == 0

    def _put(self, linear: Linear, weight: Tensor, X_norm: Tensor | None, by_magnitude: bool = False) -> None:
        if weight.dtype != linear.weight.dtype or self.spec.needs_gram:
            weight = _finite(weight, linear.name).to(linear.weight.dtype)
        weight = distributed.whole(weight, linear.shape[0])
        dead = int((X_norm == 0).sum()) if X_norm is not None else 0
        linear.replace(weight)
        self.reports.append(LinearReport(linear.name, linear.shape, masks.how_many(weight == 0), dead, by_magnitude))

    def put_masked(self, linear: Linear, mask: Tensor) -> None:
        """Prune by a mask that was chosen elsewhere."""
        mine = distributed.part(linear.shape[0])
        self._put(linear, masks.without(linear.weight[mine], mask[mine]), None)


def _without_inputs(dense: LanguageModel, lm: LanguageModel, spec: PruneSpec, work: Work) -> Steps[None]:
    """Methods that look at weights alone."""
    blocks = lm.walk("prune")
    threshold = None
    if spec.group == "model":
        yield Progress("pruning", 0, len(blocks), "one threshold for the whole model")
        threshold = _model_threshold(dense, spec)
    for index, _, linears in blocks:
        for number, linear in enumerate(linears, 1):
            where = f"block {index + 1} of {len(blocks)}, linear {number} of {len(linears)}"
            yield Progress("pruning", index, len(blocks), f"{where}: {linear.kind}")
            if spec.group != "model":
                work.visit(linear, None)
                continue
            S = _finite(scores.magnitude(linear.weight), linear.name)
            none = torch.zeros_like(S, dtype=torch.bool)
            work.put_masked(linear, none if threshold is None else masks.at_or_below(S.float(), threshold.to(S.device)))
    yield Progress("pruning", len(blocks), len(blocks), "all blocks pruned")


def _model_threshold(lm: LanguageModel, spec: PruneSpec) -> Tensor | None:
    total = sum(linear.weight.numel() for block in lm.linears for linear in block)
    k = int(total * spec.target)

    def matrices() -> Iterator[Tensor]:
        for _, _, linears in lm.walk("read"):
            yield from (_finite(scores.magnitude(linear.weight), linear.name) for linear in linears)

    return masks.kth_of_all(matrices, k) if k else None


def _finite(S: Tensor, name: str) -> Tensor:
    """NaN would sort last and be kept without a word."""
    if not (bool(torch.isfinite(S.sum())) or bool(torch.isfinite(S).all())):  # the sum alone may overflow
        raise ModelError(f"{name} has weights or inputs that are not finite, so it cannot be scored; check the model")
    return S


def _check_pattern(linears: list[list[Linear]], spec: PruneSpec) -> None:
    if spec.n_of_m is None:
        return
    m = spec.n_of_m[1]
    for linear in (linear for block in linears for linear in block):
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
