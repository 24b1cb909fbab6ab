"""Downloads that break off, and models that are too large: no half model is loaded, and nothing needless fetched."""

import time

import pytest
import torch
from fake_hub import MODEL, NEW, Hub, point_at, serving
from huggingface_hub import constants

from wanda_core.errors import ModelError
from wanda_core.model import hub
from wanda_core.model.loading import load_model

LINE = "Too big, and a bad line"
MOST_SECONDS = 3.0


@pytest.fixture
def there(monkeypatch, dense, tmp_path):
    """A hub on loopback that has the model, and an empty cache."""
    import shutil

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_XET_HIGH_PERFORMANCE", False, raising=False)
    (tmp_path / "commits").mkdir()
    folder = shutil.copytree(dense, tmp_path / "commits" / NEW)
    with serving(Hub({NEW: folder}, {"main": NEW})) as server:
        point_at(monkeypatch, server.address)
        yield server


def loaded_or_told():
    """Load the hub's model. -> its weights, None where it was refused, and the sentence then"""
    try:
        return load_model(MODEL, device="cpu").model.state_dict(), ""
    except ModelError as error:
        return None, str(error)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("times", [1, 99])
def test_a_line_that_drops_is_tried_again_or_told_and_no_half_model_is_loaded(there, dense, share, times, figures):
    there.drops = {"model.safetensors": (share, times)}
    whole = load_model(dense, device="cpu").model.state_dict()
    loaded, said = loaded_or_told()
    assert loaded is not None or (MODEL in said and len(said.splitlines()) == 1)
    assert there.dropped >= 1, "nothing was dropped"
    half = loaded is not None and not all(torch.equal(loaded[name], whole[name]) for name in whole)
    figures.exactly(LINE, f"half models loaded, the line cut {times} times at {share:.0%}", float(half), 0)
    assert loaded is None or times < 99, "a line that never holds gave a model"
    there.drops = {}
    again = load_model(MODEL, device="cpu").model.state_dict()
    assert all(torch.equal(again[name], whole[name]) for name in whole)


@pytest.mark.parametrize(
    ("size", "said"), [(10**16, "GB to download and"), (10**12, "GB for its weights and")], ids=["disk", "memory"]
)
def test_what_is_too_large_is_said_with_both_numbers_before_anything_is_fetched(
    there, monkeypatch, size, said, figures
):
    usage = hub.shutil.disk_usage
    monkeypatch.setattr(hub.shutil, "disk_usage", lambda path: usage(path)._replace(free=10**13))
    there.claimed = {"model.safetensors": size}
    begun = time.monotonic()
    with pytest.raises(ModelError, match=said) as caught:
        load_model(MODEL, device="cpu")
    seconds = time.monotonic() - begun
    sentence = str(caught.value)
    assert sentence.count(" GB") == 2, sentence
    fetched = [path for path in there.asked if "/resolve/" in path]
    figures.exactly(LINE, f"files fetched of a model of {size / 1e12:,.0f} TB", len(fetched), 0)
    figures.at_most(LINE, "seconds until it is refused, both numbers named", seconds, MOST_SECONDS, "s")
