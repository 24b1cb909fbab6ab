"""A model in one GGUF file, made an ordinary checkpoint in the user's cache folder: dequantised, as safetensors.

transformers reads such files, of the architectures it knows. What is made of one is kept and used again until the file
changes, so that everything else, `--low-memory` among it, has a folder to read.
"""

import contextlib
import hashlib
import json
import math
import os
import re
import secrets
import shutil
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import platformdirs

from wanda_core.errors import ModelError, first_line, in_gb, shortened_path
from wanda_core.machine.json_file import read_json
from wanda_core.machine.paths import path_of
from wanda_core.machine.temporary import sweep, temporary_folder
from wanda_core.machine.waiting import turn_at
from wanda_core.model.gguf_header import Header, HeaderError, head_without_tensors, light_head, read_header
from wanda_core.progress import Progress

if TYPE_CHECKING:  # checking a target for a checkpoint must not wait for torch
    import torch
    from transformers import PreTrainedConfig

BRINGING = ".wanda-bringing-"  # how temporary folders' names begin
# Names of folders inside: what a package holds, the file's head and the file by themselves, and the checkpoint in the
# making.
UNPACKED, LIGHT, ALONE, WORDS, FRESH = "package", "light", "alone", "words", "model"
RECORD = "complete.json"
# What is written into the folder of the model.
WRITTEN = re.compile(
    r"complete\.json|model.*\.safetensors(\.index\.json)?|(generation_)?config\.json|tokenizer.*|added_tokens\.json"
    r"|special_tokens_map\.json|vocab\.json|merges\.txt|.*\.jinja"
)
FORMAT = 1  # of what is made of a file; raise it when that changes
KEPT = {1: "float16", 30: "bfloat16"}  # ggml's types of matrices that are kept; all others become float32
TURNED = ("gpt2",)  # architectures some of whose matrices lie the other way round

_lock = threading.Lock()


def cache_root() -> Path:
    """Return the folder where what is made of GGUF files is kept: `WANDA_CACHE`, else the user's cache folder."""
    folder = os.environ.get("WANDA_CACHE")
    return path_of(folder, "WANDA_CACHE") if folder else Path(platformdirs.user_cache_dir("wanda-lab"))


def folder_of(file: Path, name: str, on_progress: Callable[[Progress], object] | None = None) -> Path:
    """Return the folder of the checkpoint that a GGUF file holds, which is made on the first call.

    name: as asked for, for messages. Raises ModelError for a file that is none or is not read by transformers, and
    where the checkpoint does not fit in memory or on the disk.
    """
    report = on_progress or (lambda step: None)
    state = _state_of(file)
    folder = cache_root() / f"gguf-v{FORMAT}-{hashlib.sha256(os.fsencode(file)).hexdigest()[:16]}"
    sweep(BRINGING, folder.parent)  # also where nothing is made any more: a kill may have come once it was whole
    if is_whole(folder, state):
        return folder
    report(Progress("checking", 0, 1, "parts", file.name))
    header, dtype = _looked_into(file, name)
    try:
        with _in_one_sentence(name), making(folder) as fresh:  # a file that is refused keeps no other one waiting
            check_room(name, header.numbers * dtype.itemsize, folder.parent)
            config = described(file, fresh.parent, header, name)
        with turn_at(_lock):
            if is_whole(folder, state):
                return folder
            with making(folder) as fresh:
                report(Progress("converting", 0, 1, "parts", file.name))
                with _in_one_sentence(name):
                    convert(file, fresh, file.stem, dtype, header, config)
                if not file.is_file() or _state_of(file) != state:
                    raise ModelError(
                        f"{shortened_path(name)} changed while it was converted; open it again once nothing writes it"
                    )
                install(fresh, folder, state)
    except OSError as error:
        raise ModelError(
            f"{shortened_path(name)} could not be written as safetensors to {shortened_path(folder.parent)} "
            f"({error.strerror or first_line(error)}); free some space, or set WANDA_CACHE to another folder"
        ) from error
    return folder


