"""What lies on a disk as text: one file, a folder of texts, a folder of tables."""

import json
import os

import pytest

from wanda_core.errors import InputError
from wanda_core.text import corpora
from wanda_core.text.documents import read_documents


@pytest.fixture
def lay(tmp_path):
    """Write files by name into a folder. lay({name: text}) -> the folder."""

    def laid(files):
        folder = tmp_path / "folder"
        for name, text in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        folder.mkdir(exist_ok=True)
        return folder

    return laid


def row(text):
    return f'{{"text": "{text}"}}\n'


def test_of_a_folder_each_text_file_is_a_document(lay):
    said = []
    books = {"b.txt": "two\nlines", "a.txt": "one", "more/c.md": "three", "blank.txt": " \n", "test of.txt": "four"}
    others = {"README.md": "about", "LICENSE.txt": "terms", ".hidden.txt": "x", ".git/a.txt": "x", "a.png": ""}
    folder = lay(books | others)
    assert read_documents(folder, say=said.append) == ["one", "two\nlines", "three", "four"]
    assert said == ["note: the folder folder is read as 4 documents, each a text file"]
    assert corpora.calibration_text(str(folder)) == ["one", "two\nlines", "three", "four"]
    assert corpora.evaluation_text(str(folder)) == "one\n\ntwo\nlines\n\nthree\n\nfour"


def test_of_text_files_that_are_parts_of_a_data_set_one_part_is_read(lay):
    folder = lay({f"wiki.{part}.raw": part for part in ("train", "valid", "test")})
    assert corpora.calibration_text(folder) == ["train"]
    assert corpora.evaluation_text(folder) == "test"


def test_of_tables_one_part_is_read_in_the_order_of_their_names(lay):
    folder = lay({"data/train-1.jsonl": row("b"), "data/train-0.jsonl": row("a"), "data/test.jsonl": row("t")})
    assert corpora.calibration_text(folder) == ["a", "b"]
    assert corpora.evaluation_text(folder) == "t"
    folder = lay({"data/test.jsonl": "", "data/validation.csv": "text\nv\n"})
    assert read_documents(folder / "data", split="validation") == ["v"]


def test_parts_may_be_folders_and_a_folder_without_parts_is_read_whole(lay):
    files = {"train/a.jsonl": row("a"), "train/b.jsonl": row("b"), "test/a.jsonl": row("t"), "dataset_info.json": "{}"}
    folder = lay(files)
    assert corpora.calibration_text(folder) == ["a", "b"]
    assert corpora.evaluation_text(folder) == "t"
    assert read_documents(folder / "train", split="test") == ["a", "b"]


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({}, "cannot be read: it holds neither text files .* nor tables .*; give a folder that does"),
        ({"a.png": "x"}, "holds neither text files"),
        ({"a.txt": "a", "b.jsonl": row("b")}, r"holds text files \(a.txt\) and tables \(b.jsonl\), .* one kind is"),
        ({"en/a.jsonl": row("a"), "fr/a.jsonl": row("a")}, r"holds tables in several folders \(en, fr\), which may be"),
        ({"a.txt": " ", "b.txt": ""}, "holds empty files only"),
    ],
)
def test_a_folder_that_is_not_one_text_is_refused(lay, files, words):
    with pytest.raises(InputError, match=words):
        read_documents(lay(files))


def test_a_text_has_no_columns(lay):
    folder = lay({"a.txt": "one"})
    for path in (folder, folder / "a.txt"):
        with pytest.raises(InputError, match=r"^a\.txt is plain text without columns, so there is no column 'x'"):
            read_documents(path, column="x")


def test_of_a_large_folder_the_first_documents_are_read_and_it_is_said(lay):
    said = []
    assert read_documents(lay({f"{n}.txt": "four" for n in range(5)}), most=10, say=said.append) == ["four", "four"]
    assert said[0] == "note: of the folder folder the first 2 documents are read"


def test_a_data_set_that_was_saved_to_the_disk_is_read(tmp_path):
    datasets = pytest.importorskip("datasets", reason="reads what it saved itself")
    parts = {part: datasets.Dataset.from_dict({"text": [f"{part} 1", f"{part} 2"]}) for part in ("train", "test")}
    datasets.DatasetDict(parts).save_to_disk(tmp_path / "saved")
    assert corpora.calibration_text(tmp_path / "saved") == ["train 1", "train 2"]
    assert corpora.evaluation_text(tmp_path / "saved") == "test 1\n\ntest 2"
    assert corpora.calibration_text(tmp_path / "saved" / "test") == ["test 1", "test 2"]


@pytest.mark.parametrize("name", ["b.txt", "b.jsonl", "b.csv", "b.parquet", "b.txt.gz", "b.jsonl.zst"])
def test_what_is_no_ordinary_file_is_refused_by_its_name_alone_and_in_a_folder(lay, name):
    folder = lay({f"a.{name.split('.')[1]}": "text\na\n" if name == "b.csv" else row("a")})
    for lead in (os.mkfifo, lambda path: path.symlink_to("/dev/zero")):
        lead(folder / name)
        for given in (folder / name, folder):
            with pytest.raises(InputError, match=r"cannot be read \(it is no ordinary file\)|is not the Parquet file"):
                read_documents(given)
        (folder / name).unlink()


def test_a_link_to_nothing_among_tables_is_told(lay):
    folder = lay({"a.jsonl": row("a")})
    (folder / "b.jsonl").symlink_to(folder / "gone")
    with pytest.raises(InputError, match=r"b\.jsonl' cannot be read \(No such file"):
        read_documents(folder)


def test_a_saved_data_set_is_read_from_its_own_ordinary_files(tmp_path):
    datasets = pytest.importorskip("datasets", reason="reads what it saved itself")
    folder = tmp_path / "saved"
    datasets.Dataset.from_dict({"text": ["one"]}).save_to_disk(folder)
    (folder / "more").symlink_to("/dev/zero")
    with pytest.raises(InputError, match=r"saved' cannot be read \(.*it is no ordinary file"):
        read_documents(folder)
    (folder / "more").unlink()
    state = json.loads((folder / "state.json").read_text())
    (folder / "state.json").write_text(json.dumps(state | {"_data_files": [{"filename": "/dev/zero"}]}))
    with pytest.raises(InputError, match=r"saved' cannot be read \(state\.json names '/dev/zero'\)"):
        read_documents(folder)
