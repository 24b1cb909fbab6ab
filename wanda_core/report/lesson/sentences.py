"""Steps 3 to 5: the spike in a sentence, where it comes from, and where attention parks."""

from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from wanda_core.assets import BUILTIN_EVALUATION
from wanda_core.model.language_model import LanguageModel
from wanda_core.outliers.ablation import Ablation, ablated
from wanda_core.outliers.interventions import Intervention, interventions_steps
from wanda_core.outliers.massive import massive, top_and_median, top_channels
from wanda_core.outliers.sentence import Sentence, attention_to_first, read_sentence_steps
from wanda_core.outliers.sinks import sink_report
from wanda_core.outliers.super_weight import random_places, super_weights_steps, zeroed
from wanda_core.progress import Progress, Steps, inside
from wanda_core.report.lesson.plan import COMPARED, DRAWS, MAP_CHANNELS, MAP_TOKENS, SENTENCE, SEQ_LEN, WINDOWS
from wanda_core.report.numbers import finite, rounded, significant
from wanda_core.text.files import read_text

Json = dict[str, Any]


def meet_steps(lm: LanguageModel, text: str) -> Steps[Json]:
    """Read a sentence: how far its largest activation is above the median of that block, and where it sits.

    -> sentence, tokens; block, token, channel, value, median, ratio: of the largest against its median; width, blocks:
    of the model; massive: channels that meet the definition, massive_blocks: in how many blocks; elsewhere: the
    channel's largest |x| at the other tokens of that block, None where there is none; next: the largest |x| of the
    channels that are not massive; strongest: [channel, |x|]; map: see `token_map`.
    """
    sentence = yield from read_sentence_steps(lm, text)
    block, token, channel = largest(sentence)
    hidden = sentence.hidden[block].abs()  # (L, S)
    median, value = float(top_and_median(sentence.hidden)[1][block]), float(sentence.hidden[block, token, channel])
    massives = massive(sentence.hidden)
    channels = sorted({activation.channel for activation in massives})
    peaks = hidden.amax(dim=0)  # (S,)
    rest = peaks.clone()
    rest[channels or [channel]] = 0
    others = torch.cat([hidden[:token, channel], hidden[token + 1 :, channel]])
    return {
        "sentence": text,
        "tokens": list(sentence.tokens),
        "block": block,
        "token": token,
        "channel": channel,
        "value": significant(value),
        "median": significant(median),
        "ratio": significant(abs(value) / max(median, 1e-12)),
        "width": sentence.hidden.shape[2],
        "blocks": len(sentence.hidden),
        "massive": channels,
        "massive_blocks": len({activation.block for activation in massives}),
        "elsewhere": significant(float(others.max())) if len(others) else None,
        "next": significant(float(rest.max())),
        "strongest": [
            [strong, significant(float(peaks[strong]))] for strong in top_channels(sentence.hidden[block], 8)
        ],
        "map": token_map(hidden, channel),
    }


