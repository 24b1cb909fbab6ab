"""A shrunk model, which no folder holds, goes out as one zip with the very files that `save` writes."""

import errno
import tempfile

import pytest
import torch
from test_archive import CALIBRATION, MADE, SPEC, dense, files_of, loaded, unzipped
from transformers import AutoModelForCausalLM

from wanda_core.checkpoint import weights as weights_of
from wanda_core.checkpoint.archive import Archive
from wanda_core.checkpoint.contents import contents_anew
from wanda_core.checkpoint.save import check_saveable, save
from wanda_core.errors import StorageError
from wanda_core.low_memory import one_by_one
from wanda_core.low_memory.one_by_one import files_anew
from wanda_core.pruning.packed import pack
from wanda_core.pruning.prune import prune
from wanda_core.shrinking.shrink import shrink
from wanda_core.shrinking.spec import ShrinkSpec


def check(made, variant, folder, dtype=None):
    """The archive of a smaller model, or of a variant of it, holds what saving it writes."""
    weights = files_anew(made.lm, dtype, pack(made.lm, variant).parameters if variant is not None else {})
    weights.check()
    what = made if variant is None else variant
    found = unzipped(Archive("pruned", contents_anew(what, weights), MADE))
    saved = save(what, folder, dtype=dtype)
    assert found == files_of(saved)
    return saved


@pytest.mark.parametrize("spec", [ShrinkSpec(0.3, multiple=4), ShrinkSpec(blocks=1)], ids=["neurons", "blocks"])
@pytest.mark.parametrize("family", ["Llama", "GPT2", "Mixtral", "GptOss"])
def test_the_files_are_those_of_the_saved_folder(tokenizer, tmp_path, family, spec):
    lm = loaded(dense(tmp_path / "dense", tokenizer, family, torch.bfloat16))
    made = shrink(lm, spec, CALIBRATION)
    check(made, None, tmp_path / "out")
    saved = check(made, prune(made.lm, SPEC), tmp_path / "zeros", torch.float32)
    ids = CALIBRATION.ids
    with torch.no_grad():
        found = AutoModelForCausalLM.from_pretrained(saved, dtype=torch.float32)(ids).logits
        assert torch.equal(found, prune(made.lm, SPEC).lm.model(ids).logits)


def test_a_disk_that_is_full_when_the_tokenizer_is_written_is_said_to_be(tokenizer, tmp_path, monkeypatch):
    """The package that writes it raises a type that says nothing."""
    lm = loaded(dense(tmp_path / "dense", tokenizer))
    made = shrink(lm, ShrinkSpec(0.3, multiple=4), CALIBRATION)

    def full(*_, **__):
        raise Exception("No space left on device (os error 28)")

    monkeypatch.setattr(type(made.lm.tokenizer), "save_pretrained", full)
    with pytest.raises(StorageError, match=r"the disk became full while writing '.*out'; free some space"):
        save(made, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["dense"]
    weights = files_anew(made.lm, None, {})
    with pytest.raises(StorageError, match=r"for a moment \(No space left on device\); free some space there"):
        contents_anew(made, weights)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with pytest.raises(StorageError, match=r"to '.*gone', where it lies for a moment \(No such file or directory\)"):
        contents_anew(made, weights)
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_get_default_tempdir", nowhere)
    with pytest.raises(StorageError, match=r"\(No usable temporary directory found in .*\); free some space there"):
        contents_anew(made, weights)
    check_saveable(made.lm)  # another disk may have room


def test_in_shards(tokenizer, tmp_path, monkeypatch):
    for module in (weights_of, one_by_one):
        monkeypatch.setattr(module, "SHARD", "20KB")
    lm = loaded(dense(tmp_path / "dense", tokenizer))
    saved = check(shrink(lm, ShrinkSpec(0.3, multiple=4), CALIBRATION), None, tmp_path / "out")
    assert len(list(saved.glob("model-*.safetensors"))) > 1


def nowhere():
    raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']")
