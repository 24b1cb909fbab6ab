"""What a stranger's files may ask for: sizes, numbers and names, refused before anything is read or built."""

import contextlib
import json
import os
import threading

import pytest
import torch
from configured import configure
from fake_hub import MODEL, Info, hub_answers
from fake_hub import refusal as hub_refusal
from transformers import CONFIG_MAPPING, PreTrainedConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES
from transformers.models.auto.tokenization_auto import TOKENIZER_MAPPING_NAMES, tokenizer_class_from_name

from wanda_core.errors import ModelError
from wanda_core.model import experts, limits, loading, stored_tensors, watched
from wanda_core.model.limits import check_count, check_experts, check_file_sizes, check_shards, few_parameters
from wanda_core.model.loading import load_model

NINES = 10**4299 - 1  # nearly as many digits as Python reads, and more once they are added up


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"num_hidden_layers": 10**6}, "has 'num_hidden_layers' 1000000 in its config.json, and models have 20,000 at"),
        (
            {"num_hidden_layers": 2000},
            "makes more than 1,013 weight tensors, and its files hold 30; repair config.json",
        ),
        ({"vision": [{"n_experts": 10**5}]}, "has 'n_experts' 100000 in its config.json"),
        ({"num_labels": 50_001}, "has 'num_labels' of 50,001 in its config.json, and models have 50,000 at most"),
        ({"part": {"num_classes": 10**9}}, "has 'num_classes' of 1,000,000,000 in its config.json, and models"),
        (
            {"id2label": dict.fromkeys(range(50_001), "a")},
            "has 'id2label' of 50,001 in its config.json, and models have",
        ),
        ({"parts": [{"num_labels": 20_000}] * 3}, "has 'num_labels' of 60,000 in its config.json, and models"),
        (
            {"attention_types": [[["global"], 10**9]]},
            "has 'attention_types' of 1,000,000,000 blocks in its",
        ),
        ({"pattern": "M" * 200_000}, "has 'pattern' of 200,000 entries or letters in its config.json"),
        ({"text_config": {"chunk_size": 513}}, "has 'chunk_size' 513 in its config.json, and models have 512 at most"),
        ({"mamba_chunk_size": 4096}, "has 'mamba_chunk_size' 4096 in its config.json, and models have 512 at most"),
        ({"hc_sinkhorn_iters": 10**6}, "has 'hc_sinkhorn_iters' 1000000 in its config.json, and models have 200 at"),
        ({"num_hashes": 201}, "has 'num_hashes' 201 in its config.json, and models have 200 at most"),
        ({"hidden_size": 2**40}, "has 'hidden_size' 1099511627776 in its config.json, and models have 1,048,576"),
        ({"head_dim": 2**20 + 1}, "has 'head_dim' 1048577 in its config.json, and models have 1,048,576 at most"),
        ({"text_vocab_size": 2**31}, "'text_vocab_size' 2147483648 in its config.json, and models have 2,147,483,647"),
        ({"num_labels": NINES, "num_classes": 1}, "of more than 1,000,000,000,000,000 in its config.json, and models"),
        ({"attention_types": [[["a"] * 10, NINES]]}, "of more than 1,000,000,000,000,000 blocks in its config.json"),
        ({"max_seq_len": 10**400}, "has 'max_seq_len' 10000000"),
        ({"intermediate_size": 60_000}, "makes 34,638,272 weights, and its files hold 133,568"),
    ],
)
def test_numbers_that_no_model_has_are_told_with_the_bound(folder, refusal, fields, said):
    configure(folder, **fields)
    assert said in refusal(folder)


def test_numbers_that_are_no_sizes_may_be_of_any_size(folder):
    configure(folder, model_max_length=10**30, max_position_embeddings=10**9, layers=True, attention_chunk_size=8192)
    labels = dict.fromkeys(map(str, range(21_843)), 1)
    configure(folder, num_labels=21_843, num_classes=21_843, id2label=labels, label2id=labels)
    assert load_model(str(folder), device="cpu").revision == "local"


