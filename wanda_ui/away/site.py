"""The static page of a run as a folder: it opens from the disk, and stands as a static Space or on any web server."""

import json
import re
from html import escape
from pathlib import Path
from typing import Any

from wanda_core.checkpoint import manifest
from wanda_core.checkpoint.atomic_folder import checked_target, replacement
from wanda_core.checkpoint.model_card import said
from wanda_core.errors import InputError, StorageError, first_line, shortened, shortened_path
from wanda_core.machine.paths import path_of
from wanda_core.model.names import hub_id_and_revision, is_path
from wanda_core.report.run import Run
from wanda_core.version import __version__
from wanda_ui.away.preview import SIZE, preview
from wanda_ui.away.shell import filled, shell
from wanda_ui.away.telling import completed
from wanda_ui.language import say

PAGE, CARD, PICTURE = "index.html", "README.md", "preview.png"
SITE = "site"  # key of the folder's record, which tells it from a checkpoint
MOST_TITLE, MOST_DESCRIPTION = 100, 60  # characters, that a Space shows
REPOSITORY = re.compile(r"[\w-][\w.-]{0,95}/[\w-][\w.-]{0,95}", re.ASCII)  # the id of a model on the hub


def write_site(run: Run, folder: str | Path, language: str = "en", address: str | None = None) -> Path:
    """Write the static page of a run. -> the folder's absolute path.

    address: where it will stand, which some sites need to show its picture beside a link. The folder appears whole, or
    nothing of it; an earlier site that nobody has changed is replaced. Raises InputError for an address that is none or
    a run too large for a page, StorageError for a folder that holds anything else or cannot be written.
    """
    if address is not None and not address.startswith(("https://", "http://")):
        raise InputError(f"address {shortened(address)} does not begin with https://; give that of the finished page")
    target = _checked(folder)
    run = completed(run)
    model = run["made"]["model"]
    title = say(language, "leaf.site.title", model=model)
    page = filled(shell("site", language), run, title, _head(run, language, address))
    try:
        with replacement(target, (PAGE, CARD, PICTURE)) as fresh:
            (fresh / PAGE).write_text(page, encoding="utf-8", newline="\n")
            (fresh / CARD).write_text(_card(run, language), encoding="utf-8", newline="\n")
            (fresh / PICTURE).write_bytes(preview(run))
            manifest.seal(fresh, {"wanda": __version__, SITE: True})
    except OSError as error:
        reason = error.strerror or first_line(error)
        raise StorageError(f"{shortened_path(folder)} cannot be written ({reason}); choose another folder") from error
    return target


def _checked(folder: str | Path) -> Path:
    """Return the absolute path of a folder that may be written: a new or empty one, or an earlier site, unchanged."""
    target = path_of(folder, "output folder")
    if target.is_dir() and any(target.iterdir()) and not _is_site(target):
        raise StorageError(
            f"{shortened_path(folder)} holds other things than an earlier static page as it was written, and only such "
            "a folder or an empty one is replaced; choose another folder"
        )
    if target.is_file():
        raise StorageError(f"{shortened_path(folder)} is a file, and a static page is a folder; choose another name")
    return checked_target(target)


def _is_site(folder: Path) -> bool:
    return manifest.is_replaceable(folder) and bool(manifest.told(folder).get(SITE))


def _head(run: Run, language: str, address: str | None) -> str:
    """Write what sites that show links read of a page."""
    model = run["made"]["model"]
    place = f"{address.rstrip('/')}/" if address else ""
    told = {
        "og:type": "website",
        "og:title": say(language, "leaf.site.title", model=model),
        "og:description": say(language, "leaf.site.description", model=model),
        "og:image": f"{place}{PICTURE}",
        "og:image:width": SIZE[0],
        "og:image:height": SIZE[1],
        "og:image:alt": say(language, "leaf.site.preview", model=model),
        **({"og:url": place} if place else {}),
    }
    lines = [f'<meta property="{name}" content="{escape(_plain(value))}">' for name, value in told.items()]
    description = escape(_plain(told["og:description"]))
    return "\n".join([f'<meta name="description" content="{description}">', *lines, _CARD_KIND, ""])


_CARD_KIND = '<meta name="twitter:card" content="summary_large_image">'


def _card(run: Run, language: str) -> str:
    """Write the README that makes the folder a static Space."""
    made = run["made"]
    title = say(language, "leaf.site.title", model=made["model"])
    repository = _repository(made["name"])
    fields: dict[str, Any] = {
        "title": _cut(_plain(title), MOST_TITLE),
        "emoji": "🪄",
        "colorFrom": "blue",
        "colorTo": "yellow",
        "sdk": "static",
        "app_file": PAGE,
        "short_description": _cut(_plain(say(language, "leaf.site.short", model=made["model"])), MOST_DESCRIPTION),
        **({"models": [repository]} if repository else {}),
        "tags": ["pruning", "sparsity", "interpretability"],
    }
    # JSON is YAML but for pairs of surrogates, so signs stand there as they are
    front = "\n".join(f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in fields.items())
    told = say(language, "leaf.site.card", page=PAGE)
    return f"---\n{front}\n---\n\n# {said(title)}\n\n{told}\n"


def _repository(name: str) -> str | None:
    """Return the id of a model on the hub, None for a model of another place."""
    found = None if is_path(name) else hub_id_and_revision(name)[0]
    return found if found and REPOSITORY.fullmatch(found) else None


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _plain(value: object) -> str:
    """Return a text without what is no sign: line ends, control signs, what turns the direction of writing."""
    return "".join(sign if sign.isprintable() else " " for sign in str(value))
