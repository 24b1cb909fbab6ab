"""How much the words of a stranger's tokenizer may cost, in whichever file they stand."""

import base64
import itertools
import json
import time
from contextlib import nullcontext

import pytest
from configured import configure
from transformers import AutoConfig

from wanda_core.errors import ModelError
from wanda_core.model.loading import load_model
from wanda_core.model.tokenizer import load_tokenizer
from wanda_core.model.tokenizer_limits import check_rules
from wanda_core.model.tokenizer_vocabulary import check_added, check_compared


def test_a_token_has_a_longest_length(folder):
    rules = json.loads((folder / "tokenizer.json").read_text())
    rules["added_tokens"].append({**rules["added_tokens"][0], "id": 300, "content": "a" * 20_000})
    configure(folder, "tokenizer.json", added_tokens=rules["added_tokens"])
    with pytest.raises(ModelError, match="has an added token of 20,000 letters, and at most 1,000 are read"):
        load_model(str(folder), device="cpu")


WIDE = [chr(0x20000 + number) * 900 for number in range(200)]
LISTED = {str(number): {"content": text} for number, text in enumerate(WIDE)}


@pytest.mark.parametrize(
    ("file", "fields"),
    [
        ("tokenizer.json", {"added_tokens": [{"id": number, "content": text} for number, text in enumerate(WIDE)]}),
        ("tokenizer_config.json", {"added_tokens_decoder": LISTED}),
        ("tokenizer_config.json", {"extra_special_tokens": WIDE}),
        ("special_tokens_map.json", {"additional_special_tokens": WIDE}),
        ("added_tokens.json", dict.fromkeys(WIDE, 7)),
    ],
)
def test_added_tokens_have_bounds_together_in_whichever_file(folder, file, fields):
    configure(folder, file, **fields)
    with pytest.raises(ModelError, match=r"has tokens of 719,4.. different beginnings, and at most 201,00. are read"):
        load_model(str(folder), device="cpu")


def test_as_many_added_tokens_as_are_met_are_read():
    check_added([f"<|visual token {number:06d}|>" for number in range(65_536)], "a model")
    with pytest.raises(ModelError, match="has 100,001 added tokens, and at most 100,000 are read"):
        check_added(map(str, range(100_001)), "a model")


def words(count, letters, alike=0):
    """So many words that differ in their first letters, or only behind so many others."""
    return ["b" * alike + f"{number:x}".rjust(letters, "z")[::-1] for number in range(count)]


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ({"type": "Unigram", "vocab": [[word, -1.0] for word in words(1900, 1000)]}, "tokens of 1,8"),
        ({"type": "BPE", "vocab": dict.fromkeys(words(9000, 900), 1)}, "tokens of 8,100,000 bytes together"),
        ({"type": "BPE", "vocab": dict.fromkeys(words(3, 9000), 1)}, "as their squared lengths' sum"),
        ({"type": "BPE", "vocab": dict.fromkeys(words(1900, 1000), 1)}, "as their squared lengths' sum"),
        ({"type": "BPE", "vocab": dict.fromkeys(words(1900, 300), 1)}, None),
        ({"type": "Unigram", "vocab": [[word, -1.0] for word in words(9000, 4, 100)]}, None),
        ({"type": "Unigram", "vocab": [[word, -1.0] for word in words(100_000, 7)]}, None),
    ],
)
def test_words_have_bounds_together(tmp_path, model, said):
    configure(tmp_path, "tokenizer.json", model=model)
    if said is None:
        check_rules(tmp_path, "a model")
        return
    with pytest.raises(ModelError, match=said):
        check_rules(tmp_path, "a model")


def field(number, content):
    """A field of protobuf with a length of fewer than 2**14 bytes."""
    size = len(content)
    return bytes([number << 3 | 2, size & 127 | 128, size >> 7]) + content


def test_words_of_other_files_have_them_too(tmp_path):
    piece = field(1, field(1, b"a" * 8000) + b"\x15\0\0\0\0\x18\x01")
    (tmp_path / "tokenizer.model").write_bytes(
        piece + field(1, field(1, b"b" * 9000)) + field(1, field(1, b"c" * 9000))
    )
    with pytest.raises(ModelError, match="has tokens with 226,000,000 as their squared lengths' sum"):
        check_rules(tmp_path, "a model")
    (tmp_path / "tokenizer.model").write_bytes(
        b"".join(base64.b64encode(bytes([n] * 9000)) + b" 1\n" for n in range(3))
    )
    with pytest.raises(ModelError, match="has tokens with 243,000,000 as their squared lengths' sum"):
        check_rules(tmp_path, "a model")
    for damaged in (b"", bytes(10**7), b"\x0a", b"\x0a\xff\xff", b"\x0b\x0b", b"\xff" * 40):
        (tmp_path / "tokenizer.model").write_bytes(damaged)
        check_rules(tmp_path, "a model")


