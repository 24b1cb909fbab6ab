"""Steps 3 to 5: the outliers in the reader's own sentence, in another one, and the attention sinks beside them."""

from functools import partial

import pandas as pd
import torch

from wanda_core.errors import InputError
from wanda_core.outliers.massive import massive, top_and_median, top_channels
from wanda_core.outliers.sentence import MAX_SENTENCE_CHARACTERS, MAX_SENTENCE_TOKENS, Sentence, read_sentence_steps
from wanda_core.outliers.sinks import sink_report
from wanda_core.progress import Steps
from wanda_ui.engine.loaded import Loaded
from wanda_ui.lesson import figures
from wanda_ui.lesson.answers import Answer, Asked
from wanda_ui.lesson.plan import SENTENCE
from wanda_ui.markup import number

COMPARED = 3  # strongest channels of either sentence
SIZES = ((30, "ten"), (300, "hundred"), (3_000, "thousand"))  # up to 30 × the median is nearest to ten times, ...
SHARES = ((0.15, "little"), (0.45, "third"))  # of attention


def meet(asked: Asked, text: object) -> Steps[Answer]:
    """Step 3: how far the largest activation of a sentence is above the typical one, and where it sits."""
    sentence = yield from _read(asked, text)
    say = asked.say
    block, token, channel, value, ratio = largest(sentence)
    massives = massive(sentence.hidden)
    channels = sorted({activation.channel for activation in massives})
    shown = {"value": number(abs(value)), "ratio": number(ratio), "block": block, "channel": channel}
    key = "why" if massives else "why_none"
    peaks = sentence.hidden[block].abs().amax(dim=0)  # (D,)
    others = peaks.clone()
    others[channels or [channel]] = 0
    why = say(
        f"lesson.meet.{key}",
        **shown,
        next=number(float(others.max())),
        token=sentence.tokens[token],
        place=token,
        width=sentence.hidden.shape[2],
        channels=", ".join(map(str, channels[:8])),
        count=len({activation.block for activation in massives}),
        blocks=len(sentence.hidden),
    )
    median = float(top_and_median(sentence.hidden)[1][block])
    table = pd.DataFrame(
        [
            [strong, number(float(peaks[strong])), number(float(peaks[strong]) / max(median, 1e-12))]
            for strong in top_channels(sentence.hidden[block], 8)
        ],
        columns=[say(f"lesson.column.{name}") for name in ("channel", "largest", "ratio")],
    )
    right = next((name for most, name in SIZES if ratio < most), "more")
    numbers: dict[str, float | int | str] = {"sentence": sentence.text, "tokens": len(sentence.tokens)}
    numbers |= {"block": block, "token": token, "channel": channel, "value": value, "times_median": ratio}
    numbers["massive_channels"] = " ".join(map(str, channels))
    return Answer(right, say("lesson.meet.finding", **shown), why, figures.spikes(peaks, channel, say), numbers, table)


def change(asked: Asked, text: object) -> Steps[Answer]:
    """Step 4: which channels are strongest in the first sentence and in another, at the same block."""
    say = asked.say
    second = yield from _read(asked, text)
    first = yield from _read(asked, SENTENCE)
    block = largest(first)[0]
    pair = [sentence.hidden[block] for sentence in (first, second)]
    tops = [top_channels(hidden, COMPARED) for hidden in pair]
    shared = [channel for channel in tops[0] if channel in tops[1]]
    peaks = [hidden.abs().amax(dim=0) for hidden in pair]
    listed = list(dict.fromkeys([*tops[0], *tops[1]]))
    table = pd.DataFrame(
        [[channel, *(number(float(peak[channel])) for peak in peaks)] for channel in listed],
        columns=[say(f"lesson.column.{name}") for name in ("channel", "first_sentence", "your_sentence")],
    )
    right = "same" if len(shared) == COMPARED else "some" if shared else "others"
    values = {"count": len(shared), "of": COMPARED, "block": block}
    lists = {"first": ", ".join(map(str, tops[0])), "second": ", ".join(map(str, tops[1]))}
    repeated = first.text == second.text
    return Answer(
        right,
        say("lesson.change.finding", **values),
        say("lesson.change.why_repeated" if repeated else f"lesson.change.why_{right}", **values, **lists),
        figures.two_spikes(peaks[0], peaks[1], listed, say),
        {"sentence": second.text, **values, **lists},
        table,
    )


