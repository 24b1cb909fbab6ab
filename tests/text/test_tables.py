"""Documents out of tables: which column, which rows, and what is said of a table that gives none."""

import gzip
import json
import sys
import time

import pytest

from wanda_core.errors import InputError
from wanda_core.text import tables
from wanda_core.text.chats import chat_of
from wanda_core.text.tables import Reading, documents_in, read_table

ROWS = [{"id": "17", "title": "T", "text": "one\ntwo"}, {"id": "18", "title": "U", "text": "three"}]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS)


@pytest.fixture
def read(tmp_path):
    """Write a file and read it as a table. read(name, content, column=None, most=…, say=…)"""

    def written(name, content, column=None, **how):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return read_table(path, Reading(column, **how))

    return written


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", LINES),
        ("a.ndjson", LINES.replace("\n", "\r\n")),
        ("a.jsonl", "\ufeff" + LINES.rstrip()),
        ("a.json", LINES),
        ("a.json", json.dumps(ROWS)),
        ("a.json", json.dumps(ROWS, indent=2)),
        ("a.json", json.dumps({"version": 1, "data": ROWS})),
        ("a.json", json.dumps({"a": ROWS[0], "b": ROWS[1]})),
        ("a.json", json.dumps({key: [row[key] for row in ROWS] for key in ROWS[0]})),
        ("a.json", json.dumps({key: {str(i): row[key] for i, row in enumerate(ROWS)} for key in ROWS[0]})),
        ("a.csv", 'id,title,text\n17,T,"one\ntwo"\n18,U,three\n'),
        ("a.csv", '\ufeffid;title;text\r\n17;T;"one\r\ntwo"\r\n18;U;three\r\n'),
        ("a.TSV", 'id\ttitle\ttext\n17\tT\t"one\ntwo"\n18\tU\tthree\n'),
        ("a.jsonl.gz", gzip.compress(LINES.encode(), mtime=0)),
        ("a.csv.gz", gzip.compress(b'text,id\n"one\ntwo",17\nthree,18\n', mtime=0)),
    ],
)
def test_the_text_column_is_read_whatever_the_table_looks_like(read, name, content):
    assert read(name, content) == ["one\ntwo", "three"]


def test_another_column_is_read_when_it_is_named(read):
    assert read("a.jsonl", LINES, "title") == ["T", "U"]
    assert read("a.csv", "text,title\na,T\nb,U\n", "title") == ["T", "U"]


def test_without_a_text_column_the_first_of_strings_is_read(read):
    assert read("a.jsonl", LINES.replace('"text"', '"body"')) == ["T", "U"]  # 17 is a number in quotation marks
    assert read("a.csv", "n,when,body\n1,2,hello\n3,4,you\n") == ["hello", "you"]
    assert read("a.json", '["one", "two"]') == ["one", "two"]


def test_nulls_are_passed_over_wherever_they_stand(read):
    rows = [{"text": None}, {"id": 1}, {"text": "a"}, {"text": ""}, {"text": float("nan")}, {"text": "b"}]
    assert read("a.jsonl", "\n".join(map(json.dumps, rows)) + "\n\n") == ["a", "", "b"]
    assert read("a.csv", "id,text\n1,\n2,a\n3,NA\n4,null\n") == ["a", "NA", "null"]  # words, not nulls


def test_ends_of_lines_and_halves_of_characters_within_a_text(read):
    assert read("a.jsonl", '{"text": "a\\r\\nb\\rc \\ud800 \\ud83d\\ude00"}') == ["a\nb\nc \ufffd 😀"]


