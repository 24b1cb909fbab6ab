"""Whether the file system takes an output's name is known before the work, by trying, which leaves nothing behind."""

import os
import time
from pathlib import Path

import pytest
from command_line import refused, run

from wanda_core.calibration.profile import check_profile_target
from wanda_core.checkpoint import atomic_folder, manifest
from wanda_core.checkpoint.save import check_target
from wanda_core.errors import InputError, StorageError
from wanda_core.low_memory.resume import open_run

TOO_LONG = ["x" * 256, "x" * 240, "가" * 83, f"new/{'x' * 300}/out", "x" * 240 + "/deep/out"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder, to be worked in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", TOO_LONG[:4])
def test_a_name_that_is_too_long_is_refused_before_a_model_is_looked_for(here, name):
    for more in ((), ("--low-memory",)):
        result = run("prune", "--model", "no/such-model", "--output", name, *more)
        refused(result, 1, "cannot be written (File name too long); choose another folder")
    assert not list(here.iterdir())


def test_the_name_of_the_hidden_folder_counts_and_that_of_a_parent_does_not(here):
    parent = "x" * 240
    assert check_target(f"{parent}/out") == here / parent / "out"
    assert not list(here.iterdir())


def test_what_can_be_no_name_is_refused(here):
    with pytest.raises(StorageError, match="cannot be written"):
        check_target("x" * 5000)
    for check in (check_target, check_profile_target):
        with pytest.raises(InputError, match="is no name; give the path of a file or folder"):
            check("a\0b")


@pytest.mark.parametrize("name", ["out", "out ", "가 나", "deep/er/out", ".hidden", "out.", "a'b\"c"])
def test_a_name_that_the_file_system_takes_is_accepted_and_nothing_is_left(here, name):
    assert check_target(Path(name)) == here / name  # around a text, blanks were pasted with it
    assert not list(here.iterdir())


def test_an_earlier_folder_stays_as_it_is(here):
    (here / "out").mkdir()
    assert check_target("out") == here / "out"
    assert [path.name for path in here.iterdir()] == ["out"]


def test_a_file_in_the_place_of_a_parent_is_refused(here):
    (here / "file").touch()
    with pytest.raises(StorageError, match=r"file' is not a folder you may write in"):
        check_target("file/out")


def on_a_fat_disk(monkeypatch):
    """Let folders be made as a FAT disk under Linux does: no name ends in a blank."""
    mkdir = Path.mkdir

    def make(path, *arguments, **settings):
        if path.name.endswith(" "):
            raise OSError(22, "Invalid argument")
        mkdir(path, *arguments, **settings)

    monkeypatch.setattr(Path, "mkdir", make)


def test_a_blank_at_the_end_is_refused_where_the_disk_does_not_take_it(here, monkeypatch):
    on_a_fat_disk(monkeypatch)
    with pytest.raises(StorageError, match=r"'out ' cannot be written \(Invalid argument\)"):
        check_target(Path("out "))
    with pytest.raises(StorageError, match="Invalid argument"):
        check_target(Path("new /out"))
    assert check_target("out") == here / "out"
    assert not list(here.iterdir())


@pytest.fixture
def left_by_a_kill(here):
    """The folder in which names were tried by a process that was killed."""
    trial = here / ".out.tmp-999999999-0123abcd"
    (trial / "out").mkdir(parents=True)
    os.utime(trial, (time.time() - 100,) * 2)
    return trial


def test_what_a_kill_left_of_the_trial_is_removed_by_the_next_save(here, left_by_a_kill):
    with atomic_folder.replacement(here / "out") as fresh:
        (fresh / "config.json").write_text("{}")
    assert [path.name for path in here.iterdir()] == ["out"]
    assert not (here / "out" / manifest.WRITING).exists()


def test_it_is_removed_by_the_next_run_in_low_memory(here, left_by_a_kill):
    with open_run(here / "out", {}):
        assert not left_by_a_kill.exists()
    assert not list(here.iterdir())


@pytest.mark.parametrize(
    ("name", "reason"),
    [("x" * 250, "File name too long"), ("gone/norms.st", "No such file or directory")],
)
def test_a_profile_that_cannot_be_written_is_refused_before_the_work(here, name, reason):
    with pytest.raises(StorageError, match=rf"the profile cannot be written to .* \({reason}\); choose another place"):
        check_profile_target(name)
    assert check_profile_target("norms.st") == here / "norms.st"
    assert not list(here.iterdir())
