"""The tools over HTTP: as a program asks with `gradio_client`, as an assistant asks with the official client of its
protocol, and never as a web page from elsewhere could.
"""

import asyncio
import json
import re
import threading
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest
from engine_room import server, serving
from gradio_client import Client
from gradio_client.exceptions import AppError
from raw_requests import JSON, Raw, is_told
from view_events import WINDOW, Held, until

from wanda_core.progress import finish
from wanda_ui.engine import look as looks
from wanda_ui.engine import work
from wanda_ui.gate.middleware import Gate
from wanda_ui.gate.origin import check_from_here
from wanda_ui.gate.refusal import RefusedError
from wanda_ui.settings import Settings
from wanda_ui.tools import answers

pytest.importorskip("mcp", reason="the extra `tools` is not installed")

README = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")
SHORT = {"samples": 2, "seq_len": 64}
ELSEWHERE = "https://elsewhere.example"
ASK = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "perplexity", "arguments": {}}}
ACCEPT = {"accept": "application/json, text/event-stream"}


@pytest.fixture(scope="module")
def tools(tiny_llama):
    """-> (the state of a server that offers tools, its page, its address)"""
    with pytest.MonkeyPatch.context() as patch:
        for module in (work, answers):
            patch.setattr(module, "EVAL_SEQ_LEN", WINDOW)
            patch.setattr(module, "EVAL_WINDOWS", 2)
        state = server(tiny_llama, Settings(tools=True))
        state.models["builtin"] = state.models.pop("tiny")
        state.models["builtin"].name = "builtin"
        finish(state.open_steps("builtin"))
        with serving(state) as (page, address):
            yield state, page, address
        assert state.engine.settle()


@pytest.fixture
def client(tools):
    client = Client(tools[2], verbose=False, analytics_enabled=False, download_files=False)
    yield client
    client.close()


@pytest.fixture
def raw(tools):
    client = Raw(tools[2])
    yield client
    client.close()


def assistant(address, task, **how):
    """Run a task with an assistant's client. -> what it returns"""
    import mcp

    async def run():
        async with mcp.Client(f"{address}/mcp", **how) as session:
            return await task(session)

    return asyncio.run(run())


# By programs


def test_a_program_finds_the_tools_with_their_types_and_nothing_else(client):
    told = client.view_api(return_format="dict", print_info=False)
    assert list(told["named_endpoints"]) == ["/prune", "/compare", "/why_kept", "/perplexity"]
    assert told["unnamed_endpoints"] == {}
    types = {p["parameter_name"]: p["python_type"]["type"] for p in told["named_endpoints"]["/prune"]["parameters"]}
    assert (types["sparsity"], types["samples"], types["method"]) == ("float", "int", "str")


def test_a_program_prunes_and_is_refused_in_a_sentence(client):
    told = client.predict(sparsity=0.4, **SHORT, api_name="/prune")
    assert told["recipe"] == "Wanda 40%"
    assert told["removed"]["weights"] / told["removed"]["of"] == pytest.approx(0.4, abs=0.02)
    with pytest.raises(AppError, match=r"^sparsity 2\.0 is outside 0 to 0\.95; give one within$"):
        client.predict(sparsity=2.0, api_name="/prune")
    with pytest.raises(AppError, match=r"^model folder '/nowhere' does not exist; give"):
        client.predict(model="/nowhere", api_name="/prune")


def test_a_program_sees_how_far_it_is_and_can_cancel(tools, client, monkeypatch):
    held = Held(looks._prune)
    monkeypatch.setattr(looks, "_prune", held)
    held.go.clear()
    job = client.submit(sparsity=0.41, **SHORT, api_name="/prune")
    assert held.began.wait(30)
    until(lambda: any(output.get("stage") for output in job.outputs()))
    job.cancel()
    assert tools[0].engine.settle(20)  # though nobody let it go on
    held.go.set()


