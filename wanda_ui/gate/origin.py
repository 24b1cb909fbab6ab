"""Who asks: this page or a program, and never a web page from elsewhere that a browser here has open.

Such a page can send requests to this machine, which its browser marks with the page's own origin, and it can have its
own name lead here, which then stands in the header Host. Tools refuse both, and other machines; everything else refuses
the former, since a proxy may stand in front of the page and give it any name. A program sends no origin.
"""

import os
import re
from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlencode, urlsplit

from wanda_ui.gate.refusal import RefusedError, quoted

PORT = re.compile(r":[0-9]{1,5}$")
MOST_SHOWN = 100  # characters of a host or an origin


def check_from_here(scope: Mapping[str, Any], headers: Mapping[bytes, bytes], own_name: str | None) -> None:
    """Raise RefusedError for a request that another machine, or a web page from elsewhere, may have sent.

    scope: the request's, of which the connection's two addresses count; headers: lower case; own_name: the address that
    the server was told to listen on, which its owner chose.
    """
    client = scope.get("client")
    if not _is_here(client, scope.get("server")):
        raise RefusedError(403, "client_elsewhere", address=quoted(str(client[0])[:MOST_SHOWN] if client else ""))
    host = headers.get(b"host", b"").decode("latin-1").lower()
    if not _is_this_machines(host, own_name):
        raise RefusedError(403, "host_elsewhere", host=quoted(host[:MOST_SHOWN]))
    if b"origin" in headers:
        origin = headers[b"origin"].decode("latin-1").lower()
        if _host_of(origin) != host:
            raise RefusedError(403, "origin_elsewhere", origin=quoted(origin[:MOST_SHOWN]))


def check_same_site(headers: Mapping[bytes, bytes], behind_proxy: bool) -> None:
    """Raise RefusedError for a request that a web page of another origin sends.

    A browser says so itself in Sec-Fetch-Site, which no page can write; where it does not (at an address without TLS),
    the page's origin has to be the host that is asked. headers: lower case; behind_proxy: whether the owner has said
    that a proxy writes headers here, so that X-Forwarded-Host counts too, which a page could write.
    """
    site = headers.get(b"sec-fetch-site", b"").decode("latin-1").lower()
    if site in ("same-origin", "none"):
        return
    origin = headers.get(b"origin", b"").decode("latin-1").lower()
    if not site:
        names = (b"host", b"x-forwarded-host") if behind_proxy else (b"host",)
        hosts = {headers.get(name, b"").decode("latin-1").lower() for name in names} - {""}
        if not origin or _host_of(origin) in hosts:
            return
    raise RefusedError(403, "other_site", origin=quoted(origin[:MOST_SHOWN] or site[:MOST_SHOWN]))


def offering(headers: Mapping[bytes, bytes], named: list[tuple[str, str]]) -> str | None:
    """Return the query that a page of another origin should have led here with, None where it may stay as it is.

    named: the query's values by name. A model that an address names is opened at once; one that another site names is
    offered, and whoever looks at the page decides: opening it may download gigabytes, and reads a stranger's files.
    """
    if headers.get(b"sec-fetch-site", b"").lower() not in (b"cross-site", b"same-site"):
        return None
    if all(name != "model" for name, _ in named):
        return None
    return urlencode([("offer" if name == "model" else name, value) for name, value in named])


def scheme_seen(told: str, scheme: str, environ: Mapping[str, str] = os.environ) -> str:
    """Return whether a browser speaks "http" or "https" with the server or with the proxy before it.

    told: X-Forwarded-Proto, which anybody may send: it is for what touches its sender alone; scheme: the connection's.
    All of a Space is asked for with TLS.
    """
    told = told.split(",")[0].strip().lower()
    return "https" if environ.get("SPACE_HOST", "").strip() else told if told in ("http", "https") else scheme


def _is_here(client: Sequence[Any] | None, server: Sequence[Any] | None) -> bool:
    """Whether a connection comes from this machine: by loopback, from the very address that it reaches, or, as a server
    without a port tells, through a Unix socket. A proxy of this machine may name the client that it asks for."""
    if not client:
        return server is not None and server[1] is None
    if server is not None and client[0] == server[0]:
        return True
    try:
        address = ip_address(client[0])
    except ValueError:
        return False
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def _is_this_machines(host: str, own_name: str | None) -> bool:
    """Whether a host is an address, for which no name can stand, `localhost`, or the name that was chosen here."""
    name = PORT.sub("", host).strip("[]")
    if name == "localhost" or name.endswith(".localhost") or (own_name and name == own_name.lower()):
        return True
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _host_of(origin: str) -> str | None:
    """Return the host and port of an origin, None for the opaque one and for what is none."""
    try:
        parts = urlsplit(origin)
    except ValueError:
        return None
    return parts.netloc if parts.scheme in ("http", "https") and parts.netloc else None
