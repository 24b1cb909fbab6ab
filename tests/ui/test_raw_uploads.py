"""Uploads as anybody can send them: one file each, none left that nobody counts, and nobody waits for a stranger's."""

import errno
import json
import os
import threading
import time
from contextlib import closing
from encodings import _cache as codecs
from pathlib import Path

import pytest
from raw_requests import Raw, is_told

from wanda_core.errors import InputError
from wanda_core.machine import temporary
from wanda_ui.gate import uploads
from wanda_ui.gate.uploads import PLACE, PREFIX, own_folder

FORM = "multipart/form-data; boundary=edge"
EROFS = os.strerror(errno.EROFS)
SOON = 2.0  # seconds; before, each of these took five times as long


def part(name=b"files", file=b"a.txt", content=b"words"):
    said = b'Content-Disposition: form-data; name="%b"' % name
    said += b'; filename="%b"' % file if file is not None else b""
    return b"--edge\r\n%b\r\n\r\n%b\r\n" % (said, content)


def send(raw, *parts, kind=FORM, path="/gradio_api/upload"):
    return raw.send("POST", path, b"".join(parts) + b"--edge--\r\n", {"content-type": kind})


def stored():
    """All that lies in the folder of uploads."""
    return set(Path(os.environ["GRADIO_TEMP_DIR"]).rglob("*"))


LEAVE_NOTHING = {
    "another name": [part(b"other")],
    "many files": [part(file=b"%d.txt" % n, content=b"%d" % n) for n in range(1000)],
    "one is not taken": [part(), part(file=b"..")],
    "no name that a file has": [part(file=b"..")],
    "none behind a folder's": [part(file=b"a/..")],
    "a field": [part(b"x-", None)],
    "a field and a file": [part(b"x-", None), part()],
    "no end": [part()[:-2] + b"and more"],
}


@pytest.mark.parametrize("name", LEAVE_NOTHING)
def test_an_upload_that_is_refused_leaves_no_file_and_no_folder(raw, name):
    before, began = stored(), time.monotonic()
    reply = send(raw, *LEAVE_NOTHING[name])
    assert reply.status == 400
    assert is_told(reply)
    assert time.monotonic() - began < SOON
    assert stored() == before


FULL = "The disk that this server keeps uploads on is full; send the file again once it has room, or tell "
NOT_NOW = "This server cannot keep uploads now ({}); send the file again later, or tell whoever runs it."
REFUSES = {
    "as it is written": ("_write", lambda *_: refused(errno.ENOSPC), FULL),
    "as its last bytes are": ("_write", lambda file, *_: setattr(file, "close", lambda: refused(errno.ENOSPC)), FULL),
    "as it is moved": ("os.replace", lambda *_: refused(errno.EDQUOT), FULL),
    "as a file is made": ("NamedTemporaryFile", lambda **_: refused(errno.EROFS), NOT_NOW.format(EROFS)),
    "as the folder is": ("Path.mkdir", lambda *_, **__: refused(errno.ENOTDIR), NOT_NOW.format("Not a directory")),
}


@pytest.mark.parametrize("name", REFUSES)
def test_an_upload_that_the_disk_refuses_is_told_so_leaves_nothing_and_the_next_one_comes(served, monkeypatch, name):
    where, refuse, said = REFUSES[name]
    before, ended = stored(), []
    with monkeypatch.context() as patch, closing(Raw(served[1])) as raw:
        patch.setattr(f"{uploads.__name__}.{where}", refuse)
        patch.setattr(uploads.file_upload_statuses, "set_done", ended.append)
        reply = send(raw, part(content=name.encode()), path="/gradio_api/upload?upload_id=some")
    assert reply.status == 507
    assert is_told(reply)
    assert reply.sentence.startswith(said)
    assert ended == ["some"]  # whoever reads how far it is would wait for ever
    assert stored() == before
    with closing(Raw(served[1])) as raw:
        (path,) = json.loads(send(raw, part(content=name.encode())).body)
    assert Path(path).read_bytes() == name.encode()


def test_a_disk_that_is_full_is_told_in_the_visitors_language(served, monkeypatch):
    monkeypatch.setattr(uploads, "_write", lambda *_: refused(errno.ENOSPC))
    with closing(Raw(served[1])) as raw:
        assert "디스크가 가득 찼어요" in send(raw, part(), path="/gradio_api/upload?lang=ko").sentence


def refused(number):
    raise OSError(number, os.strerror(number), "/srv/somebody/uploads")


def test_a_file_is_kept_as_it_came_whatever_the_form_says_of_its_codec(raw):
    known = set(codecs)
    content = "\U00010000".encode("punycode") + b"a" * 250_000
    began = time.monotonic()
    for codec in ("punycode", "idna", f"no-such-codec-{os.getpid()}", "utf-16"):
        reply = send(raw, part(file="한글.txt".encode(), content=content), kind=f"{FORM}; charset={codec}")
        [path] = json.loads(reply.body)
        assert (reply.status, Path(path).name, Path(path).read_bytes()) == (200, "한글.txt", content)
        assert send(raw, part(b"x", None, content), kind=f"{FORM}; charset={codec}").status == 400
    assert time.monotonic() - began < SOON
    assert set(codecs) - known <= {"punycode"}  # of this test itself


def test_how_far_an_upload_is_can_be_asked_for(raw):
    heard = []

    def listen():
        with closing(Raw(raw.address.geturl())) as other:
            heard.append(other.send("GET", "/gradio_api/upload_progress?upload_id=mine").body.decode())

    listener = threading.Thread(target=listen)
    whole = part(content=b"x" * 200_000) + b"--edge--\r\n"

    def slowly():
        yield whole[:100_000]
        listener.start()
        time.sleep(0.3)
        yield whole[100_000:]

    kind = {"content-type": FORM, "content-length": str(len(whole))}
    reply = raw.send("POST", "/gradio_api/upload?upload_id=mine", slowly(), kind)
    assert reply.status == 200
    listener.join(20)
    assert '"msg": "update", "orig_name": "a.txt"' in heard[0]
    assert '"msg": "done"' in heard[0]


def test_uploads_lie_in_a_folder_of_the_servers_own(tmp_path, monkeypatch):
    monkeypatch.setenv(PLACE, str(tmp_path / "place"))
    (tmp_path / "place" / "somebody's").mkdir(parents=True)
    left = tmp_path / "place" / f"{PREFIX}{os.getpid()}-{temporary._machine()}-left"  # by one that had our number
    (left / temporary.HELD / "digest").mkdir(parents=True)
    os.utime(left, (1e9, 1e9))
    with own_folder():
        own = Path(os.environ[PLACE])
        assert own.is_dir()
        assert not list(own.iterdir())
        (own / "a.txt").write_text("words")
        assert {path.name for path in (tmp_path / "place").iterdir()} == {"somebody's", own.parent.name}
    assert [path.name for path in (tmp_path / "place").iterdir()] == ["somebody's"]


def test_a_place_for_uploads_that_cannot_be_written_is_said(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(PLACE, str(tmp_path / "file" / "place"))
    with pytest.raises(InputError, match="let GRADIO_TEMP_DIR name a folder"), own_folder():
        pass
