"""The scripts and the style that draw the page, read from `assets/view` and `assets/lesson`; there is no build step."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

from wanda_core.assets import ASSETS

FOLDER = ASSETS / "view"
LESSON = ASSETS / "lesson"
FAVICON = ASSETS / "favicon.svg"
SHARED = (1,)  # words, numbers, elements, tables
FIRST_OF_LEAVES = 50  # numbers from here on are of pages without a server: the report, the static page


def scripts_of(needed: Callable[[int], bool], folder: Path = FOLDER) -> str:
    """Join the scripts of a folder whose numbers are needed, in their order."""
    files = sorted((_number(path), path) for path in folder.glob("*.js"))
    return "\n".join(path.read_text(encoding="utf-8") for number, path in files if needed(number))


@cache
def scripts() -> str:
    """Read the scripts of the page that a server sends."""
    served = scripts_of(lambda number: number < FIRST_OF_LEAVES)
    return f"{served}\n{scripts_of(lambda number: number < FIRST_OF_LEAVES, LESSON)}"


@cache
def style() -> str:
    """Read the style of the view."""
    return (FOLDER / "view.css").read_text(encoding="utf-8")


@cache
def leaf_style() -> str:
    """Read what pages without a server have of style beside that of the view."""
    return (FOLDER / "leaf.css").read_text(encoding="utf-8")


@cache
def lesson_style() -> str:
    """Read the style of what the lesson's own scripts draw."""
    return (LESSON / "try.css").read_text(encoding="utf-8")


@cache
def class_scripts() -> str:
    """Read the scripts of the page on which a class finds the lesson and its answers are read."""
    return scripts_of(lambda number: number in SHARED) + scripts_of(lambda number: number >= FIRST_OF_LEAVES, LESSON)


@cache
def class_style() -> str:
    """Read what that page has of style beside that of pages without a server."""
    return (LESSON / "class.css").read_text(encoding="utf-8")


def _number(path: Path) -> int:
    return int(path.name.split("-")[0])
