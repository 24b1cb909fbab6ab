"""Weights in several files, as an index names them: all are safetensors, weighed before they are fetched, and agree."""

import io
import json

import pytest
import torch
from fake_hub import MODEL, NEW, Info, hub_answers
from fake_hub import refusal as hub_refusal
from safetensors.torch import load_file, save_file

from wanda_core.errors import ModelError
from wanda_core.low_memory.model_on_disk import open_model
from wanda_core.model import hub, limits
from wanda_core.model.loading import load_model, locate
from wanda_core.model.stored_tensors import INDEX, ONE_FILE

EMBEDDINGS, NORM, UP = "model.embed_tokens.weight", "model.norm.weight", "model.layers.1.mlp.up_proj.weight"


def divided(folder, apart=(NORM,), second="b.safetensors", **more):
    """Put the weights of a folder into two shards. apart: tensors of the second; more: what that holds besides, by its
    name with __ for a dot. -> all that the folder held"""
    whole = load_file(folder / ONE_FILE)
    (folder / ONE_FILE).unlink()
    rest = {name: value for name, value in whole.items() if name not in apart}
    save_file(rest, folder / "a.safetensors", metadata={"format": "pt"})
    others = {name: whole[name] for name in apart} | {name.replace("__", "."): value for name, value in more.items()}
    save_file(others, folder / second, metadata={"format": "pt"})
    index(folder, dict.fromkeys(rest, "a.safetensors") | dict.fromkeys(apart, second))
    return whole


def index(folder, weight_map):
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


@pytest.mark.parametrize(
    "name",
    ["0.bin", "b.SafeTensors", "b.safetensors.", "b.safetensors ", "b.safetensors.bin", "b", "b.pt", "safetensors"],
)
def test_a_shard_that_would_be_read_as_a_pickle_is_refused(folder, refusal, name):
    divided(folder, second=name)
    assert f"names '{name}', and weights are read from files called *.safetensors only" in refusal(folder)


def test_a_pickle_that_is_a_file_of_tensors_too_is_never_read(folder, refusal, monkeypatch):
    whole = divided(folder)
    other = io.BytesIO()
    torch.save({NORM: -whole[NORM]}, other, _use_new_zipfile_serialization=False)
    (folder / "0.bin").write_bytes(other.getvalue())
    index(folder, dict.fromkeys(whole, "a.safetensors") | {NORM: "0.bin"})
    monkeypatch.setattr(torch, "load", lambda *given, **settings: pytest.fail("a pickle was read"))
    assert "names '0.bin'" in refusal(folder)


def test_shards_may_lie_in_folders(folder):
    (folder / "of the model").mkdir()
    divided(folder, second="of the model/b.safetensors")
    assert load_model(str(folder), device="cpu").revision == "local"


def test_the_files_that_are_checked_are_those_that_are_read(folder):
    """One file goes before shards, whatever a configuration says."""
    whole = divided(folder)
    save_file(whole | {NORM: 2 * whole[NORM]}, folder / ONE_FILE, metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"transformers_weights": INDEX}))
    assert torch.equal(load_model(str(folder), device="cpu").model.model.norm.weight, 2 * whole[NORM])


def test_an_index_names_files_by_the_hundred(folder, refusal):
    whole = divided(folder)
    names = [f"{number}.safetensors" for number in range(limits.MOST_SHARDS)]
    index(folder, dict.fromkeys(whole, "a.safetensors") | dict(zip(names, names, strict=True)))
    assert f"names {limits.MOST_SHARDS + 1:,} files, and at most {limits.MOST_SHARDS:,} are read" in refusal(folder)


@pytest.mark.parametrize(
    "other", [lambda up: -up, lambda up: up, lambda up: up.to(torch.int8), lambda up: up[:, :8].contiguous()]
)
def test_a_tensor_that_two_shards_hold_is_refused(folder, refusal, other):
    divided(folder, **{UP.replace(".", "__"): other(load_file(folder / ONE_FILE)[UP])})
    assert f"holds '{UP}' in 'a.safetensors' and in 'b.safetensors', and which of them is meant" in refusal(folder)


def test_a_tensor_that_is_not_in_its_shard_is_named(folder, refusal):
    whole = divided(folder)
    index(folder, dict.fromkeys(whole, "a.safetensors") | {UP: "b.safetensors", NORM: "b.safetensors"})
    assert f"names '{UP}' in 'b.safetensors', which does not hold it; give a complete checkpoint" in refusal(folder)


def test_what_a_shard_holds_beside_what_the_index_names_is_checked_like_the_rest(folder, refusal):
    divided(folder, model__layers__1__more__weight=torch.ones(2, 2))
    assert "holds model.layers.1.more.weight, which its config.json does not mention" in refusal(folder)


def test_an_index_that_names_too_little_serves_as_transformers_reads_it(folder):
    whole = divided(folder)
    index(folder, {EMBEDDINGS: "a.safetensors", NORM: "b.safetensors"})
    for load in (load_model, open_model):
        load(str(folder), device="cpu")
    assert torch.equal(load_model(str(folder), device="cpu").model.get_parameter(UP), whole[UP])


# On the hub


@pytest.mark.parametrize("second", ["0.bin", "b.weights"])
def test_a_shard_of_another_kind_is_not_fetched(there, second):
    divided(there.commits[NEW], second=second)
    assert f"names '{second}', and weights are read from files called *.safetensors only" in hub_refusal(
        MODEL, ModelError
    )
    assert not [path for path in there.asked if path.endswith(second)]


def test_every_shard_is_weighed_before_any_is_fetched(there, monkeypatch):
    divided(there.commits[NEW])
    usage = hub.shutil.disk_usage
    monkeypatch.setattr(hub.shutil, "disk_usage", lambda path: usage(path)._replace(free=10**13))
    there.claimed = {"b.safetensors": 10**12}
    assert "for its weights" in hub_refusal(MODEL, ModelError)
    assert not [path for path in there.asked if path.endswith(".safetensors")]


def test_a_file_whose_size_the_hub_does_not_tell_is_not_fetched(cache, monkeypatch):
    hub_answers(monkeypatch, Info(config__json=10, model__safetensors=None))
    assert "does not tell how large 'model.safetensors' of 'owner/model' is" in hub_refusal(MODEL, ModelError)


def test_files_that_are_not_fetched_may_be_of_any_size(there):
    there.claimed = {"of_another_form.bin": None}
    assert locate(MODEL, "cpu").revision == NEW
