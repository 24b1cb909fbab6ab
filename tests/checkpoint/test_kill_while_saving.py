"""A kill at any line of saving leaves the old folder whole or the new one."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors
import torch

from wanda_core.checkpoint import atomic_folder, manifest
from wanda_core.checkpoint.beside import copy_beside
from wanda_core.checkpoint.weights import WeightFiles
from wanda_core.low_memory import resume
from wanda_core.model.stored_tensors import stored_tensors

ROOT = Path(__file__).resolve().parents[2]

DRIVER = """
# Save again and again, each time in a child that kills itself at another line, and look at what is left.
import json, os, shutil, signal, sys
from pathlib import Path
import torch
from wanda_core.checkpoint import atomic_folder, save
from wanda_core.model.loading import load_model
from wanda_core.pruning.prune import prune
from wanda_core.recipe import PruneSpec

torch.set_num_threads(1)  # a forked child has no other threads
os.fsync = lambda descriptor: None  # a kill, unlike a power cut, loses nothing that was written; and this is slow
here = Path(sys.argv[1])
lm = load_model(str(here / "dense"), device="cpu", dtype=torch.float32)
old, new = prune(lm, PruneSpec("magnitude", 0.3)), prune(lm, PruneSpec("magnitude", 0.7))
swap = atomic_folder._swap
OURS = (atomic_folder.__file__, save.__file__)
ELSEWHERE = ("save_pretrained", "rmtree", "_rmtree_safe_fd")
MOVING = ("_move", "_swap", "_two_renames")


