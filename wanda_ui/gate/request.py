"""A request on its way through the gate, and who asks."""

from typing import Any
from urllib.parse import parse_qsl

from wanda_ui.gate import arrivals, body, rate
from wanda_ui.gate.guarded import GuardedPage
from wanda_ui.gate.visitors import HEADER, Send, visitors_of, written

MOST_QUERY, MOST_NAMED = 16_000, 200  # characters of an address's query, and names in it
# Headers that nobody but this server writes, and cookies: the gate reads its own, Gradio needs none of a page without a
# login and takes a time that grows with the square to read them (CVE-2024-7592, in Pythons before 3.11.10 and 3.12.6).
DROPPED = (arrivals.HEADER, HEADER, b"x-gradio-server", b"cookie")


def named_in(query_string: bytes) -> list[tuple[str, str]]:
    """Return what an address's query names, nothing of one that names too much: the gate refuses it."""
    query = query_string.decode("latin-1")
    if len(query) > MOST_QUERY or query.count("&") >= MOST_NAMED:
        return []
    return parse_qsl(query, keep_blank_values=True)


class Request:
    """A request on its way through: ASGI's three, its headers (lower case, the first of each), `say`, how to answer."""

    def __init__(self, scope: Any, receive: body.Receive, send: Send, headers: Any, say: Any, plain: bool) -> None:
        self.receive, self.send, self.headers, self.say, self.plain = receive, send, headers, say, plain
        kept = [(name, value) for name, value in scope["headers"] if name.lower() not in DROPPED]
        self.scope = {**scope, "headers": kept}
        self.asked = named_in(scope["query_string"])
        self.query = dict(self.asked)

    @property
    def page(self) -> GuardedPage:
        """Return the page that the request is for."""
        page: GuardedPage = self.scope["app"].get_blocks()
        return page

    def arrived(self) -> dict[str, Any]:
        """Return the scope with when it came and who asks written on it."""
        told = [(arrivals.HEADER, str(arrivals.next_arrival()).encode()), (HEADER, written(self.visitors))]
        return {**self.scope, "headers": [*self.scope["headers"], *told]}

    @property
    def address(self) -> str:
        """Return the address that the request comes from."""
        trusted = self.page.settings.trusted_header
        return rate.address_of(self.scope.get("client"), self.scope["headers"], trusted)

    @property
    def visitors(self) -> frozenset[str]:
        """Return who asks, as all cookies together tell."""
        return visitors_of(self.headers)

    @property
    def visitor(self) -> str:
        """Return by which cookie the browser's share is counted, empty where it keeps none."""
        return min(self.visitors)

    def who(self, session: str = "") -> str:
        """Return by what shares are counted: the address or, where all have one, the browser, else the session."""
        return (self.visitor or session) if self.page.settings.one_address else self.address
