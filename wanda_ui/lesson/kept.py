"""What a browser keeps of a run, so that a page that is loaded anew, in another language too, has it again.

For as long as its tab is open, and on the server nothing: of each step what was guessed and what was chosen. Answers
are given anew from what is known already; nothing is measured for that. What is known is everybody's, so what was
chosen carries a mark that only this server makes: nobody learns by a made-up run what others have asked. What the page
starts with, and steps without a model, tell nothing of others and need none.
"""

import hashlib
import hmac
import json
import secrets
from typing import Any

from wanda_ui.lesson.answers import Run
from wanda_ui.lesson.plan import STEPS

KEY = "wanda-lesson"
MOST_CHARACTERS = 20_000  # of what is kept: eight texts of a sentence's length
SECRET = secrets.token_bytes(32)  # of this server, as long as it runs

SAVE = f"""(kept) => {{
    try {{ if (kept) sessionStorage.setItem({json.dumps(KEY)}, kept); }} catch {{}}
}}"""
LOAD = f"""() => {{
    try {{ return [sessionStorage.getItem({json.dumps(KEY)}) || ""]; }} catch {{ return [""]; }}
}}"""


def written(run: Run, model: str, before: object = "") -> str:
    """Write what is kept of a run, nothing where it is too long.

    model: the name of the one looked at; before: what the browser keeps, of which no step goes that the run lacks.
    """
    given = read(before, model) | {number: (record.guess, list(record.values)) for number, record in run.items()}
    steps = {
        str(number): {"guess": guess, "values": values, "mark": _mark(model, number, values)}
        for number, (guess, values) in sorted(given.items())
    }
    text = json.dumps({"model": model, "steps": steps}, ensure_ascii=False)
    return text if len(text) <= MOST_CHARACTERS else ""


def read(text: object, model: str) -> dict[int, tuple[str, list[Any]]]:
    """Read what was kept: by step the guess and the values. A browser may send anything: what is no answer to a step
    of this model is left out."""
    try:
        held = json.loads(text) if isinstance(text, str) and len(text) <= MOST_CHARACTERS else {}
        json.dumps(held, ensure_ascii=False).encode()  # halves of characters are in no text
    except (ValueError, RecursionError):
        return {}
    if not isinstance(held, dict) or held.get("model") != model or not isinstance(held.get("steps"), dict):
        return {}
    found: dict[int, tuple[str, list[Any]]] = {}
    for number, step in enumerate(STEPS, 1):
        record = held["steps"].get(str(number))
        if not isinstance(record, dict) or record.get("guess") not in step.guesses:
            continue
        values, mark = record.get("values"), record.get("mark")
        if not (isinstance(values, list) and len(values) == len(step.controls)):
            continue
        usual = not step.needs_model or values == [control.start for control in step.controls]
        if usual or hmac.compare_digest(str(mark).encode(), _mark(model, number, values).encode()):
            found[number] = (record["guess"], values)
    return found


def _mark(model: str, number: int, values: list[Any]) -> str:
    """Return what shows that an answer to these values of a step was given here."""
    told = json.dumps([model, number, values], ensure_ascii=False).encode()
    return hmac.new(SECRET, told, hashlib.sha256).hexdigest()