@pytest.mark.parametrize(
    ("stored", "numbers", "most"), [(10, 10**6, 1_040), (10**4, 10**6, 1_100), (10**5, 10**10, 20_000)]
)
def test_how_many_weights_are_made_follows_from_the_files(stored, numbers, most):
    with few_parameters("owner/model", stored, numbers):
        many = [torch.nn.Linear(1, 1, device="meta") for _ in range(most // 2)]
        with pytest.raises(ModelError, match=f"makes more than {most:,} weight tensors"):
            torch.nn.Linear(1, 1)
    assert len(many) == most / 2


def test_the_default_configurations_of_transformers_are_within_the_bounds():
    configs = {}
    for kind in CONFIG_MAPPING_NAMES:
        with contextlib.suppress(Exception):  # two that have no defaults
            configs[kind] = CONFIG_MAPPING[kind]().to_dict()
    assert len(configs) > 0.9 * len(CONFIG_MAPPING_NAMES)
    for kind, config in configs.items():
        limits.check_numbers_of(config, kind)


def test_other_threads_may_make_what_they_like_meanwhile():
    with few_parameters("owner/model", 0, 0):
        many = [torch.nn.Linear(1, 1) for _ in range(limits.MORE_PARAMETERS // 2)]
        other = threading.Thread(target=lambda: many.extend(torch.nn.Linear(1, 1) for _ in range(10)))
        other.start()
        other.join()
        with pytest.raises(ModelError, match="more than 1,000 weight tensors, and its files hold 0"):
            torch.nn.Linear(1, 1)
    assert len(many) == limits.MORE_PARAMETERS // 2 + 10
    torch.nn.Linear(1, 1)


@pytest.mark.parametrize(
    ("file", "megabytes", "refused"),
    [
        *[
            ("config.json", 4, False),
            ("config.json", 5, True),
            ("tokenizer.json", 64, False),
            ("tokenizer.json", 65, True),
        ],
        *[("chat_template.jinja", 2, True), ("additional_chat_templates/a.jinja", 2, True), ("vocab.txt", 13, True)],
        *[("merges.txt", 12, False), ("merges.txt", 13, True), ("vocab.json", 13, True), ("byte_maps.json", 2, True)],
        *[("added_tokens.json", 9, True), ("vocab.model", 32, False), ("model.safetensors.index.json", 17, True)],
        *[
            ("model.safetensors", 10**6, False),
            ("trainer_state.json", 500, False),
            ("LICENSE", 100, False),
            ("tokenizer.model", 40, True),
        ],
        *[("tokenizer_config.json", 16, False), ("tokenizer_config.json", 17, True), ("normalizer.json", 33, True)],
    ],
)
def test_a_file_that_is_read_whole_has_a_bound(file, megabytes, refused):
    if refused:
        with pytest.raises(ModelError, match=f"has a '{file}' of {megabytes} MB, and at most"):
            check_file_sizes("owner/model", {file: megabytes * 10**6})
    else:
        check_file_sizes("owner/model", {file: megabytes * 10**6})


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({f"vocab.{number}": 32 * 10**6 for number in range(11)}, "has 11 files of 352 MB beside its weights, and at"),
        ({f"vocab.{number}": 1 for number in range(501)}, "has 501 files of 0 MB beside its weights, and at most 500"),
    ],
)
def test_all_files_that_are_read_whole_have_a_bound_together(files, said):
    with pytest.raises(ModelError, match=said):
        check_file_sizes("owner/model", files)


def files_of(kind):
    try:
        return (getattr(kind, "vocab_files_names", None) or {}).values()
    except ImportError:  # a package is not installed
        return ()


def test_every_file_of_a_vocabulary_that_transformers_reads_has_one():
    kinds = {tokenizer_class_from_name(name) for name in TOKENIZER_MAPPING_NAMES.values() if name}
    kinds |= {tokenizer_class_from_name(f"{name}Tokenizer") for name in ("Whisper", "BertJapanese", "Luke", "FSMT")}
    files = {file for kind in kinds for file in files_of(kind)}
    assert {"normalizer.json", "tokenizer.json", "vocab.txt", "merges.txt"} <= files
    assert [file for file in sorted(files) if limits.largest_size(file) is None] == []


@pytest.mark.parametrize(
    ("file", "content", "given", "most"),
    [
        ("config.json", '{"a":[' + "[]," * 100_001 + "1]}", "100,003", "100,000"),
        ("generation_config.json", '{"a":[' + "1," * 100_001 + "1]}", "100,001", "100,000"),
        ("tokenizer_config.json", "[" * 100_001, "100,001", "100,000"),
        ("tokenizer_config.json", '"a":1,' * 100_001, "100,001", "100,000"),
        ("special_tokens_map.json", '"special":1,' * 100_001, "100,001", "100,000"),
        ("added_tokens.json", '"a":1,' * 150_001, "150,001", "150,000"),
        ("tokenizer.json", "[" * 1_000_001, "1,000,001", "1,000,000"),
        ("tokenizer.json", "," * 4_000_001, "4,000,001", "4,000,000"),
        ("model.safetensors.index.json", '{"weight_map": [' + "{}," * 1_000, "1,002", "1,000"),
        ("normalizer.json", "[]," * 100_001, "100,001", "100,000"),
        ("vocab.json", "," * 1_000_001, "1,000,001", "1,000,000"),
        ("merges.txt", "\n" * 1_000_001, "1,000,001", "1,000,000"),
        ("vocab.txt", "a\r" * 1_000_001, "1,000,001", "1,000,000"),
        ("a.model", "\n" * 2_000_001, "2,000,001", "2,000,000"),
    ],
)
def test_a_file_has_so_many_lists_and_entries_at_most(folder, refusal, file, content, given, most):
    """A list takes two bytes in the file and seventy in memory."""
    (folder / file).write_bytes(content.encode())
    assert f"has a '{file}' of {given} entries or lists, and at most {most} of such a file are read" in refusal(folder)


def test_settings_may_describe_as_many_added_tokens_as_are_met(tmp_path):
    bare = dict.fromkeys(("lstrip", "normalized", "rstrip", "single_word", "special"), False)
    tokens = {str(number): {"content": f"<|s_{number}|>", **bare} for number in range(65_536)}
    configure(tmp_path, "tokenizer_config.json", added_tokens_decoder=tokens)
    configure(tmp_path, "added_tokens.json", **{f"<|s_{number}|>": number for number in range(100_000)})
    limits.check_files(tmp_path, "a model")


def test_as_many_as_vocabularies_have_are_read(tmp_path):
    pairs = ",".join(['["a","b"]'] * 514_906)
    words = ",".join(f'"{number}":{number}' for number in range(262_144))
    (tmp_path / "tokenizer.json").write_text('{"model":{"vocab":{' + words + '},"merges":[' + pairs + "]}}")
    one = (
        '"{}":{{"content":"<{}>","lstrip":false,"normalized":false,"rstrip":false,"single_word":false,"special":true}}'
    )
    added = ",".join(one.format(number, number) for number in range(65_536))
    (tmp_path / "tokenizer_config.json").write_text('{"added_tokens_decoder":{' + added + "}}")
    limits.check_files(tmp_path, "a model")


def test_the_hubs_sizes_are_looked_at_before_the_download(cache, monkeypatch):
    hub_answers(monkeypatch, Info(model__safetensors=10, tokenizer__json=10**9))
    assert "has a 'tokenizer.json' of 1,000 MB, and at most 64 MB" in hub_refusal(MODEL, ModelError)
    assert not (cache / "models--owner--model").exists()


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/x", "~/x", "C:/x", "..\\x", "a\0", ""])
def test_weights_do_not_lie_outside_of_their_folder(name):
    with pytest.raises(ModelError, match="does not lie in its folder"):
        check_shards([name], "owner/model")
    check_shards(["model-1.safetensors", "a/b..c.safetensors", "...x.safetensors"], "owner/model")


def test_a_pipe_or_a_device_is_no_file(folder, refusal):
    (folder / "tokenizer_config.json").unlink()
    (folder / "tokenizer_config.json").symlink_to("/dev/zero")
    assert "holds 'tokenizer_config.json', which is no ordinary file; put the file itself there" in refusal(folder)
    (folder / "tokenizer_config.json").unlink()
    os.mkfifo(folder / "normalizer.json")
    assert "holds 'normalizer.json', which is no ordinary file" in refusal(folder)


def test_a_list_of_tensors_has_a_bound(folder, refusal):
    weights = folder / "model.safetensors"
    weights.write_bytes((17 * 10**6).to_bytes(8, "little") + b"{}")
    os.truncate(weights, 18 * 10**6)
    assert "has a list of 17 MB at the head of 'model.safetensors', and at most 16 MB" in refusal(folder)


def with_tensors(path, more, body=b""):
    """Add tensors to the head of a file of weights. more: each one's place in it, by name."""
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    head = json.dumps(json.loads(content[8 : 8 + length]) | more).encode()
    path.write_bytes(len(head).to_bytes(8, "little") + head + content[8 + length :] + body)


def empty(count, end=0):
    return {f"t{number}": {"dtype": "F32", "shape": [0], "data_offsets": [end, end]} for number in range(count)}


def test_more_tensors_than_bytes_are_not_looked_at_one_by_one(folder, refusal, monkeypatch):
    monkeypatch.setattr(stored_tensors, "safe_open", lambda *_, **__: pytest.fail("opened"))
    weights = folder / "model.safetensors"
    weights.write_bytes((2).to_bytes(8, "little") + b"{}")
    with_tensors(weights, empty(1_010), bytes(5_000))
    assert "lists 1,011 tensors up to 'model.safetensors', and at most 1,005 are read" in refusal(folder)
    with_tensors(weights, empty(100_000))
    os.truncate(weights, 200 * 10**6)
    assert "lists 100,001 tensors up to 'model.safetensors', and at most 100,000 are read" in refusal(folder)


def test_tensors_without_a_number_allow_no_larger_model(folder, refusal):
    weights = folder / "model.safetensors"
    content = weights.read_bytes()
    end = len(content) - 8 - int.from_bytes(content[:8], "little")
    with_tensors(weights, {"large": {"dtype": "F32", "shape": [10**6], "data_offsets": [end, end + 4 * 10**6]}})
    with_tensors(weights, empty(1_001, end + 4 * 10**6), bytes(4 * 10**6))
    assert "lists 1,001 tensors without a number, and at most 1,000 are read" in refusal(folder)


@pytest.mark.parametrize(
    ("tensor", "said"),
    [
        ("evil\n\x1b[2J\x07 second", r"names a tensor 'evil\n\x1b[2J\x07 second', and names of at most 160 letters"),
        ("e" * 10**6, f"names a tensor '{'e' * 51}…{'e' * 25}', and names of at most 160 letters that can be printed"),
        (".experts" * 10 + "." * 11, "and names of at most 160 letters that can be printed, 20 of them dots, are read"),
    ],
)
def test_names_of_tensors_have_bounds(folder, refusal, tensor, said):
    weights = folder / "model.safetensors"
    end = weights.stat().st_size - 8 - int.from_bytes(weights.read_bytes()[:8], "little")
    with_tensors(weights, {tensor: {"dtype": "F32", "shape": [2], "data_offsets": [end, end + 8]}}, bytes(8))
    assert said in refusal(folder)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"n": {"dtype": "F32", "shape": [1] * 9, "data_offsets": [0, 4]}}, "holds n in 9 dimensions, and at most 8"),
        ({"n": {"dtype": "F32", "shape": [1] * 20_000, "data_offsets": [0, 4]}}, " entries at the head of 'model.saf"),
        (
            {"__metadata__": {f"{n:x}": "" for n in range(20_000)}},
            "19,999 entries at the head of 'model.safetensors', ",
        ),
    ],
    ids=["dimensions", "many dimensions", "notes"],
)
def test_a_list_of_tensors_has_bounds_on_its_entries(folder, refusal, more, said):
    weights = folder / "model.safetensors"
    weights.write_bytes((2).to_bytes(8, "little") + b"{}")
    with_tensors(weights, more, bytes(4))
    assert said in refusal(folder)


