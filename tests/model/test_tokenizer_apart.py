"""Long texts are cut into tokens by a process that ends with whoever asked, into the same tokens."""

import json
import subprocess
import sys
import threading
import time
from contextvars import copy_context

import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import (
    BertTokenizer,
    CodeLlamaTokenizer,
    NllbTokenizer,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from wanda_core.errors import ModelError
from wanda_core.machine.helper import Helper
from wanda_core.model import tokenizer, tokenizer_apart
from wanda_core.model.tokenizer import known_of, token_ids
from wanda_core.progress import GivenUpError, end_when

BYTES = sorted(pre_tokenizers.ByteLevel.alphabet())
SPECIAL = ["<s>", "</s>", "<unk>", "[CLS]", "[SEP]", "<0x41>", "added", "Ünïcode"]
LETTERS = st.text(
    st.sampled_from("aabbé 하늘 \n\tﬁǅ𝒳😀Ａ\u0301.,<>") | st.characters(exclude_categories=["Cs"]), max_size=40
)
TEXTS = st.lists(LETTERS | st.sampled_from(SPECIAL), min_size=1, max_size=8).map("".join)


@pytest.fixture(autouse=True)
def every_text_is_long(monkeypatch):
    """The process is this test's own."""
    monkeypatch.setattr(tokenizer, "LONG", -1)
    own = Helper("wanda_core.model.cutting_worker", tokenizer_apart._worker._settings)
    monkeypatch.setattr(tokenizer_apart, "_worker", own)
    yield own
    own.close()


def bpe(**more):
    words = [*BYTES, "ab", "aab", "aa", "."]
    vocabulary = {word: number for number, word in enumerate(dict.fromkeys(words))}
    return Tokenizer(models.BPE(vocabulary, [("a", "b"), ("a", "ab"), ("a", "a")], **more))


def byte_level():
    made = bpe()
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(r"\p{L}+|\s+|[^\s\p{L}]+"), "isolated"), pre_tokenizers.ByteLevel(True, False)]
    )
    made.decoder, made.post_processor = decoders.ByteLevel(), processors.ByteLevel(trim_offsets=True)
    return made


def llama_like():
    vocabulary = {"<unk>": 0, **{f"<0x{byte:02X}>": byte + 1 for byte in range(256)}, "▁": 257, "a": 258, "▁a": 259}
    made = Tokenizer(models.BPE(vocabulary, [("▁", "a")], unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    made.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 260)])
    return made


def bert_like():
    words = ["[UNK]", "[CLS]", "[SEP]", *"ab.é하", "##a", "##b", "ab", "##늘"]
    made = Tokenizer(models.WordPiece({word: number for number, word in enumerate(words)}, unk_token="[UNK]"))
    made.normalizer, made.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    return made


def unigram():
    pieces = [("<unk>", 0.0), ("▁", -2.0), ("a", -3.0), ("b", -3.5), ("ab", -4.0), ("▁ab", -4.5), ("하늘", -5.0)]
    made = Tokenizer(models.Unigram(pieces, 0, False))
    made.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.post_processor = processors.RobertaProcessing(("</s>", 8), ("<s>", 7))
    return made


