"""The scripts and the style that draw the page, read from `assets/view`, which has no build step."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

from wanda_core.assets import ASSETS

FOLDER = ASSETS / "view"
FAVICON = ASSETS / "favicon.svg"
FIRST_OF_LEAVES = 50  # numbers from here on are of pages without a server: the report, the static page


def scripts_of(needed: Callable[[int], bool]) -> str:
    """Join the scripts whose numbers are needed, in their order."""
    files = sorted((_number(path), path) for path in FOLDER.glob("*.js"))
    return "\n".join(path.read_text(encoding="utf-8") for number, path in files if needed(number))


@cache
def scripts() -> str:
    """Read the scripts of the page that a server sends."""
    return scripts_of(lambda number: number < FIRST_OF_LEAVES)


@cache
def style() -> str:
    """Read the style of the view."""
    return (FOLDER / "view.css").read_text(encoding="utf-8")


@cache
def leaf_style() -> str:
    """Read what pages without a server have of style beside that of the view."""
    return (FOLDER / "leaf.css").read_text(encoding="utf-8")


def _number(path: Path) -> int:
    return int(path.name.split("-")[0])
