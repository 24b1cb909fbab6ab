"""What messages show of the values and errors they are about."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wanda_core import checks
from wanda_core.errors import (
    MOST_OF_SENTENCE,
    SHOWN,
    SHOWN_OF_A_PATH,
    GatedError,
    InputError,
    ModelError,
    StorageError,
    first_line,
    in_gb,
    shortened,
    shortened_path,
    without_cache,
)
from wanda_core.recipe import PruneSpec

LONG = "ab\n" * 2_000_000


class Silent:
    def __repr__(self):
        raise RuntimeError("no")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("gpt2", "'gpt2'"),
        ("", "''"),
        ("a\nb", r"'a\nb'"),
        ("\ud800", r"'\ud800'"),
        ("x" * 78, f"'{'x' * 78}'"),
        ("x" * 79, f"'{'x' * 51}…{'x' * 25}'"),
        (5, "5"),
        (None, "None"),
        (10**5000, "<int>"),
        ([1, 2], "[1, 2]"),
    ],
    ids=range(10),
)
def test_a_short_value_is_shown_whole_and_a_long_one_by_its_ends(value, shown):
    assert shortened(value) == shown


@given(st.one_of(st.text(max_size=400), st.binary(max_size=400), st.integers(), st.lists(st.text(), max_size=20)))
def test_what_is_shown_is_one_short_line_with_the_beginning_in_it(value):
    shown = shortened(value)
    assert len(shown) <= SHOWN
    assert shown.splitlines() == [shown]
    assert shown[:10] == " ".join(repr(value).split())[:10] or isinstance(value, list | int)


@pytest.mark.parametrize(
    "value", [LONG, [LONG] * 3, {LONG: LONG}, LONG.encode(), {"a": [LONG]}, list(range(10**6))], ids=range(6)
)
def test_millions_of_characters_are_not_shown(value):
    assert len(shortened(value)) <= SHOWN
    assert len(shortened_path(value)) <= SHOWN_OF_A_PATH


@pytest.mark.parametrize(
    "refused",
    [
        lambda: PruneSpec(method=LONG),
        lambda: PruneSpec(pattern=LONG),
        lambda: PruneSpec(sparsity=LONG),
        lambda: PruneSpec(group=LONG),
        lambda: PruneSpec(seed=10**5000),
        lambda: checks.check_whole("samples", 10**5000, 1, 5),
    ],
)
def test_a_refusal_of_a_long_value_is_short(refused):
    with pytest.raises(InputError) as caught:
        refused()
    assert 20 < len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("\n  first.\nsecond"), "first"),
        (KeyError(), "KeyError"),
        (OSError("x" * 900), "x" * 300),
        (OSError("a\x1b[2Jb\x07 \u202ec\x85d"), "a [2Jb   c"),
    ],
)
def test_another_librarys_message_is_cut_to_its_first_line(error, said):
    assert first_line(error) == said


@pytest.mark.parametrize("kind", [InputError, ModelError, StorageError, lambda said: GatedError(said, "address")])
def test_a_sentence_is_one_line_that_no_terminal_obeys_and_has_an_end(kind):
    for quoted in ("evil\n\x1b[2J\x1b]0;owned\x07 \u202esecond\r\nthird", "e" * 15_000_000, "\ud800", "\x9b2J" * 10**6):
        said = str(kind(f"the tensor {quoted} is none; take it out"))
        assert said.isprintable()
        assert len(said) <= MOST_OF_SENTENCE
        assert said.startswith("the tensor ")
        assert said.endswith("; take it out")
    assert str(kind("모델 'a'는 없어요…")) == "모델 'a'는 없어요…"


@given(st.text())
def test_a_sentence_that_can_be_printed_stays_as_it_is(said):
    kept = str(ModelError(said))
    assert kept.isprintable()
    assert kept == said or not said.isprintable()


HASH = "a" * 40


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (
            f"the file at '/home/me too/hub/models--x--json/snapshots/{HASH}/config.json' is",
            "the file at 'x/json/config.json' is",
        ),
        (f"No file /home/me/models--gpt2/blobs/{HASH}: gone", "No file gpt2: gone"),
        (f"C:\\me\\models--a--b-1.5\\snapshots\\{HASH}\\x", "a/b-1.5\\x"),
        ("/r/models--a--b/refs/main and '/r/models--c--d'", "a/b and 'c/d'"),
        ("it calls models--a--b a model, and models-- none", None),
        ("models--" * 100, None),
    ],
)
def test_a_model_of_the_hub_has_its_name_in_the_place_of_its_folder(said, told):
    assert without_cache(said) == (said if told is None else told)


@pytest.mark.parametrize(
    "said",
    ["models--" * 12_500, "/models--a--" * 8_000, "/m" * 50_000 + "models--a--b", "a:\n" * 33_000, "\n" * 99_000 + "x"],
)
def test_a_message_of_any_length_is_quoted_at_once(said):
    began = time.process_time()
    assert len(first_line(OSError(said))) <= 300
    assert time.process_time() - began < 1  # looked at as a whole: 60 s


def test_a_folder_of_a_long_path_is_not_told():
    folder = "/home/me/" + "deep/" * 700 + f"models--a--b/snapshots/{HASH}/config.json"
    assert first_line(OSError(f"cannot open:\n  {folder}\nmore")) == "cannot open: a/b/config.json"


@given(st.integers(1, 10**15), st.integers(0, 10**15))
def test_what_does_not_fit_never_reads_as_if_it_did(needed, free):
    takes, has = map(float, in_gb(needed, free))
    assert (takes > has) >= (needed > free)
    assert takes == pytest.approx(needed / 1e9, abs=0.1 + 1e-6)
    assert has == pytest.approx(free / 1e9, abs=0.1 + 1e-6)
