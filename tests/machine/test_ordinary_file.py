"""What somebody else named or wrote is opened only where it is an ordinary file, and read only so far."""

import os

import pytest

from wanda_core.machine.ordinary_file import check_ordinary, open_ordinary, read_ordinary


def test_an_ordinary_file_is_read_also_through_a_link(tmp_path):
    file = tmp_path / "a"
    file.write_bytes(b"abc")
    (tmp_path / "link").symlink_to(file)
    assert read_ordinary(file, 3) == read_ordinary(tmp_path / "link", 3) == b"abc"
    with open_ordinary(file) as opened:
        assert opened.read(2) == b"ab"


def test_what_never_ends_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    for name in ("pipe", "zero"):
        for read in (open_ordinary, check_ordinary):
            with pytest.raises(OSError, match="it is no ordinary file"):
                read(tmp_path / name)
    with pytest.raises(IsADirectoryError):
        open_ordinary(tmp_path)
    with pytest.raises(FileNotFoundError):
        open_ordinary(tmp_path / "none")
    assert not before or len(os.listdir("/proc/self/fd")) == before


def test_no_more_is_read_than_is_allowed_whatever_size_the_system_tells(tmp_path):
    file = tmp_path / "a"
    with file.open("wb") as opened:
        opened.truncate(10**12)
    with pytest.raises(OSError, match="it has more than 1 MB"):
        read_ordinary(file, 2**20)
    if os.path.exists("/proc/self/maps"):  # of which the system tells no size
        with pytest.raises(OSError, match="it has more than"):
            read_ordinary(type(file)("/proc/self/maps"), 100)
