"""A pruned folder is the dense folder with other weights: its files, its names, its number formats, its bits."""

import json

import pytest
import torch
from families import tiny
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load as read_bytes
from safetensors.torch import load_file, save_file

from wanda_core.checkpoint.save import save
from wanda_core.checkpoint.tensor_file import NAMES, Place, file_size, tensor_file
from wanda_core.errors import StorageError
from wanda_core.low_memory.model_on_disk import open_model
from wanda_core.low_memory.prune import prune_to_folder
from wanda_core.model.loading import load_model
from wanda_core.pruning.prune import prune
from wanda_core.recipe import PruneSpec

CPU = torch.device("cpu")
SPEC = PruneSpec("magnitude", 0.5, group="row")
BESIDE = {
    "tokenizer.model": b"\x00pieces",
    "preprocessor_config.json": b"{}",
    "processor_config.json": b'{"a":   1}',
    "chat_template.jinja": b"{{ messages }}\r\n",
    "additional_chat_templates/tool.jinja": b"tool",
    "LICENSE": b"do as you like",
}
LEFT = {
    "pytorch_model.bin": b"other weights",
    "optimizer.pt": b"of a training",
    "model-Q4.gguf": b"GGUF",
    ".gitattributes": b"* lfs",
    "README.md": b"the dense model",
}


@pytest.fixture(params=["in memory", "low memory"])
def pruned(request, tmp_path):
    """-> function that prunes a folder to `out`, in memory or from disk to disk."""

    def run(folder, spec=SPEC, save_dtype=None, **options):
        options = {"device": "cpu", "dtype": torch.float32, **options}
        if request.param == "in memory":
            return save(prune(load_model(str(folder), **options), spec), tmp_path / "out", dtype=save_dtype)
        prune_to_folder(open_model(str(folder), **options), spec, tmp_path / "out", dtype=save_dtype)
        return tmp_path / "out"

    return run


def dense(folder, tokenizer, family="Llama", dtype=torch.bfloat16, **options):
    lm = tiny(family, tokenizer, CPU)
    lm.model.to(dtype).save_pretrained(folder, **options)
    lm.tokenizer.save_pretrained(folder)
    return folder


def tensors(folder):
    return {name: value for path in sorted(folder.glob("*.safetensors")) for name, value in load_file(path).items()}


def bits(value):
    return value.contiguous().reshape(-1).view(torch.uint8)


def check_kept(before, after):
    """Every tensor has its name, format and shape, and every number is the one it was or zero; many are zero."""
    assert after.keys() == before.keys()
    zeros = 0
    for name, value in after.items():
        assert (value.dtype, value.shape) == (before[name].dtype, before[name].shape), name
        kept = value != 0
        zeros += int((~kept).sum())
        assert torch.equal(bits(value[kept]), bits(before[name][kept])), name
    assert zeros > 0.15 * sum(value.numel() for value in after.values())