def _state_of(file: Path) -> dict[str, str]:
    """Return what tells this state of a file from others."""
    status = file.stat()
    return {"file": str(file), "size": str(status.st_size), "changed": str(status.st_mtime_ns)}


@contextlib.contextmanager
def _in_one_sentence(name: str) -> Iterator[None]:
    """Context manager: what the readers of a stranger's file raise, of types of their own, is a ModelError."""
    try:
        yield
    except (OSError, MemoryError, ModelError):
        raise
    except Exception as error:
        raise ModelError(
            f"{shortened_path(name)} is a GGUF file that transformers does not read: {first_line(error)}; "
            "give the model's folder with safetensors, or its hub id"
        ) from error


def _looked_into(file: Path, name: str) -> "tuple[Header, torch.dtype]":
    """Return what a file says of itself, and the type to keep its numbers in.

    Raises ModelError for what is no GGUF file, or only a part of a model.
    """
    import torch

    from wanda_core.model.folder_faults import LFS_REMEDY, is_pointer

    if is_pointer(file):
        raise ModelError(f"{shortened_path(name)} is only the Git LFS pointer to the file; {LFS_REMEDY}")
    try:
        header = read_header(file)
    except (OSError, HeaderError, ValueError) as error:
        raise ModelError(
            f"{shortened_path(name)} is no GGUF file that can be read ({first_line(error)}); download it again"
        ) from error
    of = header.fields.get("split.count", 1)
    if of > 1:
        raise ModelError(
            f"{shortened_path(name)} is one of the {of} parts of a model, and transformers reads whole ones; join them "
            "with llama.cpp's llama-gguf-split --merge"
        )
    kept = KEPT.get(next(iter(header.kinds)), "float32") if len(header.kinds) == 1 else "float32"
    return header, getattr(torch, kept)


def check_room(name: str, needed: int, root: Path, brought: int = 0) -> None:
    """Raise ModelError where a checkpoint of so many bytes does not fit in memory, or not on the disk of the cache.

    brought: bytes of what it is made from, which lie there meanwhile.
    """
    import torch

    from wanda_core.model.devices import check_memory

    check_memory(needed, name, [torch.device("cpu")])
    free, taken = shutil.disk_usage(root).free, needed + brought
    if taken > free:
        takes, has = in_gb(taken, free)
        raise ModelError(
            f"{shortened_path(name)} takes {takes} GB as safetensors in {shortened_path(root)}, and "
            f"{has} GB are free there; free some space, or set WANDA_CACHE to another folder"
        )