@pytest.mark.parametrize(
    ("name", "content", "column", "words"),
    [
        ("a.jsonl", LINES, "body", r"a\.jsonl has no column 'body'; its columns are id, title, text, of which --"),
        ("a.csv", "x,y\n1,2\n", None, r"a\.csv has no column of text; its columns are x, y, of which"),
        ("a.jsonl", '{"text": 5}', None, r"a\.jsonl has no column of text; its columns are text"),
        ("a.jsonl", '{"n": 5, "text": "a"}', "n", r"row 1 of a\.jsonl has 5 in its column 'n', which is no text"),
        ("a.jsonl", '{"text": "a"}\n{"text": ["b"]}', None, r"row 2 of a\.jsonl has \['b'\] in its column 'text'"),
        ("a.jsonl", '{"text": " "}', None, r"column 'text' of a\.jsonl holds no text"),
        ("a.json", "", None, r"a\.json holds no text; give another file"),
        ("a.csv", "", None, r"a\.csv holds no text; give another file"),
        ("a.json", '["one"]', "text", r"a\.json is a list without columns, so there is no column 'text'; leave it out"),
        ("a.jsonl", "hello", None, r"a\.jsonl is not the JSON that its name says: row 1 .* \(Expecting value\)"),
        ("a.jsonl", '{"text": "a"}\n{"text": "b', None, r"row 2 cannot be read \(Unterminated string"),
        ("a.json", '[{"text": "a"},', None, r"row 2 cannot be read"),
        ("a.jsonl", '{"text": "a"}\n{"n": ' + "1" * 5000 + "}", None, r"row 2 cannot be read \(Exceeds the limit"),
        ("a.json", "[" * 20_000, None, r"row 1 cannot be read \(nested too deeply\)"),
        ("a.csv", "a,b\n1,x\n2,y,z\n", None, r"a\.csv is not the table that its name says \(.*line 3, saw 3\)"),
        ("a.csv", "text\nOne, two, three\n", None, r"\(its rows have more fields than its first line\); save it with"),
        ("a.csv", b"id,text\n1,caf\xe9\n", None, r"a\.csv is not UTF-8 text"),
        ("a.parquet", b"PAR1", None, r"a\.parquet (is not the Parquet file|is read by the package pyarrow)"),
        ("a.parquet", b"version https://git-lfs.github.com/spec/v1\n", None, r"a\.parquet is a pointer of Git LFS"),
        ("a.jsonl", '{"text": "' + "x" * 100_001 + '"}', None, r"row 1 of a\.jsonl holds 100,001 letters"),
    ],
)
def test_a_table_that_gives_no_text_is_refused_in_a_sentence(read, name, content, column, words):
    with pytest.raises(InputError, match=words) as caught:
        read(name, content, column)
    assert "\n" not in str(caught.value)
    assert "; " in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl.gz", b"\n" * 2**24),
        ("a.json.gz", b'{"text": "' + b"a " * 2**23),
        ("a.csv.gz", b"text\n" + b"a " * 2**23),
        ("a.csv.gz", b"text\n" + b"a" * 2**24),
    ],
)
def test_what_unpacks_to_far_more_is_refused_before_it_fills_memory(read, name, content):
    with pytest.raises(InputError, match=r"unpacks to more than the 1 MB that are read|larger than the 0\.125 MB"):
        read(name, gzip.compress(content), most=2**17)


@pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
def test_what_is_not_compressed_is_read_no_further_either(tmp_path, name):
    with (tmp_path / name).open("wb") as file:
        file.write(b'text\n"')
        file.truncate(2 * 10**10)
    with pytest.raises(InputError, match=rf"^{name} goes on after the 8 MB that are read; give a part of it"):
        read_table(tmp_path / name, Reading(most=2**20))


def test_of_a_table_that_is_larger_than_may_be_read_the_first_documents_are_read(read):
    rows = "text\n" + 10**5 * f"{'word ' * 4}\n"
    assert (
        len(read("a.csv", rows, most=2**17)) == len(read("a.csv.gz", gzip.compress(rows.encode()), most=2**17)) == 6553
    )


def test_rows_of_very_many_fields_are_refused(read):
    row = {f"field {number}": 1 for number in range(1_001)}
    with pytest.raises(
        InputError, match=r"a\.jsonl has more than the 1,000 columns that are read; give a table of fewer"
    ):
        read("a.jsonl", json.dumps(row))


@pytest.mark.parametrize("line", [b"a," * 200_000, b"a" * 2**20, b"a\t" * 1001, b";" * 10**6])
def test_a_table_of_very_many_columns_is_refused_before_they_are_made(read, line):
    began = time.monotonic()
    with pytest.raises(InputError, match=r"names 1,000 columns or more in its first line, or has 64 KB there; give"):
        read("a.csv.gz", gzip.compress(line + b"\n1\n"), most=2**21)
    assert time.monotonic() - began < 2
    names = ",".join(["text", *(f"c{number}" for number in range(998))])
    assert read("a.csv", names + "\none" + "," * 998 + "\n") == ["one"]


