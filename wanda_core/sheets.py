"""Tables that leave as CSV: one place for how a cell is written, so that no spreadsheet computes what a stranger wrote.

`W.csv` of `assets/view/1-words.js` keeps the same rule for what the page's own scripts hand over.
"""

import math
import re
from collections.abc import Iterable

FORMULAS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")  # how a text begins that would be computed
# Much of Europe's spreadsheets part cells at `;`. To them a quotation mark after a comma is a letter like others, so a
# quoted cell has beginnings of cells in it.
WITHIN = re.compile(r'[;\t\r\n]"*(?=[=+\-@＝＋－＠])')
QUOTED = re.compile(r'[",;\r\n\t]|^\s|\s$')


def csv_text(rows: Iterable[Iterable[object]]) -> str:
    """Write rows of plain values as CSV by RFC 4180.

    Numbers stand as they are known; None and NaN are left empty; what a spreadsheet would compute of a text has a '
    before it.
    """
    return "".join(",".join(map(_cell, row)) + "\n" for row in rows)


def _cell(value: object) -> str:
    """Write one cell."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if not isinstance(value, str):
        return str(value)
    text = value.replace("\0", "\ufffd")
    safe = f"'{text}" if text.startswith(FORMULAS) else text
    safe = WITHIN.sub(r"\g<0>'", safe)
    doubled = safe.replace('"', '""')
    return f'"{doubled}"' if QUOTED.search(safe) else safe
