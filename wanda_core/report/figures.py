"""What the pictures beside the curve are drawn from, as plain values for JSON."""

from collections.abc import Callable, Collection
from dataclasses import replace
from statistics import median
from typing import Any

from torch import Tensor

from wanda_core.calibration.profile import Profile
from wanda_core.explain import tiles
from wanda_core.explain.asking import ask_column, ask_row, ask_weight, telling_weight
from wanda_core.explain.mask_agreement import mask_agreement_steps
from wanda_core.explain.masked_linear import Choice, MaskedLinear
from wanda_core.explain.toy_example import two_weights
from wanda_core.model.language_model import LanguageModel
from wanda_core.model.linears import Linear
from wanda_core.outliers.ablation import Ablation, ablate_steps
from wanda_core.outliers.analysis import Analysis, standing_out
from wanda_core.outliers.features import FeatureCounts
from wanda_core.progress import Progress, Steps, finish, inside
from wanda_core.pruning.one_linear import removed_of
from wanda_core.recipe import PruneSpec
from wanda_core.report.linear import blocks_of, channel_of, linear_of, masks_of, tile_of, told
from wanda_core.report.numbers import all_significant, significant
from wanda_core.report.plan import KIND, PICTURED, PICTURES, TWO_WEIGHTS, Plan
from wanda_core.report.points import Dense

Json = dict[str, Any]


def pictures_steps(
    dense: Dense, analysis: Analysis, plan: Plan, names: Collection[str], begun: Callable[[], Progress]
) -> Steps[dict[str, Json | list[Json]]]:
    """Collect some of PICTURES. begun: called when the ablation begins, for the progress it is a unit of."""
    towering = stream(analysis)
    plan = fitted(plan, dense.lm, towering)
    lm, profile = dense.lm, analysis.profile
    masked = masked_linears(lm, profile, plan) if {"scores", "linears"} & set(names) else []
    make: dict[str, Callable[[], Json | list[Json]]] = {
        "scores": lambda: scores(lm, profile, plan, masked),
        "linears": lambda: linears(lm, analysis, plan, masked),
        "masks": lambda: masks(lm, profile, plan),
        "stream": lambda: towering,
        "toy": toy,
    }
    drawn = {name: make[name]() for name in names if name in make}
    if "ablation" in names:
        drawn["ablation"] = yield from inside(ablation_steps(dense, towering["channel"], plan), begun())
    return {name: drawn[name] for name in PICTURES if name in drawn}


