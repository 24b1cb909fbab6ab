"""What lies on the machine is not served, and nothing that is typed is logged."""

import json
from pathlib import Path
from urllib.parse import quote

import pytest
from engine_room import server, serving, without_other_models
from raw_requests import Raw, kept_log
from view_events import ASK, column

from wanda_core.progress import finish

LINE = "Output"
MARKER, TOKEN = "marker-of-a-prompt-7531", "hf_markerOfAToken7531"


@pytest.fixture(scope="module")
def served(tiny_llama, tmp_path_factory):
    """The page over a tiny model, with its address and a function that returns what was logged."""

    with without_other_models() as patch, kept_log() as log:
        patch.setenv("GRADIO_TEMP_DIR", str(tmp_path_factory.mktemp("uploads")))
        state = server(tiny_llama)
        state.models["builtin"] = state.models[tiny_llama.name]
        finish(state.open_steps("builtin"))
        with serving(state) as (page, address):
            yield page, address, log


def probes(secret: str) -> list[str]:
    """Ways to ask for a file of the machine."""
    files = (secret, "/etc/passwd", "/proc/self/environ", str(Path(__file__).resolve()), "README.md")
    ways = (
        *("/gradio_api/file={}", "/gradio_api/file=//{}", "/gradio_api/file=file://{}", "/gradio_api/file=..{}"),
        *("/gradio_api/file=%2e%2e{}", "/file={}", "/file/{}", "/gradio_api/file/{}", "/static/..{}", "/assets/..{}"),
        *("/assets/%2e%2e%2f..{}", "/theme.css/..{}", "/gradio_api/stream/{}", "/gradio_api/proxy=file://{}"),
        *("/wanda/checkpoint/..{}", "/wanda/take/..{}", "/..{}"),
    )
    return [way.format(file) for file in files for way in ways]


def test_no_route_gives_a_file_of_the_machine(served, tmp_path, figures):
    secret = tmp_path / "secret.txt"
    secret.write_text("secret-of-this-machine")
    signs = (b"secret-of-this-machine", b"root:x:", b"PATH=", b"secret-of-this" + b'-machine"', b"# Wanda Lab")
    raw, leaked, asked = Raw(served[1]), [], probes(str(secret))
    for path in asked:
        for sent in (path, quote(path, safe="/=%?&:")):
            reply = raw.send("GET", sent)
            leaked += [sent] * any(sign in reply.body for sign in signs)
            assert reply.status < 500, (sent, reply.status)
    raw.close()
    assert len(asked) >= 80
    assert not leaked, leaked
    figures.exactly(LINE, f"probes of the file routes, of {len(asked)}, that gave a file", len(leaked), 0)


def test_neither_prompts_nor_tokens_are_logged(served, capfd, figures):
    page, address, log = served
    numbers = {event.name: number for number, event in page.fns.items() if event.fn}
    raw = Raw(address)
    look = {"run": 1, "model": "builtin", "recipes": [column(method="magnitude", at=50)]}
    for number, (name, data) in enumerate({
        "look": {**look, "ask": {**ASK, "prompt": MARKER, "length": 2}},
        "own": {**look, "ask": {**ASK, "length": 2}, "prompts": [MARKER, MARKER + "b"]},
        "open": {"model": f"{MARKER}/model", "token": TOKEN},
        "push": {"run": 1, "model": "builtin", "recipe": column(), "dtype": None, "repository": "me/x", "token": TOKEN},
    }.items()):  # fmt: skip
        session = f"logs{number}"
        reply = raw.join(session, numbers[name], [], event_data=data)
        if reply.status == 200:
            raw.messages(session)
    raw.send("GET", f"/?prompt={MARKER}&token={TOKEN}")
    raw.close()
    written = log() + "".join(capfd.readouterr())
    told = [word for word in (MARKER, TOKEN) if word in written]
    assert not told, json.dumps(written)[-3000:]
    figures.exactly(LINE, "prompts and tokens that the server wrote into a log", len(told), 0)
