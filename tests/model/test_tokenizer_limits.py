"""What a stranger's tokenizer may not do: reach other files, be another class, run code, grow a text, end otherwise."""

import base64
import contextlib
import json
import struct
import time

import pytest
import torch
from configured import configure
from tokenizers import Regex, pre_tokenizers
from transformers import dynamic_module_utils
from transformers.models.auto.tokenization_auto import TOKENIZER_MAPPING_NAMES, tokenizer_class_from_name

from wanda_core.errors import ModelError
from wanda_core.model import tokenizer
from wanda_core.model.foreign_code import no_foreign_code
from wanda_core.model.loading import load_model
from wanda_core.model.tokenizer_limits import MOST_GROWTH, MOST_PATTERN, check_rules


def load(folder):
    with pytest.raises(ModelError) as error:
        load_model(str(folder), device="cpu", dtype=torch.float32)
    return str(error.value)


@pytest.mark.parametrize(
    ("file", "fields"),
    [
        ("tokenizer_config.json", {"tokenizer_class": "BertTokenizer", "init_inputs": ["{secret}"]}),
        ("tokenizer_config.json", {"tokenizer_class": "BertTokenizer", "vocab": "{secret}"}),
        ("tokenizer_config.json", {"merges": "{secret}"}),
        ("tokenizer_config.json", {"gguf_file": "{secret}"}),
        ("tokenizer_config.json", {"tokenizer_object": "x"}),
        ("special_tokens_map.json", {"vocab": "{secret}"}),
        ("special_tokens_map.json", {"name_or_path": "owner/name"}),
        ("special_tokens_map.json", {"vocab_file": "{secret}"}),
        ("special_tokens_map.json", {"tokenizer_file": "/dev/zero"}),
        ("special_tokens_map.json", {"source_spm": "{secret}"}),
    ],
)
def test_settings_lead_to_no_other_file(folder, tmp_path, file, fields):
    secret = tmp_path / "secret.txt"
    secret.write_text("first\nhf_secret\n[UNK]\n")
    configure(folder, file, **json.loads(json.dumps(fields).replace("{secret}", str(secret))))
    (folder / "tokenizer.json").unlink()
    (folder / "x.model").touch()
    assert "could lead to files outside its folder" in load(folder)


# As files of models have them that were saved long ago, beside a path of each argument that a class opens.
SAVED = {
    "name_or_path": "owner/name",
    "special_tokens_map_file": "{secret}",
    "tokenizer_file": "{secret}",
    "spm_file": "{secret}",
    "sp_model_kwargs": {"model_file": "{secret}", "enable_sampling": True},
    "normalizer_file": None,
    "cache_dir": None,
}


@pytest.mark.parametrize("kind", ["GemmaTokenizer", "Siglip2Tokenizer", "XGLMTokenizer"])
def test_paths_of_whoever_saved_settings_are_not_opened(folder, tmp_path, kind):
    (tmp_path / "words").write_text(json.dumps({"a-secret-word": 6, "<unk>": 0, "<s>": 1, "</s>": 2, "<pad>": 3}))
    (tmp_path / "merges").write_text("#version: 0.2\n")
    paths = {"vocab_file": str(tmp_path / "words"), "merges_file": str(tmp_path / "merges")}
    saved = json.loads(json.dumps(SAVED).replace("{secret}", "/proc/self/pagemap"))
    configure(folder, "tokenizer_config.json", **saved, **paths)
    assert load_model(str(folder), device="cpu").tokenizer("a")["input_ids"]  # the folder's own tokenizer.json is read
    configure(folder, "tokenizer_config.json", tokenizer_class=kind)
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.json").write_text("{}")
    (folder / "merges.txt").touch()
    assert "knows no word" in load(folder)


