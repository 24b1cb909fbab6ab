"""Steps 6 to 8: what the model is without a channel, where two masks part, and what that costs."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from wanda_core.assets import BUILTIN_EVALUATION
from wanda_core.errors import InputError
from wanda_core.evaluation.generation import Generated, generate
from wanda_core.evaluation.perplexity import perplexity_steps
from wanda_core.explain.mask_comparison import protection, two_masks
from wanda_core.maths import scores
from wanda_core.model.language_model import LanguageModel
from wanda_core.outliers.ablation import Ablation, ablated, channel_means_steps, random_channels
from wanda_core.outliers.analysis import Analysis, standing_out
from wanda_core.outliers.features import feature_of
from wanda_core.outliers.interventions import Intervention, changed_steps, interventions_steps
from wanda_core.outliers.readers import unread
from wanda_core.progress import Progress, Steps, inside
from wanda_core.pruning.prune import prune_steps
from wanda_core.recipe import PruneSpec
from wanda_core.report.lesson.plan import (
    CELLS,
    DRAWS,
    LINE_TOKENS,
    PROMPT,
    READERS,
    SPARSITIES,
    SPARSITY,
    TOLD_COLUMNS,
    WINDOWS,
)
from wanda_core.report.lesson.sentences import window
from wanda_core.report.numbers import finite, rounded, significant
from wanda_core.text.files import read_text
from wanda_core.text.windows import Calibration

Json = dict[str, Any]
PLACES = ("first", "others", "all")  # tokens at which a channel is set to zero


def strongest(analysis: Analysis) -> int:
    """Return the channel of the residual stream that rises highest above the median."""
    return standing_out(analysis)[0].channel


def lean_steps(lm: LanguageModel, analysis: Analysis, calibration: Calibration) -> Steps[Json]:
    """Measure what the model is without its strongest channel, and without random ones.

    -> channel, untouched; random: [channel, perplexity with it at zero at every token]; zero: see `without_steps`;
    mean: likewise, with the channel at its mean instead; readers: [channel, perplexity without the weights that read
    it], the strongest first, then the next of the stream and random ones, empty where no linear reads the stream;
    line, line_without: how the lesson's prompt goes on, by the model and without the channel; prompt.
    """
    channel = strongest(analysis)
    means = yield from inside(channel_means_steps(lm, calibration), Progress("recipes", 0, 4, "parts"))
    draws = [drawn for (drawn,) in random_channels((channel,), lm.stream_width, DRAWS, 0)]
    trials = [Intervention("random", partial(ablated, lm, Ablation((drawn,)))) for drawn in draws]
    trials += [
        Intervention("chosen", partial(ablated, lm, Ablation((channel,), value="mean", tokens=place), means))
        for place in PLACES
    ]
    kinds = analysis.features.kinds if analysis.features is not None and lm.one_stream else ()
    read = _read_channels(analysis, draws) if kinds else []
    trials += [Intervention("chosen", partial(unread, lm, each, kinds)) for each in read]
    untouched, *rest = yield from inside(
        _perplexities(lm, [Intervention("untouched"), *trials]), Progress("recipes", 1, 4, "parts")
    )
    zero = yield from inside(without_steps(lm, channel), Progress("recipes", 2, 4, "parts"))
    line = yield from inside(line_steps(lm, PROMPT), Progress("recipes", 3, 4, "parts"))
    off = partial(ablated, lm, Ablation((channel,)))
    line_without = yield from changed_steps(line_steps(lm, PROMPT), off)
    return {
        "channel": channel,
        "untouched": untouched,
        "random": [list(pair) for pair in zip(draws, rest, strict=False)],
        "mean": dict(zip(PLACES, rest[DRAWS:], strict=False)),
        "zero": zero,
        "readers": [list(pair) for pair in zip(read, rest[DRAWS + len(PLACES) :], strict=True)],
        "prompt": PROMPT,
        "line": line,
        "line_without": line_without,
        "windows": WINDOWS,
        "seq_len": window(lm),
    }


def without_steps(lm: LanguageModel, channel: int) -> Steps[Json]:
    """Measure the perplexity with a channel at zero in every block's output: at the first token of a window, at all
    the others, at all. -> by `first`, `others` and `all`. Raises InputError for a model whose blocks read several
    tokens as one."""
    trials = [Intervention("chosen", partial(ablated, lm, Ablation((channel,), tokens=place))) for place in PLACES]
    measured = yield from _perplexities(lm, trials)
    return dict(zip(PLACES, measured, strict=True))


def _read_channels(analysis: Analysis, draws: list[int]) -> list[int]:
    """Choose the channels whose reading weights go: the strongest, the next of the stream, and random ones."""
    strong = [channel.channel for channel in standing_out(analysis, 1 + READERS)][: 1 + READERS]
    return [*strong, *[channel for channel in draws if channel not in strong][:READERS]]


def _perplexities(lm: LanguageModel, trials: list[Intervention]) -> Steps[list[float]]:
    """Measure under each intervention, on the lesson's windows."""
    outcomes = yield from interventions_steps(
        lm, read_text(BUILTIN_EVALUATION), trials, stage="ablation", seq_len=window(lm), windows=WINDOWS
    )
    return [finite(outcome.perplexity.perplexity) for outcome in outcomes]


