"""A Space in the hub's frame, in a real browser: a session there is its visitor's, as in a window of its own."""

import pytest
from browser import CHROMIUM, QUIET, ready
from engine_room import serving
from raw_requests import Raw

pytestmark = [pytest.mark.browser, pytest.mark.long]

HUB = "https://huggingface.co/spaces/me/lab"
# The hub's page is made up, and the Space is on this machine, where a page from the network may not look by itself.
HERE = "--disable-features=LocalNetworkAccessChecks"
BEAT = """async path => {
    const stop = new AbortController(), got = await fetch(path, stop);
    stop.abort();
    return got.status;
}"""


@pytest.fixture
def framed(tiny_state, monkeypatch, tmp_path):
    """-> (the hub's page in a browser, the address of the Space in it, the paths that it asked for)"""
    from playwright.sync_api import sync_playwright

    monkeypatch.setenv("SPACE_ID", "me/lab")
    monkeypatch.setenv("SPACE_HOST", "me-lab.hf.space")
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    with (
        serving(tiny_state) as (_, address),
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=CHROMIUM, args=[*QUIET, HERE]) as browser,
    ):
        page, asked, hub = browser.new_page(), [], f'<iframe src="{address}">'
        page.on("request", lambda request: asked.append(request.url.removeprefix(address.rstrip("/"))))
        page.route(f"{HUB}/**", lambda route: route.fulfill(body=hub, content_type="text/html"))
        page.goto(f"{HUB}/")
        yield page, address, asked


def test_a_session_in_the_hubs_frame_opens_to_nobody_else(framed):
    page, address, asked = framed
    frame = page.frames[1]
    ready(frame)
    beat = next(path for path in asked if path.startswith("/gradio_api/heartbeat/"))
    assert frame.evaluate(BEAT, beat) == 200
    stranger = Raw(address)
    assert stranger.send("GET", beat).status == 403
    stranger.close()
    (cookie,) = page.context.cookies()
    assert (cookie["sameSite"], cookie["secure"], cookie["partitionKey"]) == ("None", True, "https://huggingface.co")
