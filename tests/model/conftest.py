"""A hub on loopback that has one small model, for the tests of downloads."""

import shutil

import pytest
from fake_hub import NEW, OLD, Hub, point_at, serving
from huggingface_hub import constants


@pytest.fixture
def cache(monkeypatch, tmp_path):
    """An empty cache, and nothing that asks the real hub."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    point_at(monkeypatch, "http://127.0.0.1:9")  # discards what comes, if anything listens there
    return tmp_path / "hub"


@pytest.fixture(scope="module")
def saved(tiny_llama, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "tiny-llama"
    tiny_llama.model.save_pretrained(folder)
    tiny_llama.tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def there(cache, monkeypatch, saved, tmp_path):
    """A hub that has the model in two commits."""
    (tmp_path / "commits").mkdir()
    commits = {sha: shutil.copytree(saved, tmp_path / "commits" / sha) for sha in (OLD, NEW)}
    (commits[OLD] / "old.txt").write_text("old")
    with serving(Hub(commits, {"main": NEW, "v1.0": OLD, "refs/pr/1": OLD})) as server:
        point_at(monkeypatch, server.address)
        yield server
