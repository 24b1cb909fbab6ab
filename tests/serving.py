"""A page over a state, served on loopback, for requests that are made without a browser."""

import asyncio
import socket
from contextlib import contextmanager

from wanda_ui.page import build, launch_settings


@contextmanager
def serving(state, patch, folders):
    """Serve a page. patch: a MonkeyPatch; folders: makes temporary ones. -> (the page, its address)"""
    patch.setenv("GRADIO_TEMP_DIR", str(folders.mktemp("uploads")))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]

    async def launched():
        """Gradio would make event loops of its own where none runs, and leave them open."""
        page = build(state)
        where = {"server_name": "127.0.0.1", "server_port": port}
        page.launch(prevent_thread_lock=True, quiet=True, **where, **launch_settings(state.settings))
        return page

    page = asyncio.run(launched())
    try:
        yield page, f"http://127.0.0.1:{port}"
    finally:
        page.close()