def contents(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def save_until(line):
    # Kill this process at that line; line 0: save to the end and write down which functions the lines were in.
    functions = []

    def count(frame, event, arg):
        if frame.f_code.co_filename not in OURS and frame.f_code.co_name not in ELSEWHERE:
            return None
        if event == "line":
            functions.append(frame.f_code.co_name)
            if len(functions) == line:
                os.kill(os.getpid(), signal.SIGKILL)
        return count

    sys.settrace(count)
    save.save(new, target)
    sys.settrace(None)
    (here / "functions.json").write_text(json.dumps(functions))


def attempt(line, mode):
    shutil.rmtree(target.parent, ignore_errors=True)
    target.parent.mkdir()
    if mode != "nothing":
        shutil.copytree(here / "old", target)
    child = os.fork()
    if not child:
        try:
            save_until(line)
        except BaseException:
            os._exit(3)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    assert status == (signal.SIGKILL if line else 0), f"status {status} at line {line}"
    stepped_aside = mode == "renames" and not target.exists()
    atomic_folder.sweep(target)  # as the next save does
    left = contents(target) if target.exists() else None
    assert left in ((None, fresh) if mode == "nothing" else (pristine, fresh)), f"damaged at line {line}"
    assert os.listdir(target.parent) == ["out"][: target.exists()], f"leftovers at line {line}"
    found["new" if left == fresh else "aside" if stepped_aside else "old"] += 1


pristine, fresh = contents(save.save(old, here / "old")), contents(save.save(new, here / "new"))
target, results = here / "work" / "out", {}
for mode in ("swap", "renames", "nothing"):
    atomic_folder._swap = swap if mode == "swap" else lambda first, second: False
    found = results[mode] = {"old": 0, "new": 0, "aside": 0}
    attempt(0, mode)
    functions = json.loads((here / "functions.json").read_text())
    for line in range(1, len(functions) + 1):
        if functions[line - 1] in MOVING or line % EVERY == 0:
            attempt(line, mode)
print(json.dumps(results))
"""


def named_otherwise(folder):
    """Give a model's one file of weights a name that no writer of ours makes up."""
    weights = (folder / "model.safetensors").rename(folder / "weights-1-of-1.safetensors")
    with safetensors.safe_open(weights, "pt") as file:
        index = {"metadata": {}, "weight_map": dict.fromkeys(file.keys(), weights.name)}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_kill_at_any_line_leaves_the_old_folder_or_the_new_one(tmp_path, tiny_llama):
    """Every line of the move is tried, and every fiftieth of the rest. EVERY = 1 tries all."""
    tiny_llama.model.save_pretrained(tmp_path / "dense")
    tiny_llama.tokenizer.save_pretrained(tmp_path / "dense")
    (tmp_path / "dense" / "LICENSE").write_text("Apache")
    (tmp_path / "dense" / "words.txt").write_text("behind the record, by name")
    named_otherwise(tmp_path / "dense")
    (tmp_path / "dense" / "additional_chat_templates").mkdir()
    (tmp_path / "dense" / "additional_chat_templates" / "a.jinja").write_text("{{ a }}")
    (tmp_path / "driver.py").write_text(DRIVER.replace("EVERY", "50"))
    done = subprocess.run(
        [sys.executable, str(tmp_path / "driver.py"), str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", "TOKENIZERS_PARALLELISM": "false"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    results = json.loads(done.stdout.splitlines()[-1])
    assert all(found["old"] >= 5 and found["new"] >= 1 for found in results.values()), results
    assert results["renames"]["aside"] >= 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("names", [[], ["index.html", "preview.png"]])
def test_what_a_killed_writing_announced_goes_and_what_somebody_put_there_stays(tmp_path, names):
    (tmp_path / "dense").mkdir()
    for name in ("LICENSE", "USE_POLICY.md", "config.json"):
        (tmp_path / "dense" / name).write_text("of the model")
    child = os.fork()
    if not child:
        with atomic_folder.replacement(tmp_path / "out", names) as fresh:
            copy_beside(tmp_path / "dense", fresh, None)
            for name in names:
                (fresh / name).write_text("a page")
            os._exit(0)  # as a kill
    os.waitpid(child, 0)
    (left,) = tmp_path.glob(".out.tmp-*")
    assert {path.name for path in left.iterdir()} == {
        ".wanda-writing",
        "LICENSE",
        "USE_POLICY.md",
        "config.json",
        *names,
    }
    somebodys = tmp_path / "somebodys"
    somebodys.mkdir()
    (somebodys / "LICENSE").write_text("mine")
    (left / "tokenizer").symlink_to(somebodys)
    (left / "model-notes").mkdir()
    (left / "model-notes" / "LICENSE").write_text("mine, too")
    with (left / manifest.WRITING).open("a") as mark:
        mark.write('"half of a na')
    atomic_folder.sweep(tmp_path / "out")
    assert {str(path.relative_to(left)) for path in left.rglob("*")} == {"model-notes", "model-notes/LICENSE"}
    assert (somebodys / "LICENSE").read_text() == "mine"


def test_a_sweep_that_is_killed_is_gone_on_with(tmp_path, monkeypatch):
    """The mark goes last."""
    folder = tmp_path / ".out.tmp-1-01234567"
    folder.mkdir()
    monkeypatch.setattr(atomic_folder, "is_gone", lambda process, path: True)
    for name in (manifest.WRITING, "LICENSE", "config.json", "model.safetensors"):
        (folder / name).write_text('"LICENSE"\n')
    gone, unlink = [], Path.unlink

    def killed(path, missing_ok=False):
        if len(gone) == 2:
            raise KeyboardInterrupt
        unlink(path)
        gone.append(path.name)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", killed)
        with pytest.raises(KeyboardInterrupt):
            atomic_folder.sweep(tmp_path / "out")
    assert len(list(folder.iterdir())) == 2
    atomic_folder.sweep(tmp_path / "out")
    assert not list(tmp_path.iterdir())


def killed_after(monkeypatch, count, work):
    """Do something whose removal of files ends after so many; tell whether it did not come to its end."""
    gone, unlink = [], Path.unlink

    def killed(path, missing_ok=False):
        if len(gone) == count:
            raise KeyboardInterrupt
        unlink(path, missing_ok=missing_ok)
        gone.append(path.name)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", killed)
        try:
            work()
        except KeyboardInterrupt:
            return True
    return False


def saved(folder, word):
    """What a save does, with files whose names sort before the record and behind it."""
    names = ("LICENSE", "words.txt", "weights-1-of-1.safetensors")
    with atomic_folder.replacement(folder, names) as fresh:
        for name in names:
            (fresh / name).write_text(word)
        (fresh / "additional_chat_templates").mkdir()
        (fresh / "additional_chat_templates" / "a.jinja").write_text(word)
        manifest.seal(fresh, {"wanda": "0"})


@pytest.mark.parametrize("swaps", [True, False])
def test_a_kill_while_the_earlier_folder_is_removed_leaves_nothing_for_ever(tmp_path, monkeypatch, swaps):
    monkeypatch.setattr(atomic_folder, "is_gone", lambda process, path: True)
    if not swaps:
        monkeypatch.setattr(atomic_folder, "_swap", lambda first, second: False)
    target, count = tmp_path / "out", 1  # the first that goes is the mark of the new folder
    saved(target, "old")
    while killed_after(monkeypatch, count, lambda: saved(target, "new")):
        assert (target / "words.txt").read_text() == "new"
        assert len(list(tmp_path.iterdir())) == 2
        target.rename(tmp_path / "elsewhere")  # what is half removed is never put back in its place
        atomic_folder.sweep(target)
        assert [path.name for path in tmp_path.iterdir()] == ["elsewhere"], count
        shutil.rmtree(tmp_path / "elsewhere")
        saved(target, "old")
        count += 1
    assert count == 1 + 5


def test_an_earlier_checkpoint_that_lies_half_removed_where_a_low_memory_run_worked_goes_too(tmp_path):
    (tmp_path / ".out.unfinished").mkdir()
    saved(tmp_path / ".out.unfinished" / "model", "old")
    (tmp_path / ".out.unfinished" / "model" / "LICENSE").unlink()
    resume._clear(tmp_path / ".out.unfinished")
    assert not list((tmp_path / ".out.unfinished").iterdir())


@pytest.mark.parametrize("sealed", [True, False])
def test_a_kill_while_a_failed_folder_is_removed_leaves_nothing_for_ever(tmp_path, monkeypatch, sealed):
    monkeypatch.setattr(atomic_folder, "is_gone", lambda process, path: True)

    def failing():
        names = ("LICENSE", "words.txt", "weights-1-of-1.safetensors")
        with contextlib.suppress(ValueError), atomic_folder.replacement(tmp_path / "out", names) as fresh:
            for name in names:
                (fresh / name).write_text("a")
            if sealed:
                manifest.seal(fresh, {"wanda": "0"})
            raise ValueError

    count = 0
    while killed_after(monkeypatch, count, failing):
        assert len(list(tmp_path.iterdir())) == 1
        atomic_folder.sweep(tmp_path / "out")
        assert not list(tmp_path.iterdir()), count
        count += 1
    assert count == 4 + sealed


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_shards_that_are_called_as_in_their_source_go_after_a_kill(tmp_path, tiny_llama):
    tiny_llama.model.save_pretrained(tmp_path / "dense")
    tiny_llama.tokenizer.save_pretrained(tmp_path / "dense")
    named_otherwise(tmp_path / "dense")
    stored = stored_tensors(tmp_path / "dense", "dense")
    files = WeightFiles(stored, {}, torch.float32)
    child = os.fork()
    if not child:
        with atomic_folder.replacement(tmp_path / "out") as fresh:
            files.write(fresh)
            os._exit(0)  # as a kill
    os.waitpid(child, 0)
    (left,) = tmp_path.glob(".out.tmp-*")
    assert (left / "weights-1-of-1.safetensors").is_file()
    atomic_folder.sweep(tmp_path / "out")
    assert not left.exists()
