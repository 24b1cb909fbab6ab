"""How much memory is free: the machine's, or what a container's groups leave."""

from types import SimpleNamespace

import psutil
import pytest

from wanda_core.machine import memory
from wanda_core.machine.memory import free_bytes

GB = 10**9
V2 = ("memory.max", "memory.current", "inactive_file")
V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


@pytest.fixture
def machine(monkeypatch):
    """64 GB are free on the machine."""
    monkeypatch.setattr(memory.psutil, "virtual_memory", lambda: SimpleNamespace(available=64 * GB))


def group(folder, names, limit, used, cached=None):
    """Write the files by which the kernel tells of a group."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / names[0]).write_text(f"{limit}\n")
    (folder / names[1]).write_text(f"{used}\n")
    if cached is not None:
        (folder / "memory.stat").write_text(f"anon 5\n{names[2]} {cached}\nslab 7\n")


def belongs(root, text):
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(text)


def test_a_free_space_of_sixteen_gigabytes_on_a_large_machine(tmp_path, machine):
    belongs(tmp_path, "0::/\n")
    group(tmp_path / "sys/fs/cgroup", V2, 16 * GB, 3 * GB, 1 * GB)
    assert free_bytes(tmp_path) == 14 * GB


def test_the_first_version_says_it_in_other_words(tmp_path, machine):
    belongs(tmp_path, "11:cpu,cpuacct:/docker/abc\n4:blkio,memory:/docker/abc\n")
    group(tmp_path / "sys/fs/cgroup/memory/docker/abc", V1, 8 * GB, 6 * GB, 2 * GB)
    group(tmp_path / "sys/fs/cgroup/memory", V1, 9223372036854771712, 30 * GB)
    assert free_bytes(tmp_path) == 4 * GB


def test_the_tightest_of_the_groups_around_it_counts(tmp_path, machine):
    belongs(tmp_path, "0::/outer/inner\n")
    group(tmp_path / "sys/fs/cgroup/outer/inner", V2, "max", 1 * GB)
    group(tmp_path / "sys/fs/cgroup/outer", V2, 4 * GB, 3 * GB)
    assert free_bytes(tmp_path) == 1 * GB


def test_a_path_of_the_host_leads_to_the_groups_that_are_there(tmp_path, machine):
    belongs(tmp_path, "0::/system.slice/docker-abc.scope\n")
    group(tmp_path / "sys/fs/cgroup", V2, 2 * GB, 0)
    assert free_bytes(tmp_path) == 2 * GB


@pytest.mark.parametrize("text", ["", "0::/\n", "nonsense", "0::/../../..\n", "4:memory\n"])
def test_without_a_limit_it_is_the_machines(tmp_path, machine, text):
    belongs(tmp_path, text)
    group(tmp_path / "sys/fs/cgroup", V2, "max", 5 * GB)
    assert free_bytes(tmp_path) == 64 * GB


def test_where_there_is_no_linux_it_is_the_machines(tmp_path, machine):
    assert free_bytes(tmp_path / "nowhere") == 64 * GB


def test_a_limit_above_the_machine_gives_no_more_than_it_has(tmp_path, machine):
    belongs(tmp_path, "0::/\n")
    group(tmp_path / "sys/fs/cgroup", V2, 640 * GB, 0)
    assert free_bytes(tmp_path) == 64 * GB


def test_a_group_beyond_its_limit_has_nothing_left(tmp_path, machine):
    belongs(tmp_path, "0::/\n")
    group(tmp_path / "sys/fs/cgroup", V2, 2 * GB, 3 * GB, 0)
    assert free_bytes(tmp_path) == 0


def test_here_it_is_a_part_of_the_machine():
    assert 0 < free_bytes() <= psutil.virtual_memory().total