CUT = [bytes(word) for length in range(1, 14) for word in itertools.product(b"ab", repeat=length)]


@pytest.mark.parametrize(
    ("file", "content"),
    [
        (
            "tekken.json",
            json.dumps({"vocab": [{"token_bytes": base64.b64encode(word).decode()} for word in CUT]}).encode(),
        ),
        ("a.tiktoken", b"".join(base64.b64encode(word) + b" 1\n" for word in CUT)),
        ("tokenizer.model", b"\n" + b"".join(b" !%b\t+1 \r" % base64.b64encode(word) for word in CUT)),
        ("tokenizer.model", b"".join(field(1, field(1, word)) for word in CUT)),
    ],
    ids=["tekken", "tiktoken", "tiktoken, as it lets pass", "sentencepiece"],
)
def test_words_of_other_files_are_not_cut_more_often_than_any(tmp_path, file, content):
    """transformers makes a merge of each place where both halves are words."""
    (tmp_path / file).write_bytes(content)
    with pytest.raises(
        ModelError, match=r"has 16,382 tokens that can be cut in two others at more than 101,910 places"
    ):
        check_rules(tmp_path, "a model")


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("a.model", b"\x12\0" * 400_000),  # fields of nothing
        ("a.spm", field(1, b"\x12\0" * 4000) * 100),
        ("a.tiktoken", b"YQ== 0\n" + b"\r" * 10**6),
        ("a.model", b"YQ== 0\n" * 370_000),  # with what stands in the others
    ],
)
def test_so_much_of_them_is_looked_at_whatever_it_is(tmp_path, file, content):
    for name in "bcd":
        (tmp_path / f"{name}.tiktoken").write_bytes(b"YQ== 0\r\n" * 40_000)
    check_rules(tmp_path, "a model")
    (tmp_path / file).write_bytes(content)
    begun = time.process_time()
    with pytest.raises(ModelError, match="files of sentencepiece or tiktoken with more than 600,000 fields or lines"):
        check_rules(tmp_path, "a model")
    assert time.process_time() - begun < 3


def test_the_largest_vocabulary_that_is_met_is_looked_at(tmp_path):
    piece = b"\n\x05\xe2\x96\x81ab\x15\n\r\0\xc0\x18\x03"
    (tmp_path / "tokenizer.model").write_bytes((b"\n" + bytes([len(piece)]) + piece) * 262_144)
    check_rules(tmp_path, "a model")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"config": {"default_num_special_tokens": 10**9}}, "'default_num_special_tokens' 1000000000 in its"),
        ({"config": {"default_vocab_size": 10**7}}, "'default_vocab_size' 10000000 in its tokenizer's settings"),
        ({"config": {"pattern": "a" * 4001}}, "a regular expression of 4,001 letters"),
        ({"vocab": [{"token_bytes": base64.b64encode(b"a" * 20_000).decode()}]}, "has a token of 20,000 letters"),
        ({"special_tokens": [{"rank": 0, "token_str": "a" * 2000}]}, "has an added token of 2,000 letters"),
    ],
)
def test_a_tekken_json_has_bounds(tmp_path, fields, said):
    configure(tmp_path, "tekken.json", **fields)
    with pytest.raises(ModelError, match=said):
        check_rules(tmp_path, "a model")


@pytest.mark.parametrize(
    "model", [{"vocab": {"a" * 20_000: 0}}, {"vocab": [["b", -1.0], ["a" * 20_000, -2.0]]}, {"vocab": ["a" * 20_000]}]
)
def test_the_longest_is_found_before_transformers_reads_them(tmp_path, model):
    configure(tmp_path, "tokenizer.json", model=model)
    with pytest.raises(ModelError, match="has a token of 20,000 letters, and at most 10,000 are read"):
        check_rules(tmp_path, "a model")


LISTED_TOKENS = [f"<{number}>" for number in range(12_000)]


@pytest.mark.parametrize(
    ("file", "key", "tokens"),
    [
        ("special_tokens_map.json", "extra_special_tokens", LISTED_TOKENS),
        ("tokenizer_config.json", "additional_special_tokens", LISTED_TOKENS),
        ("tokenizer_config.json", "extra_special_tokens", {f"{token}_token": token for token in LISTED_TOKENS}),
    ],
)
def test_special_tokens_that_are_compared_each_with_each_have_a_bound(folder, file, key, tokens):
    configure(folder, file, **{key: tokens})
    said = r"has 12,0.. special tokens in its settings beside 12,0.. added ones, and at most 8,3.. are read"
    begun = time.process_time()
    with pytest.raises(ModelError, match=said):
        load_model(str(folder), device="cpu")
    assert time.process_time() - begun < 2


def test_special_tokens_as_they_are_met_are_compared():
    check_compared(1_024, 70_000, "a model")
    check_compared(7_000, 7_000, "a model")
    check_compared(8, 65_536, "a model", missing=8, described=65_536)
    check_compared(202, 202, "a model", missing=202, described=404)
    check_compared(112, 112, "a model", missing=112, described=12, among=12)


