"""What nobody has foreseen of a stranger's files is told in one sentence too; what is no fault of theirs passes."""

import builtins
import os
from pathlib import Path

import pytest
import torch
from configured import configure

from wanda_core.errors import InputError, ModelError
from wanda_core.low_memory import model_on_disk
from wanda_core.model import folder as folders
from wanda_core.model import loading
from wanda_core.model.any_fault import any_fault_worded
from wanda_core.model.loading import load_model, locate
from wanda_core.progress import Progress


class PanicException(BaseException):
    """As Rust's are called."""


class LeftError(Exception):
    """What a reader's leaving raises."""


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (KeyError("a"), "(KeyError: 'a'); try another model"),
        (AttributeError("first\nsecond"), "(AttributeError: first); try another model"),
        (RecursionError(), "(RecursionError); try another model"),
        (PanicException("index"), "(PanicException: index); try another model"),
        (
            PermissionError(13, "no", "/secret/x.json"),
            "(this user may not open 'x.json'); change its permissions or try",
        ),
        (PermissionError("no"), "(PermissionError: no); change its permissions or try another model"),
    ],
    ids=repr,
)
@pytest.mark.parametrize(
    ("module", "function"), [(loading, "checked_config"), (loading, "stored_tensors"), (loading, "find_folder")]
)
def test_any_fault_is_worded(folder, refusal, monkeypatch, module, function, fault, said):
    def fails(*_, **__):
        raise fault

    monkeypatch.setattr(module, function, fails)
    if function == "stored_tensors":
        monkeypatch.setattr(model_on_disk, function, fails)
    told = refusal(folder)
    assert "could not be read (" in told
    assert said in told
    assert "/secret" not in told


@pytest.mark.parametrize(
    "passing",
    [
        KeyboardInterrupt(),
        SystemExit(),
        GeneratorExit(),
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: not enough memory"),
        InputError("x"),
        ModelError("y"),
    ],
    ids=repr,
)
def test_what_is_no_fault_of_the_files_passes_as_it_is(passing):
    with pytest.raises(type(passing)) as caught, any_fault_worded("owner/model"):
        raise passing
    assert caught.value is passing


@pytest.mark.parametrize("raised", [LeftError("gone"), ValueError("gone"), LeftError], ids=str)
def test_what_gives_up_passes_as_it_is(saved, monkeypatch, raised):
    def finds(name, on_progress, *_):
        on_progress(Progress("read", 0, 1, "files"))

    def leave(_):
        raise raised

    monkeypatch.setattr(loading, "find_folder", finds)
    with pytest.raises(raised if isinstance(raised, type) else type(raised)):
        locate(str(saved), "cpu", on_progress=leave)


def refused_to(monkeypatch, *names):
    """Have files of these names be another user's."""
    theirs, opens, exists = builtins.open, os.open, Path.exists

    def no(path):
        if isinstance(path, (str, os.PathLike)) and Path(path).name in names:
            raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(builtins, "open", lambda path, *a, **b: no(path) or theirs(path, *a, **b))
    monkeypatch.setattr(os, "open", lambda path, *a, **b: no(path) or opens(path, *a, **b))
    monkeypatch.setattr(Path, "exists", lambda path: no(path) or exists(path))


@pytest.mark.parametrize("file", ["config.json", "adapter_config.json"])
def test_a_file_that_may_not_be_read_is_told(folder, refusal, monkeypatch, file):
    refused_to(monkeypatch, file)
    assert f"could not be read (this user may not open '{file}'); change its permissions or try" in refusal(folder)


def test_a_gguf_file_that_may_not_be_read_is_told(tmp_path, monkeypatch):
    (tmp_path / "small.gguf").write_bytes(b"GGUF" + bytes(60))
    refused_to(monkeypatch, "small.gguf")
    with pytest.raises(ModelError, match=r"small\.gguf"):
        load_model(str(tmp_path / "small.gguf"), device="cpu")


def test_a_setting_of_another_kind_of_model_is_left_alone(folder):
    configure(folder, lsh_attn_chunk_length=64)
    assert folders.checked_config(folder, "owner/model").lsh_attn_chunk_length == 64
    assert load_model(str(folder), device="cpu").dtype == torch.float32