def test_rules_that_make_a_text_long_are_counted_together(folder, refusal):
    path = folder / "tokenizer.json"

    def put(content, times):
        grows = {"type": "Replace", "pattern": {"String": "a"}, "content": content}
        rules = {"type": "Sequence", "normalizers": [grows] * times}
        path.write_text(json.dumps(json.loads(path.read_text()) | {"normalizer": rules}))

    put("b" * 4, 2)
    assert load_model(str(folder), device="cpu").tokenizer("aaa")
    put("b" * 4, 3)
    assert "has a tokenizer whose rules make a text up to 3e+02 times as long, and 100 are allowed" in refusal(folder)


def test_tables_beside_the_weights_are_counted_before_they_are_made():
    model = torch.nn.Linear(2, 2, bias=False)
    model.register_buffer("positions", torch.empty(2**27, device="meta"))
    with pytest.raises(ModelError, match=r"makes tables of 0\.5 GB beside its weights"):
        check_count("owner/model", model, 0, 0)


@pytest.mark.parametrize(
    ("nbytes", "there", "refused"),
    [(2**26, 0, False), (2**26 + 1, 0, True), (2**26 + 1, 2**26, True), (10**8, 10**8, False), (10**8, 10**7, True)],
)
def test_masks_may_be_as_large_as_the_files_or_as_small_models_have(nbytes, there, refused):
    model = torch.nn.Linear(2, 2, bias=False)
    model.register_buffer("mask", torch.empty(nbytes, dtype=torch.bool, device="meta"))
    if not refused:
        check_count("owner/model", model, 4, there)
        return
    with pytest.raises(ModelError, match=r"makes tables of 0\.1 GB beside its weights"):
        check_count("owner/model", model, 4, there)


