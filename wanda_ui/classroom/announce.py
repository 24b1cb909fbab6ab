"""What a terminal says of the address at which a class opens the lesson."""

import sys

from wanda_ui.classroom import qr
from wanda_ui.classroom.network import Class


def announce(joined: Class, own: str) -> None:
    """Print the address, to type and as a picture where the terminal can draw one. own: of the page on this machine."""
    print(f"* Whoever is in this network can open the page now, until Ctrl-C:\n\n      {joined.typed}\n")
    picture = qr.terminal(joined.url)
    if sys.stdout.isatty() and _can_write(picture):
        print(picture)
    for address in joined.others:
        print(f"      or {address}")
    print(f"  The same for the back row, and what the class hands in as one sheet: {own.rstrip('/')}/class", flush=True)


def _can_write(text: str) -> bool:
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except (LookupError, UnicodeEncodeError):
        return False
    return True
