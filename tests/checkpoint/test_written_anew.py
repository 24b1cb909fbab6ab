"""A folder that somebody writes anew meanwhile: nothing that is saved or sent is of two of its states."""

import json
import os
import shutil
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch

from wanda_core.checkpoint import push
from wanda_core.checkpoint.save import save
from wanda_core.errors import ModelError, StorageError
from wanda_core.low_memory.model_on_disk import open_model
from wanda_core.low_memory.prune import prune_to_folder
from wanda_core.low_memory.shrink import shrink_to_folder
from wanda_core.model.loading import load_model
from wanda_core.pruning.prune import prune
from wanda_core.recipe import PruneSpec
from wanda_core.shrinking.shrink import shrink
from wanda_core.shrinking.spec import ShrinkSpec

CHANGED = "have changed since it was loaded; load the model again"
BY_SIZE = PruneSpec("magnitude")


@pytest.fixture
def dense(tiny_llama, tmp_path):
    folder = tmp_path / "dense"
    tiny_llama.model.save_pretrained(folder)
    tiny_llama.tokenizer.save_pretrained(folder)
    return folder


def write_anew(folder: Path, file: str = "model.safetensors") -> None:
    """Have a file of a folder be another, as a program does that writes a model there."""
    os.utime(folder / file, ns=(0, 1))


@pytest.mark.parametrize("file", ["model.safetensors", "config.json", "tokenizer.json"])
@pytest.mark.parametrize(
    "made", [lambda lm: prune(lm, BY_SIZE), lambda lm: shrink(lm, ShrinkSpec(0.5, score="magnitude", update="none"))]
)
def test_what_was_made_of_it_is_not_saved_with_other_files(dense, tmp_path, made, file):
    variant = made(load_model(str(dense), device="cpu"))
    assert save(variant, tmp_path / "before").is_dir()
    write_anew(dense, file)
    with pytest.raises(ModelError, match=CHANGED):
        save(variant, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    shutil.rmtree(dense)
    with pytest.raises(ModelError, match=CHANGED):
        save(variant, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["before"]


def test_a_change_while_it_is_saved_leaves_what_was_there(dense, tmp_path, monkeypatch):
    variant = prune(load_model(str(dense), device="cpu"), BY_SIZE)
    before = save(variant, tmp_path / "out")
    sums = (before / "wanda.json").read_bytes()
    monkeypatch.setattr("wanda_core.checkpoint.save.card", lambda record: write_anew(dense) or "card")
    with pytest.raises(ModelError, match=CHANGED):
        save(variant, tmp_path / "out")
    assert (before / "wanda.json").read_bytes() == sums


@pytest.mark.parametrize(
    "run",
    [
        lambda lm, out, tell: prune_to_folder(lm, BY_SIZE, out, None, on_progress=tell),
        lambda lm, out, tell: shrink_to_folder(lm, ShrinkSpec(0.5, score="magnitude", update="none"), out, None, tell),
    ],
    ids=["prune", "shrink"],
)
def test_from_the_disk_a_block_at_a_time_it_is_one_model_too(dense, tmp_path, run):
    def meanwhile(step):
        if step.done == 1:
            write_anew(dense)

    with pytest.raises(ModelError, match=CHANGED):
        run(open_model(str(dense), device="cpu", dtype=torch.float32), tmp_path / "out", meanwhile)
    assert [path.name for path in tmp_path.iterdir()] == ["dense"]
    run(open_model(str(dense), device="cpu", dtype=torch.float32), tmp_path / "out", lambda step: None)
    assert load_model(str(tmp_path / "out"), device="cpu").n_parameters


def test_a_checkpoint_that_is_written_anew_while_it_is_read_is_not_pushed(dense, tmp_path, monkeypatch):
    folder = save(prune(load_model(str(dense), device="cpu"), BY_SIZE), tmp_path / "out")
    record = json.loads((folder / "wanda.json").read_text())
    transfer = push._Transfer("owner/model", folder, push._record(folder), False, "hf_x")
    added = transfer._added

    def meanwhile(name: str, opened: ExitStack):
        found = added(name, opened)
        if name.endswith(".safetensors"):
            (folder / "wanda.json").write_text(json.dumps(record | {"sparsity": 0.75}))
        return found

    monkeypatch.setattr(transfer, "_there", lambda: None)
    monkeypatch.setattr(transfer, "_added", meanwhile)
    monkeypatch.setattr(transfer, "api", None)  # nothing is asked of the hub
    with pytest.raises(StorageError, match="was written anew while it was read; push it again"):
        transfer.run()
