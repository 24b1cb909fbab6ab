"""Temporary folders: nothing stays of them, also after a kill, and nothing else is removed."""

import os
import signal
import subprocess
import sys
import tempfile
import time

import psutil
import pytest

from wanda_core.machine import atomic_file, temporary
from wanda_core.machine.temporary import HELD, sweep, temporary_folder

PREFIX = "wanda-test-"
KILLED = f"""
import sys, time
from wanda_core.machine.temporary import temporary_folder
with temporary_folder({PREFIX!r}) as folder:
    (folder / "model.safetensors").write_bytes(b"half of it")
    print("written", flush=True)
    time.sleep(600)
"""


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """The folder for temporary files, of this process and of those it starts."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


def test_a_folder_goes_with_what_is_in_it(place):
    with temporary_folder(PREFIX) as folder:
        (folder / "a").write_text("a")
        assert folder.is_relative_to(place)
        sweep(PREFIX)
        assert (folder / "a").is_file()
    assert list(place.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="there is no such signal")
def test_what_a_killed_process_left_goes_at_the_next_start(place):
    process = subprocess.Popen([sys.executable, "-c", KILLED], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"written\n"
    sweep(PREFIX)
    [left] = place.iterdir()  # somebody is at work there
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert (left / HELD / "model.safetensors").is_file()
    sweep("wanda-other-")
    assert left.is_dir()
    sweep(PREFIX)
    assert list(place.iterdir()) == []


def test_nothing_that_is_not_ours_is_removed(place):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    here, there = temporary._machine(), "0" * 8
    kept = [
        f"{PREFIX}notes",
        f"{PREFIX}{gone.pid}-{here}",
        f"my-{PREFIX}{gone.pid}-{here}-a",
        f"{PREFIX}{gone.pid}-{there}-new",
    ]
    old = [f"{PREFIX}{gone.pid}-{there}-old", f"{PREFIX}{os.getpid()}-{here}-old"]  # our number, but older than we are
    for name in (*kept, *old):
        (place / name / HELD).mkdir(parents=True)
    for name in old:
        os.utime(place / name, (time.time() - 2 * temporary.DAY,) * 2)
    mixed = place / f"{PREFIX}{gone.pid}-{here}-mixed"
    (mixed / HELD).mkdir(parents=True)
    (mixed / "thesis.txt").write_text("years of work")
    (place / f"{PREFIX}{gone.pid}-{here}-link").symlink_to(mixed)
    sweep(PREFIX)
    assert sorted(path.name for path in place.iterdir()) == sorted([*kept, mixed.name, f"{mixed.name[:-5]}link"])
    assert [path.name for path in mixed.iterdir()] == ["thesis.txt"]


@pytest.mark.skipif(
    sys.platform != "linux", reason="where the system tells when a process began, whatever the clock says"
)
def test_a_change_of_the_clock_ends_nobody_and_the_number_alone_makes_nobody_the_same(place, monkeypatch):
    create_time = psutil.Process.create_time
    monkeypatch.setattr(psutil.Process, "create_time", lambda process: create_time(process) + 3600)
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        mark = atomic_file.own_mark().replace(str(os.getpid()), str(other.pid), 1)
        theirs = mark.replace(mark.split(".")[1], str(atomic_file._begun(other.pid)))
        with temporary_folder(PREFIX) as mine:
            target = place / "file"
            with atomic_file.written(target) as part:
                part.write_text("new")
                (place / f"{PREFIX}{theirs}-{temporary._machine()}-live" / HELD).mkdir(parents=True)
                before = f"{os.getpid()}.1.{mark.rpartition('.')[2]}"
                (place / f"{PREFIX}{before}-{temporary._machine()}-before" / HELD).mkdir(parents=True)
                sweep(PREFIX)
                atomic_file.sweep(target)
                assert mine.is_dir()
            assert target.read_text() == "new"
        assert [path.name.rpartition("-")[2] for path in place.iterdir() if path.is_dir()] == ["live"]
    finally:
        other.communicate(b"\n")
    sweep(PREFIX)
    assert [path.name for path in place.iterdir()] == ["file"]


@pytest.mark.skipif(sys.platform != "linux", reason="of containers")
def test_a_process_of_another_container_that_has_our_number_is_not_taken_for_one_that_ended(place):
    pid, ticks, numbers = atomic_file.own_mark().split(".")
    theirs = place / "theirs"
    theirs.mkdir()
    assert not atomic_file.is_gone(f"{pid}.{int(ticks) - 5}.{int(numbers) + 1}", theirs)
    assert atomic_file.is_gone(f"{pid}.{int(ticks) - 5}.{numbers}", theirs)
    os.utime(theirs, (0, 0))  # before this one began
    assert atomic_file.is_gone(f"{pid}.{int(ticks) - 5}.{int(numbers) + 1}", theirs)
