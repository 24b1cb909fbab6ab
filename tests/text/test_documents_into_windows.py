"""Documents become windows: joined ones, chats, and the begin token before each."""

import time
from dataclasses import replace

import pytest
import torch
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from wanda_core.errors import InputError
from wanda_core.evaluation.perplexity import agreement, perplexity, token_windows
from wanda_core.progress import finish
from wanda_core.text import windows
from wanda_core.text.windows import begins_texts, calibrate, draw_from_documents

SHORT = ["The sky is blue.", "", "Rivers carry sand.", "She counted the stones."]
CHAT = [{"role": "user", "content": "The sky?"}, {"role": "assistant", "content": "Blue."}]
TEMPLATE = "{% for m in messages %}<end>{{ m.role }}: {{ m.content }}\n{% endfor %}"


def with_tokenizer(lm, template=None, adds=False, **special):
    """The same model with another tokenizer. adds: let that put <end>, id 0, before a text by itself."""
    inner = type(lm.tokenizer.backend_tokenizer).from_str(lm.tokenizer.backend_tokenizer.to_str())
    if adds:
        inner.post_processor = TemplateProcessing(single="<end> $A", special_tokens=[("<end>", 0)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, **special)
    tokenizer.chat_template = template
    return replace(lm, tokenizer=tokenizer)


@pytest.fixture
def with_begin(tiny_llama):
    return with_tokenizer(tiny_llama, bos_token="<end>", eos_token="<end>")


@pytest.fixture
def adding(tiny_llama):
    return with_tokenizer(tiny_llama, adds=True, bos_token="<end>")


def test_short_documents_are_joined_with_the_end_token_between(tiny_llama):
    tokens = [*tiny_llama.encode(SHORT[0]), 0, *tiny_llama.encode(SHORT[2]), 0, *tiny_llama.encode(SHORT[3])]
    drawn = calibrate(tiny_llama, SHORT, samples=5, seq_len=len(tokens) - 1, pack=True)
    assert drawn.ids.tolist() == [tokens[:-1]] * 5
    assert (drawn.packed, drawn.n_tokens) == (True, len(tokens))
    unasked = calibrate(tiny_llama, SHORT, samples=5, seq_len=len(tokens) - 1)  # none is long enough by itself
    assert torch.equal(unasked.ids, drawn.ids)
    assert unasked.packed


def test_without_an_end_token_a_blank_line_stands_between(tiny_llama):
    lm = with_tokenizer(tiny_llama)
    tokens = lm.encode("The sky is blue.\n\nRivers carry sand.\n\nShe counted the stones.")
    assert calibrate(lm, SHORT, samples=1, seq_len=len(tokens) - 1).ids.tolist() == [tokens[:-1]]


def test_documents_are_not_joined_where_one_is_long_enough_or_it_is_forbidden(tiny_llama, text):
    documents = [*SHORT, text]
    drawn = calibrate(tiny_llama, documents, samples=4, seq_len=40, seed=2)
    assert torch.equal(drawn.ids, draw_from_documents(tiny_llama, documents, samples=4, seq_len=40, seed=2).ids)
    assert not drawn.packed
    assert calibrate(tiny_llama, documents, samples=4, seq_len=40, seed=2, pack=True).packed
    with pytest.raises(
        InputError, match=r"none of the 4 documents of notes has more than 40 tokens.*; join them \(--pa"
    ):
        calibrate(tiny_llama, SHORT, seq_len=40, source="notes", pack=False)
    with pytest.raises(InputError, match=r"\(notes\) has \d+ tokens and 201 are needed"):
        calibrate(tiny_llama, SHORT, seq_len=200, source="notes")


def test_the_begin_token_stands_before_every_window_and_the_last_token_makes_room(with_begin, text):
    plain = calibrate(with_begin, text, samples=4, seq_len=16, seed=3)
    begun = calibrate(with_begin, text, samples=4, seq_len=16, seed=3, bos=True)
    assert begun.ids.tolist() == [[0, *window[:-1]] for window in plain.ids.tolist()]
    assert (plain.bos, begun.bos) == (False, True)
    assert plain.fingerprint != begun.fingerprint
    windows = token_windows(with_begin, text, 16, 3)
    assert token_windows(with_begin, text, 16, 3, bos=True).tolist() == [[0, *w[:-1]] for w in windows.tolist()]


def test_a_window_that_begins_with_the_token_is_left_as_it_is(adding, text):
    assert begins_texts(adding)
    ids = adding.encode(text)
    assert ids[0] == 0
    windows = token_windows(adding, text, 16, 2, bos=True)
    assert windows.tolist() == [ids[:16], [0, *ids[16:31]]]


def test_perplexity_with_the_begin_token_is_that_of_the_windows_with_it(with_begin, text):
    found = perplexity(with_begin, text, seq_len=16, windows=2, bos=True)
    losses = []
    for window in token_windows(with_begin, text, 16, 2).tolist():
        ids = torch.tensor([[0, *window[:-1]]], device=with_begin.device)
        logits = with_begin.model(ids).logits[0, :-1].double()
        losses.append(torch.nn.functional.cross_entropy(logits, ids[0, 1:]))
    assert found.perplexity == pytest.approx(float(torch.stack(losses).mean().exp()), rel=1e-5)
    assert (found.bos, found.tokens) == (True, 30)
    assert agreement(with_begin, with_begin, text, seq_len=16, windows=1, bos=True).top1 == 1
    assert found.perplexity != perplexity(with_begin, text, seq_len=16, windows=2).perplexity


def test_a_model_without_a_begin_token_is_told_so(tiny_llama, text):
    assert not begins_texts(tiny_llama)
    for run in (
        lambda: calibrate(tiny_llama, text, samples=1, seq_len=8, bos=True),
        lambda: perplexity(tiny_llama, text, seq_len=8, bos=True),
    ):
        with pytest.raises(
            InputError, match=r"^tiny has no begin token, so none can stand before a window; leave --bos"
        ):
            run()


def test_chats_are_put_into_words_by_the_models_template(tiny_llama):
    lm = with_tokenizer(tiny_llama, TEMPLATE, adds=True, bos_token="<end>")
    tokens = lm.encode("<end>user: The sky?\n<end>assistant: Blue.\n", special=False)
    assert tokens[0] == 0 != tokens[1]  # the template brings the token itself
    assert calibrate(lm, [CHAT], samples=1, seq_len=len(tokens) - 1).ids.tolist() == [tokens[:-1]]
    both = lm.encode(
        "<end>user: The sky?\n<end>assistant: Blue.\n\n\n<end>user: The sky?\n<end>assistant: Blue.\n", False
    )
    assert token_windows(lm, [CHAT, CHAT], len(both), None).tolist() == [both]


def test_chats_that_cannot_be_put_into_words_end_in_a_sentence(tiny_llama):
    with pytest.raises(
        InputError, match=r"^the text holds chats, and tiny has no chat template .*; choose a model that"
    ):
        calibrate(tiny_llama, [CHAT], samples=1, seq_len=4)
    lm = with_tokenizer(tiny_llama, "{{ raise_exception('roles must take turns') }}")
    with pytest.raises(
        InputError, match=r"^the chat template of tiny does not take a chat of user, assistant \(roles mus"
    ):
        perplexity(lm, [CHAT], seq_len=4)


@pytest.mark.parametrize("given", [7, b"bytes", {"text": "a"}, [7], [b"a"]])
def test_what_is_no_text_is_refused_the_same_way_everywhere(tiny_llama, given):
    said = []
    for run in (lambda: calibrate(tiny_llama, given, seq_len=4), lambda: perplexity(tiny_llama, given, seq_len=4)):
        with pytest.raises(InputError) as caught:
            run()
        said.append(str(caught.value))
    assert said[0] == said[1]
    assert "; " in said[0]


def test_a_path_is_read_as_the_command_line_reads_it(tiny_llama, tmp_path, text):
    path = tmp_path / "rows.csv"
    path.write_text(f'text\n"{text}"\n')
    drawn = calibrate(tiny_llama, path, samples=2, seq_len=16)
    assert torch.equal(drawn.ids, draw_from_documents(tiny_llama, [text], samples=2, seq_len=16).ids)
    assert drawn.source == "rows.csv"
    assert perplexity(tiny_llama, path, seq_len=16) == perplexity(tiny_llama, text, seq_len=16)


def test_a_long_document_is_turned_into_tokens_once_however_many_windows_it_gives(tiny_llama, monkeypatch, text):
    from wanda_core.text import windows

    asked, words = [], windows._Cut.words
    monkeypatch.setattr(windows._Cut, "words", lambda cut, index: (asked.append(index), words(cut, index))[1])
    drawn = windows.draw_from_documents(tiny_llama, [text], samples=16, seq_len=8)
    assert asked == [0]
    assert drawn.ids.shape == (16, 8)


def test_a_text_of_many_documents_is_read_step_by_step_and_each_once(tiny_llama, monkeypatch):
    """So that whoever holds the engine can be told to stop, and nothing is read twice."""
    read, words = [], windows._Cut.words
    monkeypatch.setattr(windows._Cut, "words", lambda cut, index: (read.append(index), words(cut, index))[1])
    documents = [f"document number {n}" for n in range(50)]
    steps = windows.calibrate_steps(tiny_llama, documents, samples=2, seq_len=64)
    for _ in range(10):
        assert next(steps).stage == "reading"
    assert len(read) < 10
    steps.close()
    read.clear()
    drawn = calibrate(tiny_llama, documents, samples=2, seq_len=64)
    assert drawn.packed
    assert sorted(read) == list(range(50))


@pytest.mark.parametrize("end", [True, False])
def test_a_template_that_takes_long_for_every_chat_is_ended_with_the_text(tiny_llama, monkeypatch, end):
    monkeypatch.setattr(windows, "in_words", lambda lm, document: time.sleep(0.05) or "abc")
    tiny_llama = with_tokenizer(tiny_llama, **({"eos_token": "<end>"} if end else {}))
    chats = [[{"role": "user", "content": "hello"}]] * 100
    begun = time.monotonic()
    with pytest.raises(InputError, match="took too long for the 100 chats of the text; give fewer"):
        finish(windows.calibrate_steps(tiny_llama, chats, samples=2, seq_len=64, patience=0.2))
    assert time.monotonic() - begun < 3
    assert finish(windows.calibrate_steps(tiny_llama, ["a"] * 100, samples=2, seq_len=64, patience=0.2)).packed


def test_chats_are_joined_step_by_step_where_no_end_token_stands_between_them(tiny_llama, monkeypatch):
    tiny_llama = with_tokenizer(tiny_llama)
    monkeypatch.setattr(windows, "in_words", lambda lm, chat: f"<{chat[0]['content']}>")
    chats = [[{"role": "user", "content": f"number {n}"}] for n in range(50)]
    steps = windows.calibrate_steps(tiny_llama, chats, samples=2, seq_len=64)
    said = []
    while True:
        try:
            said.append(next(steps).done)
        except StopIteration as stop:
            drawn = stop.value
            break
    assert said == [*range(50), *range(50)]
    joined = tiny_llama.encode("\n\n".join(f"<number {n}>" for n in range(50)), special=False)
    assert drawn.packed
    assert drawn.n_tokens == len(joined)