def masks(lm: LanguageModel, analysis: Analysis, block: int) -> Json:
    """Compare the masks of a block's first linear by magnitude and by Wanda, both within every row.

    -> block, kind; runs: columns from the quietest to the loudest, [share that magnitude cuts, share that Wanda cuts];
    overall, quiet, loud: share of the mask that differs, in all columns, in the first run and in the last; run: columns
    of that; loudest: [column, norm, share that magnitude cuts, share that Wanda cuts]; before: [channel, norm] of what
    enters the normalisation, loudest first, empty where it is not known; spike: the strongest channel, see `_through`;
    weight: see `_telling`; features: of the loudest columns and the spike's, see `feature_of`.
    Raises InputError for a block without such a linear.
    """
    linears = lm.linears[block]
    if not linears:
        raise InputError(f"block {block} has no prunable matrix; choose another block")
    linear = linears[0]
    norms = analysis.profile.norms[linear.name].float().cpu()
    protected = protection(linear.weight, norms, SPARSITY)
    bins = protected.bins
    spike = strongest(analysis)
    reads_stream = lm.one_stream and linear.shape[1] == lm.width
    stream = analysis.stream_norms[block - 1] if block and reads_stream else None
    loudest = [column.index for column in protected.top[:TOLD_COLUMNS]]
    told = [*loudest, spike] if lm.one_stream else loudest  # else no column is that channel
    return {
        "block": block,
        "kind": linear.kind,
        "width": linear.shape[1],
        "rows": linear.shape[0],
        "overall": rounded(protected.parting.overall),
        "quiet": rounded(float(bins.differ[0])),
        "loud": rounded(float(bins.differ[-1])),
        "run": int(bins.starts[-1] - bins.starts[-2]),
        "runs": [[rounded(float(m)), rounded(float(w))] for m, w in zip(bins.magnitude, bins.wanda, strict=True)],
        "loudest": [
            [c.index, significant(c.norm), rounded(c.magnitude), rounded(c.wanda)] for c in protected.top[:TOLD_COLUMNS]
        ],
        "before": [] if stream is None else _loudest(stream),
        "spike": None if stream is None else _through(stream, norms, spike, bool(analysis.massive[:, spike].any())),
        "median": significant(float(norms.median())),
        "weight": _telling(linear.weight.float().cpu(), norms, loudest[0]),
        "features": _features(analysis, linear.kind, list(dict.fromkeys(told))),
    }


def _loudest(norms: Tensor) -> list[list[float]]:
    order = norms.argsort(descending=True, stable=True)[:TOLD_COLUMNS].tolist()
    return [[channel, significant(float(norms[channel]))] for channel in order]


def _through(before: Tensor, after: Tensor, channel: int, massive: bool) -> Json:
    """Follow a channel through the normalisation. before, after: norms (D,); massive: whether it is a massive
    activation in any block. -> channel; its norm before and after; its rank after, from 1; massive."""
    return {
        "channel": channel,
        "before": significant(float(before[channel])),
        "after": significant(float(after[channel])),
        "rank": 1 + int((after > after[channel]).sum()),
        "massive": massive,
    }


def _telling(W: Tensor, X_norm: Tensor, column: int) -> Json | None:
    """Find the weight that reads a column and gains most ranks in its row by the score, of those that magnitude cuts
    and Wanda keeps. W (C_out, C_in), X_norm (C_in,). None where there is none."""
    by_size, by_score = two_masks(W, X_norm, SPARSITY)
    rows = torch.nonzero(by_size[:, column] & ~by_score[:, column]).flatten()
    if not len(rows):
        return None
    S = scores.wanda(W, X_norm)
    size = 1 + (W[rows].abs() > W[rows, column].abs()[:, None]).sum(dim=1)
    score = 1 + (S[rows] > S[rows, column][:, None]).sum(dim=1)
    place = int((size - score).argmax())
    row = int(rows[place])
    return {
        "row": row,
        "column": column,
        "weight": significant(float(W[row, column])),
        "norm": significant(float(X_norm[column])),
        "score": significant(float(S[row, column])),
        "by_size": int(size[place]),
        "by_score": int(score[place]),
        "columns": W.shape[1],
    }


