"""A path is the same path however it was typed."""

import os
from pathlib import Path

import pytest

from wanda_core.errors import InputError
from wanda_core.machine.paths import looks_like_path, path_of


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("a b.txt", "a b.txt"),
        ("  a.txt\n", "a.txt"),
        ("'my books'", "my books"),
        ('" “글.txt” "', "글.txt"),
        ("\ufeffa.txt\u200b", "a.txt"),
        ("books/", "books"),
        ("./books/../a.txt", "books/../a.txt"),
        (Path("a.txt"), "a.txt"),
        (Path(" a "), " a "),
    ],
)
def test_what_was_pasted_around_a_path_goes(typed, meant):
    assert path_of(typed) == Path(meant)


def test_the_home_folder_is_found_with_and_without_quotation_marks(home):
    for typed in ("~/x.txt", "'~/x.txt'", Path("~/x.txt")):
        assert path_of(typed) == home / "x.txt"


def test_a_name_that_really_has_such_marks_is_found(home):
    for name in ("'quoted'", " blanks ", "a\\b"):
        (home / name).write_text("here")
        assert path_of(name).read_text() == "here"


@pytest.mark.parametrize("typed", ["", "  ", "''", "a\0b", 7, None, ["a"]])
def test_what_is_no_path_is_refused_in_a_sentence(typed):
    with pytest.raises(InputError, match=r"^output folder .* is no (name|path); give the path of a file or folder$"):
        path_of(typed, "output folder")


@pytest.mark.skipif(os.name == "nt", reason="a backslash parts folders there")
def test_a_backslash_is_a_character_of_a_name_elsewhere(home):
    assert path_of("a\\b") == Path("a\\b")


def test_what_looks_like_a_path_whether_or_not_it_is_there():
    assert all(map(looks_like_path, ("./a", "../a", "/a", "~/a", "C:\\a", "C:/a", "a\\b", "\\\\host\\a")))
    assert not any(map(looks_like_path, ("a", "owner/data", "a.txt", "c:a")))
