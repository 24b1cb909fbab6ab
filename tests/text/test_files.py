"""Text files are read as plain UTF-8, or refused by name."""

import pytest

from wanda_core.errors import InputError
from wanda_core.text import files
from wanda_core.text.files import read_text


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
def test_a_file_that_is_no_plain_text_is_refused_by_its_name(tmp_path, monkeypatch, content, reason):
    monkeypatch.setattr(files, "MAX_TEXT_BYTES", 2048)
    file = tmp_path / "notes.txt"
    file.write_bytes(content)
    with pytest.raises(InputError, match=rf"notes\.txt {reason}|notes\.txt is 0 MB .* {reason}"):
        read_text(file)


def test_a_missing_file_or_a_folder_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"gone\.txt' cannot be read \(No such file"):
        read_text(tmp_path / "gone.txt")
    with pytest.raises(InputError, match="cannot be read"):
        read_text(tmp_path)
