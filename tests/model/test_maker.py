"""A tokenizer that transformers makes of other files is made by another process first, which has bounds."""

import json
import math
import os
import threading
import time
from types import SimpleNamespace

import pytest
import torch
from model.test_gguf_file import write
from transformers import AutoConfig, AutoTokenizer, PreTrainedConfig
from transformers.tokenization_utils_tokenizers import TokenizersBackend

from wanda_core.errors import ModelError
from wanda_core.model import made_apart, maker, tokenizer_reading
from wanda_core.model.loading import load_model
from wanda_core.model.tokenizer import load_tokenizer
from wanda_core.model.tokenizer_reading import _is_taken_as_it_is, _request, check_reading, make_of_gguf
from wanda_core.model.tokenizer_weight import Weight
from wanda_core.progress import GivenUpError

BOUNDED = pytest.mark.skipif(not hasattr(os, "fork"), reason="the process makes it itself, without bounds")


@pytest.fixture
def rebuilt(folder):
    """A model whose tokenizer.json transformers takes apart and makes another of."""
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "GPT2Tokenizer"}))
    return folder


@pytest.fixture
def asked(monkeypatch):
    """What either process is asked."""
    asked = {}
    for name in ("reader", "maker", "converter"):
        helper = getattr(made_apart, name)
        ask = helper.ask
        monkeypatch.setattr(
            helper, "ask", lambda *given, ask=ask, name=name: asked.setdefault(name, given[0]) and ask(*given)
        )
    return asked


def test_one_that_is_made_of_its_parts_is_made_there_first(rebuilt, asked):
    tokenizer = load_tokenizer(rebuilt, "owner/model", AutoConfig.from_pretrained(rebuilt))
    assert type(tokenizer).__name__ == "GPT2Tokenizer"
    assert list(asked) == ["maker"]
    assert asked["maker"]["folder"] == str(rebuilt)


def test_one_that_is_read_as_it_is_needs_the_small_process_alone(folder, asked):
    load_tokenizer(folder, "owner/model", AutoConfig.from_pretrained(folder))
    assert list(asked) == ["reader"]


@BOUNDED
def test_one_that_takes_too_much_is_refused(rebuilt, monkeypatch):
    monkeypatch.setattr(tokenizer_reading, "MEMORY", -tokenizer_reading.MEMORY)
    with pytest.raises(ModelError, match=r"^the tokenizer of '.*' takes more than .* MB to be read"):
        load_model(str(rebuilt), device="cpu")


def test_what_transformers_says_there_is_said_here(rebuilt):
    (rebuilt / "tokenizer.json").write_text('{"model": {"type": "BPE", "vocab": {"a": "b"}, "merges": []}}')
    with pytest.raises(ModelError, match=r"could not be loaded: .*; copy its files anew"):
        load_model(str(rebuilt), device="cpu")


def test_settings_that_would_open_files_are_left_out_there_too(rebuilt, asked):
    (rebuilt / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "GPT2Tokenizer", "vocab_file": "/dev/zero"})
    )
    load_tokenizer(rebuilt, "owner/model", AutoConfig.from_pretrained(rebuilt))
    assert asked["maker"]["given"] == {"vocab_file": None}


def test_a_gguf_file_s_is_made_there_alone(tiny_llama, tmp_path, monkeypatch, asked):
    monkeypatch.setenv("WANDA_CACHE", str(tmp_path / "cache"))
    file = write(tmp_path / "tiny.gguf", tiny_llama)
    monkeypatch.setattr(
        "transformers.integrations.gguf.convert_gguf_tokenizer", lambda *_, **__: pytest.fail("made here")
    )
    lm = load_model(str(file), device="cpu")
    assert lm.tokenizer.get_vocab().items() >= tiny_llama.tokenizer.get_vocab().items()
    assert asked["converter"]["given"] == {"gguf_file": "tiny.gguf"}


@BOUNDED
def test_a_gguf_file_may_take_more_for_each_entry(tmp_path, monkeypatch):
    asked = []
    answer = {"ended": "memory", "bytes": 1, "said": ""}
    monkeypatch.setattr(made_apart.converter, "ask", lambda *given: asked.append(given[0]) or answer)
    with pytest.raises(ModelError, match=r"'a.gguf' takes more than 1,415 MB to be read"):
        make_of_gguf(tmp_path / "a.gguf", tmp_path / "made", "a.gguf", 846_768)
    assert (asked[0]["seconds"], asked[0]["saved"]) == (87, str(tmp_path / "made"))


