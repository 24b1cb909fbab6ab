"""Steps 6 to 8: without the channel, through the normalisation to the mask, and what it costs."""

from collections.abc import Mapping
from html import escape
from typing import Any

from wanda_ui.language import Say
from wanda_ui.lesson.figures.bars import Bar, bars
from wanda_ui.lesson.figures.svg import Drawing, Scale, legend, log_scale, powers
from wanda_ui.lesson.wording import number, times

Json = Mapping[str, Any]
LEFT, RIGHT = 50, 434


def without(data: Json, own: Json | None, say: Say) -> str:
    """Draw the perplexity untouched, without random channels, and without the strongest: where, everywhere, as its
    mean; and without the weights that read it."""
    channel = data["channel"]
    entries = [Bar(say("lesson.untouched"), data["untouched"], "dense")]
    entries += [Bar(say("lesson.ablate.random"), max(p for _, p in data["random"]), "other")]
    entries += [Bar(say("lesson.ablate.mean", channel=channel), data["mean"]["first"], "wanda")]
    entries += [
        Bar(say(f"lesson.ablate.{place}", channel=channel), data["zero"][place], "wanda")
        for place in ("first", "others", "all")
    ]
    if own is not None:
        entries += [Bar(say("lesson.ablate.own", channel=own["channel"]), own["zero"]["all"], "wanda")]
    read = [Bar(say("lesson.untouched"), data["untouched"], "dense")]
    read += [
        Bar(say("lesson.channel", channel=each), perplexity, "other" if place else "wanda")
        for place, (each, perplexity) in enumerate(data["readers"])
    ]
    caption = say("lesson.ablate.caption", windows=data["windows"], seq_len=data["seq_len"])
    parts = [bars(entries, caption, log=True, beside=read)]
    if data["readers"]:
        parts.append(bars(read, say("lesson.ablate.readers"), log=True, beside=entries))
    return "".join(parts)


def spoken(data: Json, say: Say) -> str:
    """Write how the model goes on, with the channel and without."""
    pairs = (
        ("wanda-dense", "lesson.ablate.says", data["line"]),
        ("wanda-cut", "lesson.ablate.says_without", data["line_without"]),
    )
    rows = "".join(
        f"<p class='wl-said {style}'><b>{escape(say(key, channel=data['channel']))}</b> "
        f"<q><i>{escape(data['prompt'])}</i> {escape(line)}</q></p>"
        for style, key, line in pairs
    )
    return f"<div class='wl-says'>{rows}</div>"


def norms(data: Json, say: Say) -> str:
    """Draw the loudest columns before the normalisation and after it, the spike among them."""
    if not data["before"]:
        return ""
    spike = data["spike"]
    after = [[channel, norm] for channel, norm, *_ in data["loudest"]]
    if spike["channel"] not in [channel for channel, _ in after]:
        after[-1] = [spike["channel"], spike["after"]]
    panels = [
        bars(
            [Bar(str(channel), norm, "wanda" if channel == spike["channel"] else "dense") for channel, norm in entries],
            say(f"lesson.masks.{name}", block=data["block"], kind=data["kind"]),
        )
        for name, entries in (("before", data["before"]), ("after", after))
    ]
    return f"<div class='wl-pair'>{''.join(panels)}</div>"


def protection(data: Json, say: Say) -> str:
    """Draw columns from the quietest to the loudest: the share of their weights that either method removes."""
    drawing = Drawing(226, say("lesson.masks.picture"))
    x, y = Scale(0, 1, LEFT, RIGHT), Scale(0, 1, 180, 12)
    for share in (0, 0.25, 0.5, 0.75, 1):
        drawing.line([(LEFT, y(share)), (RIGHT, y(share))], "wl-grid")
        drawing.text(LEFT - 6, y(share) + 4, f"{share:.0%}", "wl-small", "end")
    count = len(data["runs"])
    for place, style in ((0, "wl-line-other"), (1, "wl-line-wanda")):
        drawing.line([(x((n + 0.5) / count), y(run[place])) for n, run in enumerate(data["runs"])], style)
    for words, at, anchor in (("quiet", LEFT, "start"), ("loud", RIGHT, "end")):
        drawing.text(at, 196, say(f"lesson.masks.{words}"), "wl-small", anchor)
    drawing.text((LEFT + RIGHT) / 2, 214, say("lesson.axis.loudness"), "wl-small", "middle")
    entries = [("wl-line-other", say("lesson.masks.cut_magnitude")), ("wl-line-wanda", say("lesson.masks.cut_wanda"))]
    return f"<figure>{legend(entries)}{drawing.html()}</figure>"


