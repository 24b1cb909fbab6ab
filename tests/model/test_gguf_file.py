"""A model given as a GGUF file: read as it was written, kept, made anew when it changes, refused in one sentence."""

import json
import os
from dataclasses import replace

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType, GGUFWriter, quantize
from safetensors.torch import load_file
from transformers import AutoConfig
from transformers.modeling_gguf_pytorch_utils import GGUF_TO_TRANSFORMERS_MAPPING

from wanda_core.errors import InputError, ModelError
from wanda_core.low_memory.model_on_disk import open_model
from wanda_core.low_memory.prune import prune_to_folder
from wanda_core.model import gguf_file, tokenizer_reading
from wanda_core.model.gguf_header import COUNTED, light_head, read_header
from wanda_core.model.loading import load_model
from wanda_core.model.names import normal_name
from wanda_core.progress import Progress
from wanda_core.recipe import PruneSpec

NAMES = {  # of llama.cpp, for those of transformers
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def name_of(tensor: str) -> str:
    """`model.layers.1.mlp.up_proj.weight` -> `blk.1.ffn_up.weight`."""
    module = tensor.removesuffix(".weight")
    if not module.startswith("model.layers."):
        return f"{NAMES[module]}.weight"
    _, _, number, inner = module.split(".", 3)
    return f"blk.{number}.{NAMES[inner]}.weight"


def turned(weight: np.ndarray, heads: int) -> np.ndarray:
    """The rows of a query or key projection as llama.cpp has them: the halves of each head in turns."""
    rows = weight.reshape(heads, 2, len(weight) // heads // 2, -1)
    return np.ascontiguousarray(rows.swapaxes(1, 2).reshape(weight.shape))


def write(path, lm, kind="F32", architecture="llama", parts=None):
    """Write a model as llama.cpp's converter would. kind: of its matrices."""
    config, writer = lm.model.config, GGUFWriter(path, architecture)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    if parts:
        writer.add_uint16("split.count", parts)
    vocabulary = lm.tokenizer.get_vocab()
    merges = json.loads(lm.tokenizer.backend_tokenizer.to_str())["model"]["merges"]
    words = sorted(vocabulary, key=vocabulary.__getitem__)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(words)
    writer.add_token_types([3 if word == "<end>" else 1 for word in words])
    writer.add_token_merges([" ".join(pair) for pair in merges])
    writer.add_eos_token_id(vocabulary["<end>"])
    for tensor, value in lm.model.state_dict().items():
        numbers = value.float().cpu().numpy()
        if "q_proj" in tensor or "k_proj" in tensor:
            heads = config.num_attention_heads if "q_proj" in tensor else config.num_key_value_heads
            numbers = turned(numbers, heads)
        if numbers.ndim == 1 or kind == "F32":
            writer.add_tensor(name_of(tensor), numbers)
        else:
            type_ = GGMLQuantizationType[kind]
            writer.add_tensor(name_of(tensor), quantize(numbers, type_), raw_dtype=type_)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture
def cache(monkeypatch, tmp_path):
    folder = tmp_path / "cache"
    monkeypatch.setenv("WANDA_CACHE", str(folder))
    return folder


@pytest.fixture
def file(tiny_llama, tmp_path):
    return write(tmp_path / "tiny.gguf", tiny_llama)


def refusal(path) -> str:
    with pytest.raises(ModelError) as refused:
        load_model(str(path), device="cpu")
    message = str(refused.value)
    assert str(path) in message
    assert "\n" not in message
    return message


def test_it_is_the_model_that_was_written(file, cache, tiny_llama, text):
    lm = load_model(str(file), device="cpu", dtype=torch.float32)
    assert (lm.name, lm.title, lm.revision) == (str(file), "tiny.gguf", "local")
    assert lm.encode(text) == tiny_llama.encode(text)
    state = lm.model.state_dict()
    for name, value in tiny_llama.model.state_dict().items():
        assert torch.equal(state[name], value.cpu()), name


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [("F32", torch.float32), ("F16", torch.float16), ("BF16", torch.bfloat16), ("Q8_0", torch.float32)],
)
def test_sixteen_bits_stay_and_quantised_weights_become_what_they_stand_for(cache, tiny_llama, tmp_path, kind, dtype):
    file = write(tmp_path / f"{kind}.gguf", tiny_llama, kind)
    kept = load_file(load_model(str(file), device="cpu").folder / "model.safetensors")
    assert {value.dtype for value in kept.values()} == {dtype}
    name = "model.layers.1.mlp.up_proj.weight"
    dense = tiny_llama.model.state_dict()[name].cpu().float()
    if kind == "Q8_0":  # 32 numbers of a row share a scale, a 127th of the largest, itself in float16
        steps = dense.reshape(-1, 32).abs().amax(1).div(127).to(torch.float16).float()
        off = (kept[name].reshape(-1, 32) - dense.reshape(-1, 32)).abs().amax(1)
        assert bool((off <= steps * (0.5 + 127 * 2**-11)).all())
        assert bool((off > 0).any())
    else:
        assert torch.equal(kept[name], dense.to(dtype))


def test_it_is_read_once_until_it_changes(file, cache, tiny_llama, monkeypatch):
    told = []
    folder = load_model(str(file), device="cpu", on_progress=told.append).folder
    assert told == [Progress(stage, 0, 1, "parts", "tiny.gguf") for stage in ("checking", "converting")]
    assert [path.name for path in cache.iterdir()] == [folder.name]
    told.clear()
    load_model(str(file), device="cpu", on_progress=told.append)
    assert told == []
    write(file, tiny_llama, "F16")
    again = load_model(str(file), device="cpu", on_progress=told.append)
    assert len(told) == 2
    assert [path.name for path in cache.iterdir()] == [again.folder.name]
    (again.folder / "model.safetensors").write_bytes(b"torn")
    assert load_model(str(file), device="cpu").folder == again.folder


def test_one_that_changes_while_it_is_converted_gives_no_model(file, cache, monkeypatch):
    convert = gguf_file.convert

    def while_it_is_written(*given):
        convert(*given)
        os.utime(file, ns=(0, 1))

    with monkeypatch.context() as then:
        then.setattr(gguf_file, "convert", while_it_is_written)
        with pytest.raises(ModelError, match="changed while it was converted; open it again once nothing writes it"):
            load_model(str(file), device="cpu")
        assert list(cache.iterdir()) == []
    assert load_model(str(file), device="cpu").folder.parent == cache


def test_it_is_pruned_from_the_disk_too(file, cache, tmp_path):
    lm = open_model(str(file), device="cpu", dtype=torch.float32)
    prune_to_folder(lm, PruneSpec("magnitude"), tmp_path / "out")
    pruned = load_model(str(tmp_path / "out"), device="cpu").model.get_parameter("model.layers.0.mlp.up_proj.weight")
    assert int((pruned == 0).sum()) == pruned.numel() // 2 + 1  # the threshold goes too


def test_its_name_may_be_given_in_any_form_of_a_path(file, cache, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for name in ("tiny.gguf", "./tiny.gguf", f"'{file}'"):
        assert normal_name(name) == str(file)
    (tmp_path / "blob").write_bytes(file.read_bytes())
    (tmp_path / "linked.gguf").symlink_to(tmp_path / "blob")  # as the hub's cache has it
    assert load_model("linked.gguf", device="cpu").title == "linked.gguf"


def test_a_public_server_takes_none(file, monkeypatch, tmp_path):
    with pytest.raises(InputError, match="this server loads hub ids only"):
        load_model(str(file), local_folders=False)


def test_an_architecture_that_transformers_does_not_read_is_named(cache, tiny_llama, tmp_path):
    message = refusal(write(tmp_path / "odd.gguf", tiny_llama, architecture="starwars"))
    assert "is a GGUF file that transformers does not read: " in message
    assert "starwars" in message
    assert message.endswith("give the model's folder with safetensors, or its hub id")
    assert not list(cache.iterdir())


def test_one_part_of_several_is_told_to_be_joined(cache, tiny_llama, tmp_path):
    message = refusal(write(tmp_path / "part-00001-of-00003.gguf", tiny_llama, parts=3))
    assert "is one of the 3 parts of a model" in message
    assert message.endswith("join them with llama.cpp's llama-gguf-split --merge")


@pytest.mark.parametrize("size", [0, 4, 3000, 200_000])
def test_a_file_that_is_cut_short_is_told_to_be_downloaded_again(file, cache, size):
    with file.open("rb+") as opened:
        os.truncate(opened.fileno(), size)
    message = refusal(file)
    assert "is no GGUF file that can be read (" in message
    assert message.endswith("); download it again")


def test_a_pointer_to_one_has_its_own_remedy(file, cache):
    file.write_text(f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 5\n")
    assert refusal(file).endswith("install git-lfs and run `git lfs pull` in its folder")


def test_room_in_memory_and_on_the_disk_is_asked_for_first(file, cache, monkeypatch):
    monkeypatch.setattr(gguf_file.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 100_000}))
    assert f"takes 0.1 GB as safetensors in '{cache}', and 0.0 GB are free there; free some space" in refusal(file)
    monkeypatch.undo()
    monkeypatch.setenv("WANDA_CACHE", str(cache))
    monkeypatch.setenv("WANDA_MEMORY_LIMIT", "1000")
    assert "of memory are free on cpu" in refusal(file)
    assert not list(cache.iterdir())


def test_what_lies_beside_the_file_is_not_read(file, cache, tiny_llama, text):
    """A folder of downloads holds what anybody has put there."""
    for name, content in (
        ("tokenizer_config.json", '{"tokenizer_class": "RagTokenizer", "init_inputs": ["/dev/zero"]}'),
        ("special_tokens_map.json", '{"vocab_file": "/dev/zero"}'),
        ("config.json", '{"model_type": "own", "auto_map": {"AutoConfig": "own.Config"}}'),
        ("added_tokens.json", "["),
    ):
        (file.parent / name).write_text(content)
    os.mkfifo(file.parent / "tokenizer.json")
    lm = load_model(str(file), device="cpu", dtype=torch.float32)
    assert lm.encode(text) == tiny_llama.encode(text)
    assert [path.name for path in cache.iterdir() if path.name.startswith(".")] == []


def test_how_many_blocks_a_file_says_is_known_before_they_are_made(tiny_llama, cache, tmp_path, monkeypatch):
    said = GGUFWriter.add_block_count
    monkeypatch.setattr(GGUFWriter, "add_block_count", lambda writer, count: said(writer, 3_000_000))
    file = write(tmp_path / "tiny.gguf", tiny_llama)
    monkeypatch.setattr("transformers.AutoConfig.from_pretrained", lambda *_, **__: pytest.fail("read"))
    assert "has 'blocks' 3000000 in its head, and models have 20,000 at most; repair it" in refusal(file)


def test_weights_that_a_file_lacks_are_not_made(tiny_llama, cache, tmp_path, monkeypatch):
    """Four blocks of eight matrices as large as the head says would be made of nothing."""
    monkeypatch.setattr(GGUFWriter, "add_tensor", lambda *_, **__: None)
    file = write(tmp_path / "tiny.gguf", tiny_llama)
    said = GGUFWriter.add_embedding_length
    monkeypatch.setattr(GGUFWriter, "add_embedding_length", lambda writer, width: said(writer, 16 * width))
    wide = write(tmp_path / "wide.gguf", tiny_llama)
    monkeypatch.setattr("transformers.AutoModelForCausalLM.from_pretrained", lambda *_, **__: pytest.fail("made"))
    assert "weights, and its files hold 0; give the files that belong together" in refusal(wide)
    monkeypatch.undo()
    monkeypatch.setenv("WANDA_CACHE", str(cache))
    assert "lacks " in refusal(file)  # few enough to be looked at one by one


def test_no_word_of_its_vocabulary_is_read_for_what_is_refused(tiny_llama, cache, tmp_path, monkeypatch):
    """The file that transformers reads first has how many tokens there are in place of them."""
    read = []
    of_file = AutoConfig.from_pretrained
    monkeypatch.setattr(
        "transformers.AutoConfig.from_pretrained",
        lambda folder, **source: read.append((folder / source["gguf_file"]).read_bytes()) or of_file(folder, **source),
    )
    said = GGUFWriter.add_embedding_length
    monkeypatch.setattr(GGUFWriter, "add_embedding_length", lambda writer, width: said(writer, 64 * width))
    monkeypatch.setattr(tokenizer_reading, "make_of_gguf", lambda *_: pytest.fail("read"))
    assert "weights, and its files hold" in refusal(write(tmp_path / "wide.gguf", tiny_llama))
    assert "GGUF file that transformers does not read" in refusal(
        write(tmp_path / "odd.gguf", tiny_llama, architecture="starwars")
    )
    assert [b"tokenizer.ggml.tokens" in content and b"<end>" not in content for content in read] == [True, True]


def test_a_file_that_is_refused_keeps_no_other_one_waiting(file, cache, tiny_llama, tmp_path):
    odd = write(tmp_path / "odd.gguf", tiny_llama, architecture="starwars")
    with gguf_file._lock:
        refusal(odd)


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "starcoder2"])
@pytest.mark.parametrize("sized", [True, False])
def test_the_head_alone_tells_how_many_tokens_there_are(tiny_llama, tmp_path, architecture, sized, monkeypatch):
    if not sized:
        monkeypatch.setattr(GGUFWriter, "add_vocab_size", lambda *_: None)
    file = write(tmp_path / "a.gguf", tiny_llama, architecture=architecture)
    whole = AutoConfig.from_pretrained(tmp_path, gguf_file=file.name)
    light = light_head(file, read_header(file))
    (tmp_path / "light.gguf").write_bytes(light + bytes(10**6))
    alone = AutoConfig.from_pretrained(tmp_path, gguf_file="light.gguf")
    assert alone.to_dict() == whole.to_dict()
    assert alone.vocab_size == len(tiny_llama.tokenizer)