@pytest.fixture
def bounds(tmp_path, monkeypatch):
    """Write files of some megabytes. -> the seconds and millions of bytes that their tokenizer may take more"""
    answer, asked = {"ended": "", "bytes": 1, "said": ""}, []
    monkeypatch.setattr(made_apart.maker, "ask", lambda *given: asked.append(given[0]) or answer)

    def write(kind: str | None, weighed: bool = True, **megabytes: float):
        (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": kind}))
        for name, size in megabytes.items():
            (tmp_path / name.replace("_", ".")).write_bytes(b"x y\n\t\r" * int(size * 500_000))
        words = {name.replace("_", "."): Weight(10**9, added=0) for name in megabytes if weighed}
        more = check_reading(tmp_path, "owner/model", PreTrainedConfig(), {}, words)
        assert asked[-1]["seconds"] == math.ceil(2 + more)
        return more, asked[-1]["memory"] / 1e6 - 30

    return write


def test_each_kind_of_file_has_its_bounds(bounds):
    assert bounds(None, tekken_json=5) == (2 * 5, 32 * 5)


def test_a_file_in_a_form_of_which_merges_are_made_has_more(bounds):
    assert bounds("LlamaTokenizer", tokenizer_model=5) == (6 * 5, 130 * 5)


def test_halves_of_one_vocabulary_count_together(bounds):
    assert bounds("GPT2Tokenizer", vocab_json=1, merges_txt=2, dict_txt=9) == (3, 34 * 3)


@pytest.mark.parametrize(
    ("kind", "read"),
    [("GPT2Tokenizer", {"vocab_json": 1}), ("LlamaTokenizer", {"tokenizer_json": 1}), ("BertTokenizer", {})],
)
def test_a_file_that_nobody_reads_raises_no_bound(bounds, kind, read):
    assert bounds(kind, **read, x_spm=9, other_model=9, dict_txt=9) == (len(read), 34 * len(read))


def test_a_tokenizer_json_keeps_any_other_from_being_looked_for(bounds):
    assert bounds("LlamaTokenizer", tokenizer_json=1, tekken_json=9, tokenizer_model=9) == (1, 34)
    assert bounds("CTRLTokenizer", vocab_json=1) == (1, 34)
    assert bounds("CTRLTokenizer", tokenizer_json=1, vocab_json=1, tekken_json=9, tokenizer_model=9) == (1, 34)


def test_of_a_tokenizer_json_other_classes_take_what_it_adds(bounds):
    assert bounds("CTRLTokenizer", tokenizer_json=5) == (0, 12 * 5)


@pytest.mark.parametrize(
    ("kind", "file"),
    [(None, "tekken_json"), ("LlamaTokenizer", "tokenizer_model"), ("GPT2Tokenizer", "vocab_json")],
)
def test_what_a_file_has_beside_its_words_raises_its_bounds_little(bounds, kind, file):
    assert bounds(kind, weighed=False, **{file: 5}) == (1, 8)


def test_no_file_however_large_lets_it_take_any_time(bounds):
    assert bounds("LlamaTokenizer", tokenizer_model=12) == (60, 1500)


def test_a_name_that_is_nearly_a_vocabulary_s_is_taken_for_none_here(folder, asked):
    """transformers finds it by a pattern, and opens it."""
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer.model.").write_text("{}")
    with pytest.raises(ModelError, match="holds no tokenizer"):
        load_model(str(folder), device="cpu")
    (folder / "dict.txt").write_text("a 1")
    with pytest.raises(ModelError, match="could not be loaded"):
        load_model(str(folder), device="cpu")
    assert list(asked) == ["maker"]


@BOUNDED
def test_a_gguf_file_s_weights_do_not_count(tiny_llama, tmp_path, monkeypatch, asked):
    """They would be mapped into the memory that the process may take."""
    monkeypatch.setenv("WANDA_CACHE", str(tmp_path / "cache"))
    file = write(tmp_path / "tiny.gguf", tiny_llama)
    with file.open("r+b") as opened:
        opened.truncate(2 * 10**9)
    assert load_model(str(file), device="cpu").title == "tiny.gguf"


KINDS = ("llama", "gpt2", "mistral", "qwen2", "t5", "bloom", "opt", "phi3", "gemma2", "mamba", "deepseek_v3")
CLASSES = (None, "PreTrainedTokenizerFast", "TokenizersBackend", "LlamaTokenizerFast", "GPT2Tokenizer", "NoSuchClass")


@pytest.mark.parametrize("kind", KINDS)
def test_whichever_is_said_to_be_read_as_it_is_is_so(folder, kind, monkeypatch):
    """The classes that transformers chooses, for all that a model may say of itself."""
    plain = set()
    for named in CLASSES:
        (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": named} if named else {}))
        config = AutoConfig.for_model(kind)
        if _is_taken_as_it_is(folder, config):
            plain.add(named)
            assert type(AutoTokenizer.from_pretrained(folder, config=config)) is TokenizersBackend
        (folder / "tekken.json").touch()
        assert not _is_taken_as_it_is(folder, config)
        (folder / "tekken.json").unlink()
    assert kind != "mamba" or "PreTrainedTokenizerFast" in plain


def test_the_program_makes_and_saves_what_transformers_makes(rebuilt, tmp_path):
    default = torch.get_default_dtype()
    maker.make(str(rebuilt), None, {}, str(tmp_path / "saved"))
    made, here = AutoTokenizer.from_pretrained(tmp_path / "saved"), AutoTokenizer.from_pretrained(rebuilt)
    assert made("the sky is blue").input_ids == here("the sky is blue").input_ids
    assert torch.get_default_dtype() is default


def leave(*_):
    raise GivenUpError


def test_who_leaves_has_it_started_anew_for_the_next_and_waits_for_no_start(rebuilt, monkeypatch):
    may_start, started = threading.Event(), threading.Event()
    fake = SimpleNamespace(ask=leave, start=lambda: may_start.wait(5) and started.set())
    monkeypatch.setattr(made_apart, "maker", fake)
    with pytest.raises(GivenUpError):
        check_reading(rebuilt, "owner/model", AutoConfig.from_pretrained(rebuilt))
    assert not started.is_set()
    may_start.set()
    assert started.wait(5)


def test_the_small_process_is_not_started_before_it_is_needed(folder, monkeypatch):
    started = []
    monkeypatch.setattr(made_apart, "reader", SimpleNamespace(ask=leave, start=lambda: started.append(1)))
    with pytest.raises(GivenUpError):
        check_reading(folder, "owner/model", AutoConfig.from_pretrained(folder))
    time.sleep(0.1)
    assert not started


def test_a_class_that_stands_beside_code_of_its_own_is_made_apart_as_it_is_called(folder):
    """transformers then believes the name, also where it knows a kind of model to be called wrongly."""
    config, settings = AutoConfig.for_model("phi3"), folder / "tokenizer_config.json"
    settings.write_text(json.dumps({"tokenizer_class": "ProphetNetTokenizer"}))
    assert _is_taken_as_it_is(folder, config)
    settings.write_text(
        json.dumps({"tokenizer_class": "ProphetNetTokenizer", "auto_map": {"AutoTokenizer": ["a.B", None]}})
    )
    assert not _is_taken_as_it_is(folder, config)
    assert tokenizer_reading._class_of(folder, config).__name__ == "ProphetNetTokenizer"


@pytest.mark.parametrize("kind", ["gpt2", "llama", "qwen2", "mamba"])
def test_it_chooses_the_class_by_the_model_s_configuration(folder, tmp_path, kind):
    """Of which it is told names alone."""
    (folder / "tokenizer_config.json").unlink(missing_ok=True)
    config = AutoConfig.for_model(kind)
    told = _request(folder, config, {}, tmp_path / "there")
    assert maker.MADE[told.pop("what")] is maker.make
    maker.make(**told)
    AutoTokenizer.from_pretrained(folder, config=config).save_pretrained(tmp_path / "here")
    here, there = ((tmp_path / place / "tokenizer_config.json").read_text() for place in ("here", "there"))
    assert there == here
