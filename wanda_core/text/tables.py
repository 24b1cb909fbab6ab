"""Documents from tables: the text column, or the chats, of JSON, CSV and Parquet files and of data sets."""

import io
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice, repeat
from pathlib import Path
from typing import IO, Any, cast

from wanda_core.errors import InputError, first_line, shortened
from wanda_core.text.chats import Document, bytes_of, chat_of
from wanda_core.text.files import check_words
from wanda_core.text.json_rows import CHATS, json_rows
from wanda_core.text.opening import MAX_TEXT_BYTES, PARQUET, kind_of, needs, opened

MAX_DOCUMENTS = 20_000  # of a table or a data set that has no protocol of its own
LOOKED_AT, ROWS_AT_ONCE = 100, 1000  # rows by which a column is chosen, and that are read at once after them
UNPACKED = 8  # times the text that is taken from it, a table may be
READ_AHEAD = 2**16  # bytes of a table that may be read in any case, for its readers ask for so many at once
SEPARATORS = ",;\t|"
MOST_CELLS = 2_000_000  # of a table: a read takes a second or two then, however few of them hold anything
MOST_COLUMNS, MOST_HEAD = 1000, 2**16  # of a table, and characters of the line of a CSV file that names them
NUMBER = re.compile(r"\s*[-+]?[\d.,]+\s*")


@dataclass(frozen=True)
class Reading:
    """How tables are read.

    column: that holds the documents; by default `text`, else messages, else the first of strings; most, limit: bytes
    and number of documents, at which reading ends, None for all; plain: leave texts as they are, where else any end of
    a line is read as a line feed; say: called with a sentence about what was read.
    """

    column: str | None = None
    most: int | None = MAX_TEXT_BYTES
    limit: int | None = MAX_DOCUMENTS
    plain: bool = False
    say: Callable[[str], object] = lambda sentence: None


def read_table(path: Path, how: Reading) -> list[Document]:
    """Read the documents of a table.

    Raises InputError for a file that cannot be read and for a column that is not there or holds no text.
    """
    kind, name, most = kind_of(path), path.name, how.most or MAX_TEXT_BYTES
    with opened(path, max(UNPACKED * most, READ_AHEAD)) as file:
        if kind == PARQUET:
            return documents_in(_parquet_rows(file, name, how.column, most), name, how)
        text = io.TextIOWrapper(file, encoding="utf-8-sig")  # any end of a line is read as a line feed
        if kind in (".csv", ".tsv"):
            return documents_in(_csv_rows(text, name, kind), name, how)
        return documents_in(json_rows(text, name, most, lines=kind != ".json"), name, how)


def documents_in(rows: Iterable[Any], name: str, how: Reading) -> list[Document]:
    """Take the documents out of rows; nulls are passed over. name: of the table, for messages.

    Raises InputError for a column that is not there or holds no text, a row that is none, and a first document that
    alone is larger than all may be.
    """
    column, most = how.column, how.most
    waiting = iter(rows)
    seen = list(islice(waiting, LOOKED_AT))
    if seen and isinstance(seen[0], Mapping):
        columns = list(dict.fromkeys(key for row in seen if isinstance(row, Mapping) for key in row))
        if len(columns) > MOST_COLUMNS:
            raise InputError(f"{name} has more than the {MOST_COLUMNS:,} columns that are read; give a table of fewer")
        chosen = _chosen(seen, columns, name, column)
    elif column is not None and seen:
        raise InputError(f"{name} is a list without columns, so there is no column {shortened(column)}; leave it out")
    else:
        columns, chosen = [], None
    documents: list[Document] = []
    size, cells, whole = 0, 0, True
    for number, row in enumerate(chain(seen, waiting), 1):
        cells += len(row) if isinstance(row, Mapping) else 1
        if number - 1 == how.limit or (cells > MOST_CELLS and how.limit is not None):
            whole = False
            break
        value = row.get(chosen) if isinstance(row, Mapping) else row
        if not (how.plain and isinstance(value, str)):
            value = _document(value, f"row {number} of {name}", chosen, columns)
        document: Document | None = value
        if document is None:
            continue
        size += size_of(document)
        if most is not None and size > most:
            if not documents:
                raise InputError(f"row {number} of {name} is larger than {most / 2**20:.3g} MB; leave it out")
            whole = False
            break
        if isinstance(document, str) and most is not None:
            check_words(document, f"row {number} of {name}")
        documents.append(document)
    if not any(not isinstance(document, str) or document.strip() for document in documents):
        where = f"column {shortened(chosen)} of {name}" if chosen is not None else name
        raise InputError(f"{where} holds no text; {_others(columns)}")
    count = f"{'' if whole else 'the first '}{len(documents):,} document{'s' if len(documents) > 1 else ''}"
    how.say(f"note: {name} is read as a table: {count}{f' from its column {chosen}' if chosen is not None else ''}")
    return documents