def test_readmes_program_runs(tools, capsys, monkeypatch):
    monkeypatch.setattr(Client, "_telemetry_thread", lambda self: None)
    blocks = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    (block,) = [block for block in blocks if "gradio_client" in block]
    assert "http://127.0.0.1:7860" in block
    own = block.replace("http://127.0.0.1:7860", tools[2]).replace("model.layers.11.mlp", "model.layers.1.mlp")
    exec(compile(re.sub(r"\brow=\d+, column=\d+", "row=3, column=5", own), "README", "exec"), {})
    said = capsys.readouterr().out
    assert "wanda-lab prune --model" in said
    assert "Weight [3, 5] is" in said


# By assistants


def test_readmes_configuration_leads_an_assistant_to_the_tools(tools):
    (block,) = [json.loads(b) for b in re.findall(r"^```json\n(.*?)^```", README, re.MULTILINE | re.DOTALL)]
    (configured,) = block["mcpServers"].values()
    address = urlsplit(configured["url"])
    assert address.netloc == "127.0.0.1:7860"
    assert address.path == "/mcp"
    own = urlunsplit(address._replace(netloc=urlsplit(tools[2]).netloc)).removesuffix("/mcp")

    async def task(session):
        return await session.list_tools(), await session.call_tool("prune", {"sparsity": 0.3, **SHORT})

    listed, result = assistant(own, task)
    assert [tool.name for tool in listed.tools] == ["prune", "compare", "why_kept", "perplexity"]
    assert all(tool.annotations.read_only_hint and tool.description for tool in listed.tools)
    assert result.structured_content["recipe"] == "Wanda 30%"
    assert json.loads(result.content[0].text) == result.structured_content


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_an_assistant_of_either_age_is_served_and_told_how_far_it_is(tools, mode):
    heard = []

    async def progress(done, total, message):
        heard.append((done, message))

    async def task(session):
        arguments = {"sparsity": 0.31 if mode == "auto" else 0.32, **SHORT}
        return await session.call_tool("prune", arguments, progress_callback=progress)

    result = assistant(tools[2], task, mode=mode)
    assert not result.is_error
    assert [done for done, _ in heard] == sorted({done for done, _ in heard})
    assert any("pruning" in message for _, message in heard)


@pytest.mark.parametrize(
    ("name", "arguments", "sentence"),
    [
        ("prune", {"sparsity": "half"}, "sparsity 'half' is no number; give one from 0 to 0.95"),
        (
            "prune",
            {"model": "/nowhere"},
            "model folder '/nowhere' does not exist; give 'builtin', a folder or a hub id",
        ),
        ("compare", {}, "compare lacks 'prompt': what the models are asked; give it"),
        ("grow", {}, "there is no tool 'grow'; there are prune, compare, why_kept, perplexity"),
    ],
)
def test_what_is_refused_an_assistant_can_read(tools, name, arguments, sentence):
    result = assistant(tools[2], lambda session: session.call_tool(name, arguments))
    assert result.is_error
    assert [part.text for part in result.content] == [sentence]


def test_what_nobody_foresaw_is_one_sentence_and_in_the_log(tools, monkeypatch, caplog):
    sent = "".join(["what was ", "sent"])

    def broken(lm, how):
        raise KeyError(sent)
        yield

    monkeypatch.setattr(looks, "_prune", broken)
    result = assistant(tools[2], lambda session: session.call_tool("prune", {"sparsity": 0.77, **SHORT}))
    assert result.is_error
    assert re.match(r"Something went wrong here \(KeyError\) and was noted; try again", result.content[0].text)
    assert "tool prune failed: KeyError in look" in caplog.text
    assert sent not in caplog.text


@pytest.mark.parametrize("version", ["2025-06-18", None])
def test_an_assistant_that_goes_takes_its_job_along(tools, raw, monkeypatch, caplog, version):
    held = Held(looks._prune)
    monkeypatch.setattr(looks, "_prune", held)
    held.go.clear()
    arguments = {"sparsity": 0.42 if version else 0.43, **SHORT}
    asked = {**ASK, "params": {"name": "prune", "arguments": arguments}}
    headers = {**JSON, **ACCEPT, **({"mcp-protocol-version": version} if version else {})}
    with closing(raw.connection()) as connection:
        connection.request("POST", "/mcp", json.dumps(asked), headers)
        assert held.began.wait(30)
        connection.sock.shutdown(2)
    assert tools[0].engine.settle(20)
    held.go.set()
    assert "failed" not in caplog.text


