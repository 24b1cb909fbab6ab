"""Checkpoints: what is written loads again, and whatever goes wrong the old folder or the new one is whole."""

import errno
import importlib.metadata
import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer

from wanda_core.checkpoint import atomic_folder, manifest, weights
from wanda_core.checkpoint import save as saving
from wanda_core.checkpoint.manifest import RECORD
from wanda_core.checkpoint.records import FORMAT
from wanda_core.checkpoint.save import save
from wanda_core.errors import InputError, StorageError
from wanda_core.evaluation.perplexity import Perplexity
from wanda_core.model.loading import load_model
from wanda_core.pruning.prune import prune
from wanda_core.recipe import PruneSpec
from wanda_core.text.windows import calibrate

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def variant(tiny_llama, text):
    return prune(tiny_llama, PruneSpec(), calibrate(tiny_llama, text, samples=3, seq_len=24, seed=5, source="a.txt"))


@pytest.fixture(scope="module")
def other(tiny_llama):
    return prune(tiny_llama, PruneSpec("magnitude", 0.3))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def hidden(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("model", ["tiny_llama", "tiny_gpt2", "tiny_opt"])
def test_a_saved_model_loads_with_identical_weights_and_logits(model, device, request, tmp_path, text):
    lm = request.getfixturevalue(model)
    made = prune(lm, PruneSpec(pattern="2:4"), calibrate(lm, text, samples=2, seq_len=16))
    folder = save(made, tmp_path / "out")

    loaded = AutoModelForCausalLM.from_pretrained(folder).eval().to(lm.device)
    expected = made.lm.model.state_dict()
    assert loaded.state_dict().keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in loaded.state_dict().items())
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = torch.tensor([tokenizer("The sky is blue")["input_ids"]], device=lm.device)
    assert ids.tolist()[0] == lm.encode("The sky is blue")
    with torch.no_grad():
        assert torch.equal(loaded(ids).logits, made.lm.model(ids).logits)


def test_our_own_loader_takes_it_and_it_can_be_pruned_again(variant, tmp_path):
    lm = load_model(str(save(variant, tmp_path / "out")), device="cpu", dtype=torch.float32)
    again = prune(lm, PruneSpec("magnitude", 0.5, group="row"))
    folder = save(again, tmp_path / "out")  # onto the folder that its weights were read from
    assert json.loads((folder / RECORD).read_text())["base"] == {"name": "out", "title": "out", "revision": "local"}


def test_the_record_tells_how_to_make_it_again(variant, tmp_path):
    found = json.loads((save(variant, tmp_path / "out") / RECORD).read_text())
    assert found["format"] == FORMAT
    assert PruneSpec(**found["recipe"]) == variant.spec
    assert found["base"] == {"name": "tiny", "title": "tiny", "revision": "local"}
    assert found["calibration"] == {
        "source": "a.txt",
        "samples": 3,
        "seq_len": 24,
        "seed": 5,
        "bos": False,
        "packed": False,
        "fingerprint": variant.profile.calibration,
    }
    assert found["versions"].keys() == {"wanda_core", "python", "torch", "transformers"}
    assert found["versions"]["torch"] == importlib.metadata.version("torch")
    assert found["seconds"] == pytest.approx(variant.report.seconds, abs=1e-3)
    assert found["sparsity"] == variant.report.sparsity == found["zeros"] / found["prunable_weights"]
    weights = variant.lm.model.state_dict()
    assert len(found["linears"]) == 3 * 7
    for linear in found["linears"]:
        weight = weights[f"{linear['name']}.weight"]
        assert linear["shape"] == list(weight.shape)
        assert linear["zeros"] == int((weight == 0).sum())
        assert linear["sparsity"] == linear["zeros"] / weight.numel()


def test_the_card_says_what_was_done_and_that_zeros_save_nothing(variant, other, tmp_path):
    measured = Perplexity(12.345, 32, 4, 124)
    folder = save(variant, tmp_path / "out", dense_perplexity=measured, pruned_perplexity=Perplexity(math.inf, 8, 1, 7))
    readme = (folder / "README.md").read_text(encoding="utf-8")
    head = readme.split("---\n")[1]
    assert "library_name: transformers" in head
    assert "base_model" not in head  # a local folder is no hub id
    for part in (
        "Wanda 50%",
        "50.00% of",
        "3 windows of 24 tokens",
        "Perplexity, dense: 12.35 (4 windows of 32 tokens)",
        "Perplexity, pruned: infinite",
        "Zeros do not make a dense file smaller",
    ):
        assert part in readme
    perplexities = json.loads((folder / RECORD).read_text())["perplexity"]
    assert perplexities["dense"]["perplexity"] == 12.345
    assert perplexities["pruned"]["perplexity"] is None
    assert "Calibration: none" in (save(other, tmp_path / "other") / "README.md").read_text(encoding="utf-8")