def _chosen(seen: list[Any], columns: list[str], name: str, column: str | None) -> str:
    """Choose the column with the documents by the first rows."""
    if column is not None:
        if column not in columns:
            raise no_column(name, column, columns)
        return column
    held = {key: [row[key] for row in seen if isinstance(row, Mapping) and row.get(key) is not None] for key in columns}
    if any(isinstance(value, str) for value in held.get("text", ())):
        return "text"
    for key in CHATS:
        if any(chat_of(value) for value in held.get(key, ())):
            return key
    for key, values in held.items():
        texts = [value for value in values if isinstance(value, str)]
        if texts and len(texts) == len(values) and not all(NUMBER.fullmatch(text) for text in texts):
            return key
    raise InputError(f"{name} has no column of text; {_others(columns)}")


def no_column(name: str, column: str, columns: list[str]) -> InputError:
    """Return the InputError for a column that a table does not have."""
    return InputError(f"{name} has no column {shortened(column)}; {_others(columns)}")


def _others(columns: list[str]) -> str:
    named = ", ".join(str(column)[:40] for column in columns[:12]) + (", …" if len(columns) > 12 else "")
    return f"its columns are {named}, of which --column names one" if columns else "give another file"


def _document(value: Any, where: str, chosen: str | None, columns: list[str]) -> Document | None:
    """Return a row's text or chat, None for a null. Raises InputError for anything else."""
    if value is None or (isinstance(value, float) and math.isnan(value)) or value == []:
        return None
    if isinstance(value, str):
        return _whole(value)
    chat = chat_of(value)
    if chat is None:
        what = (
            f"{shortened(value, 40)} in its column {shortened(chosen)}" if chosen is not None else shortened(value, 40)
        )
        raise InputError(f"{where} has {what}, which is no text; {_others(columns)}")
    return [{**message, "content": _whole(message["content"])} for message in chat]


def _whole(text: str) -> str:
    """Read any end of a line as a line feed, and halves of characters, which JSON can hold, as U+FFFD."""
    text = text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text
    if text.isascii():
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def size_of(document: Document) -> int:
    """Return how many bytes a document takes: all of a chat's messages, not only what is said in them."""
    return len(document.encode()) if isinstance(document, str) else len(bytes_of([document]))


class _Row(Mapping[str, Any]):
    """A row of some rows that are kept by column."""

    def __init__(self, columns: Mapping[str, Any], place: int) -> None:
        self._columns, self._place = columns, place

    def __getitem__(self, key: str) -> Any:
        return self._columns[key][self._place]

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)


class _Columns(dict[str, list[Any]]):
    """Columns that are made of a table when they are first looked at: of many one is taken, and the others are not."""

    def __init__(self, made: Mapping[str, Callable[[], list[Any]]], change: Callable[[Any], Any] | None) -> None:
        super().__init__()
        self._made, self._change = made, change

    def __missing__(self, key: str) -> list[Any]:
        values = self._made[key]()
        self[key] = values if self._change is None else [self._change(value) for value in values]
        return self[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._made)

    def __len__(self) -> int:
        return len(self._made)


def _rows(
    made: Mapping[str, Callable[[], list[Any]]], count: int, change: Callable[[Any], Any] | None = None
) -> Iterator[Mapping[str, Any]]:
    """Go through the rows of a part of a table. made: its columns; change: of every value that is looked at."""
    columns = _Columns(made, change)
    return (_Row(columns, place) for place in range(count))


