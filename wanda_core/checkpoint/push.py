"""Pushing a pruned checkpoint to the Hugging Face hub, as a repository of its owner's, private unless said otherwise.

A repository that exists is written over only where everything in it came by an earlier push; its history keeps that.
"""

import contextlib
import io
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, cast

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, get_token
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

from wanda_core.checkpoint import manifest
from wanda_core.checkpoint.beside import CARD, leading_out
from wanda_core.checkpoint.manifest import FILES, RECORD
from wanda_core.errors import InputError, StorageError, WandaError, first_line, shortened, shortened_path
from wanda_core.machine.json_file import read_json
from wanda_core.machine.ordinary_file import open_ordinary
from wanda_core.machine.paths import bare, path_of
from wanda_core.machine.temporary import temporary_folder
from wanda_core.machine.waiting import steps_apart
from wanda_core.model.hub import checked_token
from wanda_core.model.hub_faults import TOKENS, UNAUTHORIZED, UNREACHABLE
from wanda_core.model.names import HUB, HUB_ID
from wanda_core.progress import Progress, Steps

HOW_TO_LOG_IN = f"make one with write access at {TOKENS} and log in with `hf auth login`, or set HF_TOKEN"
HUBS_OWN = {".gitattributes"}  # what the hub itself puts into every repository
ASKING = "wanda-push-"  # how temporary folders' names begin
MOST_SAID = 200  # characters of the hub's own words
MOST_TITLE = 500  # characters of what a record calls a recipe or a model
MOST_RECORD = 64 * 2**20  # bytes of a record in a repository
PAYMENT, FORBIDDEN, MISSING, CONFLICT, CHANGED, OFTEN = 402, 403, 404, 409, 412, 429  # HTTP statuses


@dataclass(frozen=True)
class Pushed:
    """A checkpoint on the hub. address: of its page; private: whether its owner alone sees it."""

    repo: str
    address: str
    commit: str
    private: bool


def repo_of(given: object) -> str:
    """Return the name of a repository, `owner/name`, from what was typed or pasted. Raises InputError for no name."""
    text = bare(given) if isinstance(given, str) else ""
    address = HUB.match(text)
    name = text[address.end() :].strip("/") if address else text
    if "/" not in name or not HUB_ID.fullmatch(name) or "--" in name or ".." in name or name.endswith(".git"):
        raise InputError(f"repository {shortened(given)} is no name on the hub; give it as owner/name")
    return name


def push_steps(folder: str | Path, repo: str, *, private: bool = True, token: str | None = None) -> Steps[Pushed]:
    """Push a folder that `save` wrote; yields how many bytes have gone. Closing the generator gives up.

    repo: `owner/name`, made where it is not there; private: whether it is to be its owner's alone; token: for this
    once, by default the machine's own. Nothing is visible on the hub before everything is there, but for an empty
    repository. Raises InputError for a folder or a name that is none, and for no token, StorageError where the hub does
    not take it.
    """
    name, token = repo_of(repo), checked_token(token)
    source = path_of(folder, "folder").absolute()
    record = _record(source)
    token = token or get_token()
    if token is None:
        raise InputError(f"there is no token of the hub on this machine, and pushing needs one; {HOW_TO_LOG_IN}")
    transfer = _Transfer(name, source, record, private, token)
    try:
        return (yield from steps_apart(transfer.run, transfer.news))
    finally:
        transfer.given_up.set()


def _record(folder: Path) -> dict[str, Any]:
    """Read the record of a checkpoint, all of whose files are there."""
    try:
        record = read_json(folder / RECORD)
        files = manifest.files_of(record)
        whole = all(_inside(name) and (folder / name).is_file() for name in files)
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise InputError(
            f"{shortened_path(folder)} holds no {RECORD} that lists its files, so it is no checkpoint that was pruned "
            "here; give the folder that `prune` wrote"
        ) from error
    if not whole:
        lacking = next(name for name in files if not (_inside(name) and (folder / name).is_file()))
        raise InputError(f"{shortened_path(folder)} lacks {shortened(lacking)}; prune again, or give a whole folder")
    outside = leading_out(folder, [folder / name for name in (*files, RECORD)])
    if outside is not None:
        raise InputError(
            f"{shortened_path(folder)} has a link, {shortened(outside.name)}, to a file outside, which would be sent "
            "with the checkpoint; put the file itself there (`cp -L` does), or take the link away"
        )
    return dict(record)


def _inside(name: str) -> bool:
    """Whether a name in a record is that of a file below its folder."""
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts and "\\" not in name


