"""Text of named data sets: WikiText-2, C4 and any on the Hugging Face hub, read by the `datasets` library."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from wanda_core.errors import InputError, first_line, shortened_path

MAX_DOCUMENTS = 20_000  # of a data set that has no protocol of its own; read as a stream, so no more is fetched
TEST_DOCUMENTS = 1_100  # of C4's validation split, as the published code takes them
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True)
class Source:
    """Where a named text lies.

    path, name: as `datasets.load_dataset` takes them; files: which files of each split; joined: what its lines are
    joined by into one long text, None where every document stands by itself.
    """

    path: str
    name: str | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    joined: str | None = None


# As the published code reads them (locuslab/wanda, lib/data.py): C4's first shards alone, and WikiText-2's training
# lines joined by a space.
NAMED = {
    "wikitext2": Source("Salesforce/wikitext", "wikitext-2-raw-v1", joined=" "),
    "c4": Source(
        "allenai/c4",
        files={
            "train": "en/c4-train.00000-of-01024.json.gz",
            "validation": "en/c4-validation.00000-of-00008.json.gz",
        },
    ),
}


def is_named(given: str) -> bool:
    """Return whether this names a data set: a known name, a folder, or a hub id that is no file here."""
    path = Path(given).expanduser()
    if given in NAMED or path.is_dir():
        return True
    return bool(HUB_ID.fullmatch(given)) and not path.exists() and not path.parent.is_dir()


def calibration_text(given: str) -> str | list[str]:
    """Read the text that windows are drawn from: one long text, or documents, of which each window takes one.

    given: `wikitext2`, `c4`, a hub id or a folder with a data set.
    Raises InputError when it cannot be read or holds no text.
    """
    source = NAMED.get(given)
    documents = _documents(given, "train")
    return source.joined.join(documents) if source and source.joined is not None else documents


def evaluation_text(given: str) -> str:
    """Read one long text to measure perplexity on.

    As published: WikiText-2's test lines joined by blank lines, C4's first validation documents joined by spaces. Of
    any other data set: the test split, or its first where there is none, joined by blank lines.
    Raises InputError when it cannot be read or holds no text.
    """
    if given == "c4":
        return " ".join(_documents(given, "validation")[:TEST_DOCUMENTS])
    return "\n\n".join(_documents(given, "test"))


def _documents(given: str, split: str) -> list[str]:
    """Read the texts of one split, or of the first where there is none of that name."""
    try:
        import datasets
    except ImportError as error:
        raise InputError(
            f"{shortened_path(given)} is read by the package datasets, which is not installed; "
            "run `pip install datasets`, or give a text file"
        ) from error
    source = NAMED.get(given) or Source(str(Path(given).expanduser()) if Path(given).expanduser().is_dir() else given)
    settings: dict[str, Any] = {"name": source.name, "streaming": given not in NAMED}
    if source.files:
        settings["data_files"] = {split: source.files[split]}
    try:
        splits = datasets.load_dataset(source.path, **settings)
        rows = splits[split if split in splits else next(iter(splits))]
        limit = None if given in NAMED else MAX_DOCUMENTS
        return _texts(islice(rows, limit), given)
    except InputError:
        raise
    except Exception as error:  # a stranger's data and a network: whatever they raise is their answer
        raise InputError(
            f"the data set {shortened_path(given)} cannot be read ({first_line(error)}); check its name and the "
            "network, or give a text file"
        ) from error


def _texts(rows: Iterable[Mapping[str, Any]], given: str) -> list[str]:
    """Return the texts in the column `text`, else in the first column that holds text."""
    column: str | None = None
    texts: list[str] = []
    for row in rows:
        if column is None:
            column = "text" if "text" in row else next((k for k, v in row.items() if isinstance(v, str)), None)
        if column is None or not isinstance(row[column], str):
            raise InputError(
                f"the data set {shortened_path(given)} has no column of text; choose one that has, or give a text file"
            )
        texts.append(row[column])
    if not any(text.strip() for text in texts):
        raise InputError(f"the data set {shortened_path(given)} holds no text; choose another")
    return texts
