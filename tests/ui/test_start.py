"""Starting the page behind a proxy: this machine is asked without it, and what is listed as an exception stays."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import httpx
import pytest

from wanda_core.errors import InputError
from wanda_core.machine import temporary
from wanda_ui.away.pushing import PREFIX
from wanda_ui.page import check_place
from wanda_ui.start import THIS_MACHINE, except_from_proxy, without_unusable_proxy

ROOT = Path(__file__).resolve().parents[2]
PROXIES = [name for scheme in ("HTTP", "HTTPS", "ALL", "NO") for name in (f"{scheme}_PROXY", f"{scheme.lower()}_proxy")]


@pytest.fixture
def environ(monkeypatch):
    """An environment without proxies, to be added to."""
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
    return monkeypatch.setenv


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, "localhost,127.0.0.1,::1"),
        ({"NO_PROXY": ""}, "localhost,127.0.0.1,::1"),
        ({"NO_PROXY": "example.org, 10.0.0.0/8"}, "example.org,10.0.0.0/8,localhost,127.0.0.1,::1"),
        ({"no_proxy": "127.0.0.1,a.org", "NO_PROXY": "b.org"}, "127.0.0.1,a.org,localhost,::1"),
        ({"NO_PROXY": "*"}, "*,localhost,127.0.0.1,::1"),
    ],
)
def test_this_machine_is_added_to_the_exceptions(before, after):
    environ = dict(before)
    except_from_proxy(environ, THIS_MACHINE)
    assert environ == {"no_proxy": after, "NO_PROXY": after}
    except_from_proxy(environ, THIS_MACHINE)
    assert environ["no_proxy"] == after


def test_the_address_that_is_listened_on_is_added_too():
    environ: dict[str, str] = {}
    except_from_proxy(environ, (*THIS_MACHINE, "192.168.1.5", ""))
    assert environ["no_proxy"] == "localhost,127.0.0.1,::1,192.168.1.5"


def test_httpx_asks_this_machine_without_the_proxy_and_others_with_it(environ):
    environ("HTTP_PROXY", "http://127.0.0.1:9")
    except_from_proxy(os.environ, THIS_MACHINE)
    environ("NO_PROXY", os.environ["NO_PROXY"])  # to be taken back after the test
    environ("no_proxy", os.environ["no_proxy"])
    with httpx.Client() as client:
        for host in ("localhost", "127.0.0.1", "[::1]"):
            assert client._transport_for_url(httpx.URL(f"http://{host}:7860/")) is client._transport
        assert client._transport_for_url(httpx.URL("http://example.org/")) is not client._transport


@pytest.mark.parametrize("before", [{}, {"NO_PROXY": "a.org"}, {"NO_PROXY": "a.org", "no_proxy": "b.org"}])
def test_a_proxy_that_cannot_be_used_is_left_out_for_a_while(environ, monkeypatch, before):
    for name, value in before.items():
        environ(name, value)
    environ("ALL_PROXY", "gopher://127.0.0.1:9")
    with pytest.raises(ValueError, match="Unknown scheme"):
        httpx.Client()
    with without_unusable_proxy():
        httpx.Client().close()
    assert {name: os.environ[name] for name in ("NO_PROXY", "no_proxy") if name in os.environ} == before
    with pytest.raises(KeyError), without_unusable_proxy():
        raise KeyError
    assert {name: os.environ[name] for name in ("NO_PROXY", "no_proxy") if name in os.environ} == before


def test_a_proxy_that_can_be_used_is_used(environ):
    environ("ALL_PROXY", "http://127.0.0.1:9")
    with without_unusable_proxy():
        assert "NO_PROXY" not in os.environ


@pytest.mark.long
@pytest.mark.parametrize("proxy", ["http://127.0.0.1:9", "socks5://127.0.0.1:9"])
def test_the_page_opens_behind_a_proxy(environ, proxy, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    left = tmp_path / f"{PREFIX}{os.getpid()}-{temporary._machine()}-left"  # by a killed server that had our number
    left.mkdir()
    os.utime(left, (1e9, 1e9))
    settings = dict.fromkeys(["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"], proxy) | {"TMPDIR": str(tmp_path)}
    settings |= {"GRADIO_SERVER_PORT": str(port), "GRADIO_ANALYTICS_ENABLED": "False", "PYTHONDONTWRITEBYTECODE": "1"}
    written = tmp_path / "written"
    # The package that httpx speaks SOCKS with is not to be found, wherever this runs.
    program = "import sys; sys.modules['socksio'] = None; from wanda_ui.start import serve; serve()"
    with written.open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-c", program], cwd=ROOT, env=os.environ | settings, stdout=log, stderr=subprocess.STDOUT
        )
        try:
            assert answers(f"http://127.0.0.1:{port}/", server), written.read_text()
        finally:
            server.kill()
            server.wait()
    assert "Traceback" not in written.read_text()
    assert not left.exists()


def answers(address, server) -> bool:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    end = time.monotonic() + 120
    while time.monotonic() < end and server.poll() is None:
        try:
            with opener.open(address, timeout=5) as answer:
                time.sleep(2)  # Gradio asks itself after it began to answer
                return answer.status == 200 and server.poll() is None
        except OSError:
            time.sleep(0.2)
    return False


@pytest.mark.parametrize(
    ("host", "port", "said"),
    [
        (None, 0, "port 0 is not a number from 1 to 65535"),
        (None, 99_999, "port 99999 is not a number"),
        ("999.1.1.1", None, "is no address of this machine"),
        ("192.0.2.1", None, "is no address of this machine"),  # RFC 5737: nobody's
        ("\0", None, "is no address of this machine"),
        ("", None, None),
        ("127.0.0.1", 7860, None),
        (None, None, None),
    ],
)
def test_where_the_page_is_to_listen_is_checked_before_a_model_is_loaded(host, port, said):
    if said is None:
        check_place(host, port)
        return
    with pytest.raises(InputError, match=said):
        check_place(host, port)


LOADS = """
import os, sys
from wanda_core.machine.process import show_no_bars
from wanda_core.model.loading import load_model
show_no_bars()
os.dup2(os.open("/dev/full", os.O_WRONLY), 2)
for _ in range(2):
    load_model(sys.argv[1], device="cpu").model.save_pretrained(sys.argv[2])
print("both")
"""


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a system without a disk that is always full")
def test_a_log_on_a_full_disk_holds_up_no_model(dense, tmp_path):
    """A bar that cannot be written ends what it counts, and may keep the lock of them all."""
    shown = {name: value for name, value in os.environ.items() if name != "HF_HUB_DISABLE_PROGRESS_BARS"}
    command = [sys.executable, "-c", LOADS, dense, tmp_path]
    done = subprocess.run(command, cwd=ROOT, env=shown, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "both\n"), done.stderr
