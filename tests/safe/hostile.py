"""Models made to do harm: each a copy of a good one, changed in one way. None is stored; tests make them."""

import json
import os
import pickle
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import torch
from configured import configure
from safetensors.torch import load_file, save_file

CODE = "import pathlib\npathlib.Path({canary!r}).write_text('ran')\nclass Config: pass\nclass Model: pass\n"
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
# Each takes a folder, and the path that is never to be written.
MAKERS: dict[str, Callable[[Path, str], None]] = {}


def maker(make):
    MAKERS[make.__name__] = make
    return make


def make_all(good: Path, root: Path, canary: str) -> dict[str, Path]:
    """Make them all. -> folders, or files, by name"""
    made = {}
    for name, make in MAKERS.items():
        folder = shutil.copytree(good, root / name)
        made[name] = make(folder, canary) or folder
    return made


class Runs:
    """An object whose pickle writes a file when it is read."""

    def __init__(self, canary):
        self.canary = canary

    def __reduce__(self):
        return (os.system, (f"touch {self.canary}",))


@maker
def pickle_only(folder, canary):
    (folder / WEIGHTS).unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Runs(canary)))


@maker
def pickle_called_safetensors(folder, canary):
    (folder / WEIGHTS).write_bytes(pickle.dumps(Runs(canary)))


def own_code(folder, canary):
    (folder / "own.py").write_text(CODE.format(canary=canary))
    return {
        "AutoConfig": "own.Config",
        "AutoModelForCausalLM": "own.Model",
        "AutoTokenizer": ["own.Model", "own.Model"],
    }


@maker
def auto_map(folder, canary):
    configure(folder, model_type="own", auto_map=own_code(folder, canary))


@maker
def auto_map_of_a_known_kind(folder, canary):
    configure(folder, auto_map=own_code(folder, canary))
    configure(folder, "tokenizer_config.json", auto_map=own_code(folder, canary), tokenizer_class="OwnTokenizer")


@maker
def attention_implementation(folder, canary):
    own_code(folder, canary)
    names = ("attn_implementation", "_attn_implementation", "_attn_implementation_internal")
    configure(folder, **dict.fromkeys(names, f"{folder}:own.Model"), use_kernels=True)


@maker
def attention_implementation_of_a_hub(folder, canary):
    configure(folder, _attn_implementation="owner/kernel@main:Model", experts_implementation="owner/kernel")


@maker
def template_that_escapes(folder, canary):
    escape = "{{ cycler.__init__.__globals__.os.system('touch " + canary + "') }}"
    (folder / "chat_template.jinja").write_text(escape)


@maker
def template_that_escapes_by_format(folder, canary):
    (folder / "chat_template.jinja").write_text("{{ '{0.__class__.__init__.__globals__}'.format(namespace) }}")


@maker
def template_that_loops(folder, canary):
    (folder / "chat_template.jinja").write_text("{% for a in range(99999) %}" * 2 + "{% endfor %}" * 2)


@maker
def template_that_grows(folder, canary):
    configure(folder, "tokenizer_config.json", chat_template="{{ 'x' * 10 ** 10 }}")


@maker
def header_of_200_megabytes(folder, canary):
    with (folder / WEIGHTS).open("wb") as file:
        file.write(struct.pack("<Q", 200 * 10**6) + b'{"a":')
        file.truncate(300 * 10**6)


@maker
def header_of_many_tensors(folder, canary):
    entry = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    header = json.dumps({f"model.layers.{i}.w": entry for i in range(600_000)}).encode()
    (folder / WEIGHTS).write_bytes(struct.pack("<Q", len(header)) + header)


def header_of(path):
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def with_header(path, header, body):
    head = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(head)) + head + body)


@maker
def overlapping_tensors(folder, canary):
    header, body = header_of(folder / WEIGHTS)
    first, second = [name for name, entry in header.items() if name != "__metadata__" and len(entry["shape"]) == 2][:2]
    header[second] = header[first]
    with_header(folder / WEIGHTS, header, body)


@maker
def missing_tensors(folder, canary):
    whole = load_file(folder / WEIGHTS)
    save_file({name: whole[name] for name in list(whole)[:-3]}, folder / WEIGHTS, metadata={"format": "pt"})


@maker
def shapes_that_disagree(folder, canary):
    whole = load_file(folder / WEIGHTS)
    save_file(whole | {"model.norm.weight": torch.ones(63)}, folder / WEIGHTS, metadata={"format": "pt"})


@maker
def shapes_that_lie(folder, canary):
    header, body = header_of(folder / WEIGHTS)
    header["model.norm.weight"]["shape"] = [2**40, 2**40]
    with_header(folder / WEIGHTS, header, body)


@maker
def sizes_that_lie(folder, canary):
    configure(folder, hidden_size=30_000, intermediate_size=30_000, num_attention_heads=100, head_dim=300)


@maker
def vocabulary_that_lies(folder, canary):
    configure(folder, vocab_size=2**31 - 1)


@maker
def numbers_without_end(folder, canary):
    configure(folder, hidden_size=2**62, intermediate_size=2**62)


@maker
def names_that_lead_out(folder, canary):
    shutil.copy(folder / WEIGHTS, folder.parent / "outside.safetensors")
    (folder / WEIGHTS).unlink()
    names = load_file(folder.parent / "outside.safetensors")
    (folder / INDEX).write_text(
        json.dumps({"metadata": {}, "weight_map": dict.fromkeys(names, "../outside.safetensors")})
    )


@maker
def link_to_a_device(folder, canary):
    (folder / WEIGHTS).unlink()
    (folder / WEIGHTS).symlink_to("/dev/zero")


@maker
def configuration_that_never_ends(folder, canary):
    (folder / "tokenizer_config.json").unlink()
    (folder / "tokenizer_config.json").symlink_to("/dev/zero")