def _features(analysis: Analysis, kind: str, columns: list[int]) -> list[Json]:
    """Tell of columns how far they come by the definition of an outlier feature."""
    told = []
    for column in columns:
        feature = None if analysis.features is None else feature_of(analysis.features, kind, column)
        if feature is not None:
            told.append(
                {
                    "channel": column,
                    "meets": feature.meets,
                    "layers": rounded(feature.layer_share),
                    "positions": rounded(feature.position_share),
                }
            )
    return told


def price_steps(lm: LanguageModel, analysis: Analysis) -> Steps[Json]:
    """Measure what both methods cost: perplexity along the sparsities, each within its published group, and at
    SPARSITY each within a matrix and within a row.

    -> dense; along: {method: [[sparsity, perplexity], …]}; cells: [method, group, perplexity]; answers: see
    `answers_steps`, to the lesson's prompt.
    """
    text = read_text(BUILTIN_EVALUATION)
    usual = {method: str(PruneSpec(method, SPARSITY, order="one-shot").group) for method, _ in CELLS}
    plans = [(method, usual[method], share) for share in SPARSITIES for method in usual]
    plans += [(method, group, SPARSITY) for method, group in CELLS if group != usual[method]]
    found: dict[tuple[str, str, float], float] = {}
    for number, (method, group, share) in enumerate(plans):
        place = Progress("recipes", number, len(plans) + 2, "settings")
        variant = yield from inside(_variant(lm, analysis, method, group, share), place)
        measuring = perplexity_steps(variant, text, seq_len=window(lm), windows=WINDOWS)
        measured = yield from inside(measuring, place)
        found[method, group, share] = finite(measured.perplexity)
    place = Progress("recipes", len(plans), len(plans) + 2, "settings")
    dense = yield from inside(perplexity_steps(lm, text, seq_len=window(lm), windows=WINDOWS), place)
    answers = yield from answers_steps(lm, analysis, PROMPT, LINE_TOKENS)
    return {
        "dense": finite(dense.perplexity),
        "along": {
            method: [[share, found[method, group, share]] for share in SPARSITIES] for method, group in usual.items()
        },
        "cells": [[method, group, found[method, group, SPARSITY]] for method, group in CELLS],
        "answers": answers,
        "windows": WINDOWS,
        "seq_len": window(lm),
    }


def answers_steps(
    lm: LanguageModel, analysis: Analysis, prompt: str, tokens: int, cells: Sequence[tuple[str, str]] = CELLS
) -> Steps[Json]:
    """Let the model go on with a prompt, dense and pruned at SPARSITY. cells: methods, and within what each compares.

    -> prompt; cells; lines: the dense model's first, then one for each cell.
    """
    lines = []
    for number, cell in enumerate((None, *cells)):
        place = Progress("recipes", number, len(cells) + 1, "settings")
        variant = lm
        if cell is not None:
            making = _variant(lm, analysis, *cell, SPARSITY)
            variant = yield from inside(making, place)
        lines.append((yield from inside(line_steps(variant, prompt, tokens), place)))
    return {"prompt": prompt, "cells": [list(cell) for cell in cells], "lines": lines}


def _variant(lm: LanguageModel, analysis: Analysis, method: str, group: str, share: float) -> Steps[LanguageModel]:
    """Prune by the dense model's norms."""
    spec = PruneSpec(method, share, order="one-shot", group=group)
    return (yield from prune_steps(lm, spec, None, analysis.profile)).lm


def line_steps(lm: LanguageModel, prompt: str, tokens: int = LINE_TOKENS) -> Steps[str]:
    """Let a model go on with a prompt by its likeliest tokens. -> what it adds, on one line."""
    stream: Iterator[Generated] = generate(lm, prompt, max_new_tokens=tokens)
    text = ""
    try:
        for answer in stream:
            text = answer.text
            yield Progress("line", len(answer.tokens), tokens, "tokens")
    finally:
        stream.close()  # type: ignore[attr-defined]
    return " ".join(text.split())
