"""A small model's folder, loading one either way, and a hub on loopback that has it, for the tests of downloads."""

import shutil
import time
from types import SimpleNamespace

import pytest
from fake_hub import NEW, OLD, Hub, point_at, serving
from huggingface_hub import constants
from huggingface_hub.utils import _http

from wanda_core.errors import ModelError
from wanda_core.low_memory.model_on_disk import open_model
from wanda_core.model.loading import load_model


@pytest.fixture
def cache(monkeypatch, tmp_path):
    """An empty cache, and nothing that asks the real hub."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    point_at(monkeypatch, "http://127.0.0.1:9")  # discards what comes, if anything listens there
    return tmp_path / "hub"


@pytest.fixture
def no_network(monkeypatch, tmp_path):
    """The hub is out of reach and its cache is empty."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))


@pytest.fixture(scope="module")
def saved(dense, tmp_path_factory):
    """A whole, good model folder; only to be read."""
    return shutil.copytree(dense, tmp_path_factory.mktemp("models") / "tiny-llama")


@pytest.fixture
def folder(saved, tmp_path):
    """A copy of a good model that the test may damage."""
    return shutil.copytree(saved, tmp_path / "model")


@pytest.fixture(params=[load_model, open_model], ids=["in memory", "low memory"])
def refusal(request):
    """Load a folder either way. -> the sentence it is refused with"""

    def load(folder):
        with pytest.raises(ModelError) as refused:
            request.param(str(folder), device="cpu")
        assert str(folder) in str(refused.value)
        assert "\n" not in str(refused.value)
        return str(refused.value)

    return load


@pytest.fixture
def there(cache, monkeypatch, saved, tmp_path):
    """A hub that has the model in two commits; who finds it out of order asks again a hundred times sooner."""
    sooner = SimpleNamespace(**{**vars(time), "sleep": lambda seconds: time.sleep(seconds / 100)})
    monkeypatch.setattr(_http, "time", sooner)
    (tmp_path / "commits").mkdir()
    commits = {sha: shutil.copytree(saved, tmp_path / "commits" / sha) for sha in (OLD, NEW)}
    (commits[OLD] / "old.txt").write_text("old")
    with serving(Hub(commits, {"main": NEW, "v1.0": OLD, "refs/pr/1": OLD})) as server:
        point_at(monkeypatch, server.address)
        yield server
