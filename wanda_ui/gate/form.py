"""The form that an upload is: one file, called `files`, as the page sends it, read strictly as it comes.

Nothing in it is decoded as it asks for, nothing is unpacked, and what it says beside the file's name is not looked at.
"""

import re

from wanda_ui.gate.refusal import RefusedError

KIND, PART, FILE = b"multipart/form-data", b"form-data", b"files"
MOST_KIND = 1_000  # bytes of the header Content-Type
MOST_HEAD = 4_000  # bytes of what stands above the file; a file system takes names of 255, of which each may be %XX
VALUE = rb'"(?:[^"\\]|\\.)*"|[^;\s"]+'
NAMED = re.compile(rb"\s*;\s*([\w*-]+)=(%b)" % VALUE, re.DOTALL)
BOUNDARY = re.compile(rb"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]")  # RFC 2046, section 5.1.1
END = b"\r\n"


def boundary_of(kind: bytes) -> bytes | None:
    """Return what parts a form, None where the header Content-Type is that of no form, or of one without."""
    options = _options(kind, KIND) if len(kind) <= MOST_KIND else None
    boundary = (options or {}).get(b"boundary", b"")
    return boundary if BOUNDARY.fullmatch(boundary) else None


def _options(header: bytes, kind: bytes) -> dict[bytes, bytes] | None:
    """Return what a header says behind its kind, by lower-case name; None for another kind and for what is no list of
    names and values, or says one twice."""
    if header[: len(kind)].lower() != kind:
        return None
    place, options = len(kind), {}
    while match := NAMED.match(header, place):
        name, value = match[1].lower(), match[2]
        if name in options:
            return None
        options[name] = re.sub(rb"\\(.)", rb"\1", value[1:-1]) if value[:1] == b'"' else value
        place = match.end()
    return None if header[place:].strip(b"; \t") else options


class Form:
    """A form as it comes. file: the name of its file, once that is known; ended: whether all of the file has come."""

    def __init__(self, boundary: bytes) -> None:
        self.file: str | None = None
        self.ended = False
        self._parting = END + b"--" + boundary
        self._held = END  # what was not read yet; the first boundary has nothing above it
        self._begun = self._closing = False

    def feed(self, data: bytes) -> bytes:
        """Take bytes of the form. -> those of the file in them. Raises RefusedError for any other form."""
        self._held += data
        if not self._begun:
            self._begin()
        if self._begun and self.file is None:
            self._head()
        if self.file is None or self.ended:
            return b""
        file = b"" if self._closing else self._file()
        if self._closing and len(self._held) >= len(b"--"):
            if not self._held.startswith(b"--"):  # another part
                raise RefusedError(400, "form")
            self.ended, self._held = True, b""
        return file

    def _begin(self) -> None:
        """Read the first boundary."""
        opening = self._parting + END
        if not self._held.startswith(opening[: len(self._held)]):
            raise RefusedError(400, "form")
        if len(self._held) >= len(opening):
            self._begun, self._held = True, self._held[len(opening) :]

    def _head(self) -> None:
        """Read what stands above the file."""
        head, found, rest = self._held.partition(END + END)
        if len(head) > MOST_HEAD:
            raise RefusedError(400, "form")
        if not found:
            return
        lines = [line.partition(b":") for line in head.split(END)]
        said = [value.strip() for name, _, value in lines if name.strip().lower() == b"content-disposition"]
        options = _options(said[0], PART) if len(said) == 1 else None
        if options is None or options.get(b"name") != FILE or b"filename" not in options:
            raise RefusedError(400, "form")
        self.file, self._held = options[b"filename"].decode("utf-8", "replace"), rest

    def _file(self) -> bytes:
        """Read on until the next boundary."""
        file, found, rest = self._held.partition(self._parting)
        if found:
            self._closing, self._held = True, rest
            return file
        kept = len(self._parting) - 1  # bytes with which a boundary may begin
        file, self._held = self._held[:-kept], self._held[-kept:]
        return file
