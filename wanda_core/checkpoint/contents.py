"""What a pruned checkpoint holds, file by file and piece by piece: the very bytes that `save` writes, of a variant that
is packed beside its dense model, without a second copy of a weight in memory or on the disk.

Every length is known before the first byte, and the same bytes come however often they are asked for, as long as the
files that the model was read from stay as they are.
"""

import hashlib
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wanda_core.checkpoint import manifest
from wanda_core.checkpoint.beside import CARD, CONFIG, files_beside, told_config
from wanda_core.checkpoint.model_card import card
from wanda_core.checkpoint.records import record
from wanda_core.checkpoint.save import folder_for_a_moment, write_beside_weights
from wanda_core.checkpoint.weights import WeightFiles, Written, written_as_in_source
from wanda_core.errors import StorageError, shortened
from wanda_core.model.stored_tensors import INDEX
from wanda_core.pruning.variant import Variant

if TYPE_CHECKING:
    import torch

    from wanda_core.evaluation.perplexity import Perplexity
    from wanda_core.model.language_model import LanguageModel
    from wanda_core.pruning.packed import PackedVariant
    from wanda_core.shrinking.report import Shrunk

Piece = memoryview | bytes
PIECE_BYTES = 4 * 2**20  # of a file that is handed on as it is
FORBIDDEN = set('<>:"\\|?*') | {chr(code) for code in range(32)}  # in names of files, on one system or another
# Names that Windows takes for a device, whatever follows a point.
DEVICE = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³]) *(\..*)?", re.IGNORECASE | re.DOTALL)
MAKING = "wanda-making-"  # how temporary folders' names begin
NO_DIGEST = "0" * 64


@dataclass(frozen=True)
class File:
    """One file. name: below the checkpoint's folder, parts joined by `/`; size: bytes; data: begins to yield them."""

    name: str
    size: int
    data: Callable[[], Iterator[Piece]]


@dataclass(frozen=True)
class Contents:
    """All of a checkpoint. files: all but the record, in the order in which they go out; about: what the record tells,
    without the list of files."""

    files: tuple[File, ...]
    about: Mapping[str, Any]

    def record(self, digests: Mapping[str, str]) -> bytes:
        """Return the record, which goes out last of all. digests: sha256 of every file, by its name."""
        return manifest.sealed(self.about, digests).encode("utf-8")

    @property
    def record_size(self) -> int:
        """Bytes of the record."""
        return len(self.record({file.name: NO_DIGEST for file in self.files}))

    @property
    def nbytes(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files) + self.record_size

    def write(self, folder: Path) -> Iterator[int]:
        """Write all files into a new, empty folder; yield how many bytes are written so far."""
        written, digests = 0, dict[str, str]()
        for file in self.files:
            path, digest = folder / file.name, hashlib.sha256()
            path.parent.mkdir(exist_ok=True)
            with path.open("wb") as opened:
                for piece in file.data():
                    opened.write(piece)
                    digest.update(piece)
                    written += len(piece)
                    yield written
            digests[file.name] = digest.hexdigest()
        text = self.record(digests)
        (folder / manifest.RECORD).write_bytes(text)
        yield written + len(text)


def contents(
    lm: "LanguageModel",
    variant: "PackedVariant",
    weights: WeightFiles,
    dtype: "torch.dtype | None" = None,
    dense_perplexity: "Perplexity | None" = None,
    pruned_perplexity: "Perplexity | None" = None,
) -> Contents:
    """List what `save` writes for a variant whose weights lie under the names of the folder the model was read from.

    lm: the dense model; weights: its files, with the variant's parameters; dtype, perplexities: as of `save`.
    Raises StorageError for a name that is no file's name elsewhere, and, while they are read, for source files that
    have changed since.
    """
    assert lm.folder is not None  # there are files
    written = written_as_in_source(weights, dtype)
    pruned = Variant(lm, variant.spec, variant.report, None)
    about = record(pruned, written.dtype, dense_perplexity, pruned_perplexity)
    files = [_as_it_is(path, path.relative_to(lm.folder).as_posix()) for path in files_beside(lm.folder)]
    if written.told_dtype is not None:
        text = (lm.folder / CONFIG).read_text(encoding="utf-8")
        told = _text(CONFIG, told_config(text, written.told_dtype))
        files = [told if file.name == CONFIG else file for file in files]
    files.append(_text(CARD, card(about)))
    if weights.index is not None:
        files.append(_text(INDEX, weights.index))
    states = {tensor.file: _state(tensor.file) for tensor in weights.stored.values()}
    for name, size in weights.sizes.items():
        files.append(File(name, size, partial(_weights, weights, name, states)))
    return _checked(files, about)