class _Transfer:
    """One push; its threads count bytes here, and stop when nobody waits for them any more."""

    def __init__(self, repo: str, folder: Path, record: Mapping[str, Any], private: bool, token: str) -> None:
        self.repo, self.folder, self.record, self.private, self.token = repo, folder, record, private, token
        self.api = HfApi(token=token)
        self.given_up = threading.Event()
        self.made = False  # whether the repository was made for it
        self.stage = Progress("asking", 0, 1, "parts", repo)
        self.places = dict.fromkeys(self._names, 0)  # bytes that were read, by file

    def news(self) -> Progress:
        """Tell how far it is."""
        if self.stage.unit != "bytes":
            return self.stage
        done = min(sum(self.places.values()), self.stage.total)
        return Progress(self.stage.stage, done, self.stage.total, "bytes", self.repo)

    def run(self) -> Pushed:
        """Push; a thread's own work."""
        with _in_one_sentence(self):
            there = self._there()
            stale = self._stale(there) if there is not None else []
            total = sum((self.folder / name).stat().st_size for name in self._names)
            self.stage = Progress("checking", 0, total, "bytes", self.repo)
            with contextlib.ExitStack() as opened:
                added = [self._added(name, opened) for name in self._names]
                if read_json(self.folder / RECORD) != self.record:
                    raise StorageError(
                        f"{shortened_path(self.folder)} was written anew while it was read; push it again"
                    )
                if there is None:
                    self.check_wanted()
                    self.api.create_repo(self.repo, private=self.private)
                    self.made = True
                    there = self.api.model_info(self.repo)
                self.places = dict.fromkeys(self._names, 0)
                self.stage = Progress("uploading", 0, total, "bytes", self.repo)
                commit = self.api.create_commit(
                    self.repo,
                    [*added, *(CommitOperationDelete(path_in_repo=name) for name in stale)],
                    commit_message=self._message,
                    parent_commit=there.sha,
                )
            address = f"{self.api.endpoint}/{self.repo}"
            return Pushed(self.repo, address, str(commit.oid), bool(there.private))

    def check_wanted(self) -> None:
        """Raise InterruptedError when nobody waits any more."""
        if self.given_up.is_set():
            raise InterruptedError("the push was given up")

    @property
    def _names(self) -> list[str]:
        """The files that go out."""
        return [*(name for name in self.record.get(FILES, ()) if name != RECORD), RECORD]

    @property
    def _message(self) -> str:
        """What the hub's history calls it."""
        base = self.record.get("base")
        title = base.get("title") if isinstance(base, dict) else None
        return f"{str(self.record.get('label'))[:MOST_TITLE]} of {str(title)[:MOST_TITLE]}"

    def _there(self) -> Any:
        """Return what the hub tells of the repository, None where there is none that the token may see."""
        try:
            there = self.api.model_info(self.repo, files_metadata=True)
        except RepositoryNotFoundError:
            return None
        if self.private and not there.private:
            raise StorageError(
                f"{self.repo} is public on the hub, and this push is to be private; choose another name, or push it as "
                "public"
            )
        return there

    def _stale(self, there: Any) -> list[str]:
        """List the files of an earlier push that this one does not have. Raises StorageError where there are others."""
        sizes = {file.rfilename: file.size or 0 for file in there.siblings or []}
        listed: set[str] = set()
        if sizes.get(RECORD, MOST_RECORD) < MOST_RECORD:
            with temporary_folder(ASKING) as kept:
                path = self.api.hf_hub_download(self.repo, RECORD, revision=there.sha, local_dir=kept)
                with contextlib.suppress(ValueError, LookupError, TypeError, AttributeError):
                    listed = {RECORD, *manifest.files_of(read_json(Path(path)))}
        others = sorted(sizes.keys() - listed - HUBS_OWN)
        if others:
            raise StorageError(
                f"{self.repo} holds {shortened(others[0])}, which no earlier push wrote, and is not written over; "
                "choose another name"
            )
        return sorted(sizes.keys() - set(self._names) - HUBS_OWN)

    def _added(self, name: str, opened: contextlib.ExitStack) -> CommitOperationAdd:
        """Make the part of the commit that adds a file, which is read once for its sha256."""
        file = opened.enter_context(open_ordinary(self.folder / name))
        added = CommitOperationAdd(name, cast(BinaryIO, _Counted(file, name, self)))
        expected = self.record[FILES].get(name)
        if name not in (CARD, RECORD) and added.upload_info.sha256.hex() != expected:
            raise StorageError(
                f"{shortened_path(self.folder)} holds {name}, which was changed since it was saved; prune again"
            )
        return added


class _Counted(io.BufferedIOBase):
    """A file whose reading is counted, and which cannot be read any more once nobody waits."""

    def __init__(self, file: Any, name: str, transfer: _Transfer) -> None:
        self._file, self._name, self._transfer = file, name, transfer

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def read(self, size: int | None = -1, /) -> bytes:
        """Read bytes. Raises InterruptedError when the push was given up."""
        self._transfer.check_wanted()
        data: bytes = self._file.read(size)
        self._transfer.places[self._name] = self._file.tell()
        return data

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        return int(self._file.seek(offset, whence))

    def tell(self) -> int:
        return int(self._file.tell())


@contextlib.contextmanager
def _in_one_sentence(transfer: _Transfer) -> Iterator[None]:
    """Turn what the hub's library raises into StorageError, whose message never holds the token."""
    try:
        yield
    except WandaError:
        raise
    except Exception as error:
        cause: BaseException = error
        while isinstance(cause, RuntimeError) and cause.__cause__ is not None:  # of the thread that sent a file
            cause = cause.__cause__
        raise StorageError(_why(transfer, cause)) from None


def _why(transfer: _Transfer, error: BaseException) -> str:
    """Say in one sentence why a push failed, what it left, and what to do."""
    what = f"{transfer.repo} was {'made on the hub but not filled' if transfer.made else 'not pushed'}"
    if isinstance(error, UNREACHABLE):
        return f"{what}, for the Hugging Face hub cannot be reached; check the network and push again"
    status = error.response.status_code if isinstance(error, HfHubHTTPError) else None
    told = str(getattr(error, "server_message", None) or first_line(error, transfer.token))
    said = " ".join(told.replace(transfer.token, "…").split())[:MOST_SAID].rstrip(".")
    known: dict[int | None, str] = {
        UNAUTHORIZED: f"the hub does not accept the token; {HOW_TO_LOG_IN}",
        PAYMENT: f"the account has no room for it ({said}); free some, or choose another account",
        FORBIDDEN: f"the token may not write there ({said}); give one with write access, or choose another name",
        MISSING: "the repository is not there, or the token may not see it; push again, or give another token",
        CONFLICT: "the name is taken; choose another",
        CHANGED: "the repository changed on the hub meanwhile; push again",
        OFTEN: "the hub takes no more requests from this account for now; push again in some minutes",
    }
    return f"{what}: {known.get(status, f'{said}; push again later')}"