@pytest.mark.parametrize("fields", [{"mecab_option": "-r x"}, {"sudachi_config_path": "x"}, {"a": [{"dir": "x"}]}])
def test_settings_that_are_given_on_lead_to_no_other_file(folder, fields):
    configure(folder, "tokenizer_config.json", mecab_kwargs=fields)
    assert "could lead to files outside its folder" in load(folder)


def test_names_of_tokens_and_of_processors_lead_nowhere(folder):
    configure(
        folder,
        "tokenizer_config.json",
        extra_special_tokens={"repo_file": "<file>", "path": "<path>"},
        response_schema={"properties": {"path": {"type": "string"}}},
        mecab_kwargs={"mecab_dic": "unidic_lite"},
        sp_model_kwargs={},
        auto_map={},
    )
    assert load_model(str(folder), device="cpu").tokenizer("a")["input_ids"]


@pytest.mark.parametrize(
    ("file", "key", "called"),
    [
        ("tokenizer_config.json", "extra_special_tokens", "vocab_file"),
        ("tokenizer_config.json", "model_specific_special_tokens", "vocab_file"),
        ("special_tokens_map.json", "extra_special_tokens", "vocab_file"),
    ],
)
def test_no_token_is_a_path_that_a_chat_template_could_print(folder, file, key, called):
    configure(folder, "tokenizer_config.json", tokenizer_class="PreTrainedTokenizerFast")
    configure(folder, file, **{key: {called: "<v>"}})
    (folder / "tokenizer.model").write_bytes(b"\x01")
    assert f"has a special token called '{called}', in whose place its tokenizer puts a path" in load(folder)


@pytest.mark.parametrize(
    "kind", ["RagTokenizer", "AutoModelForCausalLM", "LlamaForCausalLM", "pipeline", ["x"], "x" + "Fast" * 2000]
)
@pytest.mark.parametrize("file", ["tokenizer_config.json", "config.json"])
def test_a_class_that_is_no_tokenizer_is_refused(folder, kind, file):
    configure(folder, "tokenizer_config.json", tokenizer_class=None)
    configure(folder, file, tokenizer_class=kind)
    assert "as its tokenizer's class" in load(folder)


def test_code_of_a_model_is_not_fetched_and_nobody_is_asked(monkeypatch):
    monkeypatch.setattr("builtins.input", lambda question: pytest.fail(question))
    before = dynamic_module_utils.get_cached_module_file
    with no_foreign_code(), no_foreign_code():
        with pytest.raises(ModelError, match="code of its own"):
            dynamic_module_utils.get_class_from_dynamic_module("own.Model", "/tmp", code_revision=None)
        with pytest.raises(ModelError, match="code of its own"):
            dynamic_module_utils.resolve_trust_remote_code(None, "/tmp", has_local_code=False, has_remote_code=True)
    assert dynamic_module_utils.get_cached_module_file is before
    assert dynamic_module_utils.TIME_OUT_REMOTE_CODE > 0


def charsmap(longest):
    return base64.b64encode(struct.pack("<I", 4) + b"\0" * 4 + b"a\0" + b"b" * longest + b"\0").decode()


def replaces(pattern, content, times=1):
    return {
        "normalizer": {
            "type": "Sequence",
            "normalizers": [{"type": "Replace", "pattern": pattern, "content": content}] * times,
        }
    }


def ways(*kinds):
    return {"type": "Sequence", "pretokenizers": [{"type": kind} for kind in kinds]}


def template(pieces, ids=1):
    listed = {"ids": [0] * ids, "id": "x", "tokens": ["x"] * ids}
    return {
        "post_processor": {"type": "TemplateProcessing", "single": pieces, "pair": [], "special_tokens": {"x": listed}}
    }