def contents_anew(
    made: "Variant | Shrunk",
    weights: WeightFiles,
    dense_perplexity: "Perplexity | None" = None,
    perplexity: "Perplexity | None" = None,
) -> Contents:
    """List what `save` writes for a model that no folder holds, such as a shrunk one, or for a variant of it.

    weights: its files; the model stays in memory as long as they are read, the small files beside them are read now;
    perplexities: as of `save`. Raises StorageError for a name that is no file's name elsewhere, and where these
    cannot be written.
    """
    about = record(made, weights.dtype, dense_perplexity, perplexity)
    told = str(weights.dtype).removeprefix("torch.")
    with folder_for_a_moment(MAKING) as folder:
        write_beside_weights(made.lm, folder, about, Written(weights.dtype, False, told))
        beside = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        files = [_bytes(path.relative_to(folder).as_posix(), path.read_bytes()) for path in beside]
    if weights.index is not None:
        files.append(_text(INDEX, weights.index))
    files += [File(name, size, partial(weights.bytes_of, name)) for name, size in weights.sizes.items()]
    return _checked(files, about)


def _checked(files: list[File], about: Mapping[str, Any]) -> Contents:
    taken = {_folded(manifest.RECORD)}
    for file in files:
        _check_name(file.name)
        if _folded(file.name) in taken:
            raise _strange_name(file.name)
        taken.add(_folded(file.name))
    return Contents(tuple(files), about)


def _folded(name: str) -> str:
    """Return a file's name as systems have it that tell neither capitals nor forms of an accent apart."""
    return unicodedata.normalize("NFC", name).casefold()


def _text(name: str, text: str) -> File:
    return _bytes(name, text.encode("utf-8"))


def _bytes(name: str, data: bytes) -> File:
    return File(name, len(data), lambda: iter((data,)))


def _as_it_is(path: Path, name: str) -> File:
    state = _state(path)
    return File(name, state[0], partial(_copy, path, state))


def _copy(path: Path, state: tuple[int, int]) -> Iterator[bytes]:
    """Yield the bytes of a file that is, and stays, as it was."""
    _check_state(path, state)
    with path.open("rb") as file:
        while piece := file.read(PIECE_BYTES):
            yield piece
    _check_state(path, state)


def _weights(weights: WeightFiles, name: str, states: Mapping[Path, tuple[int, int]]) -> Iterator[Piece]:
    """Yield the bytes of a file of weights."""
    for path, state in states.items():
        _check_state(path, state)
    yield from weights.bytes_of(name)
    for path, state in states.items():
        _check_state(path, state)


def _state(path: Path) -> tuple[int, int]:
    """Return what tells a file's state from another: its bytes, and when it was changed."""
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def _check_state(path: Path, state: tuple[int, int]) -> None:
    """Raise StorageError for a file that has changed since."""
    try:
        same = _state(path) == state
    except OSError:
        same = False
    if not same:
        raise StorageError(f"{path.name} was changed while the checkpoint was read from it; load the model again")


def _check_name(name: str) -> None:
    """Raise StorageError for a name that another system would read as another file's, or cannot write."""
    parts = name.split("/")
    strange = any(part in ("", ".", "..") or part.endswith((" ", ".")) or set(part) & FORBIDDEN for part in parts)
    if strange or not name.isprintable() or any(DEVICE.fullmatch(part) for part in parts):
        raise _strange_name(name)


def _strange_name(name: str) -> StorageError:
    return StorageError(
        f"the model's folder holds a file named {shortened(name)}, which other systems take for another; rename it"
    )
