"""What the page says of itself to those who do not open it: to a tab's title, a search engine, a link that is shared.

It stands in the `<head>` of the page that is sent, in the page's language, in the place of Gradio's words for itself.
"""

import os
import re
from collections.abc import Mapping
from html import escape

from starlette.responses import FileResponse
from starlette.routing import Route

from wanda_core.assets import ASSETS
from wanda_ui.gate.origin import scheme_seen
from wanda_ui.language import say

PREVIEW = ASSETS / "preview.png"
PREVIEW_PATH = "/preview.png"
PREVIEW_SIZE = (1200, 630)  # what those who show links cut pictures to
HEADS = (("light", "#ffffff"), ("dark", "#0f141b"))  # of the page: --wl-page in view.css
# Gradio's own, twice each; their values stand in quotes and hold no `>`, which Jinja escapes.
GRADIOS = re.compile(r'\s*<meta\s+(?:property="og:|name="twitter:)[^>]*>')
HOST = re.compile(r"([A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]{2,45}\])(:[0-9]{1,5})?")
PORTS = 2**16


def address_of(headers: Mapping[bytes, str], scheme: str, root: str, environ: Mapping[str, str] = os.environ) -> str:
    """Return the address at which this server is seen, without a slash at its end; empty where that cannot be told.

    headers: of a request, lower case; scheme: of its connection; root: path or address that the server was told it has.
    A Space says its own host. Elsewhere it is the request's, as the proxy in front names it, if it is one at all:
    anybody can send a header, and what stands in the page must not lead elsewhere by a trick of writing.
    """
    if re.match(r"https?://", root):
        return root.rstrip("/")
    space = environ.get("SPACE_HOST", "").strip()
    host = space or headers.get(b"x-forwarded-host", "").split(",")[0].strip() or headers.get(b"host", "")
    if not is_host(host):
        return ""
    seen = scheme_seen(headers.get(b"x-forwarded-proto", ""), scheme, environ)
    return f"{seen}://{host}/{root.strip('/')}".rstrip("/")


def is_host(text: str) -> bool:
    """Whether a text is the name or the number of a host, with or without a port."""
    matched = HOST.fullmatch(text)
    return matched is not None and ".." not in text and (not matched[3] or 0 < int(matched[3][1:]) < PORTS)


def greet(html: str, language: str, address: str) -> str:
    """Put the page's own words into its head. address: as of `address_of`; without one no picture is named."""
    title, description = say(language, "page.title"), say(language, "page.description")
    named = [("name", "description", description), ("property", "og:type", "website")]
    for name, value in (("title", title), ("description", description)):
        named += [("property", f"og:{name}", value), ("name", f"twitter:{name}", value)]
    named.append(("name", "twitter:card", "summary_large_image" if address else "summary"))
    if address:
        picture, alt = address + PREVIEW_PATH, say(language, "page.preview")
        named += [("property", "og:url", f"{address}/"), ("property", "og:image", picture)]
        named += [("property", "og:image:type", "image/png"), ("property", "og:image:alt", alt)]
        named += [
            ("property", f"og:image:{name}", str(n)) for name, n in zip(("width", "height"), PREVIEW_SIZE, strict=True)
        ]
        named += [("name", "twitter:image", picture), ("name", "twitter:image:alt", alt)]
    tags = [f"<title>{escape(title)}</title>"]
    tags += [f'<meta {kind}="{name}" content="{escape(value)}">' for kind, name, value in named]
    tags += [
        f'<meta name="theme-color" media="(prefers-color-scheme: {scheme})" content="{colour}">'
        for scheme, colour in HEADS
    ]
    tags.append('<link rel="icon" type="image/svg+xml" href="favicon.ico">')
    return GRADIOS.sub("", html).replace("<head>", f"<head>{''.join(tags)}", 1)


async def _preview(_: object) -> FileResponse:
    return FileResponse(PREVIEW, media_type="image/png", headers={"cache-control": "public, max-age=86400"})


ROUTES = [Route(PREVIEW_PATH, _preview, methods=["GET", "HEAD"])]
