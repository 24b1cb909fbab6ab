"""Steps 6 to 8 in words: without the channel, where two masks part, and what that costs."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from wanda_core.outliers.verdict import Verdict, harms, verdict
from wanda_core.progress import Steps
from wanda_core.report.lesson.plan import SPARSITY
from wanda_ui.language import Say
from wanda_ui.lesson import measured
from wanda_ui.lesson.answers import Answer, Asked
from wanda_ui.lesson.figures import consequences as figures
from wanda_ui.lesson.measured import Told
from wanda_ui.lesson.wording import number
from wanda_ui.lesson.wording import times as times_of
from wanda_ui.lesson.wording import weight as weight_of

PARTS = 1.5  # how many times as often masks differ at one end of the columns before "there" is said
# The guess that a verdict on the strongest channel and random ones bears out; none fits where only random ones harm.
RIGHT: dict[Verdict, tuple[str, ...]] = {"these": ("one",), "any": ("all",), "others": (), "harmless": ("none",)}
RATIOS = ((0.8, "worse"), (1.5, "same"), (4.0, "few"))  # magnitude's perplexity as a multiple of Wanda's


def ablate(asked: Asked, channel: object) -> Steps[Answer]:
    """Step 6: the strongest channel set to zero, somewhere and everywhere, against random ones."""
    return ablated((yield from measured.ablate_steps(asked, channel)), asked.say)


def ablated(told: Told, say: Say) -> Answer:
    """Word step 6. The guess is about the strongest channel and about any, whichever channel was chosen."""
    data, own = told.data, told.own
    untouched, zero = data["untouched"], data["zero"]
    random = [perplexity for _, perplexity in data["random"]]
    times = {place: zero[place] / untouched for place in zero}
    hurts, others = harms(untouched, zero["all"]), harms(untouched, max(random))
    right = RIGHT[verdict(untouched, zero["all"], random)]
    values = {"channel": data["channel"], "untouched": number(untouched), "chosen": number(zero["all"])}
    values |= {"times": number(times["all"]), "low": number(min(random)), "high": number(max(random))}
    places = {name: number(zero[name]) for name in zero} | {f"{name}_times": times_of(times[name]) for name in zero}
    why = []
    if own is not None:
        mine = own["zero"]["all"] / untouched
        key = "own_hurts" if harms(untouched, own["zero"]["all"]) else "own_none"
        why.append(
            say(f"lesson.ablate.{key}", channel=own["channel"], chosen=number(own["zero"]["all"]), times=times_of(mine))
        )
    why.append(say("lesson.ablate.why_places" if hurts else "lesson.ablate.why_places_none", **values, **places))
    if hurts and zero["others"] > zero["first"]:
        why.append(say("lesson.ablate.why_counts", seq_len=data["seq_len"], rest=data["seq_len"] - 1))
    why.append(say("lesson.ablate.why_random_hurt" if others else "lesson.ablate.why_random", **values))
    why.append(_meaning(data, say))
    why += _reading(data, say)
    finding = say("lesson.ablate.finding" if hurts else "lesson.ablate.finding_none", **values)
    picture = figures.without(data, own, say) + figures.spoken(data, say)
    numbers: dict[str, float | int | str] = {"channel": data["channel"], "untouched": untouched}
    numbers |= {f"zero_{place}": perplexity for place, perplexity in zero.items()}
    numbers |= {f"mean_{place}": perplexity for place, perplexity in data["mean"].items()}
    numbers |= {f"random_{each}": perplexity for each, perplexity in data["random"]}
    numbers |= {f"unread_{each}": perplexity for each, perplexity in data["readers"]}
    if own is not None:
        numbers |= {"own_channel": own["channel"], "own_channel_zero": own["zero"]["all"]}
    return Answer(right, finding, tuple(why), picture, numbers, _ablation_table(data, own, say), data, own, told.date)


def _meaning(data: Mapping[str, Any], say: Say) -> str:
    """Say what the channel at its mean costs, where the spike stands: whether its value carries news."""
    first = {name: data[name]["first"] / data["untouched"] for name in ("zero", "mean")}
    hurts = [harms(data["untouched"], data[name]["first"]) for name in ("zero", "mean")]
    key = "why_mean_none" if not hurts[0] else "why_mean_hurts" if hurts[1] else "why_mean"
    places = {name: number(data["mean"][name]) for name in ("first", "others")}
    times = times_of(data["mean"]["others"] / data["untouched"])
    shown = {"channel": data["channel"], "first_times": times_of(first["mean"], 2), "others_times": times}
    return say(f"lesson.ablate.{key}", **places, **shown)


def _reading(data: Mapping[str, Any], say: Say) -> list[str]:
    """Say what the weights that read a channel are worth: the strongest's, then the others', by whether they harm."""
    if not data["readers"]:
        return []
    untouched = data["untouched"]
    (channel, perplexity), *rest = data["readers"]
    key = "why_readers" if harms(untouched, perplexity) else "why_readers_none"
    told = [say(f"lesson.ablate.{key}", channel=channel, chosen=number(perplexity), untouched=number(untouched))]
    for key, harmful in (("readers_also", True), ("readers_rest", False)):
        listed = [f"{each} ({number(value)})" for each, value in rest if harms(untouched, value) == harmful]
        if listed:
            told.append(say(f"lesson.ablate.{key}", listed=", ".join(listed)))
    return [" ".join(told)]


def _ablation_table(data: Mapping[str, Any], own: Mapping[str, Any] | None, say: Say) -> pd.DataFrame:
    rows = [[say("lesson.untouched"), "", number(data["untouched"])]]
    rows += [[say("lesson.ablate.one_random"), str(each), number(value)] for each, value in data["random"]]
    for side in (data, own):
        if side is not None:
            rows += [
                [say(f"lesson.ablate.at_{place}"), str(side["channel"]), number(value)]
                for place, value in side["zero"].items()
            ]
    rows += [
        [say(f"lesson.ablate.mean_{place}"), str(data["channel"]), number(value)]
        for place, value in data["mean"].items()
    ]
    rows += [[say("lesson.ablate.unread"), str(each), number(value)] for each, value in data["readers"]]
    return pd.DataFrame(rows, columns=[say(f"lesson.column.{name}") for name in ("what", "channel", "perplexity")])


def masks(asked: Asked, block: object) -> Steps[Answer]:
    """Step 7: through the normalisation to the norms, the score and the mask."""
    return masked((yield from measured.masks_steps(asked, block)), asked.say)


def masked(told: Told, say: Say) -> Answer:
    """Word step 7."""
    data = told.data
    overall, spike = data["overall"], data["spike"]
    end = "large" if data["loud"] >= data["quiet"] else "small"
    right = end if max(data["loud"], data["quiet"]) > PARTS * overall else "even"
    values = {name: data[name] for name in ("kind", "block", "overall", "quiet", "loud", "run", "width")}
    cut = {"magnitude": data["runs"][-1][0], "wanda": data["runs"][-1][1]}
    quiet = {"magnitude_quiet": data["runs"][0][0], "wanda_quiet": data["runs"][0][1]}
    loudest, norm = data["loudest"][0][0], number(data["loudest"][0][1])
    why = [say(f"lesson.masks.why_{right}", **values, **cut, **quiet)]
    if spike is not None:
        shown = {"channel": spike["channel"], "before": number(spike["before"]), "after": number(spike["after"])}
        root = number(data["width"] ** 0.5)
        key = "why_norm_same" if loudest == spike["channel"] else "why_norm"
        why.append(
            say(
                f"lesson.masks.{key}",
                **shown,
                rank=spike["rank"],
                loudest=loudest,
                norm=norm,
                root=root,
                width=data["width"],
            )
        )
    weight = data["weight"]
    if weight is not None:
        shown = {name: weight[name] for name in ("row", "column", "by_size", "by_score", "columns")}
        shown |= {"weight": weight_of(weight["weight"]), "norm": number(weight["norm"])}
        why.append(say("lesson.masks.why_weight", **shown))
    why += _features(data, say)
    table = pd.DataFrame(
        [[c, number(n), f"{magnitude:.0%}", f"{wanda:.0%}"] for c, n, magnitude, wanda in data["loudest"]],
        columns=[say(f"lesson.column.{name}") for name in ("column", "norm", "cut_magnitude", "cut_wanda")],
    )
    picture = figures.norms(data, say) + figures.protection(data, say)
    numbers: dict[str, float | int | str] = {"linear": data["kind"], "block": data["block"], "differ_overall": overall}
    numbers |= {"differ_loudest_columns": data["loud"], "differ_quietest_columns": data["quiet"]}
    numbers |= {"loudest_column": loudest, **cut}
    finding = say("lesson.masks.finding", **values)
    return Answer((right,), finding, tuple(why), picture, numbers, table, data, date=told.date)


def _features(data: Mapping[str, Any], say: Say) -> list[str]:
    """Say which of the loudest channels are outlier features by the definition, and what its authors found."""
    if not data["features"]:
        return []
    meeting = [str(feature["channel"]) for feature in data["features"] if feature["meets"]]
    key = "feature" if meeting else "feature_none"
    listed = ", ".join(meeting or [str(feature["channel"]) for feature in data["features"]])
    return [say(f"lesson.masks.{key}", channels=listed), _apart(data, say), say("lesson.masks.paper")]


def _apart(data: Mapping[str, Any], say: Say) -> str:
    """Tell an outlier feature from a massive activation, by this model's own where it has one of each."""
    told_of = {feature["channel"]: feature for feature in data["features"]}
    meeting = [feature["channel"] for feature in data["features"] if feature["meets"]]
    told, spike = say("lesson.masks.apart"), data["spike"]
    if spike is None or not spike["massive"] or not meeting or spike["channel"] in meeting:
        return told
    often, many = (
        ", ".join(f"{told_of[channel][name]:.0%}" for channel in meeting) for name in ("positions", "layers")
    )
    rare = told_of[spike["channel"]]
    shown = {"spike": spike["channel"], "rare": f"{rare['positions']:.2%}", "few": f"{rare['layers']:.0%}"}
    shown |= {"often": often, "many": many}
    return f"{told} {say('lesson.masks.apart_here', channels=', '.join(map(str, meeting)), **shown)}"


