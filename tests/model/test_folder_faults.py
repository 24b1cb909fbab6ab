"""What may be wrong with a model's folder: each fault is told by its name, whichever way the model is loaded."""

import pytest
import torch
from configured import configure
from families import tiny
from safetensors.torch import load_file, save_file

from wanda_core.model import stored_tensors
from wanda_core.model.loading import load_model

POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 269060552\n"


pytestmark = pytest.mark.usefixtures("no_network")


@pytest.fixture
def folder(tiny_llama, tmp_path):
    """A whole, good model folder, in shards, that the test may damage."""
    tiny_llama.model.save_pretrained(tmp_path / "model", max_shard_size="100KB")
    tiny_llama.tokenizer.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def one_file(folder):
    """Put all shards of a folder into one file. -> its tensors."""
    shards = sorted(folder.glob("model-*"))
    tensors = {name: value for shard in shards for name, value in load_file(shard).items()}
    for path in (*shards, folder / "model.safetensors.index.json"):
        path.unlink()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return tensors


# Git LFS


@pytest.mark.parametrize(
    "file",
    [
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "model.safetensors.index.json",
        "generation_config.json",
    ],
)
def test_a_pointer_in_place_of_a_file_is_called_one(folder, refusal, file):
    (folder / file).write_text(POINTER)
    message = refusal(folder)
    assert f"holds of '{file}' only the Git LFS pointer" in message
    assert message.endswith("install git-lfs and run `git lfs pull` in its folder")


def test_pointers_in_place_of_all_weights_are_counted(folder, refusal):
    shards = sorted(folder.glob("model-*"))
    for shard in shards:
        shard.write_text(POINTER)
    assert f"holds of '{shards[0].name}' and {len(shards) - 1} more only the Git LFS pointer" in refusal(folder)


def test_a_vocabulary_that_is_a_pointer_counts_where_it_is_read(folder, refusal):
    (folder / "tokenizer.model").write_text(POINTER)
    load_model(str(folder), device="cpu")  # from tokenizer.json
    (folder / "tokenizer.json").unlink()
    assert "holds of 'tokenizer.model' only the Git LFS pointer" in refusal(folder)


def test_pointers_that_nothing_reads_do_not_matter(folder):
    (folder / "consolidated.safetensors").write_text(POINTER)
    (folder / "training_args.bin").write_text(POINTER)
    assert load_model(str(folder), device="cpu").revision == "local"


# Shapes


def test_a_shape_that_disagrees_is_told_with_its_tensor_and_both_shapes(folder, refusal):
    configure(folder, vocab_size=319)
    message = refusal(folder)
    assert "holds lm_head.weight in the shape (320, 64), and its config.json makes it (319, 64)" in message
    assert "(and 1 more tensors like it); correct config.json, such as its vocab_size" in message


def test_a_token_that_was_added_to_the_embeddings_alone_is_told(folder, refusal):
    tensors = one_file(folder)
    tensors["model.embed_tokens.weight"] = torch.zeros(321, 64)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    message = refusal(folder)
    assert "holds model.embed_tokens.weight in the shape (321, 64), and its config.json makes it (320, 64); " in message


# Configurations


@pytest.mark.parametrize("pad", [320, 32000])
def test_a_pad_token_beyond_the_vocabulary_is_told_with_both_numbers(folder, refusal, pad):
    configure(folder, pad_token_id=pad)
    message = refusal(folder)
    assert f"has pad_token_id {pad} in its config.json and a vocabulary of 320 tokens, counted from 0" in message
    assert "not a causal language model" not in message


@pytest.mark.parametrize("pad", [None, -1, 0, 319])
def test_a_pad_token_that_fits_is_accepted(folder, pad):
    configure(folder, pad_token_id=pad)
    assert load_model(str(folder), device="cpu").revision == "local"


# Weights under other names


def quantised(folder, *names):
    weights = {"model.layers.0.mlp.up_proj.qweight": torch.zeros(8, 8, dtype=torch.int32)}
    weights["model.layers.0.mlp.up_proj.scales"] = torch.zeros(1, 8)
    for path in folder.glob("model*"):
        path.unlink()
    for name in names:
        if name.endswith(".safetensors"):
            save_file(weights, folder / name)
        else:
            (folder / name).write_text("{}")


