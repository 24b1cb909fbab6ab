"""Uploads: how many come at once, who reads how far one is, how one is received, and where it is kept."""

import asyncio
import errno
import hashlib
import os
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile, gettempdir
from typing import IO, Any

from anyio import to_thread
from gradio.routes import file_upload_statuses
from gradio_client.utils import strip_invalid_filename_characters

from wanda_core.errors import InputError, first_line
from wanda_core.machine.temporary import temporary_folder
from wanda_ui.faults import note
from wanda_ui.gate import body, rules
from wanda_ui.gate.form import Form
from wanda_ui.gate.kept import Kept
from wanda_ui.gate.refusal import RefusedError, quoted
from wanda_ui.gate.request import Request

FORM_BYTES = 16 * 1024  # of an upload that are no file: boundaries, names
MOST_AT_ONCE = 4  # uploads of one address
MOST_READERS = 2  # who see how far one upload is; for each the server looks twenty times a second
COMING = 0.5  # seconds, within which an upload may begin whose progress was asked for first
PLACE, PREFIX = "GRADIO_TEMP_DIR", "wanda-uploads-"  # where uploads may lie, and a server's own folder there
COMES = "comes-"  # how the name of a file begins that is being received
FULL = {errno.ENOSPC, errno.EDQUOT}  # what systems say of a disk that takes no more


@dataclass(frozen=True)
class Came:
    """An upload that came. digest: of its content; name: as the visitor calls it, made one that a file may have."""

    file: Path
    digest: str
    name: str


@dataclass
class _Upload:
    """An upload that goes on, or whose progress somebody reads. visitors: whose it is."""

    visitors: frozenset[str]
    coming: int = 0
    readers: int = 0


class Uploads:
    """The uploads of a server."""

    def __init__(self) -> None:
        self._under_way: dict[str, _Upload] = {}
        self._at_once: Counter[str] = Counter()
        self._kept, self._keeping = Kept(), asyncio.Lock()

    @contextmanager
    def coming(self, who: str, name: str | None, visitors: frozenset[str]) -> Iterator[None]:
        """Context manager: an upload comes in.

        who: by what shares are counted, empty where they are not; name: by which its progress may be asked for.
        Raises RefusedError for one too many at once, and for a name that is another visitor's.
        """
        if who and self._at_once[who] >= MOST_AT_ONCE:
            raise RefusedError(429, "share", most=MOST_AT_ONCE)
        upload = self._under_way.setdefault(name, _Upload(visitors)) if name is not None else _Upload(visitors)
        if not upload.visitors <= visitors:
            raise RefusedError(403, "stranger")
        self._at_once[who] += 1
        upload.coming += 1
        try:
            yield
        finally:
            upload.coming -= 1
            self._at_once[who] -= 1
            self._at_once += Counter()  # without those of whom nothing comes
            self._forget(name)

    async def reader(self, name: str, visitors: frozenset[str]) -> Callable[[], None]:
        """Let somebody read how far an upload is. -> what has to be called in the end

        Raises RefusedError where there is no such upload of theirs, and for one reader too many.
        """
        if name not in self._under_way:
            await asyncio.sleep(COMING)
        upload = self._under_way.get(name)
        if upload is None or not upload.visitors <= visitors:
            raise RefusedError(404, "path", path=quoted(name))
        if upload.readers >= MOST_READERS:
            raise RefusedError(429, "share", most=MOST_READERS)
        upload.readers += 1

        def ended() -> None:
            upload.readers -= 1
            self._forget(name)

        return ended

    async def keep(
        self, came: Came, folder: Path, who: str, most: int, named: Callable[[], set[str]]
    ) -> tuple[str, list[str]]:
        """Keep an upload that came, below its folder; of too many the oldest go.

        who, most, named: as of `Kept.keep`. -> its path, and the real paths of files that went. Raises OSError; then
        nothing of it is left there.
        """
        async with self._keeping:
            path = folder / came.digest / came.name
            path.parent.mkdir(exist_ok=True)
            try:
                os.replace(came.file, path)
            except OSError:
                with suppress(OSError):  # another file of that content may be in it
                    path.parent.rmdir()
                raise
            return str(path), await self._kept.keep(os.path.realpath(path), who, most, named)

    def _forget(self, name: str | None) -> None:
        """Let an upload go, also what Gradio holds of it, once it has ended and nobody reads about it."""
        upload = self._under_way.get(name) if name is not None else None
        if name is not None and upload is not None and not upload.coming and not upload.readers:
            del self._under_way[name]
            file_upload_statuses.stop_tracking(name)
            file_upload_statuses._signals.pop(name, None)


