"""Starting the page where a proxy stands between this machine and the network.

Gradio asks its own address before it opens the page, through the proxy that the environment names, and where httpx
cannot use that proxy, not even Gradio's import succeeds. So this machine is made an exception before that.
"""

import contextlib
import os
from collections.abc import Iterator, MutableMapping
from urllib.request import getproxies

THIS_MACHINE = ("localhost", "127.0.0.1", "::1")
EXCEPTIONS = ("no_proxy", "NO_PROXY")  # of both the first counts, where it is there


def serve(host: str | None = None, port: int | None = None, tools: bool = False, lan: bool = False) -> None:
    """Serve the page until stopped, also behind a proxy. host, port, tools, lan: as of `wanda_ui.page.serve`."""
    except_from_proxy(os.environ, (*THIS_MACHINE, host or os.environ.get("GRADIO_SERVER_NAME") or ""))
    with without_unusable_proxy():
        from wanda_ui import page

    page.serve(host, port, tools, lan)


def except_from_proxy(environ: MutableMapping[str, str], hosts: tuple[str, ...]) -> None:
    """Add hosts to those that no proxy is asked for; what is listed there stays."""
    listed = next((environ[name] for name in EXCEPTIONS if name in environ), "")
    names = [name.strip() for name in listed.split(",") if name.strip()]
    environ.update(dict.fromkeys(EXCEPTIONS, ",".join(dict.fromkeys([*names, *filter(None, hosts)]))))


@contextlib.contextmanager
def without_unusable_proxy() -> Iterator[None]:
    """Context manager: have no proxy asked for anything, where httpx cannot use what the environment names.

    SOCKS without its package is the usual reason. Nothing but Gradio, which asks this machine alone, may run inside.
    """
    before = {name: os.environ[name] for name in EXCEPTIONS if name in os.environ}
    if _usable():
        yield
        return
    os.environ.update(dict.fromkeys(EXCEPTIONS, "*"))
    try:
        yield
    finally:
        for name in EXCEPTIONS:
            os.environ.pop(name, None)
        os.environ.update(before)


def _usable() -> bool:
    """Tell whether httpx, by which Gradio asks, can use the proxies that the environment names."""
    if not getproxies():
        return True
    import httpx

    try:
        httpx.Client().close()
    except Exception:  # a missing package, an address that is none
        return False
    return True
