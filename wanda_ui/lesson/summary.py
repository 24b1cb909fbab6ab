"""A run taken away: all results as CSV, and one page to print. Made from plain values, kept nowhere."""

import base64
from html import escape

from wanda_core.sheets import csv_text
from wanda_ui.language import Say
from wanda_ui.lesson.answers import Record, Run
from wanda_ui.lesson.plan import STEPS

COLUMNS = ["step", "question", "guess", "answer", "guess_fits", "model", "quantity", "value"]
PRINT = """body { font: 10.5pt/1.4 system-ui, sans-serif; color: #1c2430; max-width: 180mm; margin: 8mm auto; }
h1 { font-size: 17pt; margin: 0; } p { margin: 2mm 0 4mm; color: #5b6673; }
table { border-collapse: collapse; width: 100%; } th, td { text-align: left; vertical-align: top; padding: 1.6mm 2mm; }
th { font-weight: 600; border-bottom: 1.5pt solid #1c2430; } td { border-bottom: .5pt solid #dfe3e8; }
td { overflow-wrap: anywhere; word-break: keep-all; } td:nth-child(4) { white-space: nowrap; }
tr { break-inside: avoid; } .fits { color: #0072b2; font-weight: 600; }
@page { size: A4; margin: 12mm; } @media print { body { margin: 0; max-width: none; } }"""
VERDICTS: dict[bool | None, str] = {True: "fits", False: "differs", None: "open"}  # of `fits`
MOST_CHARACTERS = 160  # of a finding on the printed page, so that eight of them stay on one


def to_csv(run: Run, say: Say) -> str:
    """Write the run as CSV, a row for every measured value."""
    rows: list[list[object]] = [list(COLUMNS)]
    for number, record in sorted(run.items()):
        name = STEPS[number - 1].name
        fit = fits(record)
        guesses = [*_guesses(name, record, say), "" if fit is None else fit]
        start = [number, say(f"lesson.{name}.question"), *guesses, record.model]
        rows += [[*start, quantity, value] for quantity, value in record.numbers.items()]
    return csv_text(rows)


def to_page(run: Run, say: Say) -> str:
    """Write the run as a whole HTML document, one A4 page: every step's question, the guess, and what was found."""
    rows = []
    for number, record in sorted(run.items()):
        name = STEPS[number - 1].name
        guess, _ = _guesses(name, record, say)
        mark = say(f"lesson.summary.{VERDICTS[fits(record)]}")
        finding = record.finding if len(record.finding) <= MOST_CHARACTERS else record.finding[:MOST_CHARACTERS] + "…"
        kind = ' class="fits"' if fits(record) else ""
        rows.append(
            f"<tr><td>{number}</td><td>{escape(say(f'lesson.{name}.title'))}</td><td>{escape(guess)}</td>"
            f"<td{kind}>{escape(mark)}</td><td>{escape(finding)}</td></tr>"
        )
    head = "".join(f"<th>{escape(say(f'lesson.summary.{name}'))}</th>" for name in ("step", "guess", "kind", "found"))
    models = sorted({record.model for record in run.values() if record.model})
    right = sum(bool(fits(record)) for record in run.values())
    intro = say("lesson.summary.intro", done=len(run), of=len(STEPS), right=right)
    made = say("lesson.summary.model", model=", ".join(models)) if models else ""
    language, title = say("lesson.summary.language"), say("lesson.summary.title")
    return (
        f'<!doctype html><html lang="{language}"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{PRINT}</style></head><body><h1>{escape(title)}</h1><p>{escape(intro)} {escape(made)}</p>"
        f"<table><thead><tr><th></th>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></body></html>"
    )


def links(run: Run, say: Say) -> str:
    """Write how far the run is, with links to both files: in the page itself, so that the server keeps none of them."""
    progress = escape(say("lesson.run.none" if not run else "lesson.run.done", done=len(run), of=len(STEPS)))
    if not run:
        return f"<p class='wl-empty'>{progress}</p>"
    files = (
        ("csv", "wanda-lesson.csv", "text/csv", "\ufeff" + to_csv(run, say)),  # the mark tells Excel that it is UTF-8
        ("page", "wanda-lesson.html", "text/html", to_page(run, say)),
    )
    buttons = "".join(
        f"<a class='wl-link' id='lesson-{name}' download='{file}' href='data:{kind};charset=utf-8;base64,"
        f"{base64.b64encode(content.encode()).decode()}'>{escape(say(f'lesson.run.{name}'))}</a>"
        for name, file, kind, content in files
    )
    return f"<div class='wl-run'><p>{progress}</p><div>{buttons}</div></div>"


def fits(record: Record) -> bool | None:
    """Whether the guess is what the numbers bear out; None where they bear out none of the guesses."""
    return record.guess in record.right if record.right else None


def _guesses(name: str, record: Record, say: Say) -> tuple[str, str]:
    """Write the guess and the right answer, which is empty where there is none."""
    right = " / ".join(say(f"lesson.{name}.guess.{each}") for each in record.right)
    return say(f"lesson.{name}.guess.{record.guess}"), right
