"""A bad model or text is told in one and the same sentence by Python, by the command line and by the page."""

import json
import shutil
from types import SimpleNamespace

import pytest
import torch
from command_line import run
from huggingface_hub import constants
from safetensors.torch import load_file, save_file
from view_events import told, view_over, visitor

from wanda_core.errors import WandaError
from wanda_core.model.loading import load_model
from wanda_core.text.documents import read_documents
from wanda_ui.app_state import AppState

pytestmark = pytest.mark.usefixtures("transformers_as_before")


@pytest.fixture(autouse=True)
def no_network(monkeypatch, tmp_path):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))


@pytest.fixture
def folder(dense, tmp_path):
    """A good model folder that a test may damage."""
    return shutil.copytree(dense, tmp_path / "model")


def configured(**fields):
    def damage(folder):
        file = folder / "config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | fields))

    return damage


def without(name):
    return lambda folder: (folder / name).unlink()


def pointer(folder):
    (folder / "model.safetensors").write_text(
        f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 269060552\n"
    )


def pickled(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def changed(change):
    def damage(folder):
        tensors = load_file(folder / "model.safetensors")
        name = next(name for name in tensors if name.endswith("up_proj.weight"))
        save_file(change(tensors, name), folder / "model.safetensors", metadata={"format": "pt"})

    return damage


def not_finite(tensors, name):
    return tensors | {name: torch.full_like(tensors[name], torch.nan)}


def of_another_shape(tensors, name):
    return tensors | {name: tensors[name][:-1].contiguous()}


def lacking(tensors, name):
    return {other: value for other, value in tensors.items() if other != name}


MODELS = {
    "no configuration": without("config.json"),
    "no tokenizer": without("tokenizer.json"),
    "no weights": without("model.safetensors"),
    "pickled": pickled,
    "a pointer": pointer,
    "an adapter": lambda folder: (folder / "adapter_config.json").write_text("{}"),
    "an encoder-decoder": configured(model_type="t5", is_encoder_decoder=True),
    "quantised": configured(quantization_config={"quant_method": "gptq", "bits": 4}),
    "a masked model": configured(model_type="bert", is_decoder=False),
    "unknown": configured(model_type="no-such-kind"),
    "not finite": changed(not_finite),
    "another shape": changed(of_another_shape),
    "a tensor too few": changed(lacking),
    "not a number": configured(hidden_size="many"),
}


def told_by_the_page(name):
    """Ask the page to open a model. -> the sentence under its status line"""
    view = view_over(AppState())
    *_, last = told(view, view.open(visitor(), SimpleNamespace(_data={"model": name})), "opened")
    return last["problem"]


@pytest.mark.parametrize("fault", MODELS)
@pytest.mark.filterwarnings("ignore")
def test_a_bad_model(folder, tmp_path, fault):
    MODELS[fault](folder)
    with pytest.raises(WandaError) as refused:
        load_model(str(folder), device="cpu")
    sentence = str(refused.value)
    assert "\n" not in sentence
    result = run("prune", "--model", folder, "--output", tmp_path / "out", "--device", "cpu", "--samples", 2)
    assert result.exit_code != 0
    assert result.stderr.splitlines()[-1] == f"error: {sentence}"
    assert told_by_the_page(str(folder)) == sentence
    assert not (tmp_path / "out").exists()


TEXTS = {
    "empty.txt": b"",
    "latin.txt": "Stra\xdfe".encode("latin-1"),
    "broken.jsonl": b'{"text": "a"}\n{"text": \n',
    "numbers.csv": b"a,b\n1,2\n",
    "broken.parquet": b"PAR1 and no more",
    "broken.txt.gz": b"\x1f\x8b and no more",
    "picture.png": b"\x89PNG\r\n\x1a\n\x00\x00",
}


@pytest.mark.parametrize("name", TEXTS)
def test_a_bad_text(tmp_path, dense, name, monkeypatch):
    file = tmp_path / name
    file.write_bytes(TEXTS[name])
    with pytest.raises(WandaError) as refused:
        read_documents(file)
    sentence = str(refused.value)
    result = run("prune", "--model", dense, "--calibration", file, "--output", tmp_path / "out", "--device", "cpu")
    assert result.exit_code != 0
    assert result.stderr.splitlines()[-1] == f"error: {sentence}"
    view = view_over(AppState())
    monkeypatch.setattr("wanda_ui.compare.tab.check_uploaded", lambda *given: None)  # as if it had been uploaded there
    brought = view.bring_text(visitor(), SimpleNamespace(_data={"path": str(file), "name": name}))
    assert told(view, [brought], "text")[0]["problem"] == sentence