def test_assistants_and_visitors_share_one_queue_in_order_of_arrival(tools, monkeypatch):
    held = Held(looks._prune)
    monkeypatch.setattr(looks, "_prune", held)
    held.go.clear()
    ended = []

    def ask(share):
        assistant(tools[2], lambda session: session.call_tool("prune", {"sparsity": share, **SHORT}))
        ended.append(share)

    threads = [threading.Thread(target=ask, args=(share,)) for share in (0.51, 0.52, 0.53)]
    for number, thread in enumerate(threads):
        thread.start()
        until(lambda number=number: held.began.is_set() and tools[0].engine.waiting == number)
    held.go.set()
    for thread in threads:
        thread.join(60)
    assert [spec.sparsity for spec in held.specs] == [0.51, 0.52, 0.53]
    assert ended[0] == 0.51


# Never by a web page from elsewhere


def tool_event(page):
    return min(page.tools)


def calls(page):
    """Every way to a tool: (method, path, body)"""
    joined = {"data": ["builtin"], "fn_index": tool_event(page), "session_hash": "me"}
    return [
        ("POST", "/mcp", json.dumps(ASK)),
        ("GET", "/gradio_api/info", None),
        ("POST", "/gradio_api/queue/join", json.dumps(joined)),
        ("POST", "/gradio_api/run/prune", json.dumps(joined)),
    ]


def hosts(address):
    return urlsplit(address).netloc


@pytest.mark.parametrize("origin", [ELSEWHERE, "null", "http://127.0.0.1:1", "http://localhost.elsewhere.example", "x"])
def test_a_page_from_elsewhere_is_refused_whatever_it_asks(tools, raw, origin):
    state, page, _ = tools
    before = state.engine._arrived
    for method, path, body in calls(page):
        reply = raw.send(method, path, body, {**JSON, **ACCEPT, "origin": origin})
        assert reply.status == 403, path
        assert is_told(reply)
        assert "program" in reply.sentence
    assert state.engine._arrived == before


def test_a_name_that_was_led_here_is_refused(tools, raw):
    """A page's own name can be made to lead to this machine; the browser then takes the lab for a part of that page."""
    state, page, address = tools
    before = state.engine._arrived
    for host in (f"elsewhere.example:{urlsplit(address).port}", "elsewhere.example", "localhost.elsewhere.example", ""):
        for method, path, body in calls(page):
            reply = raw.send(method, path, body, {**JSON, **ACCEPT, "host": host, "origin": f"http://{host}"})
            assert reply.status in (400, 403), (host, path)
            assert is_told(reply)
    assert state.engine._arrived == before


@pytest.mark.parametrize("client", ["192.0.2.77", "::ffff:192.0.2.77", "2001:db8::1", "127.0.0.1.example", ""])
def test_another_machine_is_refused_whatever_its_headers_say(tools, raw, client, monkeypatch):
    state, page, _ = tools
    before, passed = state.engine._arrived, Gate.__call__

    async def told(gate, scope, *more):
        await passed(gate, {**scope, "client": (client, 40_000) if client else None}, *more)

    monkeypatch.setattr(Gate, "__call__", told)
    for method, path, body in calls(page):
        reply = raw.send(method, path, body, {**JSON, **ACCEPT, "host": "127.0.0.1"})
        assert reply.status == 403, path
        assert is_told(reply)
        assert "ask from the machine that the lab runs on" in reply.sentence
    assert raw.send("GET", "/").status == 200
    assert state.engine._arrived == before