def _csv_rows(text: io.TextIOWrapper, name: str, kind: str) -> Iterator[Mapping[str, Any]]:
    """Read a CSV file, whatever of SEPARATORS its first line has most of, or a TSV file."""
    import pandas  # takes a second, and only this needs it

    head = text.readline(MOST_HEAD)
    separator = "\t" if kind == ".tsv" else max(SEPARATORS, key=head.count)
    if len(head) >= MOST_HEAD or head.count(separator) >= MOST_COLUMNS:  # pandas takes minutes for a million
        raise InputError(
            f"{name} names {MOST_COLUMNS:,} columns or more in its first line, or has {MOST_HEAD // 1024} KB there; "
            "give a table of fewer columns"
        )
    try:
        table = pandas.read_csv(
            cast(IO[str], _After(head, text)),
            sep=separator,
            dtype=object,
            keep_default_na=False,
            na_values=[""],
            iterator=True,
        )
        for count in chain([LOOKED_AT], repeat(ROWS_AT_ONCE)):  # the first are looked at whole
            try:
                frame = table.get_chunk(count)
            except StopIteration:
                return
            if not isinstance(frame.index, pandas.RangeIndex):  # pandas takes what is too much for names of rows
                raise _no_table(name, "its rows have more fields than its first line")
            columns = {str(key): frame[key].tolist for key in frame.columns}
            yield from _rows(columns, len(frame), lambda value: value if isinstance(value, str) else None)
    except pandas.errors.EmptyDataError:
        return
    except pandas.errors.ParserError as error:
        raise _no_table(name, first_line(error)) from error


class _After:
    """A text, of which a part was read before. Pandas asks for no more of a file."""

    def __init__(self, read: str, rest: io.TextIOWrapper) -> None:
        self._read, self._rest = read, rest

    def read(self, size: int = -1) -> str:
        """Return the next characters, what was read before first."""
        part = self._read if size < 0 else self._read[:size]
        self._read = self._read[len(part) :]
        return part if part and size >= 0 else part + self._rest.read(size)

    def __iter__(self) -> Iterator[str]:
        while line := self.read(2**16):
            yield line


def _no_table(name: str, reason: str) -> InputError:
    return InputError(
        f"{name} is not the table that its name says ({reason}); save it with quotation marks around its texts"
    )


def _parquet_rows(file: Any, name: str, column: str | None, most: int) -> Iterator[Mapping[str, Any]]:
    """Read the columns of a Parquet file that can hold text, a few rows at a time."""
    try:
        import pyarrow
        from pyarrow import parquet, types
    except ImportError as error:
        raise needs("pyarrow", name, "give JSON Lines or plain text") from error
    try:
        source = file if file.seekable() else io.BytesIO(file.read())
        plan = parquet.ParquetFile(source)
        fields = {field.name: field.type for field in plan.schema_arrow}
        if column is not None and column not in fields:
            raise no_column(name, column, list(fields))
        texts = [key for key, kind in fields.items() if types.is_string(kind) or types.is_large_string(kind)]
        lists = [key for key in CHATS if key in fields and types.is_nested(fields[key])]
        columns = [column] if column is not None else [*texts, *lists]
        if not columns:
            raise InputError(f"{name} has no column of text; {_others(list(fields))}")
        leaves = [plan.metadata.schema.column(number) for number in range(plan.metadata.num_columns)]
        read = [number for number, leaf in enumerate(leaves) if leaf.path.split(".")[0] in columns]
        # A value that a column repeats is held once, however many rows have it.
        repeated = [leaves[number].path for number in read if leaves[number].physical_type == "BYTE_ARRAY"]
        table = parquet.ParquetFile(source, read_dictionary=repeated)
        for group in range(table.num_row_groups):
            about = table.metadata.row_group(group)
            if sum(about.column(number).total_uncompressed_size for number in read) > UNPACKED * most:
                raise InputError(
                    f"{name} unpacks to more than the {UNPACKED * most / 2**20:.3g} MB that are read of one group of "
                    "rows; write it with smaller groups, or give a part of it"
                )
            for batch in table.iter_batches(128, row_groups=[group], columns=columns):
                yield from _rows({key: batch.column(key).to_pylist for key in columns}, batch.num_rows)
    except pyarrow.ArrowException as error:
        raise InputError(
            f"{name} is not the Parquet file that its name says ({first_line(error)}); fetch or write it again"
        ) from error
