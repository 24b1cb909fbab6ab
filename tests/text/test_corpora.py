"""Named data sets: the published draws, on small local data through the same code, and what is refused."""

import json
import random
import sys
from pathlib import Path

import pytest

from wanda_core.errors import InputError
from wanda_core.text import corpora
from wanda_core.text.windows import calibrate, draw_from_documents

datasets = pytest.importorskip("datasets", reason="the extra that reads named data sets is not installed")


@pytest.fixture
def folder(tmp_path):
    """A data set of its own: three splits of lines, most of them too short for a window."""
    place = tmp_path / "data"
    place.mkdir()
    for split, count in (("train", 12), ("test", 3)):
        rows = [{"id": i, "text": f"{split} {i}: " + "a river runs on. " * (i % 4)} for i in range(count)]
        (place / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return place


@pytest.fixture(autouse=True)
def cache_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))


def by_hand(lm, documents, samples, seq_len, seed):
    """The published draw from C4: a document, again until it is long enough, then a place in it."""
    rng = random.Random(seed)
    windows = []
    for _ in range(samples):
        while True:
            tokens = lm.encode(documents[rng.randint(0, len(documents) - 1)])
            if len(tokens) > seq_len:
                break
        start = rng.randint(0, len(tokens) - seq_len - 1)
        windows.append(tokens[start : start + seq_len])
    return windows


def test_a_folder_of_documents_is_drawn_from_as_published(folder, tiny_llama):
    documents = corpora.calibration_text(str(folder))
    assert len(documents) == 12
    assert documents[1].startswith("train 1: a river")
    drawn = calibrate(tiny_llama, documents, samples=5, seq_len=14, seed=3, source="data")
    assert drawn.ids.tolist() == by_hand(tiny_llama, documents, 5, 14, 3)
    assert (drawn.samples, drawn.seq_len, drawn.source) == (5, 14, "data")


def test_documents_that_are_all_too_short_end_in_a_sentence(tiny_llama):
    with pytest.raises(InputError, match=r"none of the 3 documents of notes has more than 200 tokens"):
        draw_from_documents(tiny_llama, ["one", "two", ""], samples=2, seq_len=200, source="notes")
    with pytest.raises(InputError, match="none of the 0 documents"):
        draw_from_documents(tiny_llama, [], samples=2, seq_len=8)


def test_a_test_split_is_joined_by_blank_lines(folder):
    assert corpora.evaluation_text(str(folder)).startswith("test 0: \n\ntest 1: a river")


def test_known_names_are_read_as_published(folder, monkeypatch):
    asked = []

    def load(path, **settings):
        asked.append((path, settings))
        return {name: [{"text": f"{name} {i}"} for i in range(3)] for name in ("train", "validation", "test")}

    monkeypatch.setattr(datasets, "load_dataset", load)
    assert corpora.calibration_text("wikitext2") == "train 0 train 1 train 2"
    assert corpora.evaluation_text("wikitext2") == "test 0\n\ntest 1\n\ntest 2"
    assert corpora.calibration_text("c4") == ["train 0", "train 1", "train 2"]
    assert corpora.evaluation_text("c4") == "validation 0 validation 1 validation 2"
    assert {path for path, _ in asked} == {"Salesforce/wikitext", "allenai/c4"}
    assert asked[2][1]["data_files"] == {"train": "en/c4-train.00000-of-01024.json.gz"}


def test_what_names_a_data_set_and_what_a_file(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes").mkdir()
    for name in ("wikitext2", "c4", "owner/some-data", "owner/v1.0"):
        assert corpora.data_set_of(name) == corpora.name_of(name) == name
    assert corpora.data_set_of(" 'owner/some-data' ") == "owner/some-data"
    paths = (
        "a.txt",
        "notes/missing",
        "gone/missing.txt",
        "gone/a.jsonl.gz",
        "gone/a.zst",
        "gone/a.PDF",
        "../x",
        "./x/y",
    )
    for path in (*paths, "~/x", "a/b/c", "C:\\data\\a", "data", str(folder), str(folder / "train.jsonl"), Path("c4")):
        assert corpora.data_set_of(path) is None, path
        assert corpora.name_of(path) in (str(path), Path(path).name)


def test_a_missing_file_is_never_asked_of_the_hub(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "load_dataset", lambda *a, **k: pytest.fail("the hub was asked"))
    monkeypatch.chdir(tmp_path)
    for path in ("gone/a.jsonl", "gone/a.txt.gz", "./gone/a", "gone.parquet"):
        for read in (corpora.calibration_text, corpora.evaluation_text):
            with pytest.raises(InputError, match=r"a.* cannot be read \(No such file or directory\); give the path"):
                read(path)


def test_rows_that_are_null_are_passed_over_and_published_texts_are_left_as_they_are(monkeypatch):
    rows = {"train": [{"text": "a\r\nb"}, {"text": None}, {"text": ""}, {"text": "c"}]}
    monkeypatch.setattr(datasets, "load_dataset", lambda path, **settings: rows)
    assert corpora.calibration_text("owner/data") == ["a\nb", "", "c"]
    assert corpora.evaluation_text("owner/data") == "a\nb\n\n\n\nc"
    assert corpora.calibration_text("c4") == ["a\r\nb", "", "c"]
    with pytest.raises(InputError, match="the data set 'owner/data' has no column 'x'; its columns are text"):
        corpora.calibration_text("owner/data", "x")


@pytest.mark.parametrize(
    ("rows", "words"),
    [([{"n": 1}], "has no column of text"), ([{"text": "  "}], "holds no text"), (None, "cannot be read: it holds")],
    ids=["numbers", "blank", "no data"],
)
def test_a_data_set_without_text_is_refused(tmp_path, rows, words):
    place = tmp_path / "odd"
    place.mkdir()
    if rows is not None:
        (place / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(InputError, match=words) as caught:
        corpora.calibration_text(str(place))
    assert "\n" not in str(caught.value)


def test_without_the_extra_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(InputError, match="pip install datasets"):
        corpora.calibration_text("wikitext2")
