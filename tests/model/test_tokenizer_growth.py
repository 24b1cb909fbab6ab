"""How long a stranger's tokenizer makes a text: what is counted when it is loaded, and measured of a text."""

import pytest
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from wanda_core.errors import ModelError
from wanda_core.model import tokenizer_growth
from wanda_core.model.tokenizer import known_of, token_ids
from wanda_core.model.tokenizer_growth import check_letters
from wanda_core.model.tokenizer_limits import check_loaded


@pytest.fixture
def few_letters(monkeypatch):
    """A text may have 10,000 letters more than four times its own."""
    monkeypatch.setattr(tokenizer_growth, "MORE_LETTERS", 10_000)


def made(*rules, cutter=None, after=None, **model):
    """A tokenizer of the kind that real models have, of a few words, and how long it makes a text at most."""
    inner = Tokenizer(models.BPE({"a": 0, "b": 1}, [], **model))
    inner.normalizer = normalizers.Sequence(list(rules))
    if cutter is not None:
        inner.pre_tokenizer = cutter
    if after is not None:
        inner.post_processor = after
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner)
    known_of(tokenizer).growth = check_loaded(tokenizer, "a model")
    return tokenizer


def test_a_text_that_would_become_too_long_is_not_cut_into_tokens(few_letters):
    """Each letter a becomes twenty: 1,000 letters may become 14,000."""
    tokenizer = made(normalizers.Replace("a", "b" * 20))
    assert token_ids(tokenizer, "a" * 600, special=True) == [1] * 12_000
    assert token_ids(tokenizer, "b" * 9_000, special=True) == [1] * 9_000, "what does not grow is of any length"
    with pytest.raises(ModelError, match="makes more than 14,000 letters of a text of 1,000; take that of"):
        token_ids(tokenizer, "b" * 200 + "a" * 800, special=True)
    often = made(after=processors.TemplateProcessing(single=" ".join(["$A"] * 20), special_tokens=[]))
    with pytest.raises(ModelError, match="makes more than 14,000 letters of a text of 1,000"):
        token_ids(often, "b" * 1_000, special=True)


LONG = "\ufdfa"  # which Unicode's own rules put eighteen letters for
GROWING = {
    "every letter decomposed": made(normalizers.Replace("a", LONG * 6), normalizers.NFKD()),
    "its bytes": made(normalizers.Replace("a", LONG * 6), normalizers.ByteLevel()),
    "its bytes twice": made(cutter=pre_tokenizers.Sequence([pre_tokenizers.ByteLevel(use_regex=False)] * 2)),
    "its bytes as tokens": made(normalizers.Replace("a", LONG * 6), byte_fallback=True),
    "and what was made is taken away": made(
        normalizers.Replace("a", LONG), normalizers.NFKC(), normalizers.Replace(Regex(".+"), "")
    ),
    "over and over": made(
        normalizers.Replace("a", LONG), *[normalizers.NFKD(), normalizers.Replace("\u0644", LONG)] * 8
    ),
}


@pytest.mark.parametrize("how", GROWING)
def test_what_a_letter_becomes_step_by_step_is_measured(few_letters, how):
    text = "\U0001f600" * 4_000 if "twice" in how else "a" * 1_000
    with pytest.raises(ModelError, match=r"the model's tokenizer makes more than ..,000 letters of a text of .,000"):
        token_ids(GROWING[how], text, special=True)


def test_all_steps_together_are_measured(monkeypatch):
    monkeypatch.setattr(tokenizer_growth, "MORE_WORK", 1000)
    monkeypatch.setattr(tokenizer_growth, "TIMES_WORK", 10)
    monkeypatch.setattr(tokenizer_growth, "MORE_LETTERS", 0)
    tokenizer = made(*[normalizers.NFKC()] * 20)
    check_letters(tokenizer, "a" * 50, known_of(tokenizer).growth)
    with pytest.raises(ModelError, match="makes more than"):
        check_letters(tokenizer, "a" * 1_000, known_of(tokenizer).growth)


ORDINARY = {
    "GPT-2": made(cutter=pre_tokenizers.ByteLevel(add_prefix_space=True)),
    "Qwen": made(normalizers.NFC(), cutter=pre_tokenizers.ByteLevel(add_prefix_space=False)),
    "T5": made(normalizers.NFKC(), cutter=pre_tokenizers.Metaspace()),
    "ALBERT": made(normalizers.NFKD(), normalizers.Lowercase(), cutter=pre_tokenizers.Metaspace()),
    "BERT": made(normalizers.BertNormalizer(), cutter=pre_tokenizers.BertPreTokenizer()),
    "Gemma": made(normalizers.Replace(" ", "\u2581"), byte_fallback=True),
}
SCRIPTS = ["The sky is blue. ", "\ud558\ub298\uc740 \ud478\ub974\ub2e4 ", "\U0001f600", "\u5929 "]


@pytest.mark.parametrize("family", ORDINARY)
@pytest.mark.parametrize("text", SCRIPTS)
def test_ordinary_tokenizers_read_long_texts_of_any_script(few_letters, family, text):
    tokenizer, growth = ORDINARY[family], known_of(ORDINARY[family]).growth
    assert growth > 1
    check_letters(tokenizer, text * (60_000 // len(text)), growth)


def test_bytes_of_more_rules_than_any_tokenizer_has_are_infinitely_many():
    tokenizer = made()
    tokenizer.backend_tokenizer.normalizer = normalizers.Sequence([normalizers.ByteLevel()] * 600)
    assert tokenizer_growth.whole_growth(tokenizer, 1.0) == float("inf")
    assert tokenizer_growth.chosen_growth({"pre_tokenizer": [{"type": "ByteLevel"}] * 600}) == float("inf")