@pytest.mark.parametrize(
    ("settings", "refused"),
    [
        ({"chunk_size": 256, "num_heads": 128}, False),  # 2**16 · 2**7 · 2**5 bytes, as many as are allowed
        ({"chunk_size": 256, "num_heads": 129}, True),
        ({"chunk_size": 256, "num_heads": 32, "ssm_state_size": 768}, False),
        ({"chunk_size": 256, "num_heads": 32, "ssm_state_size": 769}, True),
        ({"text_config": {"mamba_chunk_size": 512, "mamba_n_heads": 33}}, True),
        ({"chunk_size": 256, "num_attention_heads": 1000}, False),
        ({"max_seq_len": 2**20, "n_heads": 32}, False),
        ({"max_seq_len": 2**20, "n_heads": 33}, True),
    ],
)
def test_tables_of_chunks_are_counted_before_the_first_text(settings, refused):
    model = torch.nn.Linear(2, 2, bias=False)
    model.config = PreTrainedConfig(**settings)
    if not refused:
        check_count("owner/model", model, 4, 0)
        return
    with pytest.raises(ModelError, match=r"makes tables of 0\.3 GB beside its weights"):
        check_count("owner/model", model, 4, 0)
    check_count("owner/model", model, 4, 10**8)


class OfExperts(torch.nn.Module):
    """A module that holds so many experts' matrices of one number."""

    def __init__(self, count):
        super().__init__()
        self.down_proj = torch.nn.Parameter(torch.empty(count, 1, 1, device="meta"))