def cost(asked: Asked, prompt: object) -> Steps[Answer]:
    """Step 8: perplexity of both methods within a matrix and within a row, and how each then goes on."""
    return priced((yield from measured.cost_steps(asked, prompt)), asked.say)


def priced(told: Told, say: Say) -> Answer:
    """Word step 8."""
    data = told.data
    cells = {(method, group): perplexity for method, group, perplexity in data["cells"]}
    usual = {"magnitude": cells["magnitude", "matrix"], "wanda": cells["wanda", "row"]}  # as published
    ratio = usual["magnitude"] / usual["wanda"]
    norm = [cells["magnitude", group] / cells["wanda", group] for group in ("matrix", "row")]
    row = [cells[method, "matrix"] / cells[method, "row"] for method in ("magnitude", "wanda")]
    values = {"sparsity": SPARSITY, "dense": number(data["dense"]), "ratio": times_of(ratio)}
    values |= {method: number(perplexity) for method, perplexity in usual.items()}
    factors = {"norm_low": times_of(min(norm)), "norm_high": times_of(max(norm))}
    factors |= {"row_low": times_of(min(row)), "row_high": times_of(max(row))}
    right = next((name for most, name in RATIOS if ratio < most), "many")
    why = [say("lesson.cost.why" if ratio > RATIOS[1][0] else "lesson.cost.why_none", **values)]
    why.append(say("lesson.cost.why_grid", **factors))
    why.append(say("lesson.cost.why_measure" if min(row) > 1 else "lesson.cost.why_measure_not"))
    why.append(say("lesson.cost.why_group"))
    rows = [["—", say("lesson.cost.dense"), "", number(data["dense"])]]
    usual_group = {"magnitude": "matrix", "wanda": "row"}
    rows += [
        [f"{share:.0%}", say(f"lesson.cost.{method}"), say(f"lesson.cost.{usual_group[method]}"), number(perplexity)]
        for method, points in data["along"].items()
        for share, perplexity in points
    ]
    rows += [
        [f"{SPARSITY:.0%}", say(f"lesson.cost.{method}"), say(f"lesson.cost.{group}"), number(perplexity)]
        for method, group, perplexity in data["cells"]
        if group != usual_group[method]
    ]
    table = pd.DataFrame(
        rows, columns=[say(f"lesson.column.{name}") for name in ("sparsity", "method", "group", "perplexity")]
    )
    numbers: dict[str, float | int | str] = {"perplexity_dense": data["dense"]}
    numbers |= {
        f"perplexity_{method}_{share:.0%}": perplexity
        for method, points in data["along"].items()
        for share, perplexity in points
    }
    numbers |= {f"perplexity_{method}_{group}_{SPARSITY:.0%}": value for (method, group), value in cells.items()}
    picture = figures.grid(data, say) + figures.price_lines(data, say)
    picture += figures.answers(data, told.own, say)
    finding = say("lesson.cost.finding", **values)
    return Answer((right,), finding, tuple(why), picture, numbers, table, data, told.own, told.date)
