"""Text files are read as plain UTF-8, or refused by name."""

import gzip
import time

import pytest

from wanda_core.errors import InputError
from wanda_core.text.files import MAX_WORD, longest_word, read_text


def test_a_byte_order_mark_is_no_text(tmp_path):
    file = tmp_path / "a.txt"
    file.write_bytes("\ufeffna\u00efve".encode())
    assert read_text(file) == "na\u00efve"
    assert read_text(str(file)) == "na\u00efve"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b" \n\t ", "is empty"),
        (b"a\0b", "holds zero bytes"),
        (b"caf\xe9 au lait", r"is not UTF-8 text \(byte 3\)"),
        ("text".encode("utf-16"), "is not UTF-8 text"),
        (b"x" * 2049, "MB are read; give a part of it"),
    ],
)
def test_a_file_that_is_no_plain_text_is_refused_by_its_name(tmp_path, content, reason):
    file = tmp_path / "notes.txt"
    file.write_bytes(content)
    with pytest.raises(InputError, match=rf"notes\.txt {reason}|notes\.txt is 0 MB .* {reason}"):
        read_text(file, most=2048)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_every_end_of_a_line_is_read_as_a_line_feed(tmp_path, end):
    file = tmp_path / "a.txt"
    file.write_bytes(b"\xef\xbb\xbf" + f"one{end}two{end}{end}three".encode())
    assert read_text(file) == "one\ntwo\n\nthree"
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(file.read_bytes()))
    assert read_text(tmp_path / "a.txt.gz") == "one\ntwo\n\nthree"


def test_packed_text_is_unpacked_no_further_than_is_read(tmp_path):
    file = tmp_path / "a.txt.gz"
    file.write_bytes(gzip.compress(b"word " * 2**20))
    with pytest.raises(InputError, match=r"^a\.txt\.gz unpacks to more than the 1 MB that are read; give a part of it"):
        read_text(file, most=2**20)
    for content in (b"plain", gzip.compress(bytes(range(256)) * 99)[:200]):
        file.write_bytes(content)
        with pytest.raises(InputError, match=r"^a\.txt\.gz cannot be unpacked \(.*\); fetch or pack it again"):
            read_text(file)


def test_a_table_is_no_plain_text_and_neither_is_what_stands_for_a_file_that_was_not_fetched(tmp_path):
    for name in ("a.jsonl", "a.JSON", "a.csv.gz"):
        (tmp_path / name).write_text('{"text": "a"}')
        with pytest.raises(InputError, match=rf"^{name} is a table, not plain text; read its text column with read_d"):
            read_text(tmp_path / name)
    (tmp_path / "a.txt").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 9\n")
    with pytest.raises(InputError, match=r"^a\.txt is a pointer of Git LFS and not the data itself; run `git lfs"):
        read_text(tmp_path / "a.txt")


def test_a_missing_file_or_a_folder_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"gone\.txt' cannot be read \(No such file"):
        read_text(tmp_path / "gone.txt")
    with pytest.raises(InputError, match="cannot be read"):
        read_text(tmp_path)


@pytest.mark.parametrize(
    "text", ["", "a", "ab cd", "abcd", "abcde", "..abcde..", "abcd abcdef", "한글이에요", "a.b.c.d.e.f", "ab" * 9]
)
@pytest.mark.parametrize("more_than", [1, 2, 4, 5])
def test_the_first_word_that_is_too_long_is_found_wherever_it_stands(text, more_than):
    words = "".join(letter if letter.isalnum() else " " for letter in text).split()
    long = [len(word) for word in words if len(word) > more_than]
    for shift in range(6):
        assert longest_word("." * shift + text, more_than) == (long[0] if long else 0)


def test_a_word_that_no_language_has_is_refused_and_long_text_is_not(tmp_path):
    file = tmp_path / "a.txt"
    file.write_text("x" * MAX_WORD, encoding="utf-8")
    assert len(read_text(file)) == MAX_WORD
    file.write_text("hello " + "x" * (MAX_WORD + 1), encoding="utf-8")
    with pytest.raises(InputError, match=r"^a\.txt holds 100,001 letters and digits in a row, and words up to 100,000"):
        read_text(file)
    sentence = "我们在一起走过了很长的路，天空是蓝色的，因为阳光被空气散射。"  # no blank in eight megabytes
    file.write_text(sentence * (8_000_000 // len(sentence.encode())), encoding="utf-8")
    began = time.perf_counter()
    assert len(read_text(file)) > 2_000_000
    assert time.perf_counter() - began < 2
