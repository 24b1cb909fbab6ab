"""Steps 3 to 5 in words: the spike, where it comes from, and where attention parks."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from wanda_core.outliers.verdict import verdict
from wanda_core.progress import Steps
from wanda_ui.language import Say
from wanda_ui.lesson import measured
from wanda_ui.lesson.answers import Answer, Asked
from wanda_ui.lesson.figures import sentences as figures
from wanda_ui.lesson.measured import Told
from wanda_ui.lesson.wording import number

SIZES = ((30, "ten"), (300, "hundred"), (3_000, "thousand"))  # times the median, up to which a guess holds
SHARES = ((0.15, "little"), (0.45, "third"))  # of attention
ALONE = 10.0  # times a channel's largest value elsewhere, from which on it is said to stand at one token
NEAR = 1.25  # times, within which two attentions are called alike
MOST_NAMED = 8  # channels listed in a sentence


def meet(asked: Asked, text: object) -> Steps[Answer]:
    """Step 3: how far the largest activation of a sentence is above the typical one, and where it sits."""
    return met((yield from measured.meet_steps(asked, text)), asked.say)


def met(told: Told, say: Say) -> Answer:
    """Word step 3."""
    data = told.data
    shown = {name: data[name] for name in ("block", "channel", "width", "blocks")}
    shown |= {name: number(abs(data[name])) for name in ("value", "ratio", "median", "next")}
    shown |= {"token": data["tokens"][data["token"]], "place": data["token"] + 1, "count": data["massive_blocks"]}
    shown["channels"] = ", ".join(map(str, data["massive"][:MOST_NAMED]))
    shown["next_times"] = number(data["next"] / max(data["median"], 1e-12))
    why = [say("lesson.meet.why", **shown)]
    why.append(say("lesson.meet.why_massive" if data["massive"] else "lesson.meet.why_none", **shown))
    if data["elsewhere"] is not None:
        times = abs(data["value"]) / max(data["elsewhere"], 1e-12)
        key = "why_place" if times >= ALONE else "why_places"
        why.append(say(f"lesson.meet.{key}", **shown, elsewhere=number(data["elsewhere"]), times=number(times)))
    table = pd.DataFrame(
        [[channel, number(peak), number(peak / max(data["median"], 1e-12))] for channel, peak in data["strongest"]],
        columns=[say(f"lesson.column.{name}") for name in ("channel", "largest", "ratio")],
    )
    right = next((name for most, name in SIZES if data["ratio"] < most), "more")
    numbers = {name: data[name] for name in ("sentence", "block", "token", "channel", "value", "median")}
    numbers |= {"tokens": len(data["tokens"]), "times_median": data["ratio"]}
    numbers["massive_channels"] = " ".join(map(str, data["massive"]))
    finding = say("lesson.meet.finding", **shown)
    return Answer((right,), finding, tuple(why), figures.token_heatmap(data, say), numbers, table, data, date=told.date)


def change(asked: Asked, text: object) -> Steps[Answer]:
    """Step 4: whether another sentence has the same channels, and which weight makes the spike."""
    return changed((yield from measured.change_steps(asked, text)), asked.say)


def changed(told: Told, say: Say) -> Answer:
    """Word step 4. told.own: of the other sentence."""
    assert told.own is not None  # a step of two sentences
    first, second, base = told.data["first"], told.own, told.data
    shared = [channel for channel in first["strongest"] if channel in second["strongest"]]
    kind = "same" if len(shared) == len(first["strongest"]) else "some" if shared else "others"
    values = {"count": len(shared), "of": len(first["strongest"]), "block": first["block"]}
    lists = {"first": ", ".join(map(str, first["strongest"])), "second": ", ".join(map(str, second["strongest"]))}
    repeated = first["sentence"] == second["sentence"]
    why = [say("lesson.change.why_repeated" if repeated else f"lesson.change.why_{kind}", **values, **lists)]
    picture = figures.two_rows(first, second, say)
    numbers: dict[str, float | int | str] = {"sentence": second["sentence"], **values, **lists}
    weight = second["weight"]
    if weight is not None:
        picture += figures.source(base, weight, say)
        why += _source(base, weight, say)
        numbers |= {f"weight_{name}": weight[name] for name in ("block", "linear", "row", "column", "weight", "share")}
        numbers |= {"perplexity": base["untouched"], "perplexity_without_weight": base["zeroed"]}
    peaks = [dict(side["peaks"]) for side in (first, second)]
    table = pd.DataFrame(
        [
            [channel, *(number(peak[channel]) if channel in peak else "" for peak in peaks)]
            for channel in peaks[0] | peaks[1]
        ],
        columns=[say(f"lesson.column.{name}") for name in ("channel", "first_sentence", "your_sentence")],
    )
    finding = say("lesson.change.finding", **values)
    return Answer((kind,), finding, tuple(why), picture, numbers, table, base, second, told.date)


def _source(base: Mapping[str, Any], weight: Mapping[str, Any], say: Say) -> list[str]:
    """Say where the spike comes from, and whether the model needs the weight that makes it."""
    home = base["first"]["weight"]
    same = all(home[name] == weight[name] for name in ("linear", "row", "column"))
    shown = {name: weight[name] for name in ("block", "row", "column", "share", "kind")}
    shown |= {name: number(abs(weight[name])) for name in ("weight", "input", "spike")}
    shown["first_spike"] = number(abs(home["spike"]))
    told = [say("lesson.change.weight" if same else "lesson.change.weight_other", **shown)]
    times = base["zeroed"] / base["untouched"]
    rest = max(base["random"])
    place = {name: home[name] for name in ("block", "row", "column")}
    needed = verdict(base["untouched"], base["zeroed"], base["random"]) == "these"
    key = "needed" if needed else "not_needed"
    shown = {"untouched": number(base["untouched"]), "zeroed": number(base["zeroed"]), "random": number(rest)}
    told.append(say(f"lesson.change.{key}", **place, **shown, times=number(times)))
    return told


def sinks(asked: Asked, text: object) -> Steps[Answer]:
    """Step 5: how much attention the later tokens give to the first, and what its spike has to do with it."""
    return sunk((yield from measured.sinks_steps(asked, text)), asked.say)


def sunk(told: Told, say: Say) -> Answer:
    """Word step 5."""
    data = told.data
    block, shares, sizes = data["block"], data["shares"], data["sizes"]
    share, even = shares[block] or 0.0, data["even"]
    values = {"block": block, "share": share, "even": even, "token": data["tokens"][0], "channel": data["channel"]}
    values["size"] = "—" if sizes[block] is None else number(sizes[block])
    strong = share > 2 * even
    why = [say("lesson.sinks.why" if strong else "lesson.sinks.why_none", **values), say("lesson.sinks.why_softmax")]
    size = "why_carried" if data["carried"] else "why_plain"
    why.append(say(f"lesson.sinks.{size}", **values))
    tall = tall_blocks(data)
    means = [_mean(values_of, tall) for values_of in (shares, data["without"])]
    falls = means[1] * NEAR < means[0]
    without = {"before": means[0], "after": means[1], "first": tall[0], "last": tall[-1]}
    why.append(say("lesson.sinks.without_falls" if falls else "lesson.sinks.without_same", **values, **without))
    why += _elsewhere(data, tall, say)
    if data["correlation"] is not None:
        why.append(say("lesson.sinks.related", correlation=data["correlation"]))
    table = pd.DataFrame(
        [
            [index, "" if size is None else number(size), _percent(to_first), _percent(off)]
            for index, (size, to_first, off) in enumerate(zip(sizes, shares, data["without"], strict=True))
        ],
        columns=[say(f"lesson.column.{name}") for name in ("block", "first_size", "to_first", "to_first_without")],
    )
    numbers: dict[str, float | int | str] = {"sentence": data["sentence"], "block": block, "share": share}
    numbers |= {"even_share": even, "channel": data["channel"], "share_tall": means[0], "share_without": means[1]}
    if data["correlation"] is not None:
        numbers["correlation_with_log10_size"] = data["correlation"]
    right = next((name for most, name in SHARES if share < most), "most")
    finding = say("lesson.sinks.finding", **values)
    return Answer((right,), finding, tuple(why), figures.sink_lines(data, say), numbers, table, data, date=told.date)


def _elsewhere(data: Mapping[str, Any], tall: list[int], say: Say) -> list[str]:
    """Say what the first token gets in the other blocks, and whether it is a sink there too."""
    others = [block for block, share in enumerate(data["shares"]) if share is not None and block not in tall]
    if not others:
        return []
    before, after = (_mean(values, others) for values in (data["shares"], data["without"]))
    told = say("lesson.sinks.elsewhere", count=len(others), before=before, after=after)
    return [f"{told} {say('lesson.sinks.elsewhere_sink')}" if before > 2 * data["even"] else told]


def tall_blocks(data: Mapping[str, Any]) -> list[int]:
    """List the blocks that read the first token at half of its largest size or more; of its attention is known."""
    most = max((size for size in data["sizes"] if size is not None), default=0.0)
    tall = [n for n, size in enumerate(data["sizes"]) if size is not None and 2 * size >= most]
    known = [block for block in tall if data["shares"][block] is not None]
    return known or [data["block"]]


def _mean(values: list[float | None], blocks: list[int]) -> float:
    return sum(values[block] or 0.0 for block in blocks) / len(blocks)


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.0%}"
