"""Calibration text becomes windows of tokens exactly as the reference draws them."""

import random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wanda_core.errors import InputError
from wanda_core.text import windows
from wanda_core.text.files import read_text
from wanda_core.text.windows import calibrate, draw


@given(st.integers(0, 2**40), st.integers(1, 9), st.integers(2, 30), st.integers(1, 400))
def test_the_draw_is_the_references(seed, samples, seq_len, extra):
    tokens = [7 * i for i in range(seq_len + extra)]
    rng = random.Random(seed)
    expected = []
    for _ in range(samples):
        start = rng.randint(0, len(tokens) - seq_len - 1)
        expected.append(tokens[start : start + seq_len])
    drawn = draw(tokens, samples=samples, seq_len=seq_len, seed=seed)
    assert drawn.ids.tolist() == expected
    assert (drawn.samples, drawn.seq_len, drawn.seed, drawn.n_tokens) == (samples, seq_len, seed, len(tokens))


def test_seed_zero_of_a_hundred_tokens_starts_where_pythons_generator_says():
    assert draw(range(100), samples=3, seq_len=4).ids[:, 0].tolist() == [49, 53, 5]


def test_windows_are_int64_on_the_cpu():
    drawn = draw(range(50), samples=2, seq_len=8)
    assert drawn.ids.dtype == torch.int64
    assert drawn.ids.device.type == "cpu"
    assert drawn.ids.shape == (2, 8)


def test_one_token_more_than_a_window_is_enough_and_no_less():
    assert draw(range(9), samples=2, seq_len=8).ids.tolist() == [list(range(8))] * 2
    with pytest.raises(InputError, match=r"story\.txt\) has 8 tokens and 9 are needed for windows of 8"):
        draw(range(8), samples=2, seq_len=8, source="story.txt")


def test_an_empty_text_says_how_many_tokens_it_lacks():
    with pytest.raises(InputError, match="has 0 tokens and 257 are needed"):
        draw([])


@pytest.mark.parametrize(
    ("field", "bad"),
    [(field, bad) for field in ("samples", "seq_len", "seed") for bad in (-1, 2**64, 1.0, "3", None, True)]
    + [("samples", 0), ("samples", 4097), ("seq_len", 1), ("seq_len", 32769)],
)
def test_numbers_out_of_range_are_refused_by_name(field, bad):
    with pytest.raises(InputError, match=f"{field} .* is not a whole number from"):
        draw(range(100), **{"samples": 1, "seq_len": 4, field: bad})


def test_the_fingerprint_tells_tokens_and_shapes_apart():
    one = draw(range(100), samples=2, seq_len=8)
    assert one.fingerprint == draw(list(range(100)), samples=2, seq_len=8, source="other name").fingerprint
    assert one.fingerprint != draw(range(100), samples=2, seq_len=8, seed=1).fingerprint
    same_tokens = windows.Calibration(one.ids.reshape(4, 4), "tokens", 0, 100)
    assert one.fingerprint != same_tokens.fingerprint


def test_a_text_is_drawn_from_its_tokens(tiny_llama, text):
    made = calibrate(tiny_llama, text, samples=3, seq_len=16, seed=5)
    assert torch.equal(made.ids, draw(tiny_llama.encode(text), samples=3, seq_len=16, seed=5).ids)
    assert made.source == "given text"
    assert calibrate(tiny_llama, text, samples=1, seq_len=4, source="story.txt").source == "story.txt"


def test_without_a_text_the_built_in_one_is_taken(tiny_llama):
    made = calibrate(tiny_llama)
    assert made.source == "built-in text"
    assert (made.samples, made.seq_len, made.seed) == (16, 256, 0)
    assert made.n_tokens == len(tiny_llama.encode(read_text(windows.BUILTIN_CALIBRATION)))
