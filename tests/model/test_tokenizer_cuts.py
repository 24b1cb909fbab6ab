"""How often the words of a vocabulary can be cut in two others."""

import itertools
import time

import pytest

from wanda_core.errors import ModelError
from wanda_core.model.tokenizer_cuts import check_cuts, cuts_of

MANY = 10**9


def written(letters, longest):
    """All words of so many letters at most."""
    return {"".join(word) for length in range(1, longest + 1) for word in itertools.product(letters, repeat=length)}


@pytest.mark.parametrize(
    ("words", "cuts"),
    [
        (set(), 0),
        ({"", "a"}, 0),
        ({"a", "aa", "aaa"}, 3),
        ({"a", "ab", "abc", "bc", "c"}, 2),
        ({"ab", "abc", "abcd", "d", "cd"}, 2),
        ({"in", "ing", "g", "ingot", "ot", "got"}, 4),
        (written("ab", 7), sum((length - 1) * 2**length for length in range(1, 8))),
        ({"a", "a" * 59, "a" * 60}, 4),
        ({"한", "국", "한국", "어", "한국어", "국어"}, 4),
    ],
)
def test_every_place_is_counted_where_both_halves_are_words(words, cuts):
    assert cuts_of(words, MANY) == cuts
    assert cuts_of({word.encode() for word in words}, MANY) == (cuts if max(map(len, words), default=0) < 17 else 4)


def test_counting_ends_where_there_are_too_many():
    assert 1000 < cuts_of({"a" * length for length in range(1, 3000)}, 1000) < 1100


def test_a_vocabulary_whose_every_word_can_be_cut_anywhere_is_refused():
    check_cuts(written("ab", 11), "a model")
    said = (
        r"^the tokenizer of 'a model' has 16,382 tokens that can be cut in two others at more than 101,910 places, or"
    )
    with pytest.raises(ModelError, match=said):
        check_cuts(written("ab", 13), "a model")
    runs = {" " * length for length in range(1, 129)} | {"=" * length for length in range(1, 81)}
    check_cuts({*runs, *map(str, range(1000))}, "a model")  # as in a small vocabulary


def test_of_many_words_no_more_than_so_many_are_allowed():
    words = {f"z{number:05}" for number in range(60_000)}
    long = {"a" * length for length in range(1, 700)}
    with pytest.raises(ModelError, match="at more than 323,495 places"):
        check_cuts(words | long, "a model", 2_000_000)
    with pytest.raises(ModelError, match=r"60,699 tokens .* at more than 200,000 places"):
        check_cuts(words | long, "a model", 200_000)


def test_words_that_begin_alike_take_no_longer():
    chain = ["a" * length for length in range(1, 31)]
    words = {*chain, *(f"{chain[-1]}z{number}" for number in range(60_000))}
    begun = time.process_time()
    with pytest.raises(ModelError, match=r"60,030 tokens .* at more than 100,000 places"):
        check_cuts(words, "a model", 100_000)
    assert time.process_time() - begun < 2
    chain = chain[:4]  # more are not met
    check_cuts({*chain, *(f"{chain[-1]}z{number}" for number in range(24_000))}, "a model")
