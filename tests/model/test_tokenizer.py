"""A model's tokenizer: one that is not there, knows no word or cannot be read is refused with its own remedy."""

import copy
import json
import shutil
import time
from contextlib import contextmanager
from contextvars import copy_context
from threading import Event, Thread

import pytest
from tokenizers import Regex, decoders, normalizers, pre_tokenizers
from transformers import AutoConfig, AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

from wanda_core.errors import ModelError
from wanda_core.model import tokenizer
from wanda_core.progress import GivenUpError, end_when

SENTENCEPIECE = b"\n\x0e\n\x05<unk>\x15\x00\x00\x00\x00\x18\x02"  # a piece of its format
TIKTOKEN = b"IQ== 0\nIg== 1\n"


@pytest.fixture(scope="module")
def llama(tmp_path_factory, tiny_llama):
    """A folder of weights alone, as trainers leave it, of a kind whose tokenizer needs files."""
    folder = tmp_path_factory.mktemp("models") / "llama"
    tiny_llama.model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def qwen(tmp_path_factory):
    """The same, of a kind for which transformers makes an empty tokenizer where it finds no file."""
    folder = tmp_path_factory.mktemp("models") / "qwen"
    shape = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2}
    config = Qwen2Config(vocab_size=320, num_attention_heads=2, num_key_value_heads=2, **shape)
    Qwen2ForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(params=["llama", "qwen"])
def folder(request, llama, qwen, tmp_path):
    """A copy of one of them, which a test may add to."""
    return shutil.copytree({"llama": llama, "qwen": qwen}[request.param], tmp_path / "model")


@pytest.mark.parametrize("files", [[], ["tokenizer_config.json", "special_tokens_map.json"]])
def test_a_folder_without_one_is_refused(folder, refusal, files):
    kind = "Qwen2Tokenizer" if "qwen" in (folder / "config.json").read_text() else "LlamaTokenizer"
    for file in files:
        (folder / file).write_text(json.dumps({"tokenizer_class": kind, "eos_token": "</s>"}))
    message = refusal(folder)
    assert "holds no tokenizer (tokenizer.json, tokenizer.model, vocab.json or the like)" in message
    assert message.endswith("copy the tokenizer's files from the model it was made from")


def test_an_empty_one_that_was_saved_is_refused(qwen, tmp_path, refusal):
    folder = shutil.copytree(qwen, tmp_path / "model")
    AutoTokenizer.from_pretrained(folder).save_pretrained(folder)
    assert (folder / "tokenizer.json").exists()
    assert "knows no word, only 1 special tokens; copy the tokenizer.json" in refusal(folder)


@pytest.mark.parametrize(("there", "lacking"), [("vocab.json", "merges.txt"), ("merges.txt", "vocab.json")])
def test_half_of_one_is_refused(qwen, tmp_path, refusal, there, lacking):
    folder = shutil.copytree(qwen, tmp_path / "model")
    (folder / there).write_text('{"a": 0, "b": 1}' if there == "vocab.json" else "#version: 0.2\na b\n")
    assert f"holds {there} of its tokenizer without {lacking}; copy that too" in refusal(folder)


@pytest.mark.parametrize(
    ("content", "installed", "remedy"),
    [
        (
            SENTENCEPIECE,
            [],
            "in the form of sentencepiece, and sentencepiece and protobuf to read it are not installed",
        ),
        (
            SENTENCEPIECE,
            ["sentencepiece"],
            "in the form of sentencepiece, and protobuf to read it is not installed; pip install protobuf, or",
        ),
        (TIKTOKEN, [], "in the form of tiktoken, and tiktoken to read it is not installed; pip install tiktoken, or"),
    ],
)
def test_one_that_needs_a_package_names_it(llama, tmp_path, refusal, monkeypatch, content, installed, remedy):
    monkeypatch.setattr(tokenizer, "_is_installed", installed.__contains__)
    folder = shutil.copytree(llama, tmp_path / "model")
    (folder / "tokenizer.model").write_bytes(content)
    message = refusal(folder)
    assert f"is in tokenizer.model, {remedy}" in message
    assert message.endswith("or put the model's tokenizer.json beside it")