def test_an_early_gptq_folder_is_called_quantised(folder, refusal):
    quantised(folder, "gptq_model-4bit-128g.safetensors", "quantize_config.json")
    assert "is quantised (GPTQ, as model.layers.0.mlp.up_proj.qweight in its weights tells)" in refusal(folder)


def test_early_quantised_weights_need_not_say_by_which_method(folder, refusal):
    quantised(folder, "awq.safetensors")
    assert "is quantised (GPTQ or AWQ, as model.layers.0.mlp.up_proj.qweight" in refusal(folder)


def test_an_early_gptq_folder_of_pickled_weights_is_called_quantised_too(folder, refusal):
    quantised(folder, "gptq_model-4bit.bin", "quantize_config.json")
    assert "is quantised (GPTQ, as quantize_config.json tells)" in refusal(folder)


def test_early_quantised_weights_under_the_usual_name_are_called_quantised(folder, refusal):
    quantised(folder, "model.safetensors", "quantize_config.json")
    assert "qweight as I32, so it is quantised though config.json does not say so" in refusal(folder)


def test_a_note_of_quantising_beside_plain_weights_does_not_matter(folder):
    (folder / "quantize_config.json").write_text('{"bits": 4}')
    assert load_model(str(folder), device="cpu").revision == "local"


def test_weights_under_a_name_that_is_not_read_are_named(folder, refusal):
    one_file(folder)
    (folder / "model.safetensors").rename(folder / "consolidated.safetensors")
    message = refusal(folder)
    assert "holds 'consolidated.safetensors', and neither model.safetensors nor the model.safetensors.index" in message


@pytest.mark.parametrize(
    "entry", [b'"%x":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}', b'"%x":{"dtype":"F32","shape":[0,0,0]}']
)
def test_the_head_of_a_file_under_another_name_is_bounded_too(folder, refusal, monkeypatch, entry):
    one_file(folder)
    (folder / "model.safetensors").unlink()
    head = b"{" + b",".join(entry % number for number in range(20_000)) + b"}"
    for file in ("a.safetensors", "b.safetensors"):
        (folder / file).write_bytes(len(head).to_bytes(8, "little") + head)
    monkeypatch.setattr(stored_tensors, "safe_open", lambda *given, **settings: pytest.fail("its head was read"))
    assert "holds 'a.safetensors', and neither model.safetensors nor the model.safetensors.index" in refusal(folder)


def test_a_distributed_checkpoint_beside_the_weights_is_named(folder, refusal):
    part = "shard-00000-model-00001-of-00001.safetensors"
    save_file({"model.norm.weight": torch.ones(1)}, folder / part)
    assert f"holds '{part}', a part of a distributed checkpoint, which would be read in place of" in refusal(folder)


def test_a_folder_of_gguf_files_is_told_how_to_give_one(folder, refusal):
    for path in folder.glob("model*"):
        path.unlink()
    (folder / "tiny.gguf").write_bytes(b"GGUF")
    assert refusal(folder).endswith(f"holds only tiny.gguf; give the path of that file, '{folder / 'tiny.gguf'}'")


def test_a_generation_config_that_cannot_be_used_is_named_with_low_memory_too(folder, refusal):
    (folder / "generation_config.json").write_text('{"temperature": "warm", "max_new_tokens": "many"}')
    assert str(folder) in refusal(folder)


# Numbers that are none


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("kind", ["bias", "weight"])
def test_a_number_that_is_none_is_named_in_tables_as_in_weights(tokenizer, tmp_path, refusal, kind, value):
    lm = tiny("DeepseekV3", tokenizer, torch.device("cpu"))
    lm.model.save_pretrained(tmp_path, max_shard_size="50KB")
    lm.tokenizer.save_pretrained(tmp_path)
    name = f"gate.{'e_score_correction_bias' if kind == 'bias' else 'weight'}"
    for file in tmp_path.glob("model-*"):
        tensors = load_file(file)
        for tensor in (held for held in tensors if held.endswith(name)):
            tensors[tensor].view(-1)[0] = value
        save_file(tensors, file, metadata={"format": "pt"})
    what = "NaN" if value != value else "infinity"
    assert f"has weights that are not finite ({what} in model.layers." in refusal(tmp_path)
    assert name in refusal(tmp_path)