def fitted(plan: Plan, lm: LanguageModel, towering: Json) -> Plan:
    """Choose the kind of linear and the blocks to show where a plan leaves them open.

    The kind is that of the largest matrix, unless the model has the usual one. The blocks are where the channel of
    `towering` (see `stream`) stands out most, one well before, and the last where it is massive.
    """
    kind = plan.kind or (KIND if KIND in lm.kinds else max(lm.all_linears, key=lambda each: each.weight.numel()).kind)
    if plan.blocks is not None:
        return replace(plan, kind=kind)
    having = [linear.block for linear in lm.of_kind(kind)]
    first = towering["block"]
    last = towering["massive"][1] if towering["massive"] else having[-1]
    wanted = (first, first // 4, last)
    blocks = dict.fromkeys(min(having, key=lambda block: abs(block - place)) for place in wanted)
    return replace(plan, kind=kind, blocks=tuple(blocks))


def pictured_specs(plan: Plan) -> list[PruneSpec]:
    """Return the recipes of the pictures at their sparsity."""
    return [key.spec(plan.sparsity) for key in PICTURED]


def masked_linears(lm: LanguageModel, profile: Profile, plan: Plan) -> list[MaskedLinear]:
    """Lay the recipes of the pictures over every linear of their kind: what Wanda removes, and what magnitude does."""
    specs = pictured_specs(plan)
    return [
        MaskedLinear(
            linear.weight,
            profile.norms[linear.name],
            tuple(Choice(spec, removed_of(linear, spec, spec.target, profile)) for spec in specs),
        )
        for linear in lm.of_kind(str(plan.kind))
    ]


def scores(lm: LanguageModel, profile: Profile, plan: Plan, masked: list[MaskedLinear]) -> Json:
    """Describe how the scores of one kind of linear lie in every block."""
    return {"sparsity": plan.sparsity, **blocks_of(lm.of_kind(str(plan.kind)), profile.norms, masked)}


def masks(lm: LanguageModel, profile: Profile, plan: Plan) -> Json:
    """Describe where the masks of both recipes differ in the whole model."""
    specs = pictured_specs(plan)

    def removed(linear: Linear) -> list[Tensor]:
        return [removed_of(linear, spec, spec.target, profile) for spec in specs]

    return masks_of(finish(mask_agreement_steps(lm, len(specs), removed)))


def linears(lm: LanguageModel, analysis: Analysis, plan: Plan, masked: list[MaskedLinear]) -> list[Json]:
    """Describe the linears of some blocks; of the first also single weights."""
    by_block = {linear.block: held for linear, held in zip(lm.of_kind(str(plan.kind)), masked, strict=True)}
    blocks = plan.blocks or (0,)
    found = [
        {"kind": plan.kind, "block": block, "sparsity": plan.sparsity, **linear_of(by_block[block])} for block in blocks
    ]
    return [found[0] | weights(by_block[blocks[0]], analysis.features, str(plan.kind)), *found[1:]]


def weights(linear: MaskedLinear, features: FeatureCounts | None, kind: str) -> Json:
    """Describe single weights: the whole matrix as one tile, one tile of single weights, and what tells most.

    told: of a weight that the metrics judge differently, of its column and its row; near: the tile around it, the
    columns from the quietest input to the loudest, at `at`: across, down.
    """
    rows, columns = linear.W.shape
    row, column = telling_weight(linear)
    across, down = int(linear.loudness[column]) // tiles.SIDE, row // tiles.SIDE
    return {
        "overview": tile_of(tiles.tile(linear, tiles.levels(rows, columns), 0, 0, True)),
        "near": {"at": [across, down], **tile_of(tiles.tile(linear, 0, across, down, True))},
        "told": {
            "place": int(linear.loudness[column]),
            "weight": told(ask_weight(linear, row, column)),
            "column": told(ask_column(linear, column)) | {"feature": channel_of(features, kind, column)},
            "row": told(ask_row(linear, row)),
        },
    }


def stream(analysis: Analysis) -> Json:
    """Describe the channel of the residual stream that stands out most.

    largest: its |x| at most, after each block; median: of all |x| there; ratio: the largest multiple of that median, at
    `block`; massive: the first and the last block where it is a massive activation, None where it never is.
    """
    towering = standing_out(analysis)[0]
    return {
        "channel": towering.channel,
        "largest": all_significant(analysis.channel_max[:, towering.channel]),
        "median": all_significant(analysis.median),
        "ratio": significant(towering.ratio),
        "block": towering.block,
        "massive": [towering.massive[0], towering.massive[-1]] if towering.massive else None,
    }


def ablation_steps(dense: Dense, channel: int, plan: Plan) -> Steps[Json]:
    """Measure the model with a channel set to zero after every block, and with random channels instead.

    -> perplexities: nothing, channel, and of the random draws the median, the lowest and the highest.
    """
    ablation = Ablation((channel,))
    report = yield from ablate_steps(
        dense.lm, ablation, dense.text, seq_len=plan.seq_len, windows=plan.ablation_windows
    )
    low, high = report.random_range
    return {
        "tokens": ablation.tokens,
        "value": ablation.value,
        "channels": list(ablation.channels),
        "nothing": significant(report.untouched),
        "channel": significant(report.chosen.perplexity),
        "random": significant(median(draw.perplexity for draw in report.random)),
        "low": significant(low),
        "high": significant(high),
        "draws": len(report.random),
        "windows": report.windows,
        "seq_len": report.seq_len,
    }


def toy() -> Json:
    """Work out the motivating example: which of two weights each metric cuts, from 0, and what either loss costs."""
    (w1, w2), (x1, x2) = TWO_WEIGHTS
    found = two_weights(w1, w2, x1, x2)
    return {
        "w": [w1, w2],
        "x": [x1, x2],
        "y": significant(found.y),
        "errors": [significant(error) for error in found.errors],
        "magnitude": found.magnitude,
        "wanda": found.wanda,
        "cheaper": found.cheaper,
    }
