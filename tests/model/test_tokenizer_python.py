"""Tokenizers that are written in Python: served, ended when they take long, and refused when they make too much."""

import json
import threading
import time

import pytest
from transformers import AutoConfig, ByT5Tokenizer, PerceiverTokenizer

from wanda_core.errors import ModelError
from wanda_core.model import tokenizer, tokenizer_growth
from wanda_core.model.tokenizer import load_tokenizer, text_of, token_ids
from wanda_core.model.tokenizer_growth import check_letters

# MyT5's leaves its file open.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
WORDS = ["a", "b", "c</w>", "ab", "abc"]
EMOJI = {"emoji": {"😀": "<|emoji1|>"}, "emoji_inv": {"<|emoji1|>": "😀"}}


def load(folder, kind, files):
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text('{"model_type": "llama"}')
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": kind}))
    for name, content in files.items():
        (folder / name).write_text(content if isinstance(content, str) else json.dumps(content))
    return load_tokenizer(folder, "a model", AutoConfig.from_pretrained(folder))


def maps(there, back=None):
    return {"byte_maps.json": {"decompose_map": there, "merge_map": back or {}}}


def merging(merges):
    """Files of CTRL's. merges: as they stand in its file."""
    return {"vocab.json": {word: n for n, word in enumerate(["<unk>", *WORDS])}, "merges.txt": f"#version\n{merges}\n"}


def japanese(emoji):
    return {
        "vocab.txt": "\n".join(["<|endoftext|>", "<SP>", "<|emoji1|>", "a", "<|byte98|>"]) + "\n",
        "emoji.json": emoji,
    }


@pytest.mark.parametrize("kind", [ByT5Tokenizer, PerceiverTokenizer])
def test_those_that_cut_a_text_into_bytes_read_long_ones(kind):
    cuts = kind()
    text = "a sky 하늘 " * 1_000
    assert text_of(cuts, token_ids(cuts, text, special=False)) == text


def test_others_are_served(tmp_path):
    ctrl = load(tmp_path / "ctrl", "CTRLTokenizer", merging("a b\nab c</w>"))
    assert token_ids(ctrl, "abc", special=True) == [5]
    myt5 = load(tmp_path / "myt5", "MyT5Tokenizer", maps({"41": "a0 61", "c3 89": "a0 65 cc 81"}))
    assert token_ids(myt5, "A" * 20_000, special=False) == [0xA0 + 3, 0x61 + 3] * 20_000
    assert text_of(myt5, token_ids(myt5, "AÉ", special=False)) == "AÉ"
    grown = load(tmp_path / "grown", "MyT5Tokenizer", maps({"41": " ".join(["61"] * 90)}))
    assert len(token_ids(grown, "A" + "b" * 20_000, special=False)) == 20_090
    emoji = load(tmp_path / "emoji", "GPTNeoXJapaneseTokenizer", japanese(EMOJI))
    assert token_ids(emoji, "a 😀", special=False) == [3, 1, 2]


@pytest.mark.parametrize(
    "files",
    [
        maps({"6b": " ".join(["07"] * 1000)}),
        maps({}, {" ".join(["07"] * 1000): "6b"}),  # when it is read back
        maps({"6b": " ".join(["07"] * 11)}, {"07": " ".join(["08"] * 10)}),
    ],
)
def test_rules_for_bytes_that_make_much_of_little_are_refused(tmp_path, files):
    with pytest.raises(ModelError, match=r"rules make a text up to 1e\+0[23] times as long, and 100 are allowed"):
        load(tmp_path, "MyT5Tokenizer", files)


def test_what_they_make_of_a_text_is_counted_before_it_fills_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(tokenizer_growth, "MORE_LETTERS", 10_000)
    grown = load(tmp_path, "MyT5Tokenizer", maps({"41": " ".join(["61"] * 90)}))
    with pytest.raises(ModelError, match="makes more than 12,000 letters of a text of 500"):
        check_letters(grown, "A" * 500, 90.0)


def test_emoji_that_grow_each_other_are_refused(tmp_path):
    chain = {chr(0x4E00 + n): chr(0x4E01 + n) * 20 for n in range(20)}
    emoji = load(tmp_path, "GPTNeoXJapaneseTokenizer", japanese({**EMOJI, "emoji": chain}))
    with pytest.raises(ModelError, match="makes more than 1,000,004 letters of a text of 1;"):
        token_ids(emoji, chr(0x4E00), special=False)


def test_more_tokens_than_letters_are_refused(monkeypatch):
    odd = ByT5Tokenizer()
    monkeypatch.setattr(tokenizer_growth, "MORE_LETTERS", 10_000)
    monkeypatch.setattr(odd, "_tokenize", lambda text, **options: ["a"] * 10_020)
    with pytest.raises(ModelError, match="makes more than 10,004 letters of a text of 1;"):
        token_ids(odd, "a", special=False)


def test_one_that_takes_long_is_ended_and_asked_again(tmp_path, monkeypatch):
    letters = [chr(0x4E00 + number) for number in range(20_000)]
    pairs = "\n".join(f"{one} {two}" for one, two in zip(letters[::2], letters[1::2], strict=True))
    slow = load(tmp_path, "CTRLTokenizer", merging(pairs))
    monkeypatch.setattr(tokenizer, "PATIENCE", 0.2)
    monkeypatch.setattr(tokenizer, "PATIENCE_OF_ONE", 0.0)
    monkeypatch.setattr(tokenizer, "TO_END", 30.0)  # left to itself while it ends, it would be busy for the next one
    begun = time.monotonic()
    with pytest.raises(ModelError, match="takes more than 0 s for one text; give another one, or take the tokenizer"):
        token_ids(slow, "".join(letters), special=False)
    assert time.monotonic() - begun < 20
    monkeypatch.setattr(tokenizer, "PATIENCE", 60.0)  # the machine may be busy
    assert token_ids(slow, "ab", special=False) == slow("ab")["input_ids"], (
        "nothing goes on that would have to be waited for"
    )
    while [thread for thread in threading.enumerate() if thread.name in ("apart", "wanda-watch")]:
        assert time.monotonic() - begun < 60
        time.sleep(0.01)
