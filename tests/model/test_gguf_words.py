"""The vocabulary of a GGUF file, which is looked at before transformers makes a tokenizer of it."""

import itertools
import struct
from contextlib import nullcontext

import pytest
from gguf import GGUFWriter
from model.test_gguf_file import write

from wanda_core.errors import ModelError
from wanda_core.model import tokenizer_reading
from wanda_core.model.gguf_header import read_header
from wanda_core.model.gguf_words import check_words
from wanda_core.model.loading import load_model


def text(value: bytes) -> bytes:
    return struct.pack("<Q", len(value)) + value


def one_list(name: str, kind: int, entries: list[bytes]) -> bytes:
    return text(f"tokenizer.ggml.{name}".encode()) + struct.pack("<IIQ", 9, kind, len(entries)) + b"".join(entries)


def gguf(kind: str, words: list[str], types=(), form="i", merges=None) -> bytes:
    """A GGUF file of a vocabulary, of embeddings of so many rows, and of nothing else."""
    fields = [text(b"tokenizer.ggml.model") + struct.pack("<I", 8) + text(kind.encode())]
    fields.append(one_list("tokens", 8, [text(word.encode()) for word in words]))
    fields.append(one_list("token_type", {"i": 5, "f": 6}[form], [struct.pack(form, its) for its in types]))
    if merges is not None:
        fields.append(one_list("merges", 8, list(map(text, merges))))
    tensor = text(b"token_embd.weight") + struct.pack("<IQQIQ", 2, 1, len(words), 0, 0)
    return b"GGUF" + struct.pack("<IQQ", 3, 1, len(fields)) + b"".join(fields) + tensor + bytes(31 + 4 * len(words))


def numbered(count: int, more: str = "") -> list[str]:
    return [f"<{number}>{more}" for number in range(count)]


CUTS = ["".join(letters) for length in range(1, 14) for letters in itertools.product("ab", repeat=length)]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (lambda: gguf("llama", ["a" * 10_001]), "a token of 10,001 letters"),
        (lambda: gguf("t5", ["é" * 500]), None),
        (lambda: gguf("t5", ["é" * 501]), "a token of 501 letters, and at most 500"),
        (lambda: gguf("t5", [f"{number:05}" + "a" * 105 for number in range(15_500)]), "different beginnings"),
        (lambda: gguf("gpt2", [f"{number:05}" + "a" * 105 for number in range(15_500)], merges=[]), None),
        (lambda: gguf("llama", numbered(2, "a" * 1_000), [4, 1]), "an added token of 1,003 letters"),
        (lambda: gguf("llama", numbered(2, "a" * 1_000), [1, 3], "f"), "an added token of 1,003 letters"),
        (lambda: gguf("llama", numbered(2, "a" * 1_000), [1, 2]), None),
        (lambda: gguf("llama", numbered(100_001), [3] * 100_001), "100,001 added tokens"),
        (lambda: gguf("llama", numbered(12_000), [3] * 12_000), None),
        (lambda: gguf("llama", CUTS), "tokens that can be cut in two others at more than"),
        (lambda: gguf("gpt2", CUTS, merges=[]), "tokens that can be cut in two others at more than"),
        (lambda: gguf("gpt2", CUTS, merges=[b"a b"]), None),
        (lambda: gguf("t5", CUTS), None),
        (lambda: b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + one_list("tokens", 5, [bytes(4)] * 3), None),
    ],
)
def test_its_words_have_the_bounds_of_every_vocabulary(tmp_path, content, said):
    (tmp_path / "a.gguf").write_bytes(content())
    header = read_header(tmp_path / "a.gguf")
    with pytest.raises(ModelError, match=said) if said else nullcontext():
        check_words(tmp_path / "a.gguf", header, "a.gguf")


def test_they_are_looked_at_before_a_tokenizer_is_made(tiny_llama, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDA_CACHE", str(tmp_path / "cache"))
    added = GGUFWriter.add_token_list
    longer = lambda writer, words: added(writer, [*words[:-1], "a" * 10_001])  # noqa: E731
    monkeypatch.setattr(GGUFWriter, "add_token_list", longer)
    file = write(tmp_path / "tiny.gguf", tiny_llama)
    monkeypatch.setattr(tokenizer_reading, "make_of_gguf", lambda *_: pytest.fail("made"))
    with pytest.raises(ModelError, match="has a token of 10,001 letters"):
        load_model(str(file), device="cpu")
