"""Whose a session and an upload are: of a browser, whichever of its cookies came first; never of who sends another."""

import asyncio

import pytest

from wanda_ui.gate import visitors as module
from wanda_ui.gate.refusal import RefusedError
from wanda_ui.gate.visitors import MOST_COOKIES, MOST_FILES, Visitors, with_cookie


def given(headers):
    """The cookie that a page sets, as a browser sends it back; empty where it sets none."""
    sent = []

    async def send(message):
        sent.append(message)

    asyncio.run(with_cookie(send, headers, "http")({"type": "http.response.start", "status": 200, "headers": []}))
    return dict(sent[0]["headers"]).get(b"set-cookie", b"").partition(b";")[0]


def test_tabs_opened_at_once_keep_their_sessions_whichever_page_comes_last():
    """Two pages are asked for before the browser has a cookie; the second comes when the first has its session."""
    visitors = Visitors()
    first, second = given({}), given({})
    assert first.partition(b"=")[0] != second.partition(b"=")[0]  # so a browser keeps both
    visitors.begin_session("tab-1", {b"cookie": first})
    visitors.uploaded("/tmp/kept.txt", {b"cookie": first})
    both = {b"cookie": b"other=1; " + second + b"; " + first}
    visitors.begin_session("tab-1", both)
    visitors.begin_session("tab-2", both)
    assert visitors.has_uploaded("/tmp/kept.txt", both)
    assert given(both) == b""
    stranger = {b"cookie": given({})}
    assert not visitors.has_uploaded("/tmp/kept.txt", stranger)
    for session in ("tab-1", "tab-2"):
        with pytest.raises(RefusedError):
            visitors.check_session(session, stranger)
        with pytest.raises(RefusedError):
            visitors.check_session(session, {})


def test_what_is_begun_without_a_cookie_is_nobodys_who_has_one():
    visitors = Visitors()
    visitors.begin_session("program", {})
    visitors.check_session("program", {b"cookie": b"other=1; wanda_visitor=short"})
    with pytest.raises(RefusedError):
        visitors.check_session("program", {b"cookie": given({})})


def test_of_many_cookies_a_few_are_read():
    visitors = Visitors()
    many = [given({}) for _ in range(3 * MOST_COOKIES)]
    visitors.begin_session("tab", {b"cookie": b"; ".join(many)})
    visitors.check_session("tab", {b"cookie": many[0]})
    with pytest.raises(RefusedError):
        visitors.check_session("tab", {b"cookie": many[-1]})


def test_who_only_looks_begins_nothing_and_many_sessions_take_no_open_one_away(monkeypatch):
    monkeypatch.setattr(module, "MOST_SESSIONS", 5)
    visitors, mine, others = Visitors(), {b"cookie": given({})}, {b"cookie": given({})}
    for number in range(20):
        visitors.check_session(f"looked-at-{number}", others)
    visitors.begin_session("looked-at-3", mine)
    visitors.begin_session("idle", mine)
    for number in range(20):
        visitors.begin_session(f"more-{number}", others, is_open=lambda session: session == "looked-at-3")
    with pytest.raises(RefusedError):
        visitors.check_session("looked-at-3", others)
    visitors.check_session("idle", others)  # which nobody holds any more


def test_who_begins_is_not_forgotten_where_all_others_are_open(monkeypatch):
    monkeypatch.setattr(module, "MOST_SESSIONS", 2)
    visitors, mine, others = Visitors(), {b"cookie": given({})}, {b"cookie": given({})}
    for session in ("one", "two"):
        visitors.begin_session(session, others)
    visitors.begin_session("new", mine, is_open=lambda session: session in ("one", "two"))
    for session in ("one", "two"):
        visitors.check_session(session, others)
    with pytest.raises(RefusedError):
        visitors.check_session("new", others)


def test_one_visitors_many_uploads_take_nobody_elses_away():
    visitors, mine, others = Visitors(), {b"cookie": given({})}, {b"cookie": given({})}
    visitors.uploaded("/tmp/mine.txt", mine)
    for number in range(5 * MOST_FILES):
        visitors.uploaded(f"/tmp/{number}.txt", others)
    assert visitors.has_uploaded("/tmp/mine.txt", mine)
    assert not visitors.has_uploaded("/tmp/0.txt", others)
    assert visitors.has_uploaded(f"/tmp/{5 * MOST_FILES - 1}.txt", others)