def word_level():
    made = Tokenizer(models.WordLevel({"[UNK]": 0, "a": 1, "ab": 2, ".": 3}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.enable_truncation(3)
    made.enable_padding(length=50)
    return made


def with_words(inner, **more):
    """The tokenizer around one, with words of several kinds beside its own."""
    inner.add_special_tokens(["<s>", "</s>", AddedToken("[CLS]", lstrip=True, rstrip=True)])
    inner.add_tokens(["added", AddedToken("ünïcode", normalized=True, single_word=True)])
    return PreTrainedTokenizerFast(tokenizer_object=inner, **more)


KINDS = {
    "byte-level": lambda: with_words(byte_level()),
    "special tokens as text": lambda: with_words(byte_level(), split_special_tokens=True),
    "no chance": lambda: with_words(bpe(dropout=None, ignore_merges=True), model_max_length=5),
    "llama": lambda: with_words(llama_like(), bos_token="<s>", unk_token="<unk>"),
    "bert": lambda: with_words(bert_like(), cls_token="[CLS]", sep_token="[SEP]"),
    "a class of its own": lambda: BertTokenizer(vocab={"[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "[PAD]": 3, "a": 4}),
    "unigram": lambda: with_words(unigram()),
    "padded and shortened": lambda: with_words(word_level(), truncation_side="left", padding_side="left"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_tokens_are_the_tokenizer_s_own(kind):
    one, other = KINDS[kind](), KINDS[kind]()

    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
    @given(TEXTS, st.booleans())
    def same(text, special):
        theirs = other(text, add_special_tokens=special, verbose=False)["input_ids"]
        assert token_ids(one, text, special) == theirs

    same()
    assert known_of(one).plain, "the process has cut them"


def test_a_whole_tokenizer_s_are_too(tiny_llama):
    text = "The sky is blue. <unk> 하늘</s>" * 500
    for special in (True, False):
        own = tiny_llama.tokenizer(text, add_special_tokens=special, verbose=False)["input_ids"]
        assert token_ids(tiny_llama.tokenizer, text, special) == own


def test_a_tokenizer_is_sent_once_and_again_after_another_one_and_once_the_process_has_gone(every_text_is_long):
    first, second = KINDS["llama"](), KINDS["unigram"]()
    asked, ask = [], every_text_is_long.ask
    every_text_is_long.ask = lambda request, *given: asked.append("rules" in request) or ask(request, *given)
    for one in (first, first, second, first):
        assert token_ids(one, "ab a", special=True) == one("ab a")["input_ids"]
    assert asked == [False, True, False, False, True, False, True]
    every_text_is_long.close()
    assert token_ids(first, "ab a", special=True) == first("ab a")["input_ids"]
    assert asked[-2:] == [False, True]


@pytest.fixture
def slow():
    """One that takes a second for a thousand letters a, and minutes for all of `ENDLESS`."""
    one = KINDS["byte-level"]()
    one.backend_tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("a+a+b"), "isolated")
    return one


ENDLESS = "a" * 20_000


def test_who_leaves_leaves_nothing_at_work(every_text_is_long, slow):
    token_ids(slow, "ab", special=False)
    process = psutil.Process(every_text_is_long._process.pid)

    def leave(until):
        end_when(lambda: time.monotonic() > until)
        token_ids(slow, ENDLESS, special=False)

    begun = time.monotonic()
    with pytest.raises(GivenUpError):
        copy_context().run(leave, begun + 0.3)
    process.wait(5)
    assert token_ids(slow, "ab", special=False) == slow("ab")["input_ids"]
    assert time.monotonic() - begun < 5, "the next one waits for the process to start"
    assert not known_of(slow).left


def test_the_process_ends_with_a_server_that_is_killed_while_it_is_at_work(slow):
    request = {"number": 1, "text": ENDLESS, "special": False, "split": False}
    program = "from wanda_core.model import cutting_worker as worker; worker.main()"
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdin.write(b"\n" + json.dumps(request | {"rules": slow.backend_tokenizer.to_str()}).encode() + b"\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"{}\n"
        time.sleep(0.3)
        assert process.poll() is None
        process.stdin.close()
        assert process.wait(10) == 0
        assert process.stdout.read() == b"", "it has not come to the end of that"


def test_one_that_takes_too_long_is_ended_with_a_sentence(slow, monkeypatch):
    monkeypatch.setattr(tokenizer, "PATIENCE", 0.3)
    monkeypatch.setattr(tokenizer, "PATIENCE_OF_ONE", 0.0)
    token_ids(slow, "ab", special=False)
    with pytest.raises(
        ModelError, match="takes more than 0 s for one text; give another one, or take the tokenizer of"
    ):
        token_ids(slow, ENDLESS, special=False)
    monkeypatch.setattr(tokenizer, "PATIENCE", 30)
    assert token_ids(slow, "ab", special=False) == slow("ab")["input_ids"], "none is left to be waited for"


def test_one_that_ends_the_process_is_a_sentence(every_text_is_long, slow):
    token_ids(slow, "ab", special=False)
    ends = threading.Timer(0.2, every_text_is_long._process.kill)
    ends.start()
    with pytest.raises(
        ModelError, match=r"^cutting a text of .* letters into tokens takes more memory than there is, or"
    ):
        token_ids(slow, ENDLESS, special=False)


def test_where_the_process_does_not_start_texts_are_cut_here(monkeypatch):
    one, none = KINDS["llama"](), Helper("wanda_core.model.no_such_worker")
    monkeypatch.setattr(tokenizer_apart, "_worker", none)
    assert token_ids(one, "a b", special=True) == one("a b")["input_ids"]
    monkeypatch.setattr(none, "ask", None)
    assert token_ids(one, "a b", special=True) == one("a b")["input_ids"], "it is not tried for each text"


def test_one_that_does_not_come_out_of_its_rules_as_it_was_cuts_texts_here(monkeypatch, tmp_path):
    (tmp_path / "other.py").write_text(
        "from wanda_core.model import cutting_worker as worker\n"
        "read, main = worker._read, worker.main\n"
        "worker._read = lambda rules: read(' ' + rules)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    one, other = KINDS["llama"](), Helper("other")
    monkeypatch.setattr(tokenizer_apart, "_worker", other)
    assert token_ids(one, "a b", special=True) == one("a b")["input_ids"]
    assert not known_of(one).plain, "it is not sent for each text"
    other.close()


def test_only_what_transformers_adds_nothing_to_is_cut_there(tiny_llama):
    class Own(PreTrainedTokenizerFast):
        def _encode_plus(self, *given, **named):
            return super()._encode_plus(*given, **named)

    for kind in (CodeLlamaTokenizer, NllbTokenizer, Own, PreTrainedTokenizerBase):
        assert not tokenizer_apart.is_plain(kind.__new__(kind)), kind
    assert tokenizer_apart.is_plain(tiny_llama.tokenizer)
    own = Own(tokenizer_object=byte_level())
    assert token_ids(own, "ab", special=True) == own("ab")["input_ids"]
    assert tokenizer_apart._worker._process is None


@pytest.mark.parametrize("long", [-1, 100])
def test_one_that_fails_is_the_same_sentence_there(monkeypatch, long):
    monkeypatch.setattr(tokenizer, "LONG", long)
    odd = KINDS["byte-level"]()
    odd.backend_tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("(a+)+b"), "isolated")
    with pytest.raises(ModelError, match="the model's tokenizer failed \\(Onig: Regex search error"):
        token_ids(odd, "a" * 30, special=False)
    for halves in ("\ud83d", "\ud83d\ude00"):
        with pytest.raises(ModelError, match=r"the model's tokenizer failed \("):
            token_ids(odd, halves, special=False)


def test_memory_goes_back_once_a_text_is_cut(every_text_is_long):
    one = KINDS["byte-level"]()
    token_ids(one, "ab", special=False)
    process = psutil.Process(every_text_is_long._process.pid)
    before = process.memory_info().rss
    assert len(token_ids(one, "a." * 100_000, special=False)) == 400_000
    answered = time.monotonic()
    while process.memory_info().rss - before > 20e6:
        assert time.monotonic() - answered < 10
        time.sleep(0.02)


def test_the_process_is_ended_with_the_models(every_text_is_long):
    one = KINDS["llama"]()
    token_ids(one, "a", special=False)
    process = psutil.Process(every_text_is_long._process.pid)
    tokenizer_apart.end_worker()
    assert not process.is_running()
    assert token_ids(one, "a", special=False) == one("a", add_special_tokens=False)["input_ids"]
