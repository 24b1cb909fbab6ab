"""Names made to lead out of the cache: on a public server none is followed, and no answer tells what lies there."""

import sys
from pathlib import Path

import pytest
from huggingface_hub import constants

from wanda_core.errors import InputError, ModelError, WandaError
from wanda_core.model.loading import locate

LINE = "Hostile models"
# `{}` is the path of a folder; each name is tried with one that is there, holds a model, and with one that is not.
LEADING = (
    "{}", "{}/", "/{}", "//{}", " {} ", "'{}'", "\u200b{}",
    "{}/.", "{}/../model", "{}//", "/./{}", "/../..{}",
    "~/../..{}", "..{}", "../../../../../../../../..{}",
    "./../../../../../../../..{}", "models/../../../../../../../..{}",
    "owner/../../../../../../..{}", "owner/model/../../../../../../../../..{}", "file://{}", "FILE://{}", "file:{}",
    "file://localhost{}", "hf://{}", "hf://../..{}", "https://huggingface.co{}", "https://huggingface.co/..{}",
    "https://huggingface.co/%2e%2e{}", "https://huggingface.co/%2F..%2F..{}", "https://hf.co/..%2f..{}", "hf.co{}",
    "https://user@huggingface.co{}", "https://huggingface.co:80{}", "https://huggingface.co\\..{}", "\\{}", "\\\\?\\{}",
    "C:{}", "C:\\..{}", "{}@main", "{}@v1", "owner/model@..{}", "owner/model@refs/..{}", "owner/model@../..{}",
    "owner/model@{}", "builtin{}", "builtin/..{}", "builtin@{}", "{}\0", "{}\n", "{}\r\n/x", "{}%00", "%2e%2e%2f{}",
    "owner%2f..{}", "{}/model.safetensors", "{}/config.json", "{}/model.gguf", "{}.gguf", "{}?x", "{}#x", "models--{}",
    "owner--model/..{}", "$HOME/..{}", "${{HOME}}{}", "`{}`", "$(echo {})", "{};x", "|{}", "*{}", "{}*",
    "~{}", "~root{}",
    "http://127.0.0.1{}", "https://evil.test{}", "ftp://huggingface.co{}",
    "data:,{}", "//huggingface.co{}",
    "ssh://git@hf.co{}",
    "https://huggingface.co/datasets{}", "https://huggingface.co/api/models{}", "https://huggingface.co/api/models/..{}",
    "https://huggingface.co/owner/model/tree/..{}", "https://huggingface.co/owner/model/resolve/main/../..{}",
)  # fmt: skip

watching: list[set[str]] = []


def _watch(event: str, arguments: tuple) -> None:
    if watching and event in ("open", "os.listdir", "os.scandir", "os.mkdir", "os.rename", "os.remove", "os.symlink"):
        watching[-1].add(str(arguments[0]))


@pytest.fixture
def touched(monkeypatch):
    """Paths that are opened, listed or written while a test runs."""
    if not hasattr(sys, "_wanda_watched"):
        sys.addaudithook(_watch)  # it cannot be taken away
        sys._wanda_watched = True
    watching.append(set())
    yield watching[-1]
    watching.pop()


def said(name: str, local: bool) -> tuple[type, str]:
    with pytest.raises(WandaError) as caught:
        locate(name, "cpu", local_folders=local)
    return type(caught.value), str(caught.value)


def test_no_name_leads_out_of_the_cache_nor_tells_what_is_there(dense, tmp_path, monkeypatch, touched, figures):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    there = str(Path(dense))
    assert there.endswith("dense")
    absent = there[:-5] + "x" * 5  # of the same length, so that it is cut in the same way
    assert Path(there).is_dir()
    assert not Path(absent).exists()
    told = []
    for name in LEADING:
        one, other = said(name.format(there), False), said(name.format(absent), False)
        assert one[0] in (InputError, ModelError)
        if one != (other[0], other[1].replace("x" * 5, "dense")):
            told.append((name, one, other))
    opened = sorted(path for path in touched if there in path or "config.json" in path)
    assert not told
    assert not opened
    assert not (tmp_path / "hub").exists() or not any((tmp_path / "hub").iterdir())
    figures.exactly(LINE, f"names, of {len(LEADING)}, by which a public server told of a folder", len(told), 0)
    figures.exactly(LINE, "files opened by them", len(opened), 0)
    assert len(LEADING) >= 80