@pytest.mark.parametrize("content", ["{", "[]"])
def test_one_that_cannot_be_read_is_refused(folder, refusal, content):
    (folder / "tokenizer.json").write_text(content)
    message = refusal(folder)
    assert message.startswith("the tokenizer of ")
    assert "could not be loaded: " in message
    assert message.endswith("copy its files anew from the model it belongs to, or choose another model")


def test_one_that_cuts_a_text_into_bytes_needs_no_file(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "ByT5Tokenizer"}')
    config = AutoConfig.from_pretrained(tmp_path)
    assert tokenizer.load_tokenizer(tmp_path, "bytes", config)("ab", add_special_tokens=False)["input_ids"] == [
        100,
        101,
    ]


@pytest.mark.parametrize("plain", [True, False], ids=["by the package alone", "otherwise"])
def test_a_text_that_is_slow_is_left_to_itself_and_others_are_cut_meanwhile(tiny_llama, monkeypatch, plain):
    slow = copy.deepcopy(tiny_llama.tokenizer)
    slow.backend_tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("a+a+b"), "isolated")
    tokenizer.known_of(slow).plain = plain
    ordinary = slow("ab" * 200, add_special_tokens=False)["input_ids"]
    monkeypatch.setattr(tokenizer, "PATIENCE", 0.3)
    refused = "takes more than 0 s for one text; give another one, or take the tokenizer"
    with pytest.raises(ModelError, match=refused):
        tokenizer.token_ids(slow, "a" * 2300, special=False)
    (left,) = tokenizer.known_of(slow).left
    if plain:
        assert tokenizer.token_ids(slow, "ab" * 200, special=False) == ordinary
        assert tokenizer.text_of(slow, ordinary) == slow.decode(ordinary, clean_up_tokenization_spaces=False)
    with pytest.raises(ModelError, match=refused):
        tokenizer.token_ids(slow, "a" * 2300, special=False)
    assert list(tokenizer.known_of(slow).left) == [left], "no more of them are begun"
    assert not left.is_set()
    assert left.wait(60)
    assert tokenizer.token_ids(slow, "ab" * 200, special=False) == ordinary


@contextmanager
def longest_wait():
    """Measure how long another thread waited for Python's lock at most."""
    waits, over = [0.0], Event()

    def look():
        last = time.monotonic()
        while not over.wait(0.002):
            waits.append(time.monotonic() - last)
            last = time.monotonic()

    watcher = Thread(target=look)
    watcher.start()
    try:
        yield waits
    finally:
        over.set()
        watcher.join()


SLOW = Regex("(a+a+)+[bc]")


@pytest.mark.parametrize("part", ["decoder", "normalizer"])
def test_regular_expressions_keep_nobody_else_from_work(tiny_llama, monkeypatch, part):
    slow, text = copy.deepcopy(tiny_llama.tokenizer), ("a" * 20 + "!") * 200
    word = len(slow)
    if part == "decoder":
        slow.backend_tokenizer.add_tokens([text])
        slow.backend_tokenizer.decoder = decoders.Replace(SLOW, "z")
    else:
        slow.backend_tokenizer.normalizer = normalizers.Replace(SLOW, "z")
        tokenizer.known_of(slow).growth = 1e9
    monkeypatch.setattr(tokenizer, "PATIENCE", 0.5)
    ask = {"decoder": lambda: tokenizer.text_of(slow, [word])}.get(part, lambda: tokenizer.token_ids(slow, text, False))
    with longest_wait() as waits, pytest.raises(ModelError, match="takes more than"):
        ask()
    assert max(waits) < 0.45, "all at once take seconds"


