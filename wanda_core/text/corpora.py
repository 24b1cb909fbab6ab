"""The text that somebody names: files of this machine, WikiText-2, C4, or a data set on the Hugging Face hub."""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from os import PathLike
from typing import Any

from wanda_core.errors import InputError, first_line, shortened_path
from wanda_core.machine.paths import bare, looks_like_path, path_of
from wanda_core.text.chats import Document
from wanda_core.text.documents import TEXT, read_documents
from wanda_core.text.files import DATA
from wanda_core.text.opening import COMPRESSED, kind_of
from wanda_core.text.tables import Reading, documents_in

TEST_DOCUMENTS = 1_100  # of C4's validation split, as the published code takes them
Say = Callable[[str], object]  # called with a sentence for people
# Suffixes that no data set's name has and files have, beside those that are read.
OTHERS = {
    *(".arrow", ".bin", ".bz2", ".docx", ".html", ".log", ".pdf", ".pkl", ".pt", ".rst", ".tar", ".xlsx", ".xml"),
    *(".xz", ".zip"),
}
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


def data_set_of(given: str | PathLike[str]) -> str | None:
    """Return the name of the data set that is given, None for a path.

    It is a known name, or a hub id that neither is nor looks like a path here. Raises InputError for what is neither.
    """
    path = path_of(given, "text")
    name = path.as_posix()
    if not isinstance(given, str) or name in NAMED:
        return name if isinstance(given, str) else None
    if looks_like_path(bare(given)) or os.path.lexists(path) or os.path.isdir(path.parent):
        return None
    of_files = kind_of(path) in DATA | TEXT | OTHERS or path.suffix.lower() in COMPRESSED
    return name if HUB_ID.fullmatch(name) and not of_files else None


def name_of(given: str | PathLike[str]) -> str:
    """Return what reports call a text: a data set's name, or that of a file or folder without where it lies."""
    return data_set_of(given) or path_of(given, "text").absolute().name


def calibration_text(
    given: str | PathLike[str], column: str | None = None, say: Say = lambda sentence: None
) -> str | list[Document]:
    """Read the text that windows are drawn from: one long text, or documents, of which each window takes one.

    given: the path of a text file, a table or a folder of either, `wikitext2`, `c4`, or a hub id; column, say:
    as of `read_documents`. Raises InputError when it cannot be read or holds no text.
    """
    name = data_set_of(given)
    if name is None:
        return read_documents(given, column, say=say)
    source = NAMED.get(name)
    documents = _documents(name, "train", column, say)
    return source.joined.join(map(str, documents)) if source and source.joined is not None else documents


def evaluation_text(
    given: str | PathLike[str], column: str | None = None, say: Say = lambda sentence: None
) -> str | list[Document]:
    """Read the text to measure perplexity on: one long text, or chats, which a model's template joins.

    As published: WikiText-2's test lines joined by blank lines, C4's first validation documents joined by spaces. Of
    anything else with rows or files: the test split, or its first where there is none, joined by blank lines.
    given, column, say: as of `calibration_text`. Raises InputError when it cannot be read or holds no text.
    """
    name = data_set_of(given)
    if name == "c4":
        return " ".join(map(str, _documents(name, "validation", column, say)[:TEST_DOCUMENTS]))
    if name is None:
        read = read_documents(given, column, split="test", say=say)
    else:
        read = _documents(name, "test", column, say)
    texts = [document for document in read if isinstance(document, str)]
    return "\n\n".join(texts) if not isinstance(read, str) and len(texts) == len(read) else read


def _documents(given: str, split: str, column: str | None, say: Say) -> list[Document]:
    """Read the documents of one split, or of the first where there is none of that name."""
    try:
        import datasets
    except ImportError as error:
        raise InputError(
            f"{shortened_path(given)} is read by the package datasets, which is not installed; "
            "run `pip install datasets`, or give a text file"
        ) from error
    source = NAMED.get(given) or Source(given)
    settings: dict[str, Any] = {"name": source.name, "streaming": given not in NAMED}
    if source.files:
        settings["data_files"] = {split: source.files[split]}
    try:
        splits = datasets.load_dataset(source.path, **settings)
        rows = splits[split if split in splits else next(iter(splits))]
        if given in NAMED:  # as published: all texts, as they are
            how = Reading(column, most=None, limit=None, plain=True)
        else:
            how = Reading(column, most=None, say=say)
        return documents_in(rows, f"the data set {shortened_path(given)}", how)
    except InputError:
        raise
    except Exception as error:  # a stranger's data and a network: whatever they raise is their answer
        raise InputError(
            f"the data set {shortened_path(given)} cannot be read ({first_line(error)}); check its name and the "
            "network, or give the path of a text file, for none of this name is here"
        ) from error