def grid(data: Json, say: Say) -> str:
    """Write the four perplexities as a table of two by two, with what each way changes."""
    cells = {(method, group): perplexity for method, group, perplexity in data["cells"]}
    groups, methods = ("matrix", "row"), ("magnitude", "wanda")
    head = "".join(f"<th scope='col'>{escape(say(f'lesson.cost.{name}'))}</th>" for name in (*groups, "gain_row"))
    rows = "".join(
        f"<tr><th scope='row'>{escape(say(f'lesson.cost.{method}'))}</th>"
        + "".join(f"<td class='wl-cell-{method}'>{number(cells[method, group])}</td>" for group in groups)
        + f"<td class='wl-factor'>÷ {times(cells[method, 'matrix'] / cells[method, 'row'])}</td></tr>"
        for method in methods
    )
    foot = "".join(
        f"<td class='wl-factor'>÷ {times(cells['magnitude', group] / cells['wanda', group])}</td>" for group in groups
    )
    windows = {name: data[name] for name in ("windows", "seq_len")}
    caption = say("lesson.cost.grid", dense=number(data["dense"]), **windows)
    return (
        f"<figure class='wl-grid4'><table><thead><tr><td></td>{head}</tr></thead><tbody>{rows}"
        f"<tr><th scope='row'>{escape(say('lesson.cost.gain_norm'))}</th>{foot}<td></td></tr></tbody></table>"
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def price_lines(data: Json, say: Say) -> str:
    """Draw perplexity over the share of zeros on a log axis, from the dense model on."""
    along, dense = data["along"], data["dense"]
    values = [dense, *(perplexity for points in along.values() for _, perplexity in points)]
    drawing = Drawing(212, say("lesson.cost.picture"))
    last = max(share for points in along.values() for share, _ in points)
    x, y = Scale(0, last, LEFT + 10, RIGHT - 14), log_scale(values, 168, 12)
    for power in powers(y):
        drawing.line([(LEFT, y(power)), (RIGHT, y(power))], "wl-grid")
        drawing.text(LEFT - 6, y(power) + 4, f"{power:,.0f}", "wl-small", "end")
    for method, style in (("magnitude", "other"), ("wanda", "wanda")):
        points = [(0.0, dense), *((share, perplexity) for share, perplexity in along[method])]
        drawing.line([(x(share), y(perplexity)) for share, perplexity in points], f"wl-line-{style}")
        for share, perplexity in points[1:]:
            drawing.dot(x(share), y(perplexity), f"wl-dot-{style}", f"{share:.0%}: {number(perplexity)}")
    drawing.dot(x(0), y(dense), "wl-dot-dense", number(dense), 4)
    for share in (0.0, *(share for share, _ in along["wanda"])):
        drawing.text(x(share), 184, f"{share:.0%}", "wl-small", "middle")
    drawing.text((LEFT + RIGHT) / 2, 202, say("lesson.axis.sparsity"), "wl-small", "middle")
    entries = [("wl-line-other", say("lesson.cost.magnitude")), ("wl-line-wanda", say("lesson.cost.wanda"))]
    caption = escape(say("lesson.axis.perplexity_log"))
    return f"<figure class='wl-curve'>{legend(entries)}{drawing.html()}<figcaption>{caption}</figcaption></figure>"


def answers(data: Json, own: Json | None, say: Say) -> str:
    """Write how the dense model and the pruned ones go on, a row each."""
    told = own if own is not None else data["answers"]
    costs = {(method, group): perplexity for method, group, perplexity in data["cells"]}
    names = [("dense", say("lesson.cost.dense"), data["dense"])]
    names += [
        (method, f"{say(f'lesson.cost.{method}')}, {say(f'lesson.cost.{group}')}", costs[method, group])
        for method, group in told["cells"]
    ]
    rows = "".join(
        f"<tr class='wl-row-{kind}'><th scope='row'>{escape(words)}<i>{number(perplexity)}</i></th>"
        f"<td><i>{escape(told['prompt'])}</i> {escape(line)}</td></tr>"
        for (kind, words, perplexity), line in zip(names, told["lines"], strict=True)
    )
    title = escape(say("lesson.cost.rows"))
    return f"<figure class='wl-answers'><figcaption>{title}</figcaption><table><tbody>{rows}</tbody></table></figure>"