def test_the_size_of_every_architectures_vocabulary_is_known_from_the_head():
    known = GGUF_TO_TRANSFORMERS_MAPPING["config"]
    counted = {name for name in known if "vocab_size" not in known[name]} - {"general", "tokenizer"}
    assert counted == set(COUNTED)


def test_what_a_file_says_of_itself_is_counted(file, tiny_llama):
    header = read_header(file)
    held = tiny_llama.model.state_dict().values()
    assert (header.tensors, header.numbers) == (len(held), sum(value.numel() for value in held))
    assert header.kinds == {int(GGMLQuantizationType.F32)}
    assert header.fields["llama.block_count"] == tiny_llama.model.config.num_hidden_layers
    tokens = len(tiny_llama.tokenizer)
    merges = len(json.loads(tiny_llama.tokenizer.backend_tokenizer.to_str())["model"]["merges"])
    assert header.entries == 2 * tokens + merges


def without(header, name):
    del header.shapes[name]


def with_more(header, name):
    header.shapes[name][0] += 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (without, "lacks 1 of its weights, model.norm.weight among"),
        (with_more, "holds model.norm.weight in the shape"),
    ],
)
def test_what_a_file_lacks_is_told_before_any_other_tensor_is_made(file, cache, monkeypatch, change, said):
    theirs = gguf_file.read_header

    def reads(path):
        header = theirs(path)
        change(header, "output_norm.weight")
        return header

    monkeypatch.setattr(gguf_file, "read_header", reads)
    monkeypatch.setattr(gguf_file, "convert", lambda *_: pytest.fail("tensors were made"))
    assert said in refusal(file)


