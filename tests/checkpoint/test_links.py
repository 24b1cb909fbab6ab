"""Links in a model's folder: what lies outside of it is never handed on with a checkpoint."""

import shutil

import pytest

from wanda_core.checkpoint.beside import files_beside
from wanda_core.errors import ModelError


@pytest.fixture
def folder(dense, tmp_path):
    return shutil.copytree(dense, tmp_path / "models--owner--name" / "snapshots" / "0a1b")


@pytest.fixture
def outside(tmp_path):
    (tmp_path / "private").mkdir()
    for name in ("key", "rag.jinja"):
        (tmp_path / "private" / name).write_text("secret")
    return tmp_path / "private"


@pytest.mark.parametrize("name", ["LICENSE", "preprocessor_config.json", "merges.txt", "notes/../LICENSE"])
def test_a_link_that_leads_out_is_named(folder, outside, name):
    (folder / "notes").mkdir()
    (folder / name).symlink_to(outside / "key")
    with pytest.raises(ModelError, match=r"has a link, .* to a file outside"):
        files_beside(folder)


def test_a_folder_that_is_a_link_is_no_way_out(folder, outside):
    (folder / "additional_chat_templates").symlink_to(outside)
    with pytest.raises(ModelError, match=r"has a link, 'rag\.jinja'"):
        files_beside(folder)


def test_a_link_within_the_folder_or_into_the_hubs_own_store_is_followed(folder):
    (folder / "LICENSE").write_text("MIT")
    (folder / "COPYING").symlink_to("LICENSE")
    blobs = folder.parent.parent / "blobs"
    blobs.mkdir()
    shutil.move(folder / "config.json", blobs / "abc")
    (folder / "config.json").symlink_to("../../blobs/abc")
    assert {"LICENSE", "COPYING", "config.json"} <= {path.name for path in files_beside(folder)}


def test_a_store_of_all_models_in_the_hubs_cache_is_followed(folder):
    """As huggingface_hub lays out what several models have in common: blobs are links into one more store."""
    model = folder.parent.parent
    for place in (model / "blobs", model.parent / "blobs" / "ab"):
        place.mkdir(parents=True)
    shutil.move(folder / "config.json", model.parent / "blobs" / "ab" / "cd")
    (model / "blobs" / "abc").symlink_to("../../blobs/ab/cd")
    (folder / "config.json").symlink_to("../../blobs/abc")
    assert "config.json" in {path.name for path in files_beside(folder)}


def test_a_store_that_is_a_link_itself_is_none(folder, outside):
    (folder.parent.parent / "blobs").symlink_to(outside)
    (folder / "LICENSE").symlink_to("../../blobs/key")
    with pytest.raises(ModelError, match="to a file outside"):
        files_beside(folder)


def test_of_the_templates_only_templates_are_taken(folder):
    (folder / "additional_chat_templates").mkdir()
    for name in ("rag.jinja", "passwd"):
        (folder / "additional_chat_templates" / name).write_text("{{ messages }}")
    assert [path.name for path in files_beside(folder) if path.parent != folder] == ["rag.jinja"]