def sinks(asked: Asked, text: object) -> Steps[Answer]:
    """Step 5: how much attention the later tokens give to the first, beside how large that token is."""
    say = asked.say
    sentence = yield from _read(asked, text)
    if len(sentence.tokens) < 2:
        raise InputError(say("lesson.problem.one_token"))
    report = sink_report(sentence)
    shares = report.per_block.nan_to_num(0.0)
    block = int(shares.argmax())
    share = float(shares[block])
    even = float((1 / torch.arange(2, len(sentence.tokens) + 1)).mean())  # of query t over its t + 1 keys
    entering = float(report.entering[block])
    values = {"block": block, "share": share, "even": even, "token": sentence.tokens[0], "size": number(entering)}
    related = report.correlation if report.correlation is not None else float("nan")
    strong = share > 2 * even
    carried = any(place.token == 0 and place.block == block - 1 for place in massive(sentence.hidden))
    key = "why_none" if not strong else "why" if carried else "why_plain"
    table = pd.DataFrame(
        [
            [index, number(float(size)) if size == size else "", f"{float(to_first):.0%}"]
            for index, (size, to_first) in enumerate(zip(report.entering, shares, strict=True))
        ],
        columns=[say(f"lesson.column.{name}") for name in ("block", "first_size", "to_first")],
    )
    return Answer(
        next((name for most, name in SHARES if share < most), "most"),
        say("lesson.sinks.finding", **values),
        say(f"lesson.sinks.{key}", **values, correlation=related),
        figures.sink_lines(report, even, say),
        {"sentence": sentence.text, "block": block, "share": share, "even_share": even, "correlation": related},
        table,
    )


def largest(sentence: Sentence) -> tuple[int, int, int, float, float]:
    """Return block, token, channel, value and multiple of its block's median, where that multiple is largest."""
    top, median = top_and_median(sentence.hidden)
    block = int((top[:, 0] / median.clamp_min(1e-12)).argmax())
    width = sentence.hidden.shape[2]
    token, channel = divmod(int(sentence.hidden[block].abs().argmax()), width)
    value = float(sentence.hidden[block, token, channel])
    return block, token, channel, value, abs(value) / max(float(median[block]), 1e-12)


def _read(asked: Asked, text: object) -> Steps[Sentence]:
    """Read a sentence by the model; refuse it in the reader's language where that can be known before."""
    given = written(asked, text, MAX_SENTENCE_CHARACTERS)
    loaded = yield from asked.state.model_steps(asked.model)
    tokens = len(loaded.lm.encode(given))
    if tokens > MAX_SENTENCE_TOKENS:
        raise InputError(asked.say("lesson.problem.tokens", given=tokens, most=MAX_SENTENCE_TOKENS))
    return (yield from asked.state.alone_steps(loaded, "sentence", partial(_sentence, text=given)))


def _sentence(loaded: Loaded, text: str) -> Steps[Sentence]:
    """Read a sentence; a measurement for the engine."""
    return read_sentence_steps(loaded.lm, text)


def written(asked: Asked, text: object, most: int) -> str:
    """Check that a text is there and not too long. Raises InputError in the reader's language."""
    if not isinstance(text, str) or not text.strip():
        raise InputError(asked.say("lesson.problem.empty"))
    if len(text) > most:
        raise InputError(asked.say("lesson.problem.long", given=len(text), most=most))
    return text