A, X = {"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "x", "type_id": 0}}


@pytest.mark.parametrize(
    ("rules", "growth"),
    [
        (replaces({"String": "a"}, "b" * 100), 100),
        ({"normalizer": {"normalizers": [{"pattern": {"String": "a"}, "content": "b" * 20}] * 2}}, 400),
        (replaces({"Regex": "[" * 50 + "a" + "]" * 50}, "b" * 200), 201),
        (replaces({"String": "ab"}, "b" * 10, 5), 5**5),
        (replaces({"String": ""}, "b", 10), 2**10),
        (replaces({"Regex": "^|(?=a)"}, "b", 10), 2**10),
        (replaces({"Regex": "a{3}b?"}, "b" * 300), 100),
        (replaces({"Regex": "(?<unclosed"}, "b", 11), 2**11),
        ({"normalizer": {"type": "Prepend", "prepend": "b" * 2000}}, 2000),
        ({"normalizer": {"type": "Precompiled", "precompiled_charsmap": charsmap(3000)}}, 3000),
        ({"model": {"type": "BPE", "vocab": {}, "merges": [], "end_of_word_suffix": "b" * 5000}}, 5000),
        (template([A] * 1200), 1200),
        (template([X, A, X], 400), 1),
        (template([A, *[X] * 10], 200), float("inf")),
        ({"post_processor": {"single": [A] * 300, "pair": []}}, 300),
        ({"pre_tokenizer": ways("ByteLevel", "Metaspace")}, 10),
        ({"pre_tokenizer": ways(*["ByteLevel"] * 3)}, 125),
        ({"pre_tokenizer": ways(*["ByteLevel"] * 95)}, 5**95),
        ({"normalizer": {"type": "Prepend", "prepend": "b" * 100}, "pre_tokenizer": ways("Metaspace")}, 200),
    ],
)
def test_how_much_longer_rules_make_a_text(tmp_path, rules, growth):
    (tmp_path / "tokenizer.json").write_text(json.dumps(rules))
    if growth <= MOST_GROWTH:
        check_rules(tmp_path, "a model")
        return
    with pytest.raises(ModelError) as error:
        check_rules(tmp_path, "a model")
    assert f"up to {growth:.0e} times as long" in str(error.value)


def growing(content, times):
    """Rules that put so many letters in the place of one, and so many more that change nothing: three, and these."""
    grows = {"type": "Replace", "pattern": {"String": "a"}, "content": content}
    return {"normalizer": {"type": "Sequence", "normalizers": [grows, *[{"type": "NFKD"}] * times]}}


@pytest.mark.parametrize(
    ("rules", "count", "growth", "most"),
    [
        (growing("b", 97), 100, 1, None),
        (growing("b" * 40, 22), 25, 40, None),
        (growing("b" * 40, 23), 26, 40, 25),
        (growing("b" * 100, 7), 10, 100, None),
        (growing("b" * 90, 90), 93, 90, 11),
    ],
)
def test_how_many_rules_a_text_of_so_many_letters_goes_through(tmp_path, rules, count, growth, most):
    (tmp_path / "tokenizer.json").write_text(json.dumps(rules))
    if most is None:
        check_rules(tmp_path, "a model")
        return
    said = f"a tokenizer of {count} rules that make a text up to {growth} times as long, and {most} such rules are"
    with pytest.raises(ModelError, match=said):
        check_rules(tmp_path, "a model")


def test_rules_are_counted_before_they_are_looked_at(tmp_path):
    (tmp_path / "tokenizer.json").write_text(json.dumps(growing("b" * 90, 98)))
    with pytest.raises(ModelError, match="has a tokenizer of 101 rules, and at most 100 are read; take the tokenizer"):
        check_rules(tmp_path, "a model")


def test_a_map_of_characters_has_a_length(tmp_path):
    """Of zeros alone, each byte of which ends a text of no letters."""
    rules = {"normalizer": {"type": "Precompiled", "precompiled_charsmap": "A" * 3_000_000}}
    (tmp_path / "tokenizer.json").write_text(json.dumps(rules))
    check_rules(tmp_path, "a model")
    rules = {"normalizer": {"normalizers": [rules["normalizer"], {"precompiled_charsmap": "A"}]}}
    (tmp_path / "tokenizer.json").write_text(json.dumps(rules))
    with pytest.raises(ModelError, match="maps of characters of 3,000,001 letters in its tokenizer, and at most 3,000"):
        check_rules(tmp_path, "a model")


@pytest.mark.parametrize("file", ["tokenizer.json", "tokenizer_config.json"])
def test_pieces_are_looked_for_in_words_of_some_length(folder, file):
    word = {"max_input_chars_per_word": 201}
    model = json.loads((folder / "tokenizer.json").read_text())["model"]
    configure(folder, file, **({"model": model | word} if file == "tokenizer.json" else word))
    assert "has 'max_input_chars_per_word' 201 in its tokenizer's settings, and at most 200 is read" in load(folder)


def test_rules_that_another_file_brings_are_counted_once_they_are_loaded(folder, monkeypatch):
    monkeypatch.setattr(tokenizer, "check_rules", lambda *_: (set(), {}))
    configure(folder, "tokenizer.json", **growing("b" * 200, 0))
    assert "up to 8e+02 times as long, and 100 are allowed" in load(folder)


# What serde reads past, and Python does not read.
DEEP = 2000
UNREAD = {"digits": "1" * 5000, "depth": "[" * DEEP + "]" * DEEP}


@pytest.mark.parametrize("how", UNREAD)
def test_what_python_does_not_read_is_not_read_by_others(folder, how):
    configure(folder, "tokenizer.json", truncation={"max_length": 99, "strategy": "LongestFirst", "stride": 0, "x": 0})
    path = folder / "tokenizer.json"
    content = path.read_text()
    load_model(str(folder), device="cpu", dtype=torch.float32)
    path.write_text(content.replace('"x": 0', f'"x": {UNREAD[how]}'))
    assert 'x": ' in content
    assert "could not be loaded: tokenizer.json: " in load(folder)


@pytest.mark.parametrize("file", ["tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"])
@pytest.mark.parametrize("content", ["[]", "{", '{"a": ' + "1" * 5000 + "}"], ids=["a list", "half", "digits"])
def test_settings_that_cannot_be_checked_are_not_read(folder, file, content):
    (folder / file).write_text(content)
    assert f"could not be loaded: {file}" in load(folder)


@pytest.mark.parametrize(
    "rules",
    [
        {"normalizer": [{"String": "a"}, "b" * 200]},
        {"normalizer": {"type": "Sequence", "normalizers": [[{"String": "a"}, "b" * 200]]}},
        {"pre_tokenizer": ["Split", {"Regex": "a"}, "Isolated", False]},
        {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [["Split", {"Regex": "a"}, "Isolated", False]]}},
    ],
)
def test_rules_without_names_are_not_read(folder, rules):
    configure(folder, "tokenizer.json", **rules)
    assert "it has rules whose values have no names" in load(folder)


