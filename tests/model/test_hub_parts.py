"""Files of which the hub's cache holds a part: they are fetched again, and what somebody changed is not."""

import json

import pytest
import torch
from fake_hub import MODEL, NEW, refusal
from huggingface_hub import constants
from safetensors.torch import load_file, save_file

from wanda_core.errors import ModelError
from wanda_core.model import hub_transfer
from wanda_core.model.loading import load_model
from wanda_core.model.stored_tensors import INDEX

pytestmark = pytest.mark.usefixtures("cache")


@pytest.mark.parametrize("file", ["model.safetensors", "config.json", "tokenizer.json"])
@pytest.mark.parametrize("left", [0, 1, -2])
def test_what_was_cut_short_in_the_cache_is_fetched_again(there, monkeypatch, file, left):
    folder = load_model(MODEL, device="cpu").folder
    whole = (folder / file).read_bytes()
    (folder / file).resolve().write_bytes(whole[:left])
    with monkeypatch.context() as away:
        away.setattr(constants, "HF_HUB_OFFLINE", True)
        message = refusal(MODEL, ModelError)
        assert "4 of 5 files of 'owner/model' are on this machine and the Hugging Face hub cannot be reached" in message
        assert f"for the others ({file} and so on)" in message
    assert load_model(MODEL, device="cpu").folder == folder
    assert (folder / file).read_bytes() == whole


def test_an_index_that_was_cut_short_is_fetched_again_too(there, tiny_llama):
    (there.commits[NEW] / "model.safetensors").unlink()
    tiny_llama.model.save_pretrained(there.commits[NEW], max_shard_size="100KB")
    folder = load_model(MODEL, device="cpu").folder
    whole = (folder / INDEX).read_bytes()
    (folder / INDEX).resolve().write_bytes(whole[:-5])
    assert load_model(MODEL, device="cpu").folder == folder
    assert (folder / INDEX).read_bytes() == whole


def test_a_part_that_is_no_link_is_fetched_once(there):
    folder = load_model(MODEL, device="cpu").folder
    file = folder / "model.safetensors"
    whole = file.read_bytes()
    file.unlink()  # as where a cache was copied, or a system has no links
    file.write_bytes(whole[:-100])
    for _ in range(2):
        assert load_model(MODEL, device="cpu").folder == folder
    assert file.read_bytes() == whole
    assert len([path for path in there.asked if path.endswith(f"resolve/{NEW}/model.safetensors")]) <= 4


def test_a_part_that_another_commit_has_left_is_not_linked_to(there):
    folder = load_model(MODEL, device="cpu").folder
    blob = (folder / "tokenizer.json").resolve()
    whole = blob.read_bytes()
    (folder / "tokenizer.json").unlink()
    blob.write_bytes(whole[:50])
    assert load_model(MODEL, device="cpu").folder == folder
    assert (folder / "tokenizer.json").read_bytes() == whole


def test_what_somebody_changed_in_the_cache_stays(there):
    folder = load_model(MODEL, device="cpu").folder
    config = (folder / "config.json").resolve()
    config.write_text(json.dumps(json.loads(config.read_text()) | {"rms_norm_eps": 0.5}, separators=(",", ":")))
    assert load_model(MODEL, device="cpu").model.config.rms_norm_eps == 0.5


def test_other_weights_that_somebody_put_into_the_cache_stay(there, tiny_llama):
    folder = load_model(MODEL, device="cpu").folder
    halves = {name: value.to(torch.bfloat16) for name, value in load_file(folder / "model.safetensors").items()}
    save_file(halves, (folder / "model.safetensors").resolve(), {"format": "pt"})
    size = (folder / "model.safetensors").stat().st_size
    assert load_model(MODEL, device="cpu").folder == folder
    assert (folder / "model.safetensors").stat().st_size == size


def test_a_cache_that_may_only_be_read_serves_without_what_is_only_handed_on(there, monkeypatch):
    (there.commits[NEW] / "LICENSE").write_text("as it is")
    folder = load_model(MODEL, device="cpu").folder

    def refuses(*given, **more):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(hub_transfer, "snapshot_download", refuses)
    (folder / "LICENSE").unlink()
    assert load_model(MODEL, device="cpu").folder == folder
    (folder / "config.json").unlink()
    assert "could not be downloaded: Read-only file system" in refusal(MODEL, ModelError)


def test_what_the_hub_tells_to_be_larger_than_it_is_is_fetched_once(there):
    there.claimed["tokenizer_config.json"] = 10**5
    (there.commits[NEW] / "tokenizer_config.json").write_text("{")  # as a part looks
    for _ in range(3):
        refusal(MODEL, ModelError)
    asked = [path for path in there.asked if path.endswith("tokenizer_config.json")]
    assert len(asked) <= 4