@contextlib.contextmanager
def making(folder: Path) -> Iterator[Path]:
    """Context manager: yield the path of a checkpoint to be made, in a temporary folder beside `folder`."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with temporary_folder(BRINGING, folder.parent) as work:
        yield work / FRESH


def described(gguf: Path, folder: Path, header: Header, name: str) -> "PreTrainedConfig":
    """Return the configuration of the model that a file describes. folder: for what is written meanwhile; header: the
    file's; name: as asked for.

    Raises ModelError where its tensors are not those of that model, before any of them, or a word of its vocabulary, is
    read.
    """
    import torch
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig, AutoModelForCausalLM

    from wanda_core.model.building import one_at_a_time
    from wanda_core.model.foreign_code import no_foreign_code
    from wanda_core.model.limits import check_count, check_numbers_of, few_parameters
    from wanda_core.model.watched import watched

    check_numbers_of(_numbers(header), name, "head")
    if header.unread:
        raise ValueError(f"it has tensors of ggml's type {min(header.unread)}, which is not dequantised")
    light, place = light_head(gguf, header), folder / LIGHT
    place.mkdir()
    size = gguf.stat().st_size
    with (place / gguf.name).open("wb") as opened:
        opened.write(light)
        # The tensors' places must lie in it, where nothing is read, wherever its head says that they begin.
        opened.truncate(len(light) + size - header.ends + min(header.fields.get("general.alignment", 0), size) + 64)
    with no_foreign_code(), watched(name, header.tensors):
        config = AutoConfig.from_pretrained(place, gguf_file=gguf.name, trust_remote_code=False)
    check_numbers_of(config.to_dict(), name, "head")
    few = few_parameters(name, header.tensors, header.numbers)
    MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), None)  # imports its module, which is not to be timed
    with no_foreign_code(), one_at_a_time(), few, watched(name, header.tensors), torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32, trust_remote_code=False)
    check_count(name, model, header.numbers, size)
    with watched(name, header.tensors):
        _check_held(model, header, name)
    return cast("PreTrainedConfig", config)


class _Named:
    """A model as `get_gguf_hf_weights_map` looks at it, without the parts of its parts: for each of hundreds it would
    make a table of the names in all blocks, and find none. depth: how many levels of parts it shows."""

    def __init__(self, part: Any, depth: int) -> None:
        self.config, self.state_dict = getattr(part, "config", None), part.state_dict
        self._part, self._depth = part, depth

    def named_children(self) -> "list[tuple[str, _Named]]":
        return [(name, _Named(part, self._depth - 1)) for name, part in self._part.named_children() if self._depth]


def _check_held(model: Any, header: Header, name: str) -> None:
    """Raise ModelError where a file lacks a weight of the model, or holds it with more or fewer numbers: transformers
    tells it once it has made all others. model: without memory."""
    from transformers.modeling_gguf_pytorch_utils import TENSOR_PROCESSORS, TensorProcessor, get_gguf_hf_weights_map

    from wanda_core.model.stored_tensors import check_complete, check_shapes

    of_kind: Any = TENSOR_PROCESSORS.get(header.architecture, TensorProcessor)
    processor = of_kind(config=model.config.to_dict())
    known = get_gguf_hf_weights_map(_Named(model, 1), processor)
    sources: dict[str, list[str]] = {}  # what a weight may be called in the file, experts' without what it ends in
    for own, weight in known.items():
        sources.setdefault(weight, []).append(own)
    tied = getattr(model, "all_tied_weights_keys", None) or {}
    computed = [re.compile(pattern) for pattern in getattr(model, "_keys_to_ignore_on_load_missing", None) or ()]
    missing, others = [], []
    for weight, value in model.state_dict().items():
        own = sources.get(weight, [])
        held = [shape for each in own if (shape := header.shapes.get(each) or header.shapes.get(f"{each}.weight"))]
        if not held and weight not in tied and not any(pattern.search(weight) for pattern in computed):
            missing.append(weight)
        for stored in held:
            # Of several, such as experts' gates and what is put beside them, each is a part as large as the others.
            fits = len(own) > 1 or _same(stored[::-1], value.shape, header.architecture in TURNED)
            if not fits or math.prod(stored) * len(own) != value.numel():
                others.append((weight, stored[::-1], tuple(value.shape)))
    check_shapes(name, others)
    check_complete(name, missing)
    _check_placed(header, known, name)


def _same(stored: Sequence[int], asked: Sequence[int], turned: bool) -> bool:
    """Tell whether two shapes are the same, or turned, but for dimensions of one, which transformers puts in."""
    plain, its = ([size for size in shape if size != 1] for shape in (stored, asked))
    return plain == its or (turned and plain[::-1] == its)


def _check_placed(header: Header, known: Collection[str], name: str) -> None:
    """Raise ModelError where a file holds more numbers that the model has no place for than others: transformers makes
    them all. known: what the model's weights are called in a file, experts' without what it ends in."""
    left = sum(
        math.prod(shape)
        for own, shape in header.shapes.items()
        if own not in known and own.removesuffix(".weight") not in known
    )
    if left > header.numbers // 2:
        raise ModelError(
            f"{shortened_path(name)} holds {left:,} numbers that its model has no place for, of {header.numbers:,}; "
            "give the file of the model alone"
        )


def convert(
    gguf: Path,
    folder: Path,
    title: str,
    dtype: "torch.dtype",
    header: Header | None = None,
    config: "PreTrainedConfig | None" = None,
) -> None:
    """Dequantise to a type and save as an ordinary checkpoint, its tokenizer first, which may be refused.

    title: the name that its configuration gets; header: the file's, and config, what `described` returned, where they
    have been read. Raises ModelError as that does, and where its tensors are not all of the model's.
    """
    from wanda_core.model.gguf_conversion import save_model
    from wanda_core.model.gguf_words import check_words
    from wanda_core.model.tokenizer import load_tokenizer
    from wanda_core.model.tokenizer_reading import make_of_gguf

    header, name = header or read_header(gguf), str(gguf)
    known = config or described(gguf, folder.parent, header, name)
    alone = _alone(gguf, folder.parent / ALONE)
    check_words(gguf, header, name)
    words = folder.parent / WORDS / gguf.name  # without the tensors, which would be mapped into memory with them
    words.parent.mkdir()
    words.write_bytes(head_without_tensors(gguf, header))
    make_of_gguf(words, folder, name, header.entries)
    words.unlink()
    load_tokenizer(folder, name, known)
    save_model(alone / gguf.name, folder, name, title, dtype, header, known)


def _alone(gguf: Path, folder: Path) -> Path:
    """Give a file a folder of its own: what lies beside it, transformers would read too. -> that folder"""
    folder.mkdir(parents=True)
    place = folder / gguf.name
    try:
        place.symlink_to(gguf.resolve())
    except OSError:  # a system, or a file system, where not everybody may
        shutil.copyfile(gguf, place)
    return folder


def _numbers(header: Header) -> dict[str, int]:
    """Return the whole numbers that a file says of its model, named as `check_numbers_of` knows them: how many blocks
    is `blocks`."""
    own = {key.rpartition(".")[2]: value for key, value in header.fields.items()}
    return {key.replace("_count", "s") if key.endswith("_count") else key: value for key, value in own.items()}


def install(fresh: Path, folder: Path, state: Mapping[str, str]) -> None:
    """Write the list of files last, then move the folder into place in one step. state: of what it was made of."""
    sizes = {p.name: p.stat().st_size for p in sorted(fresh.iterdir())}
    (fresh / RECORD).write_text(json.dumps({**state, "sizes": sizes}, indent=1))
    if folder.exists():
        if is_whole(folder, state):  # another process was quicker, and may be reading it
            return
        _remove_own(folder)
    try:
        fresh.rename(folder)
    except OSError:
        if not is_whole(folder, state):  # another process may have been quicker: then its folder serves
            raise


def is_whole(folder: Path, state: Mapping[str, str]) -> bool:
    """Tell whether a folder was made of this state, each file has its size from then, and its weights can be opened."""
    try:
        record = read_json(folder / RECORD)
        weights = [folder / name for name in record["sizes"] if name.endswith(".safetensors")]
        if any(record[key] != value for key, value in state.items()) or not weights:
            return False
        if any((folder / name).stat().st_size != size for name, size in record["sizes"].items()):
            return False
        from safetensors import safe_open

        for file in weights:
            with safe_open(file, framework="pt") as opened:
                if not opened.keys():
                    return False
        return True
    except Exception:  # whatever is wrong with it, it is rebuilt
        return False


def _remove_own(folder: Path) -> None:
    """Make room for the folder: remove what was written there; what else it holds stays, beside it."""
    if folder.is_dir() and not folder.is_symlink():
        for path in folder.iterdir():
            if WRITTEN.fullmatch(path.name) and not path.is_dir():
                path.unlink()
        with contextlib.suppress(OSError):  # not empty
            folder.rmdir()
    if os.path.lexists(folder):
        folder.rename(folder.with_name(f"{folder.name}.kept-{secrets.token_hex(4)}"))