def nested(count, say="hello"):
    """A row whose message has so many empty lists in it."""
    lists = ",".join(["[]"] * count)
    return f'{{"messages":[{{"role":"user","content":"{say}","j":[{lists}]}}]}}\n'


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.jsonl.gz"])
def test_a_row_of_more_lists_than_data_have_is_refused_before_it_is_read(read, name):
    content = nested(200_000).encode()
    started = time.process_time()
    with pytest.raises(
        InputError, match=r"row 1 of a\.json\S* has more than [\d,]+ lists and objects in it; leave out"
    ):
        read(name, gzip.compress(content) if name.endswith("gz") else content, most=2**20)
    assert time.process_time() - started < 0.5


def test_a_text_full_of_brackets_is_a_text(read):
    lines = json.dumps({"text": "[{" * 60_000}) + "\n" + json.dumps({"text": '\\"[\\' * 40_000}) + "\n"
    assert read("a.jsonl", lines) == ["[{" * 60_000, '\\"[\\' * 40_000]


def test_of_a_message_that_holds_more_than_a_template_reads_nothing_of_that_is_kept(read):
    [[message]] = read("a.jsonl", nested(2_000))
    assert message == {"role": "user", "content": "hello"}
    call = {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f", "arguments": "x" * 5_000}}]}
    more = {**call, "name": "n", "reasoning_content": "r" * 99_999, "seen": {"by": [1, 2]}, "note": "y" * 900}
    assert chat_of([more]) == [more]
    assert chat_of([{**more, "note": "y" * 1_100}]) == [{k: v for k, v in more.items() if k not in ("note", "seen")}]
    deep = json.loads("[" * 99 + "]" * 99)
    assert chat_of([{**call, "tool_calls": deep}]) == [{"role": "assistant", "content": ""}]
    assert chat_of([{**call, "tool_calls": [[]] * 99_999}]) == [{"role": "assistant", "content": ""}]


def test_all_of_a_message_counts_as_its_size(read):
    rows = "".join(
        json.dumps({"messages": [{"role": "user", "content": "", "name": "n" * 1_000}]}) + "\n" for _ in "12"
    )
    assert len(read("a.jsonl", rows, most=1_500)) == 1
    with pytest.raises(InputError, match=r"row 1 of a\.jsonl is larger than"):
        read("a.jsonl", rows, most=900)


def test_of_a_long_table_the_first_documents_are_read_and_it_is_said(read, monkeypatch):
    said = []
    assert read("a.jsonl", LINES, most=10, say=said.append) == ["one\ntwo"]
    assert said.pop() == "note: a.jsonl is read as a table: the first 1 document from its column text"
    assert len(read("a.jsonl", LINES, say=said.append)) == 2
    assert said.pop() == "note: a.jsonl is read as a table: 2 documents from its column text"
    with pytest.raises(InputError, match=r"row 1 of a\.jsonl is larger than"):
        read("a.jsonl", LINES, most=3)
    rows = [{"text": str(n) + " a"} for n in range(tables.MAX_DOCUMENTS + 5)]
    assert len(documents_in(rows, "rows", Reading())) == tables.MAX_DOCUMENTS


def test_many_rows_are_read_across_the_pieces_of_a_file(read):
    rows = [{"n": n, "text": f"row {n} " * (n % 50)} for n in range(3000)]
    expected = [row["text"] for row in rows]
    assert read("a.json", json.dumps(rows)) == expected
    assert read("a.jsonl", "\n".join(map(json.dumps, rows))) == expected


def test_parquet_is_read_column_by_column(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet", reason="reads Parquet")
    import pyarrow

    chats = [[{"role": "user", "content": "hi"}], None, []]
    table = pyarrow.table({"id": [1, 2, 3], "text": ["a\r\nb", None, "c"], "messages": chats})
    path = tmp_path / "a.parquet"
    parquet.write_table(table, path)
    assert read_table(path, Reading()) == ["a\nb", "c"]
    assert read_table(path, Reading("messages")) == [chats[0]]
    (tmp_path / "b.parquet.gz").write_bytes(gzip.compress(path.read_bytes()))
    assert read_table(tmp_path / "b.parquet.gz", Reading()) == ["a\nb", "c"]
    with pytest.raises(InputError, match=r"a\.parquet has no column 'x'; its columns are id, text, messages"):
        read_table(path, Reading("x"))
    with pytest.raises(InputError, match=r"row 1 of a\.parquet has 1 in its column 'id', which is no text"):
        read_table(path, Reading("id"))


def test_a_parquet_file_of_one_long_text_many_times_is_read_no_further_than_allowed(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet", reason="reads Parquet")
    import pyarrow

    path = tmp_path / "a.parquet"
    parquet.write_table(pyarrow.table({"text": ["a b " * 2**16] * 500}), path)
    assert path.stat().st_size < 2**17
    assert len(read_table(path, Reading(most=2**20))) == 4
    texts = [f"{n} " + "a b " * 2**16 for n in range(64)]
    parquet.write_table(pyarrow.table({"text": texts}), path, compression="zstd")
    with pytest.raises(InputError, match=r"a\.parquet unpacks to more than the 8 MB that are read of one"):
        read_table(path, Reading(most=2**20))


def test_zstandard_of_one_frame_and_of_two(tmp_path):
    pyarrow = pytest.importorskip("pyarrow", reason="unpacks Zstandard")
    packed = [pyarrow.compress(json.dumps(row).encode(), codec="zstd", asbytes=True) for row in ROWS]
    path = tmp_path / "a.jsonl.zst"
    path.write_bytes(b"".join(packed))
    assert read_table(path, Reading()) == ["one\ntwo", "three"]
    path.write_bytes(b"no frame")
    with pytest.raises(InputError, match=r"a\.jsonl\.zst cannot be unpacked"):
        read_table(path, Reading())


@pytest.mark.parametrize(("name", "package"), [("a.parquet", "pyarrow"), ("a.jsonl.zst", "pyarrow")])
def test_a_package_that_is_not_there_is_named(tmp_path, monkeypatch, name, package):
    monkeypatch.setitem(sys.modules, package, None)
    (tmp_path / name).write_bytes(b"anything")
    with pytest.raises(InputError, match=rf"{name} is read by the package {package}, .* run `pip install {package}`"):
        read_table(tmp_path / name, Reading())


CHAT = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}]


@pytest.mark.parametrize(
    "value",
    [
        CHAT,
        [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "yo"}],
        [{"role": "user", "content": [{"type": "text", "text": "hi"}]}, {"role": "gpt", "content": "yo", "n": None}],
        {"role": ["user", "assistant"], "content": ["hi", "yo"]},
    ],
)
def test_chats_have_one_form(read, value):
    assert chat_of(value) == CHAT
    for column in ("messages", "conversations"):
        rows = [{"prompt": "x", column: None}, {"prompt": "x", column: value}]
        assert read("a.jsonl", "\n".join(map(json.dumps, rows))) == [CHAT]
    assert read("a.jsonl", json.dumps({"prompt": "x", "talk": value}), "talk") == [CHAT]