@pytest.mark.parametrize("family", ["Llama", "GPT2", "Mixtral"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
def test_kept_weights_keep_their_bits_and_format(pruned, tokenizer, tmp_path, family, dtype):
    source = dense(tmp_path / "dense", tokenizer, family, dtype)
    out = pruned(source)
    check_kept(tensors(source), tensors(out))
    assert (out / "config.json").read_bytes() == (source / "config.json").read_bytes()
    assert json.loads((out / "wanda.json").read_text())["dtype"] == str(dtype).removeprefix("torch.")


def test_a_model_read_into_a_smaller_format_is_saved_with_the_bits_of_the_file(pruned, tokenizer, tmp_path):
    source = dense(tmp_path / "dense", tokenizer, dtype=torch.float32)
    check_kept(tensors(source), tensors(pruned(source, dtype=torch.bfloat16)))


def test_the_files_beside_the_weights_are_the_same(pruned, tokenizer, tmp_path):
    source = dense(tmp_path / "dense", tokenizer)
    config = json.loads((source / "config.json").read_text())
    config |= {"rope_theta": 5000.0, "torch_dtype": config.pop("dtype"), "of_an_author": {"a": [1, 2]}}
    config.pop("rope_parameters", None)
    (source / "config.json").write_text(json.dumps(config))  # as earlier versions wrote it
    for name, data in (BESIDE | LEFT).items():
        (source / name).parent.mkdir(exist_ok=True)
        (source / name).write_bytes(data)
    out = pruned(source)
    same = [path for path in source.rglob("*") if path.is_file() and path.suffix != ".safetensors"]
    for path in same:
        name = path.relative_to(source).as_posix()
        if name not in LEFT:
            assert (out / name).read_bytes() == path.read_bytes(), name
    assert not [name for name in LEFT if name != "README.md" and (out / name).exists()]
    assert b"Magnitude" in (out / "README.md").read_bytes()
    assert load_model(str(out), device="cpu").model.config.rope_parameters["rope_theta"] == 5000.0


def test_shards_stay_as_they_are_shared_out(tokenizer, tmp_path):
    source = dense(tmp_path / "dense", tokenizer, max_shard_size="20KB")
    out = save(prune(load_model(str(source), device="cpu"), SPEC), tmp_path / "out")
    names = [sorted(path.name for path in folder.glob("model*")) for folder in (source, out)]
    assert names[0] == names[1]
    assert len(names[0]) > 3
    maps = [json.loads((folder / "model.safetensors.index.json").read_text()) for folder in (source, out)]
    assert maps[0]["weight_map"] == maps[1]["weight_map"]
    assert maps[1]["metadata"]["total_size"] == sum(value.nbytes for value in tensors(source).values())


def test_tensors_of_another_format_than_most_stay_in_it(pruned, tokenizer, tmp_path):
    source = dense(tmp_path / "dense", tokenizer)
    values = tensors(source)
    odd = "model.layers.0.input_layernorm.weight"
    values[odd] = values[odd].float() + 1e-6  # what bfloat16 cannot hold
    values["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(8)  # as old checkpoints have it
    save_file(values, source / "model.safetensors", metadata={"format": "pt"})
    check_kept(tensors(source), tensors(pruned(source)))


def test_another_format_is_saved_where_it_is_asked_for_and_told(pruned, tokenizer, tmp_path):
    source = dense(tmp_path / "dense", tokenizer, dtype=torch.float32)
    out = pruned(source, save_dtype=torch.bfloat16)
    assert {value.dtype for value in tensors(out).values()} == {torch.bfloat16}
    config = json.loads((out / "config.json").read_text())
    assert config == json.loads((source / "config.json").read_text()) | {"dtype": "bfloat16"}
    before, after = tensors(source), tensors(out)
    for name, value in after.items():
        kept = value != 0
        assert torch.equal(value[kept], before[name].bfloat16()[kept])


def test_a_number_beyond_the_format_is_refused(pruned, tokenizer, tmp_path):
    source = dense(tmp_path / "dense", tokenizer, dtype=torch.float32)
    values = tensors(source)
    values["model.layers.1.mlp.up_proj.weight"][0, 0] = 70_000.0
    save_file(values, source / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(StorageError, match=r"up_proj.weight holds numbers beyond float16; save it in bfloat16"):
        pruned(source, save_dtype=torch.float16)
    assert not (tmp_path / "out").exists()


def test_a_model_that_was_changed_in_memory_is_saved_as_it_is(tokenizer, tmp_path):
    source = dense(tmp_path / "dense", tokenizer)
    lm = load_model(str(source), device="cpu")
    lm.model.model.layers = lm.model.model.layers[:1]
    lm.model.config.num_hidden_layers = 1
    lm.model.config.layer_types = None
    out = save(prune(lm, SPEC), tmp_path / "out")
    again = load_model(str(out), device="cpu")
    assert len(again.linears) == 1
    assert {value.dtype for value in tensors(out).values()} == {torch.bfloat16}
    lm = load_model(str(source), device="cpu")
    with torch.no_grad():
        lm.model.model.norm.weight.fill_(0.5)  # not a linear, and of no other shape
    out = save(prune(lm, SPEC), tmp_path / "other")
    assert bool((tensors(out)["model.norm.weight"] == 0.5).all())


PLACES = st.dictionaries(
    st.text(min_size=1, max_size=8).filter(lambda name: name != "__metadata__" and name.isprintable()),
    st.tuples(st.sampled_from(sorted(NAMES, key=str)), st.lists(st.integers(0, 3), max_size=3)),
    min_size=1,
    max_size=5,
)


@given(PLACES)
def test_a_file_is_one_that_safetensors_reads(places):
    values = {name: torch.rand(shape).to(dtype) for name, (dtype, shape) in places.items()}
    layout = {name: Place(NAMES[value.dtype], tuple(value.shape)) for name, value in values.items()}
    data = b"".join(bytes(part) for part in tensor_file(layout, lambda name: [values[name]]))
    assert len(data) == file_size(layout)
    found = read_bytes(data)
    assert found.keys() == values.keys()
    for name, value in values.items():
        assert found[name].dtype == value.dtype
        assert torch.equal(found[name], value)