@pytest.mark.parametrize(("rows", "said"), [(100, None), (1_000_000, "64,000,000 numbers that its model has no place")])
def test_tensors_without_a_place_in_the_model_are_fewer_than_others(
    cache, tiny_llama, tmp_path, monkeypatch, rows, said
):
    """Real files hold a few, such as what turns positions or predicts further tokens; all are made."""
    ended = GGUFWriter.write_header_to_file

    def with_more(writer):
        more = np.zeros((rows, 64), dtype=np.float16)
        writer.add_tensor("rope_freqs.weight", more[:100] if said is None else more)
        ended(writer)

    monkeypatch.setattr(GGUFWriter, "write_header_to_file", with_more)
    file = write(tmp_path / "tiny.gguf", tiny_llama)
    if said is None:
        load_model(str(file), device="cpu")
    else:
        monkeypatch.setattr("transformers.AutoModelForCausalLM.from_pretrained", lambda *_, **__: pytest.fail("made"))
        assert said in refusal(file)


@pytest.mark.parametrize(
    ("adds", "values", "said"),
    [
        ("add_tokenizer_model", ["nope"], "Cannot build a tokenizer from a GGUF file stating tokenizer 'nope'"),
        ("add_token_types", [[3] * 320], "knows no word, only "),
    ],
)
def test_a_tokenizer_that_is_refused_is_so_before_any_tensor_is_made(
    cache, tiny_llama, tmp_path, monkeypatch, adds, values, said
):
    said_first = getattr(GGUFWriter, adds)
    ended = GGUFWriter.write_header_to_file
    monkeypatch.setattr(GGUFWriter, adds, lambda *_: None)
    monkeypatch.setattr(GGUFWriter, "write_header_to_file", lambda writer: (said_first(writer, *values), ended(writer)))
    file = write(tmp_path / "tiny.gguf", tiny_llama)
    monkeypatch.setattr("transformers.AutoModelForCausalLM.from_pretrained", lambda *_, **__: pytest.fail("made"))
    assert said in refusal(file)


def test_a_type_that_is_not_dequantised_is_told_before_any_tensor_is_made(file, cache, monkeypatch):
    theirs = gguf_file.read_header
    monkeypatch.setattr(gguf_file, "read_header", lambda path: replace(theirs(path), unread={15}))
    monkeypatch.setattr(gguf_file, "convert", lambda *_: pytest.fail("tensors were made"))
    assert "it has tensors of ggml's type 15, which is not dequantised; give the model's folder" in refusal(file)