PANICS = {
    "a regular expression that fits nothing": replaces({"Regex": "^"}, "x"),
    "pieces of no length": {"pre_tokenizer": {"type": "FixedLength", "length": 0}},
}


@pytest.mark.parametrize("how", PANICS)
def test_a_panic_in_rust_is_a_sentence(folder, how):
    configure(folder, "tokenizer.json", **PANICS[how])
    assert "tokenizer" in load(folder)


def test_a_length_that_is_no_number_is_left_out(folder):
    configure(folder, "tokenizer_config.json", model_max_length="x")
    assert load_model(str(folder), device="cpu").encode("aa")


@pytest.mark.parametrize("fields", [{"extra_ids": 10**9}, {"extra_ids": 4000}, {"offset": 10**6}, {"anything": 10**7}])
def test_numbers_of_which_pieces_are_made_have_bounds(folder, fields):
    configure(folder, "tokenizer_config.json", **fields)
    assert "in its tokenizer's settings, and at most" in load(folder)


def test_numbers_of_lengths_have_none(folder):
    configure(folder, "tokenizer_config.json", model_max_length=10**30, max_length=10**12)
    assert load_model(str(folder), device="cpu").encode("aa")


def split(*patterns):
    return {"pre_tokenizer": {"pretokenizers": [{"type": "Split", "pattern": pattern} for pattern in patterns]}}


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        (split({"Regex": "(?i)" + "ssfi" * 1000}), "a regular expression of 4,004 letters"),
        (split(*[{"Regex": "\\p{L}" * 800}] * 3), "regular expressions of 12,000 letters"),
        (replaces({"String": "a" * 5000}, "b"), "a regular expression of 5,000 letters"),
        ({"decoder": {"decoders": [{"pattern": {"Regex": "a" * 5000}, "content": ""}]}}, "expression of 5,000 letters"),
        (split({"Regex": "(?<a>x)\\g<a>"}), "calls its own groups"),
        (split(*[{"Regex": "[^\\p{L}]" * 150}] * 5), None),
    ],
)
def test_patterns_have_bounds(tmp_path, rules, said):
    (tmp_path / "tokenizer.json").write_text(json.dumps(rules))
    if said is None:
        check_rules(tmp_path, "a model")
        return
    with pytest.raises(ModelError, match=said):
        check_rules(tmp_path, "a model")


