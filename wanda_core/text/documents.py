"""Documents from what lies on this machine: a text file, a table, or a folder of either."""

import os
import re
from collections.abc import Callable, Iterator
from os import PathLike
from pathlib import Path

from wanda_core.errors import InputError, first_line, shortened, shortened_path
from wanda_core.machine.json_file import read_json
from wanda_core.machine.ordinary_file import check_ordinary
from wanda_core.machine.paths import path_of
from wanda_core.text.chats import Document
from wanda_core.text.files import DATA, plain_text
from wanda_core.text.opening import MAX_TEXT_BYTES, kind_of, needs
from wanda_core.text.tables import Reading, documents_in, read_table, size_of

TEXT = {".txt", ".text", ".md", ".raw"}  # suffixes of files that are taken out of a folder as text
ABOUT = re.compile(  # names of files that tell about the others
    r"(read.?me|licen[cs]e|notice|copying|changelog|requirements)(\.\w+)?\.(txt|md)|(dataset_infos?|config)\.json", re.I
)
# Words in a file's or folder's name that say which part of a data set it is, as the package datasets looks for them.
SPLITS = {"train": ("train", "training"), "validation": ("validation", "valid", "val", "dev"), "test": ("test", "eval")}
SAVED = ("dataset_dict.json", "state.json")  # lie in a folder that the package datasets saved to the disk


def read_documents(
    path: str | PathLike[str],
    column: str | None = None,
    split: str = "train",
    most: int = MAX_TEXT_BYTES,
    say: Callable[[str], object] = lambda sentence: None,
) -> str | list[Document]:
    """Read a text file whole, the documents of a table, or those of a folder: each text file one, each row one.

    column: of a table, that holds the text or the chats; by default `text`, else messages, else the first of strings;
    split: which part of a folder with several is read; most: bytes of text; say: called with a sentence about what was
    read, unless it was a text file.
    Raises InputError for what cannot be read, holds no text, or has no such column.
    """
    place = path_of(path, "text")
    how = Reading(column, most, say=say)
    if os.path.isdir(place):
        return _folder(place, split, how)
    if kind_of(place) in DATA:
        return read_table(place, how)
    text = plain_text(place, most)
    _without_columns(place, column)
    return text


def _without_columns(place: Path, column: str | None) -> None:
    if column is not None:
        raise InputError(
            f"{place.name} is plain text without columns, so there is no column {shortened(column)}; leave it out"
        )


def _folder(folder: Path, split: str, how: Reading) -> list[Document]:
    """Read the documents of a folder, file after file in the order of their names."""
    if any((folder / name).is_file() for name in SAVED):
        return _saved(folder, split, how)
    files = _files(folder)
    tables, texts = ([file for file in files if kind_of(file) in kinds] for kinds in (DATA, TEXT))
    if tables and texts:
        raise InputError(
            f"{shortened_path(folder)} holds text files ({texts[0].name}) and tables ({tables[0].name}), and of a "
            "folder one kind is read; give one of them, or a folder with one kind"
        )
    if tables:
        _check_one_place(folder, tables)
    elif not texts:
        raise InputError(
            f"{shortened_path(folder)} cannot be read: it holds neither text files ({', '.join(sorted(TEXT))}) nor "
            f"tables ({', '.join(sorted(DATA))}); give a folder that does"
        )
    documents: list[Document] = []
    size = 0
    for document in _documents(_of_split(tables or texts, folder, split), how):
        size += size_of(document)
        if documents and (size > (how.most or size) or (tables and len(documents) == how.limit)):
            how.say(f"note: of the folder {folder.name} the first {len(documents):,} documents are read")
            break
        documents.append(document)
    if not documents:
        raise InputError(f"{shortened_path(folder)} holds empty files only; give a folder with text in it")
    if not tables:
        how.say(f"note: the folder {folder.name} is read as {len(documents):,} documents, each a text file")
    return documents


def _documents(files: list[Path], how: Reading) -> Iterator[Document]:
    """Read file after file; empty ones are passed over."""
    for file in files:
        if kind_of(file) in DATA:
            if not (file.is_file() and file.stat().st_size == 0):
                yield from read_table(file, how)
        else:
            _without_columns(file, how.column)
            text = plain_text(file, how.most or MAX_TEXT_BYTES, blank=True)
            if text.strip():
                yield text


def _files(folder: Path) -> list[Path]:
    """List the files of a folder and of those in it, without hidden ones and those that tell about it."""
    found = []
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__")))
        found += [Path(place, name) for name in names if not name.startswith(".") and not ABOUT.fullmatch(name)]
    return sorted(found, key=lambda file: file.relative_to(folder).parts)


def _check_one_place(folder: Path, tables: list[Path]) -> None:
    """Raise InputError where tables lie in several folders that are no parts of one data set."""
    places = {file.relative_to(folder).parts[0] for file in tables if file.parent != folder}
    others = sorted(place for place in places if place != "data" and _split_in(place) is None)
    if len(others) > 1 or (others and len({file.parent for file in tables}) > 1):
        raise InputError(
            f"{shortened_path(folder)} holds tables in several folders ({', '.join(others[:4])}), which may be "
            "different data sets; give one of these folders"
        )


def _split_in(name: str) -> str | None:
    """Return the part of a data set that a name speaks of."""
    words = set(re.split(r"[^a-z]+", name.lower()))
    return next((split for split, signs in SPLITS.items() if words & set(signs)), None)


def _of_split(files: list[Path], folder: Path, split: str) -> list[Path]:
    """Choose the files of one part, or of the first that is there, where names speak of parts; all where they do not.

    Books may have such words in their titles: text files are parts only if each is named after one.
    """
    named: dict[str, list[Path]] = {}
    for file in files:
        part = next(filter(None, map(_split_in, reversed(file.relative_to(folder).parts))), None)
        named.setdefault(part or "", []).append(file)
    rest = named.pop("", [])
    if not named or (rest and kind_of(files[0]) in TEXT):
        return files
    return named.get(split) or next(named[part] for part in SPLITS if part in named)


def _check_named(path: Path) -> None:
    """Raise OSError or ValueError for what is no JSON, or names a file that does not lie beside it."""
    told = read_json(path)
    for file in told.get("_data_files", ()) if isinstance(told, dict) else ():
        if Path(file["filename"]).name != file["filename"]:
            raise ValueError(f"{path.name} names {shortened(file['filename'])}")


def _saved(folder: Path, split: str, how: Reading) -> list[Document]:
    """Read a folder that the package datasets saved to the disk."""
    try:
        import datasets
    except ImportError as error:
        raise needs("datasets", shortened_path(folder), "give JSON Lines, Parquet or plain text") from error
    try:
        for path in (*folder.glob("*"), *folder.glob("*/*")):
            if not path.is_dir():
                check_ordinary(path)
            if path.suffix == ".json":
                _check_named(path)
        saved = datasets.load_from_disk(str(folder))
    except Exception as error:  # a stranger's data: whatever reading it raises is its answer
        raise InputError(
            f"{shortened_path(folder)} cannot be read ({first_line(error)}); save or fetch the data set again"
        ) from error
    if isinstance(saved, dict):
        saved = saved[split if split in saved else next(iter(saved))]
    return documents_in(saved, shortened_path(folder), how)