def test_who_leaves_is_not_waited_for_and_others_are_served_meanwhile(tiny_llama, monkeypatch):
    read, begun, over = copy.deepcopy(tiny_llama.tokenizer), Event(), Event()

    def waits(*given):
        begun.set()
        assert over.wait(60)

    monkeypatch.setattr(tokenizer, "check_letters", waits)

    def leave(text):
        begun.clear()
        end_when(begun.is_set)
        tokenizer.token_ids(read, text, special=False)

    monkeypatch.setattr(tokenizer, "LONG", 1000)
    for _ in range(3):
        with pytest.raises(GivenUpError):
            copy_context().run(leave, "a" * 1000)
    calls = list(tokenizer.known_of(read).left)
    monkeypatch.setattr(tokenizer, "check_letters", lambda *_: None)
    for text in ("a", "ab" * 500):
        assert tokenizer.token_ids(read, text, special=False) == read(text, add_special_tokens=False)["input_ids"]

    def ask(until):
        end_when(lambda: time.monotonic() > until)
        tokenizer.token_ids(read, "a" * 1001, special=False)

    with pytest.raises(GivenUpError):
        copy_context().run(ask, time.monotonic() + 0.3)
    assert len(tokenizer.known_of(read).left) == len(calls), "it waits for those, and is itself not begun"
    monkeypatch.setattr(tokenizer, "MOST_LEFT", 3)
    with pytest.raises(GivenUpError):
        copy_context().run(ask, time.monotonic() + 0.3)
    over.set()
    assert all(call.wait(60) for call in calls)
    assert tokenizer.text_of(read, [5]) == read.decode([5])


def test_no_merge_is_left_out_by_chance(tiny_llama, tmp_path):
    tiny_llama.tokenizer.save_pretrained(tmp_path)
    path = tmp_path / "tokenizer.json"
    rules = json.loads(path.read_text())
    rules["model"]["dropout"] = 0.9
    path.write_text(json.dumps(rules))
    loaded = tokenizer.load_tokenizer(tmp_path, "a model", tiny_llama.model.config)
    text = "The sky is blue and the grass is green."
    assert tokenizer.token_ids(loaded, text, special=False) == tokenizer.token_ids(tiny_llama.tokenizer, text, False)


def test_a_panic_is_a_sentence(tiny_llama):
    odd = copy.deepcopy(tiny_llama.tokenizer)
    odd.backend_tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("(a+)+b"), "isolated")
    with pytest.raises(ModelError, match="the model's tokenizer failed \\(Onig: Regex search error"):
        tokenizer.token_ids(odd, "a" * 30, special=False)


@pytest.mark.parametrize("number", ["b", 1.5, None])
def test_a_word_without_a_number_is_refused(llama, tmp_path, refusal, number):
    """By a tokenizer in Python, which believes what it reads."""
    folder = shutil.copytree(llama, tmp_path / "model")
    (folder / "vocab.json").write_text(json.dumps({"a": number}))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "VitsTokenizer"}))
    assert "could not be loaded" in refusal(folder)


def test_whatever_a_tokenizer_raises_once_it_is_there_is_a_sentence(tiny_llama, tmp_path, monkeypatch):
    tiny_llama.tokenizer.save_pretrained(tmp_path)
    config = tiny_llama.model.config
    for asked in ("get_vocab", "get_added_vocab", "all_special_ids", "eos_token_id", "__len__"):

        def fails(self, *args):
            raise KeyError("of the tokenizer")

        kind = type(tokenizer.load_tokenizer(tmp_path, "a model", config))
        with monkeypatch.context() as patch:
            patch.setattr(kind, asked, fails if asked[0] in "g_" else property(fails), raising=False)
            if asked == "__len__":
                patch.setattr(kind, "get_added_vocab", kind.get_vocab)
            with pytest.raises(ModelError, match="the tokenizer of 'a model' could not be loaded"):
                tokenizer.load_tokenizer(tmp_path, "a model", config)