DESCRIBED = {str(1000 + number): {"content": f"<a{number}>", "special": True} for number in range(4_000)}
BESIDE = {"extra_special_tokens": [f"<e{number}>" for number in range(4_000)]}


@pytest.mark.parametrize(
    "fields",
    [
        BESIDE,
        {"additional_special_tokens": ["<e>"] * 4_000},
        {"extra_special_tokens": [*range(4_000)]},
        {"extra_special_tokens": [{"content": "<a0>"}] * 4_000},
        {"tokenizer_class": "T5Tokenizer", "extra_ids": 1_000},
    ],
)
def test_to_compare_with_a_token_that_settings_describe_takes_longer(folder, fields):
    configure(folder, "tokenizer_config.json", added_tokens_decoder=DESCRIBED, **fields)
    begun = time.process_time()
    with pytest.raises(
        ModelError, match=r"tokens in its settings that are none of the .* it adds, and at most \d+ are"
    ):
        load_model(str(folder), device="cpu")
    assert time.process_time() - begun < 2


TEXTS = [f"<e{number}>" for number in range(1_300)]
AS_ADDED = [{"__type": "AddedToken", "content": f"<d{number}>"} for number in range(1_300)]
BY_NAME = {f"{number}_token": token for number, token in enumerate(AS_ADDED)}


@pytest.mark.parametrize(
    ("file", "fields"),
    [
        ("tokenizer_config.json", {"extra_special_tokens": AS_ADDED + TEXTS}),
        ("tokenizer_config.json", {"additional_special_tokens": TEXTS + AS_ADDED}),
        ("tokenizer_config.json", {"extra_special_tokens": TEXTS} | BY_NAME),
        ("tokenizer_config.json", {"extra_special_tokens": AS_ADDED * 2}),
        ("special_tokens_map.json", {"extra_special_tokens": TEXTS} | BY_NAME),
    ],
    ids=["before", "behind", "by name", "alone", "in another file"],
)
def test_tokens_that_are_described_within_lists_take_longer_too(folder, file, fields):
    configure(folder, file, **fields)
    begun = time.process_time()
    with pytest.raises(ModelError, match=r"has 2,6\d\d special tokens in its settings that are none of the .* it adds"):
        load_model(str(folder), device="cpu")
    assert time.process_time() - begun < 2


def test_a_known_token_is_compared_with_described_ones_as_often_as_another_file_names_it(folder):
    known = json.loads((folder / "tokenizer.json").read_text())["added_tokens"][0]["content"]
    described = [{"content": f"<d{number}>"} for number in range(200)]
    configure(folder, "special_tokens_map.json", extra_special_tokens=[*described, *[known] * 6_000])
    with pytest.raises(ModelError, match=r"has 6,2.. special tokens in its settings that are none of the .* it adds"):
        load_model(str(folder), device="cpu")


def test_tokens_that_other_files_add_are_compared_alike(folder):
    configure(folder, "added_tokens.json", **{f"<a{number}>": 1000 + number for number in range(4_000)})
    configure(folder, "special_tokens_map.json", **BESIDE)
    with pytest.raises(
        ModelError, match=r"has 4,... special tokens in its settings that are none of the 4,... it adds"
    ):
        load_model(str(folder), device="cpu")


def test_tokens_that_are_listed_and_described_are_read(folder):
    listed = [token["content"] for token in DESCRIBED.values()][:1_600]
    numbered = dict(list(DESCRIBED.items())[:1_600])
    configure(folder, "tokenizer_config.json", added_tokens_decoder=numbered, additional_special_tokens=listed)
    assert load_model(str(folder), device="cpu").tokenizer("a")["input_ids"]


@pytest.mark.parametrize("letters", [500, 501])
def test_a_piece_of_a_unigram_model_is_no_longer_than_any(folder, letters):
    """At each letter of a text all pieces are tried that begin there, in one call into Rust."""
    pieces = [["<unk>", 0.0], *([chr(number), -1.0] for number in range(32, 127)), ["a" * letters, -9000.0]]
    parts = dict.fromkeys(("pre_tokenizer", "normalizer", "decoder", "post_processor"))
    model = {"type": "Unigram", "unk_id": 0, "vocab": pieces, "byte_fallback": False}
    special = {"id": 400, "content": "b" * 900, "special": True} | dict.fromkeys(
        ("single_word", "lstrip", "rstrip", "normalized"), False
    )
    configure(folder, "tokenizer.json", model=model, added_tokens=[special], **parts)
    configure(folder, "tokenizer_config.json", tokenizer_class="PreTrainedTokenizerFast", eos_token="a", pad_token="a")
    expected = pytest.raises(ModelError, match=r"has a token of 501 letters, and at most 500 are read")
    with expected if letters > 500 else nullcontext():
        assert load_tokenizer(folder, "a model", AutoConfig.from_pretrained(folder))
