"""The tensors in the files of a checkpoint, and whether a model made of them is all of it.

transformers leaves out in silence what a model has no place for. Here every tensor is accounted for: in the model, of
no use to it, carried through unchanged to what is saved, or named in a refusal.
"""

import contextlib
import math
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from wanda_core.errors import ModelError, first_line, shortened, shortened_path
from wanda_core.machine.json_file import MOST_BYTES as MOST_JSON
from wanda_core.machine.json_file import parsed, read_json
from wanda_core.machine.ordinary_file import open_ordinary, read_ordinary
from wanda_core.progress import still_wanted

ONE_FILE, INDEX = "model.safetensors", "model.safetensors.index.json"
WEIGHTS = ".safetensors"  # how the names of files of weights end; transformers takes any other for a pickle
# Computed anew by every model, yet old checkpoints hold them: rotary frequencies, causal masks and what they hide with,
# positions counted up.
RECOMPUTED = re.compile(r"(^|\.)(original_)?inv_freq$|(^|\.)(attn|attention)\.(masked_)?bias$|(^|\.)position_ids$")
# How the parts that quantisation adds to a weight end, in the formats that are met: FP8, int8, GPTQ, AWQ, bitsandbytes.
QUANTISED_PART = re.compile(
    r"(scale|scales|scale_inv|weight_scale(_\d)?|zero_point|zeros|SCB|absmax|quant_map|qweight|g_idx|quant_state.*)$"
)
PIECE_NUMBERS = 2**24  # read at once; 64 MB of float32
WEIGHT = re.compile(r"(weight|_proj)$")  # integers elsewhere may be tables
NUMBERS = {"F64", "F32", "F16", "BF16"}  # safetensors' names of what weights may be stored in
BYTES = {"F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2, "I16": 2, "U16": 2}  # else 1
MOST_BYTES = 4  # of a weight in any checkpoint that is met
# Bytes of the lists of tensors at the heads of files, of one and of all: 100,000 tensors take 12 MB. Each byte takes
# several in memory.
LONGEST_HEADER, LONGEST_HEADERS = 16 * 10**6, 64 * 10**6
MOST_TENSORS = 100_000  # of all files; 73,000 are met, of 512 experts
# Of a tensor: letters of its name, 100 are met, and dimensions, 5 are met.
LONGEST_NAME, MOST_DOTS, MOST_DIMENSIONS = 160, 20, 8  # converters look through a name again and again, dot by dot
MOST_LETTERS = 8 * 10**6  # of all names, each of which is looked through for many patterns; 5 million are met
# Entries and numbers in a list of tensors, told by their commas: of each tensor, and of what else its maker wrote.
COMMAS_OF_ONE, MORE_COMMAS = 4 + MOST_DIMENSIONS, 10_000
# Tensors of a file beside one for so many of its bytes, far fewer than are met; of a model, those without a number.
MORE_TENSORS, BYTES_OF_ONE = 1_000, 1_000


@dataclass(frozen=True)
class StoredTensor:
    """One tensor of a checkpoint: its file, safetensors' name of its type, its shape."""

    file: Path
    dtype: str
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Bytes it takes in its file."""
        return math.prod(self.shape) * BYTES.get(self.dtype, 1)


def stored_tensors(folder: Path, name: str) -> dict[str, StoredTensor]:
    """List every tensor that a model is made of, by its name in the files; no weight is read.

    Raises ModelError for files that cannot be read, or an index that names what they lack.
    """
    try:
        tensors: dict[str, StoredTensor] = {}
        by_file = _by_file(folder)
        _check_headers(by_file, name)
        for file, names in by_file.items():
            with safe_open(file, framework="pt", backend="pread") as opened:
                held = opened.keys()
                _check_divided(tensors, file, held, names, name)
                for tensor in held:
                    piece = opened.get_slice(tensor)
                    tensors[tensor] = StoredTensor(file, str(piece.get_dtype()), tuple(piece.get_shape()))
        _check_names(tensors, name)
        _check_not_empty(tensors, name)
        return tensors
    except (OSError, SafetensorError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise ModelError(
            f"the weights of {shortened_path(name)} could not be read: {first_line(error)}; give a complete checkpoint"
        ) from error


def _check_divided(
    tensors: Mapping[str, StoredTensor], file: Path, held: Collection[str], names: Collection[str] | None, name: str
) -> None:
    """Raise ModelError for a file of weights that does not hold what the index names of it, or holds what an earlier
    one does: which of the two is meant is told nowhere, and transformers would take the other one.

    tensors: of the earlier files; held: of this one; names: in the index, None where there is none. What it holds
    beside those is read as transformers reads it.
    """
    lacking = sorted(set(names or ()) - set(held))
    if lacking:
        raise ModelError(
            f"{shortened_path(name)} has an index of its weights, {INDEX}, that names {shortened(lacking[0])} in "
            f"{shortened(file.name)}, which does not hold it; give a complete checkpoint"
        )
    twice = min((tensor for tensor in held if tensor in tensors), default=None)
    if twice is not None:
        raise ModelError(
            f"{shortened_path(name)} holds {shortened(twice)} in {shortened(tensors[twice].file.name)} and in "
            f"{shortened(file.name)}, and which of them is meant is told nowhere; give a checkpoint that holds it once"
        )


def size_of(tensors: Mapping[str, StoredTensor]) -> tuple[int, int]:
    """Return how many numbers tensors have together, and how many bytes they take in their files."""
    return sum(math.prod(x.shape) for x in tensors.values()), sum(x.nbytes for x in tensors.values())


def _check_headers(files: Iterable[Path], name: str) -> None:
    """Raise ModelError for files whose lists of tensors, or what says to be one, are too long to be read."""
    total, tensors = 0, 0
    for file in files:
        length, more, commas = read_head(file)
        total += length
        if length > LONGEST_HEADER or total > LONGEST_HEADERS:
            raise ModelError(
                f"{shortened_path(name)} has a list of {total / 1e6:,.0f} MB at the head of {shortened(file.name)}, "
                f"and at most {LONGEST_HEADER / 1e6:.0f} MB, {LONGEST_HEADERS / 1e6:.0f} MB of all files, are read; "
                "give an undamaged checkpoint or choose another model"
            )
        tensors += more
        most = min(MOST_TENSORS, MORE_TENSORS + (file.stat().st_size - length) // BYTES_OF_ONE)
        if more > most or tensors > MOST_TENSORS:
            raise ModelError(
                f"{shortened_path(name)} lists {tensors:,} tensors up to {shortened(file.name)}, and at most {most:,} "
                "are read; give an undamaged checkpoint or choose another model"
            )
        if commas > COMMAS_OF_ONE * more + MORE_COMMAS:
            raise ModelError(
                f"{shortened_path(name)} has {commas:,} entries at the head of {shortened(file.name)}, which lists "
                f"{more:,} tensors; give an undamaged checkpoint or choose another model"
            )


def read_head(file: Path) -> tuple[int, int, int]:
    """Return how many bytes a file's list of tensors has, how many tensors it may name, and how many commas it has; 0
    where it is too long.

    Raises OSError also for what is no ordinary file.
    """
    with open_ordinary(file) as opened:
        length = int.from_bytes(opened.read(8), "little")  # which the format begins with
        head = opened.read(length) if length <= LONGEST_HEADER else b""
        return length, head.count(b"{"), head.count(b",")


def _check_names(tensors: Mapping[str, StoredTensor], name: str) -> None:
    """Raise ModelError for tensors whose names or shapes no model has, before a message tells one of them."""
    letters = sum(map(len, tensors))
    if letters > MOST_LETTERS:
        raise ModelError(
            f"{shortened_path(name)} names its tensors with {letters:,} letters together, and at most {MOST_LETTERS:,} "
            "are read; give an undamaged checkpoint or choose another model"
        )
    for tensor, stored in tensors.items():
        if len(tensor) > LONGEST_NAME or tensor.count(".") > MOST_DOTS or not tensor.isprintable():
            raise ModelError(
                f"{shortened_path(name)} names a tensor {shortened(tensor)}, and names of at most {LONGEST_NAME} "
                f"letters that can be printed, {MOST_DOTS} of them dots, are read; give an undamaged checkpoint or "
                "choose another model"
            )
        if len(stored.shape) > MOST_DIMENSIONS:
            raise ModelError(
                f"{shortened_path(name)} holds {tensor} in {len(stored.shape):,} dimensions, and at most "
                f"{MOST_DIMENSIONS} are read; give an undamaged checkpoint or choose another model"
            )


def names_in(file: Path, name: str) -> list[str]:
    """List the tensors of a file that anybody may have put there. name: of its model, for messages.

    Raises ModelError, OSError and SafetensorError for one that cannot be read.
    """
    _check_headers([file], name)
    with safe_open(file, framework="pt", backend="pread") as opened:
        return list(opened.keys())


@contextlib.contextmanager
def open_tensors(file: Path) -> Iterator[Any]:
    """Context manager: open a file of tensors, by safetensors, that anybody may have put there.

    Raises OSError, SafetensorError, and ValueError for one whose list of tensors is too long to be read.
    """
    length, tensors, _ = read_head(file)
    if length > LONGEST_HEADER or tensors > MOST_TENSORS:
        raise ValueError(f"it lists {tensors:,} tensors in {length / 1e6:,.0f} MB")
    with safe_open(file, framework="pt") as opened:
        yield opened


def _check_not_empty(tensors: Mapping[str, StoredTensor], name: str) -> None:
    """Raise ModelError for many tensors without a number, which cost nothing and would allow a model of as many."""
    empty = sum(0 in tensor.shape for tensor in tensors.values())
    if empty > MORE_TENSORS:
        raise ModelError(
            f"{shortened_path(name)} lists {empty:,} tensors without a number, and at most {MORE_TENSORS:,} are read; "
            "give an undamaged checkpoint or choose another model"
        )


def _by_file(folder: Path) -> dict[Path, list[str] | None]:
    """List the files that transformers reads, each with the tensors it is to give, None for all that it holds."""
    one = folder / ONE_FILE
    if one.is_file():
        return {one: None}
    files: dict[Path, list[str] | None] = {}
    for tensor, file in read_json(folder / INDEX)["weight_map"].items():
        names = files.setdefault(folder / file, [])
        assert names is not None
        names.append(tensor)
    return files


def weights_in_memory(nbytes: int, counts: Mapping[str, int] | None, dtype: torch.dtype) -> int:
    """Estimate how many bytes weights will take in memory before any of them is here.

    nbytes: of their files; counts: how many numbers of each of safetensors' types these hold, None where nobody says;
    dtype: that they are held in. Without counts, or with some that are not these files', every weight is taken to have
    four bytes in its file, the most that is met: the estimate is then too low rather than too high.
    """
    told = sum(count * BYTES.get(stored, 1) for stored, count in (counts or {}).items())
    if counts and 0.9 * nbytes <= told <= 1.1 * nbytes:
        return sum(counts.values()) * dtype.itemsize
    return nbytes * dtype.itemsize // max(MOST_BYTES, dtype.itemsize)


def shards_in(folder: Path) -> list[str]:
    """List the files that the index of a folder names, none where it is no index."""
    try:
        return shards_of(read_ordinary(folder / INDEX, MOST_JSON).decode("utf-8", errors="replace"))
    except OSError:
        return []


def shards_of(index: str) -> list[str]:
    """List the files that the text of an index names, none where it is no index."""
    try:
        return sorted({str(file) for file in parsed(index)["weight_map"].values()})
    except (ValueError, LookupError, TypeError, AttributeError):
        return []


def check_numbers(name: str, tensors: Mapping[str, StoredTensor]) -> None:
    """Raise ModelError for weights stored as something else than plain floating-point numbers: quantised ones, read
    without their scales, would be another model."""
    for tensor, stored in tensors.items():
        quantised = stored.dtype.startswith("F8") or (stored.dtype not in NUMBERS and WEIGHT.search(tensor))
        if quantised and len(stored.shape) > 1:
            raise ModelError(
                f"{shortened_path(name)} holds {tensor} as {stored.dtype}, so it is quantised though config.json does "
                "not say so, and Wanda compares unquantised weights; give the original checkpoint"
            )


def check_complete(name: str, missing: Collection[str]) -> None:
    """Raise ModelError for weights a checkpoint lacks: transformers would fill them with random numbers."""
    if missing:
        raise ModelError(
            f"{shortened_path(name)} lacks {len(missing)} of its weights, {min(missing)} among them; give a complete "
            "checkpoint"
        )


def check_shapes(name: str, mismatched: Iterable[tuple[str, Collection[int], Collection[int]]]) -> None:
    """Raise ModelError for a weight of another shape than the configuration makes it.

    mismatched: as transformers tells them, each the weight's name, its shape in the files and the one asked for.
    """
    wrong = sorted((tensor, tuple(stored), tuple(asked)) for tensor, stored, asked in mismatched)
    if wrong:
        tensor, stored, asked = wrong[0]
        more = f" (and {len(wrong) - 1} more tensors like it)" if len(wrong) > 1 else ""
        raise ModelError(
            f"{shortened_path(name)} holds {tensor} in the shape {stored}, and its config.json makes it {asked}{more}; "
            "correct config.json, such as its vocab_size, or give the files that belong together"
        )


def carried_tensors(
    model: Any, name: str, tensors: Mapping[str, StoredTensor], unexpected: Iterable[str]
) -> dict[str, StoredTensor]:
    """Pick the tensors that the model's own class does without on purpose, such as layers that predict several tokens,
    or computes anew: they are carried through unchanged to what is saved.

    unexpected: names that the model has no place for, as transformers tells them. Raises ModelError naming the first
    that is neither carried nor recomputed: biases, layers or scales that the configuration does not mention.
    """
    patterns = [re.compile(pattern) for pattern in getattr(model, "_keys_to_ignore_on_load_unexpected", None) or ()]
    further = _predicting_further_tokens(model.config)

    def on_purpose(tensor: str) -> bool:
        return any(pattern.search(tensor) for pattern in patterns) or further(tensor)

    strange = sorted(x for x in unexpected if not on_purpose(x) and not RECOMPUTED.search(x))
    if strange:
        raise ModelError(_why_refused(name, strange))
    held = set(model.state_dict())
    return {x: tensors[x] for x in sorted(tensors) if x not in held and (on_purpose(x) or RECOMPUTED.search(x))}


def _why_refused(name: str, strange: list[str]) -> str:
    more = f" and {len(strange) - 1} more" if len(strange) > 1 else ""
    if any(QUANTISED_PART.search(tensor) for tensor in strange):
        scale = next(tensor for tensor in strange if QUANTISED_PART.search(tensor))
        return (
            f"{shortened_path(name)} holds {scale}, a scale of quantised weights, though config.json does not say that "
            "it is quantised, and Wanda compares unquantised weights; give the original checkpoint"
        )
    return (
        f"{shortened_path(name)} holds {strange[0]}{more}, which its config.json does not mention, so another model "
        "would be measured and saved; repair config.json or give the original checkpoint"
    )


def _predicting_further_tokens(config: Any) -> Callable[[str], bool]:
    """Return what tells whether a tensor belongs to layers behind the last block that predict more than the next token,
    as the configuration promises them."""
    text = config.get_text_config()
    extra = getattr(text, "num_nextn_predict_layers", None) or getattr(text, "mtp_num_hidden_layers", None) or 0
    blocks = getattr(text, "num_hidden_layers", None)
    if not isinstance(extra, int) or not isinstance(blocks, int) or extra < 1:
        return lambda tensor: False

    def belongs(tensor: str) -> bool:
        behind = re.search(r"(?:^|\.)layers\.(\d{1,9})\.", tensor)
        return re.search(r"(^|\.)mtp\b", tensor) is not None or (
            behind is not None and blocks <= int(behind[1]) < blocks + extra
        )

    return belongs


def read_tensors(tensors: Mapping[str, StoredTensor]) -> dict[str, Tensor]:
    """Read tensors as they lie in their files, onto the CPU."""
    return {name: read_tensor(name, stored) for name, stored in tensors.items()}


def read_tensor(name: str, stored: StoredTensor) -> Tensor:
    """Read a tensor as it lies in its file, onto the CPU."""
    with safe_open(stored.file, framework="pt", backend="pread") as opened:
        return cast(Tensor, opened.get_tensor(name))


def held_tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield what a model holds of its files, weights and tables, each tensor once, with their names."""
    saved = model.state_dict().keys()
    yield from model.named_parameters()
    yield from ((name, buffer) for name, buffer in model.named_buffers() if name in saved)


def check_finite(name: str, weights: Iterable[tuple[str, Tensor]]) -> None:
    """Raise ModelError naming the first weight that holds NaN or an infinity: whatever it touches would be NaN too."""
    for weight, value in weights:
        still_wanted()
        if value.is_meta or not value.is_floating_point():
            continue
        # A sum is several times cheaper than a look at each; it alone may overflow.
        if not bool(torch.isfinite(value.sum(dtype=torch.float32))) and not bool(torch.isfinite(value).all()):
            what = "NaN" if bool(torch.isnan(value).any()) else "infinity"
            raise ModelError(
                f"{shortened_path(name)} has weights that are not finite ({what} in {weight}), so nothing it computes "
                "would mean anything; give an undamaged checkpoint"
            )


def pieces(tensors: Mapping[str, StoredTensor]) -> Iterator[tuple[str, Tensor]]:
    """Yield every tensor in pieces of PIECE_NUMBERS numbers or one row at most, so that none is in memory whole."""
    for name, stored in tensors.items():
        with safe_open(stored.file, framework="pt", backend="pread") as opened:
            if not stored.shape:
                yield name, opened.get_tensor(name)
                continue
            rows = max(1, PIECE_NUMBERS // max(1, math.prod(stored.shape[1:])))
            whole = opened.get_slice(name)
            for start in range(0, stored.shape[0], rows):
                yield name, whole[start : min(start + rows, stored.shape[0])]
