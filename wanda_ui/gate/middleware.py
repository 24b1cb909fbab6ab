"""The gate itself, in front of Gradio: which requests there are, what each may carry, and an answer to every other.

What is let through was checked whole; what is not gets one sentence in the visitor's language. Routes of Gradio that
the page does not use (its programming interface, files from other servers, …) are closed by not being listed.
"""

import os
import re
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from functools import partial
from typing import Any

from anyio import CapacityLimiter, to_thread

from wanda_core.errors import WandaError
from wanda_ui.classroom.page import PATHS as CLASS
from wanda_ui.faults import note, unexpected
from wanda_ui.gate import answers, body, form, queue, rate, rules
from wanda_ui.gate.address import MOST_PATH, check_address, check_headers
from wanda_ui.gate.download import answer_download
from wanda_ui.gate.guarded import GuardedPage
from wanda_ui.gate.origin import check_from_here, check_same_site, offering
from wanda_ui.gate.refusal import RefusedError, quoted
from wanda_ui.gate.request import Request, named_in
from wanda_ui.gate.turns import Turns, to_its_end, while_here
from wanda_ui.gate.uploads import FORM_BYTES, Uploads, disk_told, folder_of, received
from wanda_ui.gate.visitors import Visitors, with_cookie
from wanda_ui.jobs import ENGINE, MOST_EVENTS
from wanda_ui.language import choose, say
from wanda_ui.problems import names_only, problem_words

NAME = body.NAME.pattern
READ = re.compile(
    rf"/?|{CLASS}|/(config|favicon\.ico|preview\.png|pwa_icon|theme\.css|robots\.txt|manifest\.json)"
    r"|/(assets|static|svelte)(/(?!\.{1,2}(/|$))[^/\\]+)+"  # a file has one spelling
    rf"|/gradio_api/(app_id|startup-events|theme\.css|queue/data|upload_progress|file=.+|heartbeat/{NAME})"
)
EVENT = re.compile(r"/gradio_api/(queue/join|run/[^/]{1,200})")
QUESTION = re.compile(r"/wanda/([a-z]{1,40})")
DOWNLOAD = re.compile(rf"/wanda/([a-z]{{1,40}})/({NAME})/([^/]{{1,200}})")
UPLOAD, CANCEL, RESET = (f"/gradio_api/{name}" for name in ("upload", "cancel", "reset"))
PROGRESS = "/gradio_api/upload_progress"
ENDPOINTS, ASSISTANTS = "/gradio_api/info", "/mcp"  # of the tools: their list, and the Model Context Protocol
CALL = "tools/call"  # the message by which an assistant runs a tool
LIGHT = 5  # events that run no model, for each that does
QUESTIONS = 40  # and questions: a picture that is dragged asks ten a second
BODIES = 50  # and pieces of JSON, whatever is in them
QUESTIONS_AT_ONCE = 4  # threads; each may hold a matrix and its masks
QUESTIONS_OF_ADDRESS = 2  # of these, on a public server; and one of each browser
QUESTION_SECONDS = 0.025  # of computing, that count as one question
MOST_VISITING = 10_000  # browsers with a question that runs, or is next of theirs
DOWNLOADS_AT_ONCE = 4  # threads that make the bytes of downloads

Send = Callable[[Any], Awaitable[None]]