DEAREST = {
    "classes that regard no case": "(?i)" + "[\\p{L}]" * (MOST_PATTERN // 7 - 1),
    "ranges that regard no case": "(?i)" + "[\u0100-\U0010ffff]" * (MOST_PATTERN // 5 - 1),
    "letters that are one or two": "(?i)" + "ssfi" * (MOST_PATTERN // 4 - 1),
    "properties": "\\p{L}" * (MOST_PATTERN // 5),
    "counts of counts": "(?:(?:(?:\\p{L}{1000}){1000}){1000}){1000}",
    "looking back": "(?<=" + "(?:a?b?)" * 400 + ")x",
}


@pytest.mark.parametrize("how", DEAREST)
def test_no_pattern_within_the_bounds_takes_long_to_be_compiled(how):
    begun = time.process_time()
    with contextlib.suppress(Exception):  # one that Oniguruma refuses, at once
        pre_tokenizers.Split(Regex(DEAREST[how]), "isolated")
    assert len(DEAREST[how]) <= MOST_PATTERN
    assert time.process_time() - begun < 1


def test_a_package_that_is_missing_is_what_is_said(folder):
    configure(folder, "tokenizer_config.json", tokenizer_class="GPTSw3Tokenizer")
    (folder / "tokenizer.json").unlink()
    (folder / "spiece.model").write_bytes(b"\n\x0e\n")
    said = load(folder)
    assert "as its tokenizer's class" not in said


def rules_of_every_kind():
    """tokenizer.json of each of transformers' tokenizers that is made without a file."""
    for name in sorted({name for name in TOKENIZER_MAPPING_NAMES.values() if name}):
        with contextlib.suppress(Exception):  # one that needs files, or a package
            yield name, tokenizer_class_from_name(name)().backend_tokenizer.to_str()


def test_the_rules_of_transformers_own_tokenizers_are_within_the_bounds(tmp_path):
    checked = 0
    for name, rules in rules_of_every_kind():
        (tmp_path / "tokenizer.json").write_text(rules)
        check_rules(tmp_path, name)
        checked += 1
    assert checked > 40


def test_the_longest_of_sentencepieces_own_maps_is_within_them(tmp_path):
    """U+FDFA becomes four words, 33 bytes; seen in sentencepiece's nmt_nfkc, nfkc and their forms that fold case."""
    rules = {"normalizer": {"type": "Precompiled", "precompiled_charsmap": charsmap(33)}} | template([X, A, X])
    (tmp_path / "tokenizer.json").write_text(json.dumps(rules))
    check_rules(tmp_path, "a model")
