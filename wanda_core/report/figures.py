"""What the pictures beside the curve are drawn from, as plain values for JSON."""

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
from wanda_core.progress import Steps, finish
from wanda_core.pruning.one_linear import removed_of
from wanda_core.recipe import PruneSpec
from wanda_core.report.linear import blocks_of, channel_of, linear_of, masks_of, tile_of, told
from wanda_core.report.numbers import all_significant, significant
from wanda_core.report.plan import LINES, TWO_WEIGHTS, Cell, Plan
from wanda_core.report.points import Dense

Json = dict[str, Any]


def line_specs(plan: Plan) -> list[PruneSpec]:
    """Return the recipes of both lines at the sparsity of the pictures."""
    return [Cell(line, str(plan.sparsity)).spec for line in LINES]


def masked_linears(lm: LanguageModel, profile: Profile, plan: Plan) -> list[MaskedLinear]:
    """Lay both lines of a plan over every linear of its kind: what one-shot Wanda removes, and what magnitude does."""
    specs = line_specs(plan)
    return [
        MaskedLinear(
            linear.weight,
            profile.norms[linear.name],
            tuple(Choice(spec, removed_of(linear, spec, spec.target, profile)) for spec in specs),
        )
        for linear in lm.of_kind(plan.kind)
    ]


def scores(lm: LanguageModel, profile: Profile, plan: Plan, masked: list[MaskedLinear]) -> Json:
    """Describe how the scores of one kind of linear lie in every block."""
    return {"sparsity": plan.sparsity, **blocks_of(lm.of_kind(plan.kind), profile.norms, masked)}


def masks(lm: LanguageModel, profile: Profile, plan: Plan) -> Json:
    """Describe where the masks of both lines differ in the whole model."""
    specs = line_specs(plan)

    def removed(linear: Linear) -> list[Tensor]:
        return [removed_of(linear, spec, spec.target, profile) for spec in specs]

    return masks_of(finish(mask_agreement_steps(lm, len(specs), removed)))


def linears(lm: LanguageModel, analysis: Analysis, plan: Plan, masked: list[MaskedLinear]) -> list[Json]:
    """Describe the linears of some blocks; of the first also single weights."""
    by_block = {linear.block: held for linear, held in zip(lm.of_kind(plan.kind), masked, strict=True)}
    found = [
        {"kind": plan.kind, "block": block, "sparsity": plan.sparsity, **linear_of(by_block[block])}
        for block in plan.blocks
    ]
    return [found[0] | weights(by_block[plan.blocks[0]], analysis.features, plan.kind), *found[1:]]


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