@maker
def pipe_in_place_of_a_file(folder, canary):
    (folder / "config.json").unlink()
    os.mkfifo(folder / "config.json")


@maker
def million_layers(folder, canary):
    configure(folder, num_hidden_layers=10**6)


@maker
def billion_layers(folder, canary):
    configure(folder, num_hidden_layers=10**9)


@maker
def thousands_of_layers(folder, canary):
    configure(folder, num_hidden_layers=9_999)


@maker
def million_experts(folder, canary):
    kind = {"model_type": "mixtral", "architectures": ["MixtralForCausalLM"]}
    configure(folder, **kind, num_local_experts=10**6, num_experts_per_tok=2)


@maker
def loops_of_the_first_text(folder, canary):
    configure(folder, model_type="deepseek_v4", hc_sinkhorn_iters=10**6)


@maker
def tables_of_the_first_text(folder, canary):
    configure(folder, model_type="mamba2", chunk_size=4096)


@maker
def deep_configuration(folder, canary):
    (folder / "config.json").write_text('{"a":' * 50_000 + "1" + "}" * 50_000)


@maker
def settings_of_empty_lists(folder, canary):
    (folder / "tokenizer_config.json").write_text('{"a":[' + ",".join(["[]"] * 5_000_000) + "]}")


@maker
def normalizer_of_empty_lists(folder, canary):
    """A file that one kind of tokenizer alone reads."""
    configure(folder, "tokenizer_config.json", tokenizer_class="WhisperTokenizer")
    (folder / "normalizer.json").write_text("[" + ",".join(["[]"] * 10_000_000) + "]")


@maker
def tokenizer_of_300_megabytes(folder, canary):
    with (folder / "tokenizer.json").open("r+b") as file:
        file.truncate(300 * 10**6)


@maker
def tokenizer_bomb(folder, canary):
    grows = {"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 10}
    configure(folder, "tokenizer.json", normalizer={"type": "Sequence", "normalizers": [grows] * 20})


@maker
def tokenizer_of_many_rules(folder, canary):
    grows = {"type": "Replace", "pattern": {"Regex": r"[\w\s]"}, "content": "b " * 45}
    configure(
        folder, "tokenizer.json", normalizer={"type": "Sequence", "normalizers": [grows, *[{"type": "NFKD"}] * 900]}
    )


@maker
def tokenizer_of_words_without_end(folder, canary):
    letters = {letter: number for number, letter in enumerate(["[UNK]", "a", "##a", "b", "##b"])}
    words = {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "vocab": letters}
    configure(folder, "tokenizer.json", model=words | {"max_input_chars_per_word": 10**9}, pre_tokenizer=None)


@maker
def template_that_makes_much_of_little(folder, canary):
    configure(
        folder, "tokenizer.json", normalizer={"type": "Replace", "pattern": {"String": "a"}, "content": "b " * 49}
    )
    (folder / "chat_template.jinja").write_text("{{ 'a' * 200000 }}{{ messages[0].content }}")


@maker
def tokenizer_that_reads_another_file(folder, canary):
    (folder / "tokenizer.json").unlink()
    (folder / "any.model").touch()
    configure(folder, "tokenizer_config.json", tokenizer_class="BertTokenizer", init_inputs=["/dev/zero"])


@maker
def special_tokens_that_read_another_file(folder, canary):
    (folder / "tokenizer.json").unlink()
    (folder / "any.model").touch()
    configure(folder, "tokenizer_config.json", tokenizer_class="BertTokenizer")
    configure(folder, "special_tokens_map.json", vocab="/dev/zero", vocab_file="/dev/zero")


@maker
def tokenizer_of_tokenizers(folder, canary):
    for inner in ("question_encoder_tokenizer", "generator_tokenizer"):
        (folder / inner).mkdir()
        configure(folder, f"{inner}/config.json", model_type="own", auto_map=own_code(folder / inner, canary))
        configure(folder, f"{inner}/tokenizer_config.json", auto_map=own_code(folder / inner, canary))
    configure(folder, question_encoder={"model_type": "vit"})
    configure(folder, "tokenizer_config.json", tokenizer_class="RagTokenizer")


@maker
def tokenizer_that_panics(folder, canary):
    everywhere = {"type": "Replace", "pattern": {"Regex": "^"}, "content": "x"}
    configure(folder, "tokenizer.json", normalizer=everywhere)


@maker
def tokenizer_that_puts_much_before(folder, canary):
    configure(folder, "tokenizer.json", normalizer={"type": "Prepend", "prepend": "a" * 40_000_000})


@maker
def tokenizer_that_repeats_the_text(folder, canary):
    single = [{"Sequence": {"id": "A", "type_id": 0}}] * 200_000
    rules = {"type": "TemplateProcessing", "single": single, "pair": [], "special_tokens": {}}
    configure(folder, "tokenizer.json", post_processor=rules)


@maker
def billion_labels(folder, canary):
    configure(folder, num_labels=10**9)


@maker
def billion_in_a_list(folder, canary):
    configure(folder, model_type="gpt_neo", attention_types=[[["global"], 10**9]], num_layers=10**9)


@maker
def tokenizer_of_words_called_by_another_name(folder, canary):
    """A Unigram model's list, which is no BPE model that could be read, and is made a tree all the same."""
    words = [[word, -1.0] for word in ["<pad>", "</s>", "<unk>", *(f"{n:05}" + "a" * 125 for n in range(11_000))]]
    rules = {"version": "1.0", "added_tokens": [], "model": {"type": "BPE", "unk_id": 2, "vocab": words}}
    (folder / "tokenizer.json").write_text(json.dumps(rules))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "T5Tokenizer"}))