@pytest.mark.parametrize(("count", "numbers", "refused"), [(20_000, 0, 0), (20_001, 0, 1), (300_000, 3 * 10**8, 0)])
def test_matrices_of_experts_are_counted_before_one_is_made(monkeypatch, count, numbers, refused):
    monkeypatch.setattr(experts.ExpertMatrix, "__init__", lambda *_: pytest.fail("one was made"))
    model = torch.nn.ModuleDict({"experts": OfExperts(count)})
    if not refused:
        check_experts("owner/model", model, numbers)
        return
    with pytest.raises(ModelError, match="makes 20,001 matrices of experts, and of files with 0 numbers 20,000 are"):
        check_experts("owner/model", model, numbers)


@pytest.mark.parametrize("wide", [64, 1])
def test_experts_that_the_files_do_not_hold_are_refused_before_one_is_made(folder, refusal, monkeypatch, wide):
    monkeypatch.setattr(experts.ExpertMatrix, "__init__", lambda *_: pytest.fail("one was made"))
    many = {"num_local_experts": 20_000, "num_experts_per_tok": 2, "num_hidden_layers": 2, "intermediate_size": 1}
    sizes = {"hidden_size": 2 * wide, "num_attention_heads": 1, "num_key_value_heads": 1, "head_dim": 2}
    configure(folder, model_type="mixtral", architectures=["MixtralForCausalLM"], **many, **sizes)
    assert "makes 80,000 matrices of experts" in refusal(folder)


def test_a_clock_runs_while_the_parts_of_a_model_are_gone_through(folder, refusal, monkeypatch):
    monkeypatch.setattr(watched, "SECONDS", 0.3)
    monkeypatch.setattr(watched, "SECONDS_OF_ONE", 0.0)
    monkeypatch.setattr(loading, "check_not_empty", lambda *_: [None for _ in iter(int, 1)])
    assert "take more than 0 s to build" in refusal(folder)
