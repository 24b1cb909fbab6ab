"""How much memory the letters of a file take, which Python holds as wide as the widest of them is."""

from contextlib import nullcontext

import pytest

from wanda_core.errors import ModelError
from wanda_core.model import limits

EMOJI, HANGUL, ACCENT = "\U0001f600", "\ud558", "\u00e9"


@pytest.fixture
def small(monkeypatch):
    """Files and all templates may take 4 MB as text, a tokenizer.json 15 MB."""
    monkeypatch.setattr(limits, "WIDE", {file: most // 10 for file, most in limits.WIDE.items()})


@pytest.mark.parametrize("file", ["tokenizer_config.json", "config.json", "vocab.txt", "bpe.codes", "normalizer.json"])
@pytest.mark.parametrize(
    ("letter", "letters", "refused"),
    [
        *[("a", 3_900_000, False), (ACCENT, 3_900_000, False), (HANGUL, 1_900_000, False), (HANGUL, 2_100_000, True)],
        *[(EMOJI, 900_000, False), (EMOJI, 1_100_000, True)],
    ],
)
def test_one_wide_letter_makes_all_of_a_file_as_wide(tmp_path, small, file, letter, letters, refused):
    (tmp_path / file).write_text("a" * letters + letter, encoding="utf-8")
    if refused:
        with pytest.raises(ModelError, match=rf"has a '{file}' whose letters take 4 MB in memory, and at most 4 MB"):
            limits.check_files(tmp_path, "a model")
    else:
        limits.check_files(tmp_path, "a model")


def test_letters_are_counted_not_bytes(tmp_path, small):
    (tmp_path / "config.json").write_text(HANGUL * 1_300_000, encoding="utf-8")
    (tmp_path / "tokenizer.json").write_text(EMOJI * 3_700_000, encoding="utf-8")
    (tmp_path / "tokenizer.model").write_text(EMOJI * 3_000_000, encoding="utf-8")  # which is no text
    limits.check_files(tmp_path, "a model")


@pytest.mark.parametrize(
    ("letter", "said"),
    [("a", "chat templates of 11 MB together, and at most 10 MB are"), (EMOJI, "chat templates whose letters take 44")],
)
def test_templates_have_bounds_together(tmp_path, monkeypatch, letter, said):
    monkeypatch.setattr(limits, "MOST_TEMPLATES", 10_000_000 if letter == "a" else 20_000_000)
    (tmp_path / "additional_chat_templates").mkdir()
    for number in range(11):
        (tmp_path / "additional_chat_templates" / f"{number}.jinja").write_text("a" * 999_990 + letter)
    with pytest.raises(ModelError, match=f"has {said}"):
        limits.check_files(tmp_path, "a model")


@pytest.mark.parametrize(("letters", "refused"), [(900_000, False), (1_100_000, True)])
def test_a_letter_that_json_escapes_is_as_wide(tmp_path, small, letters, refused):
    for file in ("tokenizer_config.json", "tokenizer.json"):
        at = 10**6 - 4  # across what is read at once, where there is as much
        text = "a" * min(at, letters) + "\\ud83d\\ude00" + "a" * max(0, letters - at) + "\\u0041"
        (tmp_path / file).write_text(f'"{text}"')
    with (
        pytest.raises(ModelError, match=r"'tokenizer_config\.json' whose letters take 4") if refused else nullcontext()
    ):
        limits.check_files(tmp_path, "a model")


@pytest.mark.parametrize("word", [f"{EMOJI}{HANGUL * 3}", "\\ud83d\\ude00" + "\\ud558" * 3])
def test_the_largest_tokenizer_json_that_is_met_is_read(tmp_path, word):
    """As many words as Gemma has, of all scripts, as they are or as JSON may write them."""
    words = ",\n      ".join(f'"{word}{number}": {number}' for number in range(262_144))
    merges = ",\n".join(['      [\n        "\u2581\u2581\u2581",\n        "abcdef"\n      ]'] * 400_000)
    text = '{"model": {"vocab": {' + words + '}, "merges": [' + merges + "]}}"
    (tmp_path / "tokenizer.json").write_text(text, encoding="utf-8")
    assert 30 * limits.MB < (tmp_path / "tokenizer.json").stat().st_size < 45 * limits.MB
    limits.check_files(tmp_path, "a model")
