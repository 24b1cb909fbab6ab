"""The form that an upload is: one file, by no codec but UTF-8, cut where it says, however it comes in pieces."""

import time

import pytest

from wanda_ui.gate.form import MOST_HEAD, MOST_KIND, Form, boundary_of
from wanda_ui.gate.refusal import RefusedError

KINDS = {
    b"multipart/form-data; boundary=edge": b"edge",
    b"Multipart/Form-Data;BOUNDARY=edge": b"edge",
    b'multipart/form-data; charset=utf-8; boundary="a b"': b"a b",
    b"multipart/form-data; boundary=----WebKitFormBoundaryAbC0; charset=punycode": b"----WebKitFormBoundaryAbC0",
    b"multipart/form-data; boundary=" + b"b" * 70: b"b" * 70,
    b"multipart/form-data; boundary=" + b"b" * 71: None,
    b"multipart/form-data; boundary=": None,
    b'multipart/form-data; boundary=""': None,
    b'multipart/form-data; boundary="a "': None,
    b'multipart/form-data; boundary="a\r\nb"': None,
    b"multipart/form-data; boundary=a; boundary=b": None,
    b"multipart/form-data; boundary*=edge": None,
    b"multipart/form-data": None,
    b"multipart/form-data-x; boundary=edge": None,
    b"multipart/mixed; boundary=edge": None,
    b"application/json; boundary=edge": None,
    b"multipart/form-data; boundary=edge; a=" + b"a" * MOST_KIND: None,
    b"": None,
}


@pytest.mark.parametrize("kind", KINDS, ids=range(len(KINDS)))
def test_a_form_says_what_parts_it(kind):
    assert boundary_of(kind) == KINDS[kind]


def form(content=b"words", said=b'form-data; name="files"; filename="a.txt"', more=b"Content-Type: text/plain\r\n"):
    """One file as a browser sends it."""
    return b"--edge\r\nContent-Disposition: %b\r\n%b\r\n%b\r\n--edge--\r\n" % (said, more, content)


def read(sent, pieces=None):
    """-> (the file's name, its content, whether it came whole); pieces: of how many bytes it comes"""
    came, pieces = Form(b"edge"), pieces or len(sent) or 1
    content = b"".join(came.feed(sent[at : at + pieces]) for at in range(0, len(sent), pieces))
    return came.file, content, came.ended


CONTENTS = [b"", b"words", b"\r\n", b"\r\n--edg", b"--edge--", b"\r\n\r\n--edge", bytes(range(256)), b"\r" * 300]


@pytest.mark.parametrize("pieces", [None, 1, 2, 7, 64])
@pytest.mark.parametrize("content", CONTENTS, ids=range(len(CONTENTS)))
def test_the_file_is_what_stands_between_the_boundaries(content, pieces):
    if content.endswith(b"\r\n--edge"):
        with pytest.raises(RefusedError):
            read(form(content), pieces)
    else:
        assert read(form(content), pieces) == ("a.txt", content, True)


NAMES = {
    b'"a.txt"': "a.txt",
    '"한글 🙂.txt"'.encode(): "한글 🙂.txt",
    b'""': "",
    b"a.txt": "a.txt",
    rb'"a\"b.txt"': 'a"b.txt',
    b'"a%22b.txt"': "a%22b.txt",
    b'"a;b.txt"': "a;b.txt",
    b'"\xff.txt"': "\ufffd.txt",
    b'"' + b"n" * (MOST_HEAD - 100) + b'"': "n" * (MOST_HEAD - 100),
}


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_a_file_has_the_name_that_stands_there(name):
    assert read(form(said=b'form-data; name="files"; filename=' + name)) == (NAMES[name], b"words", True)
    assert read(form(said=b"form-data; filename=" + name + b"; name=files")) == (NAMES[name], b"words", True)


OTHERS = {
    "no file": form(said=b'form-data; name="files"'),
    "another name": form(said=b'form-data; name="other"; filename="a.txt"'),
    "no name": form(said=b'form-data; filename="a.txt"'),
    "a name in any charset": form(said=b"form-data; name=\"files\"; filename*=punycode''a"),
    "two names": form(said=b'form-data; name="files"; filename="a"; filename="b"'),
    "an open quote": form(said=b'form-data; name="files"; filename="a'),
    "not form-data": form(said=b'attachment; name="files"; filename="a.txt"'),
    "twice said": form(more=b'Content-Disposition: form-data; name="x"\r\n'),
    "nothing said": b"--edge\r\nA: b\r\n\r\nwords\r\n--edge--\r\n",
    "a long head": form(more=b"a: " + b"a" * MOST_HEAD),
    "another boundary": form().replace(b"edge", b"edgy"),
    "something above": b"x\r\n" + form(),
    "two files": form().removesuffix(b"--\r\n") + form().removeprefix(b"--edge"),
    "a field too": form().removesuffix(b"--\r\n")
    + b'\r\nContent-Disposition: form-data; name="x"\r\n\r\ny\r\n--edge--',
}


@pytest.mark.parametrize("pieces", [None, 1])
@pytest.mark.parametrize("name", OTHERS)
def test_a_form_of_anything_else_is_refused(name, pieces):
    with pytest.raises(RefusedError) as refused:
        read(OTHERS[name], pieces)
    assert (refused.value.status, refused.value.key) == (400, "form")


def test_a_form_that_breaks_off_is_no_whole_file():
    whole = form()
    for length in range(whole.index(b"\r\n--edge--") + len(b"\r\n--edge--")):
        assert read(whole[:length])[2] is False
    assert read(whole + b"what stands below is nobody's" * 99) == ("a.txt", b"words", True)


def test_what_a_form_costs_grows_with_its_length_alone():
    def seconds(content):
        began = time.thread_time()
        read(form(content), 2**16)
        return time.thread_time() - began

    for piece in (b"\r\n--edg", b"-", b"\r\n", b"\\", b"\r\n--"):
        assert seconds(piece * (2**22 // len(piece))) < 1.0  # four megabytes
    for said in (b"; a=b" * 700, b";" * 3500, b'"\\' * 1700, b" " * 3500, b"\\" * 3500):
        began = time.thread_time()
        with pytest.raises(RefusedError):
            read(form(said=b'form-data; name="files"; filename="' + said))
        boundary_of(b"multipart/form-data; boundary=" + said)
        assert time.thread_time() - began < 0.1