@pytest.mark.parametrize(
    ("client", "server", "here"),
    [
        (("127.0.0.1", 1), ("127.0.0.1", 7860), True),
        (("127.8.0.1", 1), ("127.0.0.1", 7860), True),
        (("::1", 1), ("::1", 7860), True),
        (("::ffff:127.0.0.1", 1), ("::", 7860), True),
        (("192.0.2.5", 1), ("192.0.2.5", 7860), True),  # the machine's own address, where it listens on that alone
        (("192.0.2.77", 1), ("192.0.2.5", 7860), False),
        (("192.0.2.77", 1), ("127.0.0.1", 7860), False),  # as a proxy of this machine says whom it asks for
        (("fe80::1%eth0", 1), ("::1", 7860), False),
        (("unknown", 1), ("127.0.0.1", 7860), False),
        (None, ("/run/lab.sock", None), True),  # a Unix socket
        (None, ("127.0.0.1", 7860), False),
        (None, None, False),
    ],
)
def test_this_machine_is_known_by_the_connections_addresses(client, server, here):
    scope, headers = {"client": client, "server": server}, {b"host": b"localhost"}
    if here:
        check_from_here(scope, headers, None)
    else:
        with pytest.raises(RefusedError) as refused:
            check_from_here(scope, headers, None)
        assert refused.value.status == 403


def test_no_browser_is_told_that_another_page_may_ask(tools, raw):
    asks = {"access-control-request-method": "POST", "access-control-request-headers": "content-type"}
    for path in ("/mcp", "/gradio_api/queue/join"):
        reply = raw.send("OPTIONS", path, None, {"origin": ELSEWHERE, **asks})
        assert "access-control-allow-origin" not in reply.headers
    # What needs no such question: a form's or a text's kind of body.
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
        assert raw.send("POST", "/mcp", json.dumps(ASK), {"content-type": kind, **ACCEPT}).status == 415


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "[::1]", "192.168.1.20", "lab.localhost"])
def test_this_machines_own_addresses_are_answered(tools, raw, name):
    _, _, address = tools
    host = f"{name}:{urlsplit(address).port}"
    for headers in ({"host": host}, {"host": host, "origin": f"http://{host}"}):
        assert raw.send("GET", "/gradio_api/info", None, headers).status == 200
        reply = raw.send(
            "POST", "/mcp", json.dumps({**ASK, "method": "tools/list", "params": {}}), {**JSON, **ACCEPT, **headers}
        )
        assert reply.status == 200
        assert b"why_kept" in reply.body


def test_a_name_that_the_owner_chose_to_listen_on_is_answered(tools, raw, monkeypatch):
    _, page, address = tools
    monkeypatch.setattr(page, "server_name", "lab.example")
    headers = {"host": f"lab.example:{urlsplit(address).port}"}
    assert raw.send("GET", "/gradio_api/info", None, headers).status == 200


def test_the_page_itself_is_served_under_any_name(tools, raw):
    assert raw.send("GET", "/", None, {"host": "elsewhere.example"}).status == 200


BODIES = [b"", b"[]", b"{", b"null", b"[" * 10_000, b'{"a": 1, "a": 2}', b"NaN", b'{"jsonrpc": "2.0"}', b'{"id": {}}']


@pytest.mark.parametrize("body", BODIES, ids=range(len(BODIES)))
def test_a_message_of_any_kind_brings_no_fault(tools, raw, body):
    reply = raw.send("POST", "/mcp", body, {**JSON, **ACCEPT})
    assert 400 <= reply.status < 500
    reply = raw.send("POST", "/mcp", body, {**JSON, **ACCEPT, "mcp-protocol-version": "2026-07-28"})
    assert 400 <= reply.status < 500


def test_a_large_message_and_other_methods_are_refused(raw):
    assert raw.send("POST", "/mcp", json.dumps({**ASK, "x": "y" * 2**21}), {**JSON, **ACCEPT}).status == 413
    for method in ("GET", "DELETE", "PUT"):
        assert raw.send(method, "/mcp", None, ACCEPT).status == 405
    assert raw.send("POST", "/gradio_api/info", "{}", JSON).status == 405


def test_without_the_switch_there_are_no_tools(served, tiny_state):
    page, address = served
    assert not page.tools
    assert page.assistants is None
    assert not [event for event in page.fns.values() if event.api_name in ("prune", "why_kept")]
    client = Raw(address)
    for method, path in (("POST", "/mcp"), ("GET", "/mcp"), ("GET", "/gradio_api/info")):
        reply = client.send(method, path, "{}" if method == "POST" else None, JSON if method == "POST" else None)
        assert reply.status == 404
    client.close()
