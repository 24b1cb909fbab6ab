"""Downloading a model from the Hugging Face hub into its local cache, or saying in one sentence why not."""

import contextlib
import re
import shutil
from collections.abc import Callable, Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from huggingface_hub import (
    HfApi,
    constants,
    get_cached_repo_tree,
    snapshot_download,
    try_to_load_from_cache,
)
from huggingface_hub.errors import (
    CachedRepoTreeNotFoundError,
    LocalEntryNotFoundError,
)

from wanda_core.errors import InputError, ModelError, in_gb, shortened, shortened_path
from wanda_core.machine import atomic_file
from wanda_core.machine.waiting import NoAnswerError, call_apart
from wanda_core.model.hub_faults import TOKENS, UnreachableError, check_proxy, in_one_sentence
from wanda_core.model.hub_files import lacking_files, shards_told, wanted_files
from wanda_core.model.hub_transfer import Transfer, cut_short, forget_lists
from wanda_core.model.limits import check_file_sizes
from wanda_core.model.names import DEFAULT_REVISION, hub_id_and_revision
from wanda_core.model.stored_tensors import INDEX
from wanda_core.progress import Progress

TOKEN = re.compile(r"[\x21-\x7e]{1,400}")
LOOKUP_SECONDS = 15.0  # in all, however the hub spreads its answer
SLOWEST = 20_000  # bytes a second of a line that brings a model at all
# Called with the bytes of a model's files of weights, and how many numbers of each type they hold, None where the hub
# does not say; raises ModelError where that is too much.
Weigh = Callable[[int, Mapping[str, int] | None], object]


def checked_token(given: object) -> str | None:
    """Return a token that was typed, None where none was. Raises InputError, which does not repeat it."""
    if given is None or (isinstance(given, str) and not given.strip()):
        return None
    if not isinstance(given, str) or not TOKEN.fullmatch(given.strip()):
        raise InputError(f"what was given as a token of the hub is none; copy it from {TOKENS}")
    return given.strip()


def download(
    name: str,
    on_progress: Callable[[Progress], object] | None = None,
    token: str | None = None,
    weigh: Weigh | None = None,
) -> tuple[Path, str]:
    """Download a hub model unless it is in the cache already. -> its local folder and its commit.

    name: `owner/model` or `owner/model@revision`, in its form. on_progress: called again and again while the hub is
    waited for and while bytes arrive; an exception from it gives up within a second. A hub that does not answer within
    LOOKUP_SECONDS, or answers that it is out of order, is out of reach, and the cache serves where it holds the whole
    model. token: for this download, by default the machine's own; weigh: raises for weights that would be too large to
    load, before any is downloaded. Raises InputError for an id or a revision that does
    not exist, GatedError for a model whose licence has to be accepted first, ModelError for one that cannot be
    downloaded.
    """
    tell = on_progress or (lambda step: None)
    token = checked_token(token)
    hub_id, revision = hub_id_and_revision(name)
    asking = Progress("asking", 0, 1, "parts", name)
    tell(asking)
    try:
        check_proxy(name)
        info = call_apart(lambda: _ask(name, token), lambda: tell(asking), LOOKUP_SECONDS)
        commit = info.sha or revision or DEFAULT_REVISION
        sizes = {file.rfilename: file.size or 0 for file in info.siblings or []}
        transfer = Transfer(name, hub_id, commit, token)
        counts = info.safetensors.parameters if info.safetensors is not None else None
        check_file_sizes(name, {file: size for file, size in sizes.items() if file == INDEX})  # it is fetched now
        told = {file: sizes[file] for file in shards_told(sizes)}
        _missing_bytes(name, hub_id, commit, told)
        if weigh is not None and told:
            weigh(sum(told.values()), counts)
        seconds = LOOKUP_SECONDS + sizes.get(INDEX, 0) / SLOWEST
        beside, weights = wanted_files(
            name, sizes, lambda: call_apart(partial(transfer.index, sizes[INDEX]), lambda: tell(asking), seconds)
        )
        wanted = {file: sizes[file] for file in [*beside, *weights]}
        _check_sizes_told(name, info, wanted)
        missing = _missing_bytes(name, hub_id, commit, wanted)
        if weigh is not None:
            weigh(sum(sizes[file] for file in weights), counts)
        try:
            folder = _cached(hub_id, commit) if missing is None else transfer.run(wanted, missing, tell)
        except ModelError:  # a cache that may only be read, without what is only handed on, serves all the same
            with contextlib.suppress(LocalEntryNotFoundError):
                folder = _cached(hub_id, commit)
                if not lacking_files(folder, name, sizes)[0]:
                    return folder, commit
            raise
        _remember(hub_id, revision or DEFAULT_REVISION, commit)
        return folder, commit
    except (UnreachableError, NoAnswerError) as error:
        folder = _from_cache(name, hub_id, revision, error)
        return folder, folder.name
    finally:
        forget_lists()