def test_nothing_in_it_points_at_this_machine(variant, tmp_path, tiny_llama):
    dense = tmp_path / "secret" / "dense"
    tiny_llama.model.save_pretrained(dense)
    tiny_llama.tokenizer.save_pretrained(dense)
    made = prune(load_model(str(dense), device="cpu", dtype=torch.float32), PruneSpec("magnitude"))
    for name, data in contents(save(made, tmp_path / "out")).items():
        assert b"secret" not in data, name


def test_files_are_readable_by_others_as_the_folder_is(variant, tmp_path):
    folder = save(variant, tmp_path / "out")
    modes = {path.stat().st_mode & 0o777 for path in folder.iterdir()}
    assert modes == {folder.stat().st_mode & 0o666}


def test_missing_folders_above_are_made_and_a_link_stays_a_link(variant, tmp_path):
    assert save(variant, tmp_path / "a" / "b" / "out") == tmp_path / "a" / "b" / "out"
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert save(variant, tmp_path / "link") == tmp_path / "real"
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real" / RECORD).exists()


@pytest.mark.parametrize("swap", [True, False])
def test_an_earlier_checkpoint_is_replaced_whole(variant, other, tmp_path, monkeypatch, swap):
    if not swap:
        monkeypatch.setattr(atomic_folder, "_swap", lambda first, second: False)
    monkeypatch.setattr(weights, "SHARD", "100KB")
    folder = save(other, tmp_path / "out")
    assert len(list(folder.glob("*.safetensors"))) > 1
    monkeypatch.undo()
    if not swap:
        monkeypatch.setattr(atomic_folder, "_swap", lambda first, second: False)
    save(variant, folder)
    fresh = save(variant, tmp_path / "fresh")
    assert contents(folder) == contents(fresh)
    assert hidden(tmp_path) == []


def test_what_is_not_ours_is_refused_and_stays(variant, tmp_path):
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.txt").write_text("years of work")
    for target in (foreign, foreign / "thesis.txt", foreign / "thesis.txt" / "out"):
        with pytest.raises(StorageError, match=r"; choose another (folder|name)$"):
            save(variant, target)
    for name in ("", "  ", tmp_path / "a\0b"):
        with pytest.raises(InputError, match="is no name"):
            saving.check_target(name)
    with pytest.raises(StorageError, match="cannot be written"):
        saving.check_target(tmp_path / ("x" * 5000))
    assert contents(tmp_path) == {"foreign/thesis.txt": b"years of work"}


def test_a_mounted_disk_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(os.path, "ismount", lambda path: True)
    with pytest.raises(StorageError, match="choose a folder inside it"):
        saving.check_target(tmp_path)


def test_files_that_appear_while_writing_are_not_lost(variant, tmp_path, monkeypatch):
    write = saving._write

    def and_somebody_else(*args):
        write(*args)
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "thesis.txt").write_text("years of work")

    monkeypatch.setattr(saving, "_write", and_somebody_else)
    with pytest.raises(StorageError, match="holds other files"):
        save(variant, tmp_path / "out")
    assert contents(tmp_path) == {"out/thesis.txt": b"years of work"}


def test_a_disk_without_room_is_found_beforehand(variant, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1_000_000))
    monkeypatch.setattr(saving, "_write", lambda *args: pytest.fail("it began to write"))
    with pytest.raises(StorageError, match=r"takes 0\.1 GB and 0\.0 GB are free .*; free some space or"):
        save(variant, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("failure", "expected", "message"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), StorageError, "the disk became full .*; free some space"),
        (SafetensorError("I/O error: No space left on device (os error 28)"), StorageError, "the disk became full"),
        (PermissionError(errno.EACCES, "Permission denied"), StorageError, r"\(Permission denied\); check that"),
        (RuntimeError("tensors share\nmemory."), StorageError, r"\(tensors share memory\); check that"),
        (KeyboardInterrupt(), KeyboardInterrupt, "^$"),
    ],
)
@pytest.mark.parametrize("earlier", [True, False])
def test_a_failure_while_writing_leaves_everything_as_it_was(
    variant, other, tmp_path, monkeypatch, failure, expected, message, earlier
):
    target = tmp_path / "above" / "out"
    if earlier:
        save(other, target)
    before = contents(tmp_path)

    def fail(self, folder, **kwargs):
        Path(folder, "model.safetensors").write_bytes(b"half of it")
        raise failure

    monkeypatch.setattr(type(variant.lm.model), "save_pretrained", fail)
    with pytest.raises(expected, match=message):
        save(variant, target)
    assert contents(tmp_path) == before
    assert earlier or list(tmp_path.iterdir()) == []
    assert not earlier or hidden(target.parent) == []


