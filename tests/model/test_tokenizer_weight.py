"""What a tokenizer's words weigh: as much as a file without anything else has letters, whatever stands beside them."""

import json

import pytest

from wanda_core.model.tokenizer_limits import check_rules
from wanda_core.model.tokenizer_weight import Weight, letters_of, weight_of_numbered

WORDS = [f"w{number}▁é" for number in range(3_000)]
NUMBERS = {word: number for number, word in enumerate(WORDS)}
PIECES = [[word, -12.345678901234567] for word in WORDS]
MERGES = [[word, word] for word in WORDS]
ADDED = [
    {"id": 256_000 + number, "content": f"<a{number}>"}
    | dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized", "special"), False)
    for number in range(500)
]
BPE = {"model": {"type": "BPE", "vocab": NUMBERS, "merges": MERGES}, "added_tokens": ADDED}
JUNK = "y" * 10**6


def compact(rules: dict) -> str:
    return json.dumps(rules, ensure_ascii=False, separators=(",", ":"))


@pytest.fixture
def weight(tmp_path):
    """Write a file, a tokenizer.json if it has no other name. -> what its words weigh"""

    def of(content: dict | str, file: str = "tokenizer.json") -> Weight:
        (tmp_path / file).write_text(content if isinstance(content, str) else compact(content))
        return check_rules(tmp_path, "a model")[1][file]

    return of


@pytest.mark.parametrize(
    "rules",
    [
        BPE,
        BPE | {"model": {"vocab": NUMBERS, "merges": [" ".join(merge) for merge in MERGES]}},
        {"model": {"type": "Unigram", "vocab": PIECES}, "added_tokens": ADDED},
        {"model": {"type": "WordPiece", "vocab": NUMBERS}},
        {"added_tokens": ADDED},
    ],
    ids=["merges", "older merges", "pieces", "words", "none"],
)
def test_words_weigh_what_they_take_as_they_are_written(weight, rules):
    size = len(compact(rules).encode())
    assert 0.95 * size < weight(rules).words < 1.3 * size
    assert weight(json.dumps(rules, indent=4)) == weight(rules), "escaped, and with blanks"


@pytest.mark.parametrize(
    "beside",
    [
        {"truncation": {"direction": "Right", "zz": JUNK}},
        {"model": BPE["model"] | {"zz": JUNK}},
        {"model": BPE["model"] | {"unk_token": JUNK}},
        {"added_tokens": [token | {"zz": JUNK[:2_000]} for token in ADDED]},
        {"zz": WORDS * 100},
    ],
    ids=["part", "model", "setting", "token", "list"],
)
def test_what_stands_beside_words_weighs_nothing(weight, beside):
    assert weight(BPE | beside) == weight(BPE)


@pytest.mark.parametrize(
    ("model", "times"),
    [
        ({"type": "WordPiece", "vocab": NUMBERS}, 1),  # which has none
        ({"type": "Unigram", "vocab": PIECES}, 1),
        ({"type": "BPE", "vocab": NUMBERS}, 5),  # which has fewer
    ],
)
def test_merges_weigh_no_more_than_such_words_have(weight, model, times):
    assert weight({"model": model | {"merges": MERGES * 20}}).words == times * weight({"model": model}).words


def test_pieces_of_a_tree_are_told_of_and_added_tokens(weight):
    whole = weight({"model": {"type": "BPE", "vocab": PIECES}, "added_tokens": ADDED})
    assert whole.pieces + whole.added == whole.words
    assert 500 * 130 < whole.added < 500 * 140
    assert weight(BPE).pieces == 0


def test_a_long_word_weighs_no_more_than_one_that_is_met(weight):
    assert letters_of(["a" * 9_000], 10) == 510
    assert weight({"model": {"vocab": {"a" * 9_000: 1}}}).words == 510
    assert letters_of(["\ud800"], 1) == 4, "half of a character"


def test_the_words_of_a_tekken_file_weigh_alike(weight):
    entries = [
        {"rank": number, "token_bytes": "YWJjZGVmZ2g=", "token_str": "abcdefgh", "is_control": None}
        for number in range(1_000)
    ]
    tekken = {"config": {"pattern": "a"}, "vocab": entries, "special_tokens": [{"rank": 0, "token_str": "<s>"}] * 100}
    given = weight(tekken, "tekken.json")
    assert 0.9 * len(compact(tekken)) < given.words < 1.3 * len(compact(tekken))
    beside = {"zz": JUNK, "vocab": [entry | {"token_str": JUNK[:2_000]} for entry in entries]}
    assert weight(tekken | beside, "tekken.json") == given


def test_the_pieces_of_a_sentencepiece_file_weigh_alike(tmp_path):
    pieces = b"".join(b"\x0a\x0b\x0a\x04%04d\x15\x00\x00\x00\x00" % number for number in range(1_000))
    (tmp_path / "a.model").write_bytes(pieces + b"\x12\xc0\x84\x3d" + b"y" * 10**6)
    assert check_rules(tmp_path, "a model")[1]["a.model"] == Weight(14_000)
    (tmp_path / "a.model").write_bytes(b"YQ== 0\nYg== 1\n")  # of tiktoken, all of lines
    assert check_rules(tmp_path, "a model")[1]["a.model"] == Weight(14)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (NUMBERS, letters_of(WORDS, 10)),
        ({"a": 1, "b": JUNK, "c": [JUNK]}, 33),
        ({"eng": NUMBERS, "kor": {"a": 1}}, 26 + letters_of(WORDS, 10)),  # of which one is read
        ({"decompose_map": {"a": "b"}, "merge_map": {"a": "c"}, "zz": NUMBERS}, 44),
        ([JUNK], 0),
    ],
    ids=["words", "beside", "languages", "maps", "list"],
)
def test_numbered_words_weigh_alike(content, words):
    assert weight_of_numbered(content).words == words
