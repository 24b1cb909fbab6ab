"""Downloading a model from the Hugging Face hub into its local cache, or saying in one sentence why not."""

import shutil
from collections.abc import Callable
from pathlib import Path

from huggingface_hub import HfApi, constants, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)
from huggingface_hub.utils import validate_repo_id

from wanda_core.errors import InputError, ModelError
from wanda_core.progress import Progress

try:  # huggingface_hub sends its requests by httpx2 from its version 2 on, by httpx before
    import httpx2 as httpx
except ImportError:
    import httpx  # type: ignore[no-redef]

WANTED = ["*.safetensors", "*.safetensors.index.json", "*.json", "*.jinja", "*.model", "*.txt"]
UNREACHABLE = (OfflineModeIsEnabled, httpx.TransportError, ConnectionError, TimeoutError)


def download(name: str, on_progress: Callable[[Progress], object] | None = None) -> tuple[Path, str]:
    """Download a hub model unless it is in the cache already. -> its local folder and its commit.

    Raises InputError for an id that does not exist, ModelError for a model that cannot be downloaded.
    """
    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise InputError(
            f"model {name!r} is neither 'builtin' nor an existing folder nor a valid hub id; "
            "a hub id looks like HuggingFaceTB/SmolLM2-360M"
        ) from error
    if on_progress:
        on_progress(Progress("asking", 0, 1, "parts", name))
    try:
        info = HfApi().model_info(name, files_metadata=True, timeout=20)
        sizes = {f.rfilename: f.size or 0 for f in info.siblings or []}
        weights = sum(size for file, size in sizes.items() if file.endswith(".safetensors"))
        if not weights:
            raise ModelError(
                f"{name!r} has no safetensors on the hub, and pickled weights are not read; choose another model"
            )
        Path(constants.HF_HUB_CACHE).mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(constants.HF_HUB_CACHE).free
        if weights > free:
            raise ModelError(
                f"{name!r} is {weights / 1e9:.1f} GB to download and {free / 1e9:.1f} GB of disk are free; "
                "choose a smaller model or free some space"
            )
        if on_progress:
            on_progress(Progress("downloading", 0, weights, "bytes", name))
        folder = snapshot_download(name, revision=info.sha, allow_patterns=WANTED)
        return Path(folder), info.sha or "unknown"
    except GatedRepoError as error:
        raise ModelError(
            f"{name!r} is gated on the hub; accept its terms there and log in with `hf auth login`"
        ) from error
    except RepositoryNotFoundError as error:
        raise InputError(f"model {name!r} does not exist on the hub (or is private); check its spelling") from error
    except UNREACHABLE as error:
        return _from_cache(name, error)
    except HfHubHTTPError as error:
        raise ModelError(f"the hub answered {name!r} with an error: {error}; try again later") from error


def _from_cache(name: str, reason: Exception) -> tuple[Path, str]:
    """Find a model in the hub's local cache, without network. reason: why the hub cannot be reached."""
    try:
        folder = Path(snapshot_download(name, allow_patterns=WANTED, local_files_only=True))
    except LocalEntryNotFoundError:
        raise ModelError(
            f"{name!r} is not on this machine and the Hugging Face hub cannot be reached; "
            "check the network, or use 'builtin' or a local folder"
        ) from reason
    return folder, folder.name
