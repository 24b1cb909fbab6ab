"""Added tokens that are looked for in a normalized text: what they cost, and what is left of them."""

import json
import time

import pytest

from wanda_core.errors import ModelError
from wanda_core.model import tokenizer_added
from wanda_core.model.loading import load_model
from wanda_core.model.tokenizer_limits import check_rules

SLOW = {"type": "Replace", "pattern": {"Regex": "(a+a+)+[bc]"}, "content": ""}
SPACES = {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}


def replace(old, new):
    return {"type": "Replace", "pattern": {"String": old}, "content": new}


def added(contents, first=1000, normalized=True):
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": normalized, "special": False}
    return [flags | {"id": first + number, "content": content} for number, content in enumerate(contents)]


def write(folder, contents, normalizers, **kinds):
    """Put added tokens and a normalizer into the tokenizer.json of a folder, or make one of these alone."""
    path = folder / "tokenizer.json"
    rules = json.loads(path.read_text()) if path.exists() else {"added_tokens": [], "model": {"vocab": {"a": 0}}}
    rules["added_tokens"] += added(contents, max([999, *rules["model"]["vocab"].values()]) + 1, **kinds)
    rules["normalizer"] = {"type": "Sequence", "normalizers": normalizers}
    path.write_text(json.dumps(rules))


def load(folder):
    return load_model(str(folder), device="cpu").tokenizer


@pytest.mark.parametrize("rules", [[replace("\n", ""), replace("", "xx")], [replace("\n", "")]])
def test_one_of_which_nothing_is_left_is_refused(folder, rules):
    write(folder, ["\n", "e"], rules)
    with pytest.raises(ModelError, match=r"has the added token '\\n', of which its normalizer leaves nothing; take"):
        load(folder)


def test_one_that_settings_add_is_so_too(folder):
    write(folder, [], [replace("\n", "")])
    decoder = {"1001": {key: value for key, value in added(["\n"])[0].items() if key != "id"}}
    (folder / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": decoder}))
    with pytest.raises(ModelError, match="of which its normalizer leaves nothing"):
        load(folder)


def test_one_that_is_looked_for_as_it_stands_may_be_normalized_to_nothing(folder):
    write(folder, ["\n"], [replace("\n", "")], normalized=False)
    assert load(folder)("a")["input_ids"]


def test_rules_that_go_through_many_letters_are_refused_before(tmp_path):
    write(tmp_path, ["q" * 38 + f"{number:05}" for number in range(10_000)], [{"type": "NFKD"}] * 50)
    with pytest.raises(ModelError, match="has 10,000 added tokens of 430,000 letters that its normalizer's rules go"):
        check_rules(tmp_path, "a model")


def test_letters_are_counted_as_what_they_become(tmp_path):
    write(tmp_path, [f"{number:04}" + "\ufdfa" * 40 for number in range(1_000)], [{"type": "NFKD"}] * 30)
    with pytest.raises(ModelError, match="has 1,000 added tokens of 724,000 letters"):
        check_rules(tmp_path, "a model")


@pytest.mark.parametrize("where", ["tokenizer.json", "added_tokens.json", "tokenizer_config.json"])
def test_regular_expressions_that_take_long_for_them_are_left(tmp_path, where, monkeypatch):
    monkeypatch.setattr(tokenizer_added, "PATIENCE", 0.2)
    monkeypatch.setattr(tokenizer_added, "AT_ONCE", 2)
    contents = ["a" * 21 + f"!{number}" for number in range(40)]
    write(tmp_path, contents if where == "tokenizer.json" else [], [SLOW])
    if where == "added_tokens.json":
        (tmp_path / where).write_text(json.dumps({content: number for number, content in enumerate(contents)}))
    elif where == "tokenizer_config.json":
        decoder = {str(number): {"content": content} for number, content in enumerate(contents)}
        (tmp_path / where).write_text(json.dumps({"added_tokens_decoder": decoder}))
    begun = time.monotonic()
    with pytest.raises(ModelError, match="has regular expressions in its normalizer that take more than 0 s for its"):
        check_rules(tmp_path, "a model")
    assert time.monotonic() - begun < 1


def test_as_many_as_are_met_are_normalized(tmp_path):
    write(tmp_path, [f"<|reserved_special_{number:06}|>" for number in range(5_000)], [SPACES, replace(" ", "\u2581")])
    check_rules(tmp_path, "a model")


@pytest.mark.parametrize("file", ["tokenizer_config.json", "special_tokens_map.json"])
def test_their_numbers_have_a_bound(tmp_path, file):
    """Of a file of tiktoken, transformers makes a token of each number up to the largest."""

    def check(*numbers):
        (tmp_path / file).write_text(json.dumps({"added_tokens_decoder": dict.fromkeys(numbers, "a")}))
        check_rules(tmp_path, "a model")

    check("901628", "0", "-1", "no number", "9" * 5000)
    with pytest.raises(ModelError, match=r"has an added token of number '1_000_001' in its settings, and at most 1,00"):
        check("0", "1_000_001")
    (tmp_path / "tokenizer.model").write_bytes(b"YQ== 0\nYg== 1\n")
    check("20002")
    with pytest.raises(ModelError, match="has an added token of number '20003' in its settings, and at most 20,002 is"):
        check("20003")
    (tmp_path / "tokenizer.model").write_bytes(b"\n\x05\n\x03<s>\n\x06\n\x04</s>")  # of sentencepiece
    check("901628")
