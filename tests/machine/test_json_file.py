"""JSON that anybody may have written: one kind of error, bounds, ordinary files alone."""

import os

import pytest

from wanda_core.machine import json_file
from wanda_core.machine.json_file import parsed, read_json


@pytest.mark.parametrize("text", ["[" * 200_000, "1" * 5000, "{", "", b"\xff"])
def test_what_is_no_json_is_a_value_error(text):
    with pytest.raises(ValueError, match=r"\w"):
        parsed(text)


def test_a_file_is_ordinary_and_of_a_bounded_size(tmp_path):
    file = tmp_path / "a.json"
    file.write_text("\ufeff[1]")
    assert read_json(file) == [1]
    with pytest.raises(OSError, match="it has more than"):
        read_json(file, most=2)
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", "zero"):
        if name == "zero":
            (tmp_path / name).symlink_to("/dev/zero")
        with pytest.raises(OSError, match="no ordinary file"):
            read_json(tmp_path / name)
    with pytest.raises(OSError, match="No such file"):
        read_json(tmp_path / "none")


def test_a_file_has_so_many_lists_and_entries_at_most(tmp_path, monkeypatch):
    monkeypatch.setattr(json_file, "MOST_LISTS", 2)
    monkeypatch.setattr(json_file, "MOST_ENTRIES", 3)
    file = tmp_path / "a.json"
    for text, read in (("[{}]", True), ("[[[]]]", False), ("[1,2,3,4]", True), ("[1,2,3,4,5]", False)):
        file.write_text(text)
        if read:
            assert read_json(file)
        else:
            with pytest.raises(ValueError, match="it has more than 2 lists or 3 entries"):
                read_json(file)