def test_a_new_folder_that_cannot_move_in_lets_the_old_one_come_back(variant, other, tmp_path, monkeypatch):
    folder = save(other, tmp_path / "out")
    before = contents(folder)
    rename = os.rename

    def refuse_ours(source, target):
        if ".tmp-" in str(source) and not Path(target).exists():
            raise OSError(errno.EIO, "Input/output error")
        rename(source, target)

    monkeypatch.setattr(atomic_folder, "_swap", lambda first, second: False)
    monkeypatch.setattr(os, "rename", refuse_ours)
    with pytest.raises(StorageError, match="Input/output error"):
        save(variant, folder)
    assert contents(folder) == before
    assert hidden(tmp_path) == []


@pytest.mark.skipif(sys.platform not in ("linux", "darwin"), reason="there is no swap elsewhere")
def test_swap_exchanges_two_names_or_says_why_not(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    if atomic_folder._swap(tmp_path / "a", tmp_path / "b"):
        assert [path.name for path in (tmp_path / "a").iterdir()] == ["b"]
        assert [path.name for path in (tmp_path / "b").iterdir()] == ["a"]
    with pytest.raises(FileNotFoundError):
        atomic_folder._swap(tmp_path / "a", tmp_path / "missing")


def test_leftovers_go_when_their_process_is_gone(variant, tmp_path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    stale = tmp_path / f".out.tmp-{gone.pid}-0123abcd"
    reused = tmp_path / f".out.tmp-{os.getpid()}-0123abcd"  # our number, but older than we are
    kept = [
        tmp_path / f".out.tmp-{os.getpid()}-89abcdef",
        tmp_path / f".other.tmp-{gone.pid}-0123abcd",
        tmp_path / ".out.tmp-notes",
    ]
    for path in (stale, reused, *kept):
        path.mkdir()
        (path / manifest.WRITING).touch()
        (path / "model.safetensors").write_bytes(b"half of it")
    os.utime(reused, (1e9, 1e9))
    unmarked = tmp_path / f".out.tmp-{gone.pid}-4567abcd"  # somebody's own, under a name like ours
    unmarked.mkdir()
    (unmarked / "model.safetensors").write_bytes(b"somebody's own")
    mixed = tmp_path / f".out.tmp-{gone.pid}-7654abcd"  # ours, into which somebody has put something
    shutil.copytree(stale, mixed)
    (mixed / "thesis.txt").write_text("years of work")
    save(variant, tmp_path / "out")
    assert sorted(hidden(tmp_path)) == sorted(path.name for path in (*kept, unmarked, mixed))
    assert (unmarked / "model.safetensors").read_bytes() == b"somebody's own"
    assert [path.name for path in mixed.iterdir()] == ["thesis.txt"]


def test_the_record_tells_every_block_its_sparsity_and_what_owl_found(tiny_llama, text, tmp_path):
    variant = prune(
        tiny_llama, PruneSpec(sparsity=0.6, allocation="owl"), calibrate(tiny_llama, text, samples=2, seq_len=16)
    )
    blocks = json.loads((save(variant, tmp_path / "owl") / "wanda.json").read_text())["blocks"]
    assert [block["sparsity"] for block in blocks] == list(variant.report.blocks)
    ratios = [block["outlier_ratio"] for block in blocks]
    assert ratios == list(variant.report.outlier_ratios)
    assert blocks[ratios.index(max(ratios))]["sparsity"] == min(variant.report.blocks)
    even = prune(tiny_llama, PruneSpec("magnitude"))
    blocks = json.loads((save(even, tmp_path / "even") / "wanda.json").read_text())["blocks"]
    assert blocks == [{"sparsity": 0.5}] * 3
