"""Downloading a model from the Hugging Face hub into its local cache, or saying in one sentence why not."""

import contextlib
import re
import shutil
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from glob import escape
from pathlib import Path
from typing import Any
from urllib.request import getproxies

from huggingface_hub import (
    HfApi,
    constants,
    get_cached_repo_tree,
    get_token,
    hf_hub_download,
    snapshot_download,
    try_to_load_from_cache,
)
from huggingface_hub.errors import (
    CachedRepoTreeNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import tqdm

from wanda_core.errors import GatedError, InputError, ModelError, WandaError, first_line, shortened, shortened_path
from wanda_core.machine import atomic_file
from wanda_core.machine.json_file import MOST_BYTES
from wanda_core.machine.ordinary_file import read_ordinary
from wanda_core.machine.waiting import NoAnswerError, call_apart
from wanda_core.model.hub_files import lacking_files, shards_told, wanted_files
from wanda_core.model.limits import check_file_sizes
from wanda_core.model.names import DEFAULT_REVISION, hub_id_and_revision
from wanda_core.model.stored_tensors import INDEX
from wanda_core.progress import Progress

try:  # huggingface_hub sends its requests by httpx2 from its version 2 on, by httpx before
    import httpx2 as httpx
except ImportError:
    import httpx  # type: ignore[no-redef]

UNREACHABLE = (OfflineModeIsEnabled, httpx.TransportError, ConnectionError, TimeoutError)
UNAUTHORIZED = 401
PROXIED = ("http", "https", "all")  # schemes for which the environment may name a proxy
TOKENS = "https://huggingface.co/settings/tokens"
TOKEN = re.compile(r"[\x21-\x7e]{1,400}")
LOOKUP_SECONDS = 15.0  # in all, however the hub spreads its answer
SLOWEST = 20_000  # bytes a second of a line that brings a model at all
# Called with the bytes of a model's files of weights, and how many numbers of each type they hold, None where the hub
# does not say; raises ModelError where that is too much.
Weigh = Callable[[int, Mapping[str, int] | None], object]


class UnreachableError(Exception):
    """The hub cannot be reached, or gives no answer that serves. said: what to tell where the cache does not serve
    either, None for what is told of a hub out of reach."""

    def __init__(self, said: ModelError | None = None) -> None:
        super().__init__(str(said or ""))
        self.said = said


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
        _check_proxy(name)
        info = call_apart(lambda: _ask(name, token), lambda: tell(asking), LOOKUP_SECONDS)
        commit = info.sha or revision or DEFAULT_REVISION
        sizes = {file.rfilename: file.size or 0 for file in info.siblings or []}
        transfer = _Transfer(name, hub_id, commit, token)
        counts = info.safetensors.parameters if info.safetensors is not None else None
        check_file_sizes(name, {file: size for file, size in sizes.items() if file == INDEX})  # it is fetched now
        told = {file: sizes[file] for file in shards_told(sizes)}
        _missing_bytes(name, hub_id, commit, told)
        if weigh is not None and told:
            weigh(sum(told.values()), counts)
        seconds = LOOKUP_SECONDS + sizes.get(INDEX, 0) / SLOWEST
        beside, weights = wanted_files(name, sizes, lambda: call_apart(transfer.index, lambda: tell(asking), seconds))
        wanted = [*beside, *weights]
        _check_sizes_told(name, info, wanted)
        missing = _missing_bytes(name, hub_id, commit, {file: sizes[file] for file in wanted})
        if weigh is not None:
            weigh(sum(sizes[file] for file in weights), counts)
        folder = _cached(hub_id, commit) if missing is None else transfer.run(wanted, missing, tell)
        _remember(hub_id, revision or DEFAULT_REVISION, commit)
        return folder, commit
    except (UnreachableError, NoAnswerError) as error:
        folder = _from_cache(name, hub_id, revision, error)
        return folder, folder.name
    finally:
        _forget_lists()


@contextlib.contextmanager
def _in_one_sentence(name: str, token: str | None = None) -> Iterator[None]:
    """Turn what the hub's library raises into UnreachableError, InputError or ModelError, whose words hold no token."""
    shown = shortened_path(name)
    try:
        yield
    except WandaError:
        raise
    except GatedRepoError as error:
        raise _gated(name, error.response.status_code) from error
    except RepositoryNotFoundError as error:
        raise InputError(
            f"model {shown} does not exist on the hub, or is private; check its spelling, or log in with "
            "`hf auth login` if it is yours"
        ) from error
    except RevisionNotFoundError as error:
        hub_id, revision = hub_id_and_revision(name)
        raise InputError(
            f"model {shortened(hub_id)} has no revision {shortened(revision)} on the hub; give a branch, a tag or a "
            "commit that it has, or leave @ out"
        ) from error
    except (*UNREACHABLE, LocalEntryNotFoundError) as error:
        raise UnreachableError from error
    except HfHubHTTPError as error:
        if error.response.status_code == UNAUTHORIZED:
            raise ModelError(
                f"the hub does not accept the token that is sent with the request for {shown}; log in again with "
                "`hf auth login`, correct HF_TOKEN or unset it, or give another"
            ) from error
        said = ModelError(f"the hub answered {shown} with an error: {_said(error, token)}; try again later")
        raise UnreachableError(said) from error
    except OSError as error:
        raise ModelError(
            f"{shown} could not be downloaded: {error.strerror or _said(error, token)}; check the disk that holds "
            f"{shortened_path(constants.HF_HUB_CACHE)} and try again"
        ) from error
    except Exception as error:  # an answer that is none, from whatever stands between here and the hub
        said = ModelError(
            f"the hub's answer about {shown} cannot be read: {_said(error, token)}; check the network and try again"
        )
        raise UnreachableError(said) from error


def _said(error: BaseException, token: str | None) -> str:
    """Return the first line of an error's message, without the token."""
    return first_line(error, token or get_token())


def _gated(name: str, status: int) -> GatedError:
    """Return the error that says where a model's licence is accepted, and what shows the hub that it was."""
    page = f"https://huggingface.co/{hub_id_and_revision(name)[0]}"
    if status == UNAUTHORIZED:
        what = f"is gated on the hub; accept its licence at {page} and give a token of the account that did, made at"
        remedy = f"{what} {TOKENS}: log in with `hf auth login`, or set HF_TOKEN"
    else:
        what = f"is gated on the hub, which does not let this token in; accept its licence at {page}, wait until its"
        remedy = f"{what} owner lets you in, or give the token of an account that is in"
    return GatedError(f"{shortened_path(name)} {remedy}", page)


def _ask(name: str, token: str | None) -> Any:
    """Ask the hub for a model's commit and files."""
    hub_id, revision = hub_id_and_revision(name)
    with _in_one_sentence(name, token):
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


def _check_proxy(name: str) -> None:
    """Raise UnreachableError where the proxy that the environment names cannot be used by what asks the hub.

    Its address is not shown: it may hold a password.
    """
    proxies = {scheme: address for scheme, address in getproxies().items() if scheme in PROXIED}
    try:
        if proxies:
            httpx.Client().close()
    except Exception as error:
        if constants.HF_HUB_OFFLINE:
            raise UnreachableError from error
        socks = isinstance(error, ImportError)
        named = sorted(scheme for scheme, address in proxies.items() if address.startswith("socks") or not socks)
        why = (
            "SOCKS needs a package that is not installed"
            if socks
            else "its address is not http://host:port or the like"
        )
        remedy = 'pip install "httpx[socks]", or unset it' if socks else "correct it or unset it"
        said = ModelError(
            f"the hub cannot be asked for {shortened_path(name)} through the proxy in "
            f"{' and '.join(f'{scheme.upper()}_PROXY' for scheme in named)} ({why}); {remedy}"
        )
        raise UnreachableError(said) from error


def _missing_bytes(name: str, hub_id: str, commit: str, sizes: dict[str, int]) -> int | None:
    """Return how many bytes are to be downloaded, None when all files are there. sizes: of the files, by name.

    Raises ModelError for a model that does not fit on the disk.
    """
    with _in_one_sentence(name):
        missing = [file for file in sizes if not isinstance(try_to_load_from_cache(hub_id, file, revision=commit), str)]
        Path(constants.HF_HUB_CACHE).mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(constants.HF_HUB_CACHE).free
    needed = sum(sizes[file] for file in missing)
    if needed > free:
        raise ModelError(
            f"{shortened_path(name)} is {needed / 1e9:.1f} GB to download and {free / 1e9:.1f} GB of disk are free; "
            "choose a smaller model or free some space"
        )
    return needed if missing else None


class _Transfer:
    """One download: its threads count bytes here, and stop when nobody waits for them any more."""

    def __init__(self, name: str, hub_id: str, commit: str, token: str | None) -> None:
        self.name, self.hub_id, self.commit, self.token = name, hub_id, commit, token
        self.total = 0
        self.bars: list[Any] = []
        self.given_up = threading.Event()

    def index(self) -> str | None:
        """Return the index of the model's weights, from the cache or the hub, None where neither has it now."""
        try:
            with _in_one_sentence(self.name, self.token):
                bar, token = _bar_of(self), self.token
                file = hf_hub_download(self.hub_id, INDEX, revision=self.commit, tqdm_class=bar, token=token)
                return read_ordinary(Path(file), MOST_BYTES).decode("utf-8", errors="replace")
        except UnreachableError:
            return None

    def run(self, files: list[str], total: int, tell: Callable[[Progress], object]) -> Path:
        """Download files, telling how many bytes have arrived. -> the model's folder in the cache.

        total: bytes of those that are not in the cache. Raises what `_in_one_sentence` does, and what `tell` does.
        """
        self.total = total
        self.bars.clear()  # of the index
        self._tell(tell)
        _running.add(self)
        try:
            return call_apart(lambda: self._download(files), lambda: self._tell(tell))
        except BaseException:
            self.given_up.set()
            if _running == {self}:
                _stop_xet()
            raise
        finally:
            _running.discard(self)

    def _tell(self, tell: Callable[[Progress], object]) -> None:
        # The library counts bytes from the network and bytes on the disk apart; either may lag behind.
        arrived = max((bar.n for bar in self.bars if bar.of_bytes), default=0)
        tell(Progress("downloading", min(int(arrived), self.total), self.total, "bytes", self.name))

    def _download(self, files: list[str]) -> Path:
        with _in_one_sentence(self.name, self.token):
            wanted, bar = [escape(file) for file in files], _bar_of(self)
            at, token = self.commit, self.token
            given: dict[str, Any] = {"tqdm_class": bar, "token": token}
            folder = Path(snapshot_download(self.hub_id, revision=at, allow_patterns=wanted, **given))
        if all((folder / file).is_file() for file in files):
            return folder
        raise UnreachableError  # it takes what lies there for the whole where the hub gives no list of files


_running: set[_Transfer] = set()


def _stop_xet() -> None:
    """Stop what the library's other way to download is doing, all of it in this process: its bars cannot."""
    with contextlib.suppress(Exception):  # a private name, which the hub's library may change
        from huggingface_hub.utils._xet import abort_xet_session

        abort_xet_session()


def _forget_lists() -> None:
    """Have the library forget the lists of files that it read: it keeps each commit's in memory, which may be of
    tens of thousands. They are on the disk too."""
    with contextlib.suppress(Exception):  # private names, which the hub's library may change
        from huggingface_hub import _tree_cache

        with _tree_cache._IN_MEMORY_TREE_CACHE_LOCK:
            _tree_cache._IN_MEMORY_TREE_CACHE.clear()


def _bar_of(transfer: _Transfer) -> type[Any]:
    """Make a class of progress bars that show nothing, count for a download, and stop it once it is given up."""

    class Bar(tqdm):  # type: ignore[misc]
        """A bar as the hub's library makes them, in several threads."""

        def __init__(self, *args: Any, **settings: Any) -> None:
            super().__init__(*args, **(settings | {"disable": True}))  # type: ignore[no-untyped-call]
            self.of_bytes = settings.get("unit") == "B"
            transfer.bars.append(self)

        def update(self, n: float | None = 1) -> None:
            """Count n more. Raises InterruptedError when nobody waits any more, which ends the file's download."""
            if transfer.given_up.is_set():
                raise InterruptedError("the download was given up")
            self.n += n or 0

    return Bar


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
