"""What every answer tells a browser: no other site lays the page into its own, and no header of a request returns."""

import json

import pytest

from wanda_ui.gate.policies import headers_for

EVERYWHERE = ["/", "/config", "/class", "/theme.css", "/nowhere", "/favicon.ico", "/gradio_api/file=/etc/passwd"]


@pytest.mark.parametrize("path", EVERYWHERE)
def test_every_answer_says_who_may_frame_it_and_that_its_type_is_its_type(raw, path):
    for method in ("GET", "HEAD", "POST"):
        headers = raw.send(method, path).headers
        policy = headers["content-security-policy"].split("; ")
        assert policy == ["frame-ancestors 'self'", "object-src 'none'", "base-uri 'self'", "form-action 'self'"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "SAMEORIGIN"
        assert headers["referrer-policy"] == ("no-referrer" if path == "/class" and method != "POST" else "same-origin")


def test_a_space_is_shown_in_the_hubs_page_and_nowhere_else():
    headers = dict(headers_for({"SPACE_ID": "owner/name"}))
    assert headers[b"content-security-policy"].startswith(b"frame-ancestors 'self' https://huggingface.co; ")
    assert b"x-frame-options" not in headers  # which would refuse the hub


RANGES = ["bytes=0-1-2", "bytes=²-³", "bytes=5-2", "bytes=0-99999999999999999999999999", "bytes=0-5", "bytes=-", "x"]


@pytest.mark.parametrize("asked", RANGES)
def test_a_file_is_sent_whole_whatever_part_is_asked_for_and_no_header_comes_back(raw, asked):
    (path,) = json.loads(raw.upload(("a.txt", b"ten bytes!")).body)
    reply = raw.send("GET", f"/gradio_api/file={path}", headers={"range": asked.encode("latin-1"), "x-mirror": "seen"})
    assert (reply.status, reply.body) == (200, b"ten bytes!")
    assert "x-mirror" not in reply.headers
    assert "cookie" not in reply.headers
    assert raw.send("GET", "/preview.png", headers={"range": asked.encode("latin-1")}).status == 200
