"""Tokenizers made to take long or much, with something beside them that nobody reads: importing it adds them to the
other hostile models."""

import json

from configured import configure
from safe.hostile import maker

LETTERS = "y" * 3 * 10**6


@maker
def tokenizer_beside_a_file_that_is_not_looked_for(folder, canary):
    words = [[word, -1.0] for word in ["<pad>", "</s>", "<unk>", *(f"{n:05}" + "a" * 125 for n in range(9_000))]]
    rules = {"version": "1.0", "added_tokens": [], "model": {"type": "Unigram", "unk_id": 2, "vocab": words}}
    (folder / "tokenizer.json").write_text(json.dumps(rules))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "T5Tokenizer"}))
    (folder / "tekken.json").write_text(json.dumps({"zz": LETTERS * 3}))


@maker
def tokenizer_with_letters_that_are_no_words(folder, canary):
    tokenizer_beside_a_file_that_is_not_looked_for(folder, canary)
    (folder / "tekken.json").unlink()
    configure(folder, "tokenizer.json", truncation={"direction": "Right", "zz": LETTERS})


@maker
def tokenizer_in_python_beside_a_file_that_is_not_looked_for(folder, canary):
    """It copies its words for each of them."""
    words = ["<unk>", "<s>", "</s>", "<pad>", "|", *(f"{number:05}" for number in range(6_000))]
    (folder / "vocab.json").write_text(json.dumps({word: number for number, word in enumerate(words)}))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "Wav2Vec2CTCTokenizer"}))
    (folder / "tokenizer.model").write_bytes(b"\x0a\xff\xff\xff\x7f" + b"\x01" * len(LETTERS))


@maker
def special_tokens_that_take_long_to_be_compared(folder, canary):
    described = [{"__type": "AddedToken", "content": f"<d{number}>"} for number in range(1_300)]
    listed = [*described, *(f"<e{number}>" for number in range(1_300))]
    configure(folder, "tokenizer_config.json", extra_special_tokens=listed)