def token_map(hidden: Tensor, channel: int) -> Json:
    """Make a picture of one block's |x|, tokens by channels, of so many cells that each can be seen.

    hidden: |x| (L, D). -> rows: of the first tokens, for every run of neighbouring channels log10 of the largest |x|;
    starts: first channel of every run, and D; at: the run that holds the channel.
    """
    width = hidden.shape[1]
    runs = min(MAP_CHANNELS, width)
    starts = [run * width // runs for run in range(runs + 1)]
    sizes = [end - start for start, end in pairwise(starts)]
    cells = torch.stack([part.amax(dim=1) for part in hidden[:MAP_TOKENS].split(sizes, dim=1)], dim=1)
    rows = cells.clamp_min(1e-6).log10()
    return {
        "rows": [[rounded(value, 2) for value in row] for row in rows.tolist()],
        "starts": starts,
        "at": next(run for run in range(runs) if starts[run] <= channel < starts[run + 1]),
    }


def change_steps(lm: LanguageModel, text: str) -> Steps[Json]:
    """Read a sentence for its channels, at the block where the lesson's first sentence has its spike.

    -> sentence; block, width; strongest: the COMPARED strongest channels; peaks: [channel, largest |x|] of these;
    map: of all channels, see `token_map`, tokens together; weight: see `_weight`, None where there is none.
    """
    first = yield from inside(read_sentence_steps(lm, SENTENCE), Progress("line", 0, 3, "parts"))
    sentence = first
    if text != SENTENCE:
        sentence = yield from inside(read_sentence_steps(lm, text), Progress("line", 1, 3, "parts"))
    found = yield from inside(super_weights_steps(lm, text), Progress("line", 2, 3, "parts"))
    block, _, channel = largest(first)
    hidden = sentence.hidden[block].abs()
    peaks = hidden.amax(dim=0)
    strongest = top_channels(sentence.hidden[block], COMPARED)
    return {
        "sentence": text,
        "block": block,
        "width": hidden.shape[1],
        "strongest": strongest,
        "peaks": [[strong, significant(float(peaks[strong]))] for strong in strongest],
        "map": token_map(peaks[None], channel),
        "weight": _weight(found[0]) if found else None,
    }


def _weight(weight: Any) -> Json:
    """Put a weight down that makes a spike: its place, and what share of the spike its term is."""
    return {
        "block": weight.block,
        "linear": weight.linear,
        "kind": weight.kind,
        "row": weight.row,
        "column": weight.column,
        "weight": significant(weight.weight),
        "input": significant(weight.input),
        "spike": significant(weight.spike),
        "share": rounded(weight.share),
        "ratio": significant(weight.ratio),
    }


def source_steps(lm: LanguageModel) -> Steps[Json]:
    """Find the weight behind the first sentence's spike, and take it away, and random weights of its matrix.

    -> first: as of `change_steps`; untouched, zeroed: perplexities, None where there is no such weight; random: others.
    """
    first = yield from inside(change_steps(lm, SENTENCE), Progress("recipes", 0, 2, "parts"))
    weight, name = first["weight"], ""
    places: list[tuple[int, int]] = []
    if weight is not None:
        name, chosen = weight["linear"], (weight["row"], weight["column"])
        linear = lm.linear(name)
        assert linear is not None  # it was found there
        places = [chosen, *random_places(linear.shape, chosen, DRAWS, 0)]
    trials = [Intervention("untouched")]
    trials += [
        Intervention("chosen" if not n else "random", partial(zeroed, lm, name, *p)) for n, p in enumerate(places)
    ]
    measuring = interventions_steps(
        lm, read_text(BUILTIN_EVALUATION), trials, stage="super-weight", seq_len=window(lm), windows=WINDOWS
    )
    outcomes = yield from inside(measuring, Progress("recipes", 1, 2, "parts"))
    values = [finite(outcome.perplexity.perplexity) for outcome in outcomes]
    return {
        "first": first,
        "untouched": values[0],
        "zeroed": values[1] if len(values) > 1 else None,
        "random": values[2:],
    }


def sinks_steps(lm: LanguageModel, text: str) -> Steps[Json]:
    """Measure how much attention the later tokens of a sentence give to the first, with its spike and without.

    -> sentence, tokens; shares: of every block, None without attention; sizes: the largest |x| of the first token that
    enters the block, None of block 0; even: what an even share would be; block: where the share is largest; heads: the
    shares of its heads; channel: the first token's largest channel there; carried: whether that is a massive
    activation; without: shares of every block with this channel at zero at the first token; correlation: of share and
    log10 of the size.
    """
    sentence = yield from inside(read_sentence_steps(lm, text), Progress("line", 0, 2, "parts"))
    report = sink_report(sentence)
    shares = report.per_block.nan_to_num(0.0)
    block = int(shares.argmax())
    entering = sentence.hidden[max(block - 1, 0), 0].abs()
    channel = int(entering.argmax())
    off = partial(ablated, lm, Ablation((channel,), tokens="first"))
    yield Progress("line", 1, 2, "parts")
    without = attention_to_first(lm, text, off).nanmean(dim=1)
    return {
        "sentence": text,
        "tokens": list(sentence.tokens),
        "shares": _maybe(report.per_block),
        "sizes": [None if value != value else significant(value) for value in report.entering.tolist()],
        "even": rounded(float((1 / torch.arange(2, len(sentence.tokens) + 1, dtype=torch.float32)).mean())),
        "block": block,
        "heads": _maybe(report.to_first[block]),
        "channel": channel,
        "carried": any(place.token == 0 and place.block == block - 1 for place in massive(sentence.hidden)),
        "without": _maybe(without),
        "correlation": None if report.correlation is None else rounded(report.correlation),
    }


def largest(sentence: Sentence) -> tuple[int, int, int]:
    """Return block, token and channel of the value that is the largest multiple of its block's median."""
    top, median = top_and_median(sentence.hidden)
    block = int((top[:, 0] / median.clamp_min(1e-12)).argmax())
    token, channel = divmod(int(sentence.hidden[block].abs().argmax()), sentence.hidden.shape[2])
    return block, token, channel


def window(lm: LanguageModel) -> int:
    """Return the tokens of a window that the model can read."""
    return SEQ_LEN if lm.longest is None else min(SEQ_LEN, lm.longest)


def _maybe(values: Tensor) -> list[float | None]:
    """Round shares (N,), None for NaN."""
    return [None if value != value else rounded(value) for value in values.tolist()]