def _ask(name: str, token: str | None) -> Any:
    """Ask the hub for a model's commit and files."""
    hub_id, revision = hub_id_and_revision(name)
    with in_one_sentence(name, token):
        about: dict[str, Any] = {"revision": revision, "token": token, "files_metadata": True}
        return HfApi().model_info(hub_id, **about, timeout=LOOKUP_SECONDS)


def _check_sizes_told(name: str, info: Any, wanted: Collection[str]) -> None:
    """Raise ModelError for a file to be downloaded of which the hub does not tell how large it is."""
    untold = next(
        (file.rfilename for file in info.siblings or [] if file.size is None and file.rfilename in wanted), None
    )
    if untold is not None:
        raise ModelError(
            f"the hub does not tell how large {shortened(untold)} of {shortened_path(name)} is, so whether it fits "
            "cannot be known; try again later, or download it otherwise and give its folder"
        )


def _missing_bytes(name: str, hub_id: str, commit: str, sizes: dict[str, int]) -> int | None:
    """Return how many bytes are to be downloaded, None when all files are there. sizes: of the files, by name.

    Raises ModelError for a model that does not fit on the disk.
    """
    with in_one_sentence(name):
        missing = [file for file in sizes if not isinstance(try_to_load_from_cache(hub_id, file, revision=commit), str)]
        missing += cut_short(hub_id, commit, sizes)
        Path(constants.HF_HUB_CACHE).mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(constants.HF_HUB_CACHE).free
    needed = sum(sizes[file] for file in missing)
    if needed > free:
        takes, has = in_gb(needed, free)
        raise ModelError(
            f"{shortened_path(name)} is {takes} GB to download and {has} GB of disk are free; "
            "choose a smaller model or free some space"
        )
    return needed if missing else None


def _remember(hub_id: str, revision: str, commit: str) -> None:
    """Note in the cache which commit a branch or tag was, as the hub's library does, so that it serves offline too.

    The files are asked for by commit, lest the branch move in between, and then the library notes nothing.
    """
    if revision == commit:
        return
    ref = Path(constants.HF_HUB_CACHE, f"models--{hub_id.replace('/', '--')}", "refs", revision)
    with contextlib.suppress(OSError):  # a cache that may not be written to serves all the same
        ref.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file.written(ref) as part:
            part.write_text(commit, encoding="utf-8")


def _cached(hub_id: str, revision: str | None) -> Path:
    """Return the folder that a model has in the hub's local cache. Raises LocalEntryNotFoundError where it has none."""
    return Path(snapshot_download(hub_id, revision=revision, allow_patterns=[], local_files_only=True))


def _listed(hub_id: str, commit: str) -> dict[str, int] | None:
    """Return the files of a model's commit and their sizes, as the hub's library noted them when it began to download
    it, None where it did not."""
    try:
        return {file.path: file.size or 0 for file in get_cached_repo_tree(hub_id, revision=commit)}
    except CachedRepoTreeNotFoundError:
        return None


def _from_cache(name: str, hub_id: str, revision: str | None, reason: Exception) -> Path:
    """Find a whole model in the hub's local cache, without network. reason: why the hub does not serve.

    Raises ModelError where the cache does not hold it, or a part of it.
    """
    said = reason.said if isinstance(reason, UnreachableError) else None
    try:
        folder = _cached(hub_id, revision)
    except LocalEntryNotFoundError:
        raise said or ModelError(
            f"{shortened_path(name)} is not on this machine and the Hugging Face hub cannot be reached; "
            "check the network, or use 'builtin' or a local folder"
        ) from reason
    lacking, needed = lacking_files(folder, name, _listed(hub_id, folder.name))
    if lacking:
        why = f"the Hugging Face hub cannot be reached for the others ({lacking[0]} and so on)"
        raise said or ModelError(
            f"{needed - len(lacking)} of {needed} files of {shortened_path(name)} are on this machine and {why}; check "
            "the network and try again, or use 'builtin' or a local folder"
        ) from reason
    return folder
