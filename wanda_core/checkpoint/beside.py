"""The files of a checkpoint beside its weights: those of the dense folder, as they are.

Configuration, tokenizer, chat templates, processors, licence: any program, old or new, that reads the dense folder
reads the pruned one. Only what names the number format is changed, and only where another was asked for.
"""

import json
import shutil
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from wanda_core.checkpoint.manifest import RECORD, WRITING, announce
from wanda_core.errors import ModelError, shortened, shortened_path

CARD = "README.md"  # of the dense model; the pruned one has its own
CONFIG = "config.json"
OWN = {name.lower() for name in (CARD, RECORD, WRITING)}  # many systems take readme.md for README.md
APART = ".apart-"  # how a folder begins that is there for a moment
OF_THE_MODEL = (
    CONFIG,
    "generation_config.json",
)  # what transformers writes for a model that is not the folder's any more
FOLDERS = ("additional_chat_templates",)  # that transformers reads beside the files
# Suffixes of weights, of other programs' weights, and of what training leaves: none of them is true of a pruned model.
OTHER = {".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".gguf", ".ggml", ".h5", ".msgpack", ".onnx", ".ot", ".npz"}
OTHER |= {".tflite", ".mlmodel", ".pkl", ".pickle", ".part", ".incomplete", ".lock", ".zip", ".tar", ".zst"}
LARGEST = 256 * 2**20  # bytes; a tokenizer takes tens of millions, and what takes more is data
DTYPE_KEYS = ("dtype", "torch_dtype")  # of the configuration: transformers' name from 5 on, and before


def files_beside(folder: Path) -> list[Path]:
    """List the files that a pruned checkpoint has in common with its dense folder.

    Raises ModelError for a link that leads out of it: a checkpoint is made to be handed on, and that file is not the
    model's.
    """
    inner = [path for name in FOLDERS for path in sorted((folder / name).glob("*.jinja"))]
    paths = [path for path in (*sorted(folder.iterdir()), *inner) if _belongs(path)]
    outside = leading_out(folder, paths)
    if outside is not None:
        raise ModelError(
            f"{shortened_path(folder)} has a link, {shortened(outside.name)}, to a file outside, which would be "
            "handed on with the checkpoint; put the file itself there (`cp -L` does), or take the link away"
        )
    return paths


def leading_out(folder: Path, paths: Iterable[Path]) -> Path | None:
    """Return the first of a folder's files that a link leads out of it to, None where all lie in it."""
    homes = _homes(folder)
    return next((path for path in paths if not any(path.resolve().is_relative_to(home) for home in homes)), None)


def _homes(folder: Path) -> list[Path]:
    """List where files of a model's folder may lie: in it, and for one in the hub's cache, whose names are links, in
    that model's own store, which may hold links into the one of all models."""
    whole = folder.resolve()
    model = whole.parent.parent
    stores = [model / "blobs", model.parent / "blobs"] if whole.parent.name == "snapshots" else []
    return [whole, *(store for store in stores if store.is_dir() and not store.is_symlink())]


def _belongs(path: Path) -> bool:
    """Tell whether a file goes with the weights, whatever they are."""
    if path.name.startswith(".") or path.name.lower() in OWN or not path.is_file():
        return False
    return path.suffix.lower() not in OTHER and not path.name.endswith(".index.json") and path.stat().st_size <= LARGEST


def bytes_beside(folder: Path) -> int:
    """Return the bytes of these files."""
    return sum(path.stat().st_size for path in files_beside(folder))


def copy_beside(source: Path, target: Path, dtype: str | None, without: Collection[str] = ()) -> None:
    """Copy these files. dtype: name of the number format that the configuration is to tell, None to leave it; without:
    names of files that are there already."""
    paths = [path for path in files_beside(source) if path.name not in without]
    announce(target, (path.relative_to(source).as_posix() for path in paths))
    for path in paths:
        place = target / path.relative_to(source)
        place.parent.mkdir(exist_ok=True)
        shutil.copyfile(path, place)
    if dtype is not None:
        path = target / CONFIG
        path.write_text(told_config(path.read_text(encoding="utf-8"), dtype), encoding="utf-8")


def told_config(text: str, dtype: str) -> str:
    """Return the text of a configuration that tells another number format."""
    config = json.loads(text)
    if not _tell(config, dtype):
        config[DTYPE_KEYS[1]] = dtype
    return json.dumps(config, indent=2, ensure_ascii=False) + "\n"


def _tell(config: dict[str, Any], dtype: str) -> bool:
    """Put the number format wherever a configuration, or a part of it, names one; whether it does."""
    told = False
    for key, value in config.items():
        if isinstance(value, dict):
            told |= _tell(value, dtype)
        elif key in DTYPE_KEYS and isinstance(value, str):
            config[key], told = dtype, True
    return told