@asynccontextmanager
async def received(request: Request, boundary: bytes, name: str | None) -> AsyncIterator[Came]:
    """Async context manager: an upload that came, no further than it may go; at the end no more is left of it here.

    boundary: of its form; name: by which its progress may be asked for. Raises RefusedError and ConnectionResetError,
    and OSError where the disk does not take it.
    """
    most, form, size, nbytes, digest = request.page.settings.upload_bytes, Form(boundary), 0, 0, hashlib.sha256()
    try:
        with _coming_file(folder_of(request)) as file:
            more = True
            while more:
                sent, more = await _next(request)
                size += len(sent)
                piece = form.feed(sent)
                nbytes += len(piece)
                if nbytes > most or size > most + FORM_BYTES:
                    raise RefusedError(413, "upload", most=rules.megabytes(most))
                if piece:
                    await to_thread.run_sync(_write, file, digest, piece)
                    if name is not None:
                        file_upload_statuses.append(name, str(form.file), piece)
            called = strip_invalid_filename_characters(Path(str(form.file)).name)
            if not form.ended or called == "..":
                raise RefusedError(400, "form")
            file.close()
            yield Came(Path(file.name), digest.hexdigest(), called)
    finally:
        if name is not None:  # also where no file could be made: whoever reads how far it is hears that it has ended
            file_upload_statuses.set_done(name)


@contextmanager
def _coming_file(folder: Path) -> Iterator[IO[bytes]]:
    """Context manager: a new file of the folder, which is made if need be; at the end it is gone. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile(dir=folder, prefix=COMES, delete=False) as file:
        try:
            yield file
        finally:
            with suppress(OSError):  # what was to be written still, a full disk does not take
                file.close()
            with suppress(OSError):  # it was moved, or the disk lets nothing go
                os.remove(file.name)


@contextmanager
def disk_told() -> Iterator[None]:
    """Context manager: what the disk refuses an upload within it is said to the visitor, without the path, and noted.

    Raises RefusedError. That a connection broke off is left as it is.
    """
    try:
        yield
    except ConnectionError:
        raise
    except OSError as error:
        note("an upload", error)
        if error.errno in FULL:
            raise RefusedError(507, "disk_full") from error
        raise RefusedError(507, "disk", why=error.strerror or type(error).__name__) from error


async def _next(request: Request) -> tuple[bytes, bool]:
    """Wait for the next bytes of an upload. -> these, and whether more come"""
    try:
        async with asyncio.timeout(body.MOST_SECONDS):
            message = await request.receive()
    except TimeoutError:
        raise RefusedError(408, "slow", seconds=body.MOST_SECONDS) from None
    if message["type"] == "http.disconnect":
        raise ConnectionResetError("the upload broke off")
    return message.get("body", b""), message.get("more_body", False)


def _write(file: IO[bytes], digest: Any, piece: bytes) -> None:
    """Write bytes of a file, in a thread."""
    file.write(piece)
    digest.update(piece)


@contextmanager
def own_folder() -> Iterator[None]:
    """Context manager: uploads lie in a folder of this server's own, and what a server left that was killed goes.

    Raises InputError where no folder can be made. Gradio reads the place from the environment as the page is built.
    """
    place = Path(os.environ.get(PLACE) or gettempdir())
    with ExitStack() as held:
        try:
            place.mkdir(parents=True, exist_ok=True)
            os.environ[PLACE] = str(held.enter_context(temporary_folder(PREFIX, place)))
        except OSError as error:
            raise InputError(
                f"uploads cannot be kept in {place} ({first_line(error)}); let {PLACE} name a folder to write to"
            ) from error
        yield


def folder_of(request: Request) -> Path:
    """Return the folder of uploads."""
    return Path(request.scope["app"].uploaded_file_dir)
