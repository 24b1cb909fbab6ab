"""Which files of a model's repository are downloaded: what loading and saving read, and no weights twice.

Repositories hold the same weights in other forms besides: `consolidated.safetensors`, `original/`, `onnx/`, other
precisions. transformers reads the top folder's `model.safetensors`, or else the shards that its index names.
"""

import itertools
import re
from collections.abc import Callable, Collection, Mapping
from fnmatch import fnmatchcase
from pathlib import Path

from safetensors import SafetensorError, safe_open

from wanda_core.errors import ModelError, shortened_path
from wanda_core.machine.json_file import read_json
from wanda_core.model.limits import MB, check_file_sizes, check_shards, largest_size
from wanda_core.model.stored_tensors import INDEX, ONE_FILE, WEIGHTS, shards_in, shards_of
from wanda_core.model.tokenizer_reading import has_vocabulary

CONFIG = "config.json"
# Of the top folder, in small letters: configurations, tokenizers, templates, processors, terms of use.
BESIDE_WEIGHTS = (
    *("*.json", "*.jinja", "*.txt", "*.model", "*.tiktoken", "*.spm", "tokenizer.*"),
    *("license*", "licence*", "notice*", "copying*", "use_policy*"),
)
MOST_OTHERS, MOST_NUMBER = 64 * MB, 500  # bytes of those that nothing reads, terms of use among them, and how many
TEMPLATES = "additional_chat_templates/*.jinja"
LONGEST_NAME = 255  # bytes of a file's name, which disks take
# Times that the hub's library compares one of a repository's files with one that is wanted, each most of a microsecond;
# two hundred shards among some thousand files are met.
MOST_COMPARED = 4 * 10**6
SHARD = re.compile(r"model-\d{5}-of-(\d{5})\.safetensors")
NUMBERED = re.compile(r"(?P<stem>[^/]*?)\d{1,9}-of-(?P<of>\d{1,9})\.safetensors")  # others count otherwise


def wanted_files(
    name: str, files: Mapping[str, int], read_index: Callable[[], str | None]
) -> tuple[list[str], list[str]]:
    """List the files of a repository that are to be downloaded: those beside the weights, and the weights.

    name: of the model, for messages; files: all that the repository holds, with their sizes in bytes; read_index:
    returns the content of its index of weights, None where that cannot be had now. Raises ModelError where it holds no
    weights that can be read, or more to be read beside them than any.
    """
    beside = _beside_weights(name, files)
    if ONE_FILE in files:
        return _looked_for(name, files, beside, [ONE_FILE])
    if INDEX in files:
        content = read_index()
        shards = _shards_by_name(files) if content is None else shards_of(content)
        check_shards(shards, name)
        lacking = [shard for shard in shards or [INDEX] if shard not in files]
        if not shards or lacking:
            what = f"names {lacking[0]!r:.80}, which the hub does not have" if shards else "cannot be read"
            raise ModelError(
                f"{shortened_path(name)} has an index of its weights, {INDEX}, that {what}; choose another revision or "
                "another model"
            )
        return _looked_for(name, files, beside, shards)
    if "adapter_config.json" in files:  # refused as what it is, once that file is here
        return _looked_for(name, files, beside, [])
    raise ModelError(_why_no_weights(name, files))


def _looked_for(
    name: str, files: Collection[str], beside: list[str], weights: list[str]
) -> tuple[list[str], list[str]]:
    """Return the files that are wanted. Raises ModelError where it would take minutes to look for them among all."""
    wanted = len(beside) + len(weights)
    if wanted * len(files) > MOST_COMPARED:
        raise ModelError(
            f"{shortened_path(name)} has {wanted:,} files to be downloaded among {len(files):,}, more than can be "
            "looked for; choose another model"
        )
    return beside, weights


def _beside_weights(name: str, files: Mapping[str, int]) -> list[str]:
    """List the files to be downloaded beside the weights: all that is read, and of what is only handed on the smallest,
    as far as they are few. Raises ModelError for what is read and is too large."""
    beside = [
        file
        for file in files
        if all(len(part.encode(errors="replace")) <= LONGEST_NAME for part in file.split("/"))
        and (
            fnmatchcase(file, TEMPLATES)
            or ("/" not in file and any(fnmatchcase(file.lower(), pattern) for pattern in BESIDE_WEIGHTS))
        )
    ]
    check_file_sizes(name, {file: files[file] for file in beside})
    others = sorted((file for file in beside if largest_size(file) is None), key=lambda file: files[file])
    sums = itertools.accumulate(files[file] for file in others)
    few = {file for file, nbytes in zip(others[:MOST_NUMBER], sums, strict=False) if nbytes <= MOST_OTHERS}
    return [file for file in beside if largest_size(file) is not None or file in few]


