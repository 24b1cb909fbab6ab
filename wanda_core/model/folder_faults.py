"""What may be wrong with the files of a model's folder before any is read: each told by its name, with the remedy."""

import re
from pathlib import Path
from typing import Any

from wanda_core.errors import ModelError, shortened, shortened_path
from wanda_core.machine.ordinary_file import open_ordinary
from wanda_core.model.stored_tensors import INDEX, ONE_FILE, WEIGHTS, names_in, shards_in

POINTER = b"version https://git-lfs.github.com/spec/"
POINTER_BYTES = 1024  # a pointer is shorter
LFS_REMEDY = "install git-lfs and run `git lfs pull` in its folder"
# Files that are read beside the weights; the vocabularies only where there is no tokenizer.json.
READ = re.compile(
    r"(generation_)?config\.json|tokenizer(_config)?\.json|(special_tokens_map|added_tokens)\.json|chat_template\..*"
    r"|model\.safetensors\.index\.json"
)
VOCABULARY = re.compile(r"vocab\..*|merges\.txt|tekken\.json|.*\.(model|spm|tiktoken)")
OTHER_WEIGHTS = {".bin", ".pt", ".pth", ".ckpt", ".gguf", ".h5"}  # suffixes of files whose weights are not read
# Of a distributed checkpoint; where one is there, transformers reads all files of weights in place of those it names.
DISTRIBUTED = re.compile(r"shard-[0-9]{5}-model-[0-9]{5}-of-[0-9]{5}\.safetensors\n?")
EARLY_GPTQ = "quantize_config.json"  # where quantised checkpoints said so before config.json did


def check_no_pointers(folder: Path, name: str) -> None:
    """Raise ModelError for a file that is only Git LFS's pointer to it, as a clone without git-lfs leaves it."""
    files = [path for path in sorted(folder.iterdir()) if READ.fullmatch(path.name)]
    if not (folder / "tokenizer.json").exists():
        files += [path for path in sorted(folder.iterdir()) if VOCABULARY.fullmatch(path.name)]
    pointers = [path.name for path in [*files, *weight_files(folder)] if is_pointer(path)]
    if pointers:
        more = f" and {len(pointers) - 1} more" if len(pointers) > 1 else ""
        raise ModelError(
            f"{shortened_path(name)} holds of {shortened(pointers[0])}{more} only the Git LFS pointer, a few lines in "
            f"place of the file; {LFS_REMEDY}"
        )


def weight_files(folder: Path) -> list[Path]:
    """List the files of weights that transformers reads in a folder, none where it finds none."""
    if (folder / ONE_FILE).exists():
        return [folder / ONE_FILE]
    if not (folder / INDEX).exists():
        return []
    return [folder / shard for shard in shards_in(folder)]


def is_pointer(path: Path) -> bool:
    """Tell whether a file is Git LFS's pointer to what should lie there."""
    if not path.is_file() or path.stat().st_size > POINTER_BYTES:
        return False
    with open_ordinary(path) as file:
        return file.read(len(POINTER)) == POINTER


def check_weights_there(folder: Path, name: str) -> None:
    """Raise ModelError for a folder without weights that transformers reads, saying what is there in their place, and
    for one where it would read others."""
    distributed = sorted(path.name for path in folder.iterdir() if DISTRIBUTED.fullmatch(path.name))
    if distributed:
        raise ModelError(
            f"{shortened_path(name)} holds {shortened(distributed[0])}, a part of a distributed checkpoint, which "
            f"would be read in place of {ONE_FILE}; give a folder as save_pretrained writes it"
        )
    if (folder / ONE_FILE).exists() or (folder / INDEX).exists():
        return
    names = sorted(path.name for path in folder.iterdir())
    safetensors = [file for file in names if file.endswith(WEIGHTS)]
    others = [file for file in names if Path(file).suffix in OTHER_WEIGHTS]
    part = _quantised_part(folder / safetensors[0], name) if safetensors else None
    if part or (EARLY_GPTQ in names and not safetensors):
        how = "GPTQ" if EARLY_GPTQ in names else "GPTQ or AWQ"
        told = f"{part} in its weights" if part else EARLY_GPTQ
        raise ModelError(
            f"{shortened_path(name)} is quantised ({how}, as {told} tells), and Wanda compares unquantised weights; "
            "give the original checkpoint"
        )
    if safetensors:
        raise ModelError(
            f"{shortened_path(name)} holds {shortened(safetensors[0])}, and neither {ONE_FILE} nor the {INDEX} that "
            "names its shards, so no weights can be read; give a folder as save_pretrained writes it"
        )
    if others and others[0].endswith(".gguf"):
        raise ModelError(
            f"{shortened_path(name)} holds only {', '.join(others[:3])}; give the path of that file, "
            f"{shortened_path(folder / others[0])}"
        )
    contents = f"only {', '.join(others[:3])}" if others else "no weights"
    raise ModelError(
        f"{shortened_path(name)} holds {contents}, and weights are read from safetensors only (pickled files can run "
        "code); give a model saved with save_pretrained"
    )


def _quantised_part(file: Path, name: str) -> str | None:
    """Return the name of a tensor that only quantised weights have, None where a file holds none or is not read."""
    try:
        return min((tensor for tensor in names_in(file, name) if tensor.endswith(".qweight")), default=None)
    except Exception:  # whatever is wrong with it, it is not what is read
        return None


def why_not_built(config: Any) -> str | None:
    """Say which number of a configuration keeps its model from being made, None where none is known to."""
    text = config.get_text_config()
    pad, size = getattr(text, "pad_token_id", None), getattr(text, "vocab_size", None)
    if isinstance(pad, int) and isinstance(size, int) and not -size <= pad < size:
        return (
            f"has pad_token_id {shortened(pad)} in its config.json and a vocabulary of {shortened(size)} tokens, "
            f"counted from 0; set pad_token_id to null or to one of them"
        )
    return None
