"""Steps 1 and 2: two weights, and four ways through a small matrix."""

from collections.abc import Collection, Mapping, Sequence
from html import escape

from torch import Tensor

from wanda_core.explain.toy_example import Choice, TwoWeights
from wanda_ui.language import Say
from wanda_ui.lesson.figures.bars import Bar, bars
from wanda_ui.lesson.wording import weight
from wanda_ui.plot_style import rounded


def two_weights(weights: Sequence[float], example: TwoWeights, say: Say) -> str:
    """Draw both scores of both weights: filled stays, hatched is removed."""
    panels = []
    for name, kind, values, cut in (
        ("by_size", "other", [abs(w) for w in weights], example.magnitude),
        ("by_score", "wanda", list(example.errors), example.wanda),
    ):
        entries = [
            Bar(
                f"w{_low(index + 1)}",
                value,
                kind,
                cut == index,
                f"{value:.1f}" + (f" · {say('lesson.cut')}" if cut == index else ""),
            )
            for index, value in enumerate(values)
        ]
        panels.append(bars(entries, say(f"lesson.two.{name}")))
    return f"<div class='wl-pair'>{''.join(panels)}</div>"


def matrices(W: Tensor, X_norm: Tensor, choices: Mapping[str, Choice], best: Collection[str], say: Say) -> str:
    """Write four small tables as HTML, a table a choice: weights kept and removed, and what each output loses."""
    head = "".join(f"<th scope='col'>x{_low(j + 1)}<i>{norm:g}</i></th>" for j, norm in enumerate(rounded(X_norm, 1)))
    parts = []
    for name, choice in choices.items():
        rows = []
        for i, row in enumerate(W.tolist()):
            cells = "".join(
                f"<td class='wl-{'cut' if cut else 'kept'}'>{f'<s>{weight(value)}</s>' if cut else weight(value)}</td>"
                for value, cut in zip(row, choice.cut[i].tolist(), strict=True)
            )
            lost = float(choice.shares[i])
            rows.append(f"<tr><th scope='row'>y{_low(i + 1)}</th>{cells}<td class='wl-lost'>{lost:.0%}</td></tr>")
        title = escape(say(f"lesson.matrix.guess.{name}"))
        mean = escape(say("lesson.matrix.loses", cost=choice.mean_share, total=choice.error))
        parts.append(
            f"<figure class='wl-matrix{' wl-best' if name in best else ''}'>"
            f"<figcaption><b>{title}</b> <span>{mean}</span></figcaption>"
            f"<table><thead><tr><td></td>{head}<th scope='col'>{escape(say('lesson.matrix.lost'))}</th></tr></thead>"
            f"<tbody>{''.join(rows)}</tbody></table></figure>"
        )
    caption = escape(say("lesson.matrix.caption"))
    return f"<figure><div class='wl-matrices'>{''.join(parts)}</div><figcaption>{caption}</figcaption></figure>"


def _low(number: int) -> str:
    """Write a digit as a subscript."""
    return chr(ord("₀") + number)