def _shards_by_name(files: Collection[str]) -> list[str]:
    return sorted(file for file in files if SHARD.fullmatch(file))


def shards_told(files: Mapping[str, int]) -> list[str]:
    """List files of weights that are as large as what an index will name, or smaller, as far as names tell before it is
    fetched: all shards of the smallest numbering that is whole; else the smallest file. None where one file goes before
    them.

    files: all that the repository holds, with their sizes in bytes
    """
    if ONE_FILE in files or INDEX not in files:
        return []
    numbered: dict[tuple[str, int], list[str]] = {}
    for file in files:
        if (shard := NUMBERED.fullmatch(file)) is not None:
            numbered.setdefault((shard["stem"], int(shard["of"])), []).append(file)
    whole = [sorted(shards) for (_, of), shards in numbered.items() if len(shards) == of]
    weights = [file for file in files if file.endswith(WEIGHTS)]
    if whole:  # of several the index tells which is meant
        return min(whole, key=lambda shards: sum(files[file] for file in shards))
    return sorted(weights, key=lambda file: files[file])[:1]


def _why_no_weights(name: str, files: Collection[str]) -> str:
    others = sorted(file for file in files if file.endswith(WEIGHTS))
    if others:
        return (
            f"{shortened_path(name)} has {others[0]!r:.80} on the hub, and weights are read from {ONE_FILE} or the "
            f"shards of {INDEX} in its top folder; choose another model"
        )
    if any(file.endswith(".gguf") for file in files):
        return (
            f"{shortened_path(name)} has no safetensors on the hub, only GGUF files; download one of them and give its "
            "path, or choose another model"
        )
    return (
        f"{shortened_path(name)} has no safetensors on the hub, and pickled weights are not read; choose another model"
    )


def is_cut(file: Path, nbytes: int) -> bool:
    """Tell whether a file is only a part of that on the hub, as where a copy broke off. nbytes: of that one.

    One that is whole by itself was changed by somebody on this machine: JSON and safetensors that can be read, a chat
    template.
    """
    if file.stat().st_size >= nbytes or file.suffix == ".jinja":
        return False
    try:
        if file.suffix == ".json":
            read_json(file)
        elif file.suffix == ".safetensors":
            with safe_open(file, framework="numpy"):  # which compares its length with its head
                pass
        else:
            return True
    except (OSError, ValueError, RecursionError, SafetensorError):
        return True
    return False


def lacking_files(folder: Path, name: str, files: Mapping[str, int] | None) -> tuple[list[str], int]:
    """List what a folder lacks of the files that loading its model needs, or has a part of, with the number of all it
    needs.

    Where nothing tells how the weights are divided they count as one file. name: of the model; files: all that its
    repository holds, with their sizes, None where nobody knows: without them what stands beside the weights is not
    missed, and a tokenizer without its settings cuts a text otherwise.
    """
    if files is not None:
        index = folder / INDEX
        beside, weights = wanted_files(
            name, files, lambda: index.read_text(encoding="utf-8", errors="replace") if index.is_file() else None
        )
        needed = [*(file for file in beside if largest_size(file) is not None), *weights]  # what else is only handed on
        there = {file: (folder / file).is_file() and not is_cut(folder / file, files.get(file, 0)) for file in needed}
        return [file for file in needed if not there[file]], len(needed)
    needed = [CONFIG]
    numbered = [match for path in folder.iterdir() if (match := SHARD.fullmatch(path.name))]
    if (folder / ONE_FILE).exists():
        needed += [ONE_FILE]
    elif (folder / INDEX).exists():
        needed += [INDEX, *shards_in(folder)]
    elif numbered:
        of = numbered[0][1]
        needed += [INDEX, *(f"model-{number + 1:05d}-of-{of}.safetensors" for number in range(int(of)))]
    else:
        needed += [ONE_FILE]
    lacking = [file for file in needed if not (folder / file).exists()]
    if has_vocabulary(folder):
        return lacking, len(needed) + 1
    return [*lacking, "tokenizer.json"], len(needed) + 1
