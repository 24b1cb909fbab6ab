"""Small pieces of HTML. Every value that a visitor gave is escaped."""

from html import escape
from numbers import Number

import pandas as pd

from wanda_core.progress import Progress
from wanda_ui.language import Say

SETTINGS = ("untouched", "chosen", "largest", "random", "zeroed")  # details of progress that have words in the locales


def progress(step: Progress, say: Say) -> str:
    """Draw a bar with what is being done beside it."""
    percent = round(100 * step.fraction)
    words = progress_words(step, say)
    beside = f" · {escape(words)}" if words else ""
    stage = escape(say(f"status.stage.{step.stage}"))
    return (
        f'<div class="wl-progress" role="progressbar" aria-label="{stage}" aria-valuenow="{percent}" '
        f'aria-valuemin="0" aria-valuemax="100"><div class="wl-bar"><i style="width:{percent}%"></i></div>'
        f"<span><b>{stage}</b> {percent}%{beside}</span></div>"
    )


def progress_words(step: Progress, say: Say) -> str:
    """Say which unit is at work, and what is done to it: `block 3 of 30 · self_attn.q_proj`."""
    if step.stage == "waiting":
        return _queue_words(step, say)
    at_work = step.innermost
    units = [_unit(step, say), *([_unit(at_work, say)] if at_work is not step else [])]
    detail = say(f"status.detail.{step.detail}") if step.detail in SETTINGS else step.detail
    return " · ".join(filter(None, [*units, detail]))


def _queue_words(step: Progress, say: Say) -> str:
    """Say how many jobs are before this one, and how long that will take where it is known."""
    words = say("status.queue.before", count=step.total) if step.total else say("status.queue.next")
    if step.total and step.seconds is not None:
        words += say("status.queue.seconds", seconds=max(1, round(step.seconds)))
    return words


def _unit(step: Progress, say: Say) -> str:
    """Say which of how many units is at work; nothing for parts and jobs, which have no names for a reader."""
    if step.unit in ("parts", "jobs"):
        return ""
    return say(f"status.unit.{step.unit}", number=step.number, total=step.total, megabytes=step.total / 1e6)


def problem(message: str) -> str:
    """Write a message on what went wrong."""
    return f'<div class="wl-problem" role="alert">{escape(message)}</div>'


def figure_title(text: str) -> str:
    """Write a finding, which stands above its figure."""
    return f'<h2 class="wl-finding">{escape(text)}</h2>'


def sentence(text: str) -> str:
    """Write what a figure shows for this model, which stands under it."""
    return f'<p class="wl-sentence">{escape(text)}</p>'


def empty(text: str) -> str:
    """Write what stands where nothing is shown yet."""
    return f'<p class="wl-empty">{escape(text)}</p>'


def table(caption: str, frame: pd.DataFrame) -> str:
    """Write a table under its caption."""
    return f'<h2 class="wl-finding">{escape(caption)}</h2>{_scrolling(caption, frame)}'


def folded_table(caption: str, frame: pd.DataFrame, opened: bool = False) -> str:
    """Write a table that unfolds when its caption is pressed. opened: whether it is unfolded from the start."""
    mark = " open" if opened else ""
    return f"<details class='wl-twin'{mark}><summary>{escape(caption)}</summary>{_scrolling(caption, frame)}</details>"


def _scrolling(caption: str, frame: pd.DataFrame) -> str:
    """Write a plain table that scrolls inside itself on a narrow screen, also by keys.

    It is escaped here, for pandas leaves quotation marks as they are.
    """
    shown = frame.map(_cell).rename(columns=_cell)
    with pd.option_context("display.max_colwidth", None):  # a text is never cut
        opened = f'<div class="wl-scroll" tabindex="0" role="region" aria-label="{escape(caption)}">'
        return f"{opened}{shown.to_html(index=False, border=0, classes='wl-table', escape=False)}</div>"


def _cell(value: object) -> object:
    """Escape what stands in a table and is no number."""
    return value if isinstance(value, Number) else escape(str(value))


def number(value: float) -> str:
    """Write a perplexity or magnitude in as many digits as it is worth."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.1f}"
