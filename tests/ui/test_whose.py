"""Whose a session and an upload are: of a browser, whichever of its cookies came first; never of who sends another."""

import asyncio

import pytest

from wanda_ui.gate import visitors as module
from wanda_ui.gate.refusal import RefusedError
from wanda_ui.gate.uploads import Uploads
from wanda_ui.gate.visitors import MOST_COOKIES, MOST_FILES, Visitors, visitors_of, with_cookie


def given(headers, scheme="http"):
    """The cookie that a page sets, as a browser sends it back; empty where it sets none."""
    sent = []

    async def send(message):
        sent.append(message)

    asyncio.run(with_cookie(send, headers, scheme)({"type": "http.response.start", "status": 200, "headers": []}))
    cookie, _, rules = dict(sent[0]["headers"]).get(b"set-cookie", b"").partition(b";")
    secure = b"; Secure" if scheme == "https" or headers.get(b"x-forwarded-proto") == b"https" else b""
    framed = b"SameSite=None; Secure; Partitioned"
    kept = framed if b"sec-fetch-dest" in headers else b"SameSite=Lax" + secure
    assert rules == (b" Path=/; HttpOnly; " + kept if cookie else b"")
    return cookie


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


def test_of_too_many_cookies_no_part_lets_anybody_in():
    """Another page of the same host may lay as many as it likes, before the browser's own."""
    visitors = Visitors()
    many = [given({}) for _ in range(3 * MOST_COOKIES)]
    whole = {b"cookie": b"; ".join(many)}
    visitors.begin_session("tab", whole)
    visitors.uploaded("/tmp/mine.txt", whole)
    visitors.check_session("tab", {b"cookie": b"; ".join(reversed(many))})
    assert visitors.has_uploaded("/tmp/mine.txt", whole)
    for some in (many[:1], many[-1:], many[:MOST_COOKIES], many[1:], many[:-1]):
        with pytest.raises(RefusedError):
            visitors.check_session("tab", {b"cookie": b"; ".join(some)})
        assert not visitors.has_uploaded("/tmp/mine.txt", {b"cookie": b"; ".join(some)})
    assert len(visitors_of(whole)) == 1
    assert len(visitors_of({b"cookie": b"; ".join(many[:MOST_COOKIES])})) == MOST_COOKIES


@pytest.mark.parametrize("same_name", [False, True])
@pytest.mark.parametrize("before", [False, True])
def test_a_cookie_that_another_page_laid_does_not_make_it_the_visitor(same_name, before):
    visitors, own = Visitors(), given({})
    laid = own.partition(b"=")[0] + b"=" + b"known" * 8 if same_name else given({})
    both = {b"cookie": b"; ".join([laid, own] if before else [own, laid])}
    visitors.begin_session("tab", both)
    visitors.uploaded("/tmp/mine.txt", both)
    stranger = {b"cookie": laid}
    with pytest.raises(RefusedError):
        visitors.check_session("tab", stranger)
    assert not visitors.has_uploaded("/tmp/mine.txt", stranger)
    visitors.check_session("tab", both)
    assert visitors.has_uploaded("/tmp/mine.txt", both)
    # Where it is gone again the old session is nobody's any more, and a new one begins.
    with pytest.raises(RefusedError):
        visitors.check_session("tab", {b"cookie": own})
    visitors.begin_session("tab after", {b"cookie": own})


def test_an_upload_under_way_is_read_about_by_all_of_its_cookies_alone():
    async def read():
        uploads, both = Uploads(), frozenset({"own", "laid"})
        with uploads.coming("", "name", both):
            (await uploads.reader("name", both | {"later"}))()
            with pytest.raises(RefusedError):
                await uploads.reader("name", frozenset({"laid"}))
            with pytest.raises(RefusedError), uploads.coming("", "name", frozenset({"laid"})):
                pass

    asyncio.run(read())


def test_with_tls_a_browser_is_given_a_cookie_that_no_page_of_another_host_can_lay():
    laid = {b"cookie": given({})}
    own = given(laid, "https")
    assert own.startswith(b"__Host-wanda_visitor_")
    both = {b"cookie": laid[b"cookie"] + b"; " + own}
    assert given(both, "https") == given({b"cookie": own}, "https") == given({b"cookie": own}) == b""
    assert len(visitors_of(both)) == 2
    visitors = Visitors()
    visitors.begin_session("tab", both)
    with pytest.raises(RefusedError):
        visitors.check_session("tab", laid)


def test_a_proxy_that_speaks_tls_before_it_is_tls_for_the_browser():
    proxied = {b"x-forwarded-proto": b"https"}
    assert given(proxied).startswith(b"__Host-")
    assert given({**proxied, b"cookie": given({})}).startswith(b"__Host-")
    assert given({**proxied, b"cookie": given(proxied)}) == b""


def test_in_another_sites_frame_a_browser_keeps_the_cookie_apart_for_that_site():
    assert given({b"x-forwarded-proto": b"https", b"sec-fetch-dest": b"iframe"}).startswith(b"__Host-")


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