@pytest.mark.parametrize("value", [None, "hi", [], [1], [{"role": "user", "content": 5}], [{"content": "x"}], {"a": 1}])
def test_what_is_no_chat(value):
    assert chat_of(value) is None


def wide(rows, columns, suffix=".csv"):
    """-> a table of many columns, of which the first holds a text in its first row alone, and nothing else does"""
    if suffix == ".csv":
        head = ",".join(["text", *(f"c{number}" for number in range(columns - 1))])
        return f"{head}\nhello world,{',' * (columns - 2)}\n" + f'""{"," * (columns - 1)}\n' * (rows - 1)
    row = {f"c{number}": None for number in range(columns - 1)}
    return "\n".join(json.dumps({"text": "hello world" if number == 0 else None, **row}) for number in range(rows))


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_of_a_table_with_many_cells_the_first_rows_are_read(read, monkeypatch, suffix):
    monkeypatch.setattr(tables, "MOST_CELLS", 4000)
    said = []
    assert read(f"a{suffix}", wide(500, 20, suffix), say=said.append) == ["hello world"]
    assert "the first 1 document from its column text" in said[0]
    said.clear()
    read(f"b{suffix}", wide(200, 20, suffix), say=said.append)
    assert "the first" not in said[0]
    assert len(read("c.csv", "text,other\n" + "a,b\n" * 3000)) == 2000
    assert len(read("d.csv", "text,other\n" + "a,b\n" * 3000, limit=None)) == 3000  # its protocol says how many


def test_of_many_columns_the_chosen_one_is_looked_at(read):
    began = time.process_time()
    assert read("a.csv", wide(1500, 900)) == ["hello world"]
    assert time.process_time() - began < 2.5  # all values of all rows take ten times as long


def test_the_values_of_a_row_are_made_when_they_are_looked_at():
    made = []
    columns = {name: lambda name=name: made.append(name) or [f"{name}1", f"{name}2"] for name in "abc"}
    first, second = tables._rows(columns, 2)
    assert (len(first), list(first), made) == (3, ["a", "b", "c"], [])
    assert (first["b"], second["b"], first.get("d"), made) == ("b1", "b2", None, ["b"])