class Gate:
    """ASGI middleware in front of a page that is a `GuardedPage`."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self._rates: dict[int, rate.Rate] = {}
        self._limiters: dict[str, CapacityLimiter] = {}
        self._visitors = Visitors()
        self._uploads = Uploads()
        self._questions, self._visiting = Turns(QUESTIONS_AT_ONCE), Turns(MOST_VISITING)

    async def __call__(self, scope: dict[str, Any], receive: body.Receive, send: Send) -> None:
        """Let a request through, or answer it."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif scope["type"] == "http":
            await self._answered(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1000})

    async def _answered(self, scope: dict[str, Any], receive: body.Receive, send: Send) -> None:
        """Answer a request whatever happens: what is raised becomes a sentence, and a line in the log."""
        headers = dict(reversed([(name.lower(), value) for name, value in scope["headers"]]))
        asked = next((value for name, value in named_in(scope["query_string"]) if name == "lang"), None)
        speak = partial(say, choose(asked, headers.get(b"accept-language", b"").decode("latin-1")[:MOST_PATH]))
        plain = scope["path"] == UPLOAD or scope["method"] in ("GET", "HEAD")
        started = False

        async def noticed(message: dict[str, Any]) -> None:
            nonlocal started
            started = True
            await send(message)

        request = Request(scope, receive, noticed, headers, speak, plain)
        try:
            await self._through(request)
        except RefusedError as refused:
            if not started:
                await answers.answer(send, refused.status, refused.words(speak), plain)
        except ConnectionResetError:  # the visitor has gone
            pass
        except Exception as error:
            note(f"{scope['method']} {quoted(_without_secret(scope['path']))}", error)
            if started:
                await send({"type": "http.response.body", "body": b""})
            else:
                await answers.answer(send, 500, unexpected(error, speak), plain)

    async def _through(self, request: Request) -> None:
        """Check a request by its method and path, and let it through."""
        method, path = request.scope["method"], request.scope["path"]
        names_only.set(request.page.settings.public)
        check_address(request)
        check_headers(request)
        if method not in ("GET", "HEAD") or path.startswith(("/gradio_api", "/wanda")):
            check_same_site(request.headers, request.page.settings.trusted_header is not None)
        if path == "/" and (offered := offering(request.headers, request.asked)) is not None:
            await answers.lead(request.send, f"?{offered}")
        elif method in ("GET", "HEAD") and READ.fullmatch(path):
            await self._read(request)
        elif method in ("GET", "HEAD") and _is_download(request):
            await self._download(request)
        elif method == "POST" and EVENT.fullmatch(path):
            await self._event(request, queued=path.endswith("/queue/join"))
        elif method == "POST" and path == UPLOAD:
            await self._upload(request)
        elif method == "POST" and _is_question(request):
            await self._question(request, path.rpartition("/")[2])
        elif method == "POST" and path in (CANCEL, RESET):
            await self._end(request, path)
        elif request.page.tools and path in (ENDPOINTS, ASSISTANTS):
            await self._tools(request, path)
        elif _is_known(request):
            raise RefusedError(405, "method", method=quoted(method))
        else:
            raise RefusedError(404, "path", path=quoted(path))

    async def _read(self, request: Request) -> None:
        """Let a page, a file or a stream be read."""
        path, query = request.scope["path"], request.query
        file = path.removeprefix("/gradio_api/file=")
        # Every file that is handed out has a whole path, and another place's address is none.
        if file != path and (not os.path.isabs(file) or re.match(r"[A-Za-z][A-Za-z0-9+.-]*:/", file)):
            raise RefusedError(404, "path", path=quoted(path))
        if file != path and rules.is_among_uploads(file) and not self._visitors.has_uploaded(file, request.headers):
            raise RefusedError(404, "path", path=quoted(path))
        if path.startswith("/gradio_api/heartbeat/"):
            self._visitors.check_session(session := path.rpartition("/")[2], request.headers)
            with request.page.states.opened(session):
                await self.app(request.scope, request.receive, request.send)
            return
        if path == PROGRESS and not body.NAME.fullmatch(query.get("upload_id", "")):
            raise RefusedError(404, "path", path=quoted(path))
        if path == "/gradio_api/queue/data":
            session = query.get("session_hash", "")
            if body.NAME.fullmatch(session):
                self._visitors.check_session(session, request.headers)
            if session not in request.page._queue.pending_messages_per_session:
                await answers.lost_session(request.send, request.say("gate.lost"))
                return
        send = request.send
        if path in ("", "/"):
            if "page" in query or "deep_link" in query:  # of Gradio's, which this page has none of
                raise RefusedError(404, "path", path=quoted(f"/?{'page' if 'page' in query else 'deep_link'}"))
            send = with_cookie(send, request.headers, request.scope["scheme"])
        with ExitStack() as ending:
            if path == PROGRESS:
                ending.callback(await self._uploads.reader(query["upload_id"], request.visitors))
            await self.app(request.scope, request.receive, send)

    async def _event(self, request: Request, queued: bool) -> None:
        """Check an event: who asks, for what, and every value; then write on it when it came."""
        page = request.page
        raw, event = await self._json(request)
        body.check_keys(event, {"data", "fn_index", "session_hash"}, {"event_data", "trigger_id"})
        session = body.check_name(event, "session_hash")
        self._visitors.check_session(session, request.headers)
        asked = _event_of(page, event["fn_index"])
        if event["fn_index"] in page.tools:
            check_from_here(request.scope, request.headers, page.server_name)
        if not queued and asked.queue:
            raise RefusedError(404, "queued")
        trigger = event.get("trigger_id")
        if trigger is not None and (type(trigger) is not int or trigger not in {page._id, *page.blocks}):
            raise RefusedError(400, "trigger", value=quoted(trigger))
        rules.check_event_data(event.get("event_data"))
        state = page.state_holder.session_data.get(session)
        current = state.blocks_config.blocks if state is not None else page.blocks
        rules.check_values(asked.inputs, event["data"], current, page.settings)
        self._take(request, 1 if asked.concurrency_id == ENGINE["concurrency_id"] else LIGHT)
        # Last: it looks at the disk, for each file that is named. Until here they are few, and their paths are short.
        files = self._visitors.check_files([event.get("event_data"), event["data"]], request.headers)
        self._visitors.begin_session(session, request.headers, partial(_is_open, page))
        scope = request.arrived()
        asker = scope[queue.ASKER] = queue.Asker(request.who(session), files, request.say("gate.unheard"))

        def refuse(status: int) -> tuple[int, str] | None:
            if status != 503:
                return None
            stopped = RefusedError(503, "stopped") if page._queue.stopped else None
            refused = asker.refused or stopped or RefusedError(429, "busy", most=MOST_EVENTS)
            return refused.status, refused.words(request.say)

        send = answers.replacing(request.send, refuse, request.plain)
        await self.app(scope, _again(raw, request.receive), send if queued else request.send)

    async def _tools(self, request: Request, path: str) -> None:
        """Let the list of tools be read, or have a message of an assistant answered."""
        check_from_here(request.scope, request.headers, request.page.server_name)
        method, assistants = request.scope["method"], request.page.assistants
        if method != ("GET" if path == ENDPOINTS else "POST"):
            raise RefusedError(405, "method", method=quoted(method))
        if path == ENDPOINTS:
            await self.app(request.scope, request.receive, request.send)
            return
        raw, message = await self._json(request)
        rules.check_event_data(message)
        self._take(request, 1 if message.get("method") == CALL else LIGHT)
        scope = request.arrived()
        assert assistants is not None  # there are tools
        await assistants.handle(scope, _again(raw, request.receive), request.send)

    async def _question(self, request: Request, name: str) -> None:
        """Answer a question of the page's own script, in a thread beside the engine's."""
        _, asked = await self._json(request)
        rules.check_event_data(asked)
        self._take(request, QUESTIONS)
        public = request.page.settings.public
        try:
            answer = await while_here(request.receive, partial(self._answer, request, name, asked, public))
        except WandaError as error:
            await answers.answer(request.send, 400, problem_words(error, request.say), False)
            return
        await answers.answer_json(request.send, answer, b"gzip" in request.headers.get(b"accept-encoding", b""))

    async def _answer(self, request: Request, name: str, asked: dict[str, Any], public: bool) -> dict[str, Any]:
        """Answer a question once it is the turn of who asks; one that takes long counts as the many that it is."""
        spent: list[float] = []

        def timed() -> dict[str, Any]:
            began = time.thread_time()
            try:
                return request.page.questions[name](asked, request.say, request.visitors)
            finally:
                spent.append(time.thread_time() - began)

        few, one = (QUESTIONS_OF_ADDRESS, 1) if public else (QUESTIONS_AT_ONCE, QUESTIONS_AT_ONCE)
        # Without a cookie, and behind a proxy, nobody can be told from anybody.
        visitor = request.visitor or request.who()
        try:
            async with (
                self._visiting.turn(visitor, one if visitor else QUESTIONS_AT_ONCE),
                self._questions.turn(request.who() or visitor, few if visitor else QUESTIONS_AT_ONCE),
            ):
                return await to_its_end(to_thread.run_sync(timed, limiter=self._limiter(QUESTIONS_AT_ONCE)))
        finally:
            cost = int(sum(spent) / QUESTION_SECONDS)
            self._rate(request, QUESTIONS).charge(request.address, cost)

    async def _download(self, request: Request) -> None:
        """Send a download that the page has made, to whoever has its address."""
        if request.page.settings.public:
            raise RefusedError(403, "public")
        name, secret, file = DOWNLOAD.fullmatch(request.scope["path"]).groups()  # type: ignore[union-attr]
        self._take(request, LIGHT)
        found = request.page.downloads[name](secret, file)
        if found is None:
            raise RefusedError(404, "download")
        asks = request.scope["method"] == "GET"
        limiter = self._limiter(DOWNLOADS_AT_ONCE, "downloads")
        try:
            await answer_download(request.receive, request.send, request.headers, found, asks, limiter)
        except WandaError as error:
            await answers.answer(request.send, 429, problem_words(error, request.say), request.plain)

    def _limiter(self, most: int, what: str = "questions") -> CapacityLimiter:
        """Return what keeps threads of one kind from taking all cores and all memory together."""
        return self._limiters.setdefault(what, CapacityLimiter(most))  # it needs a running event loop

    async def _upload(self, request: Request) -> None:
        """Receive an upload: Gradio's own reading of forms decodes them by whatever a visitor names."""
        most = request.page.settings.upload_bytes
        kind = request.headers.get(b"content-type", b"")
        boundary = form.boundary_of(kind)
        if boundary is None:
            given = quoted(kind.split(b";")[0].decode("latin-1"))
            raise RefusedError(415, "content_type", value=given, wanted="multipart/form-data; boundary=…")
        if "upload_id" in request.query and not body.NAME.fullmatch(request.query["upload_id"]):
            raise RefusedError(400, "name", name="upload_id", value=quoted(request.query["upload_id"]), most=64)
        body.check_length(request.headers, most + FORM_BYTES, "upload", rules.megabytes(most))
        self._take(request, 1)
        page, whose, name = request.page, request.who(), request.query.get("upload_id")
        with self._uploads.coming(whose if page.settings.public else "", name, request.visitors), disk_told():
            async with received(request, boundary, name) as came:
                path, went = await self._uploads.keep(came, folder_of(request), whose, most, page._queue.files)
        self._visitors.uploaded(path, request.headers)
        page.upload_file_set.difference_update(went)
        page.upload_file_set.add(os.path.realpath(path))  # Gradio removes it after an hour
        await answers.answer_json(request.send, [path], False)

    async def _end(self, request: Request, path: str) -> None:
        """Let a visitor end an event of their own."""
        raw, ended = await self._json(request)
        needed = {"event_id", "session_hash", "fn_index"} if path == CANCEL else {"event_id"}
        body.check_keys(ended, needed, {"session_hash", "fn_index"})
        for key in needed - {"fn_index"}:
            body.check_name(ended, key)
        if "fn_index" in needed:
            session, waiting = ended["session_hash"], request.page._queue
            self._visitors.check_session(session, request.headers)
            _event_of(request.page, ended["fn_index"])
            if not waiting.has_event(ended["event_id"], session):  # else who knows its name alone ends a stranger's
                raise RefusedError(404, "no_event", value=quoted(ended["event_id"]))
            if unread := waiting.unread(request.who(session), session):
                raise unread
        await self.app(request.scope, _again(raw, request.receive), request.send)

    async def _json(self, request: Request) -> tuple[bytes, dict[str, Any]]:
        """Read a JSON object, whose size is counted before anything looks into it. -> its bytes, and what they say"""
        raw = await body.read_body(request.receive, request.headers, body.MOST_JSON)
        self._rate(request, BODIES).take(request.address, 1 + len(raw) // body.PIECE)
        return raw, body.parse(raw, request.headers)

    def _take(self, request: Request, times: int) -> None:
        """Count an event of the visitor's address. Raises RefusedError for one too many.

        times: of the events that run a model, how many such events are allowed.
        """
        self._rate(request, times).take(request.address)

    def _rate(self, request: Request, times: int) -> rate.Rate:
        """Return what counts the events of one kind. times: as above."""
        return self._rates.setdefault(times, rate.Rate(times * request.page.settings.jobs_a_minute))


def _is_question(request: Request) -> bool:
    """Whether the path is that of a question that the page answers."""
    asked = QUESTION.fullmatch(request.scope["path"])
    return asked is not None and asked[1] in request.page.questions


def _is_download(request: Request) -> bool:
    """Whether the path may be that of a download of the page's."""
    asked = DOWNLOAD.fullmatch(request.scope["path"])
    return asked is not None and asked[1] in request.page.downloads


def _without_secret(path: str) -> str:
    """Return a path as a log may hold it: whoever has a download's address has the download."""
    return DOWNLOAD.sub(r"/wanda/\1/…/\3", path)


def _is_known(request: Request) -> bool:
    """Whether there is such a path, whatever its method is."""
    path = request.scope["path"]
    own = _is_question(request) or _is_download(request)
    return own or bool(READ.fullmatch(path) or EVENT.fullmatch(path)) or path in (UPLOAD, CANCEL, RESET)


def _event_of(page: GuardedPage, number: object) -> Any:
    """Return an event of the page that the server answers. Raises RefusedError for any other number."""
    event = page.fns.get(number) if type(number) is int else None
    if event is None or event.fn is None:
        raise RefusedError(400, "event", value=quoted(number))
    return event


def _is_open(page: GuardedPage, session: str) -> bool:
    """Whether Gradio holds anything for a session."""
    return session in page._queue.pending_messages_per_session or session in page.state_holder.session_data


def _again(raw: bytes, receive: body.Receive) -> body.Receive:
    """Make a `receive` that hands on a body which was read already."""
    sent = False

    async def replay() -> Any:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": raw, "more_body": False}

    return replay
