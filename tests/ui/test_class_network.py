"""Where a class finds the page: addresses, the picture, what `--lan` opens and says, and the page `/class`."""

import re
import threading
from dataclasses import dataclass
from html import unescape
from socket import AF_INET, AF_INET6
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from qr_reader import modules, read

from wanda_core.errors import InputError
from wanda_ui import page as whole_page
from wanda_ui.classroom import network, qr
from wanda_ui.classroom.announce import announce
from wanda_ui.classroom.network import CODE, EVERYWHERE, LETTERS, Class, class_of, new_code, reachable
from wanda_ui.language import LANGUAGES, say

JOINED = Class(("192.168.0.12:7860", "10.1.2.3:7860"), "K7QX")


@dataclass(frozen=True)
class Told:
    address: str
    family: int = AF_INET


def test_home_networks_go_first_and_what_leads_nowhere_is_left_out():
    interfaces = {
        "lo": [Told("127.0.0.1"), Told("::1", AF_INET6)],
        "docker0": [Told("192.168.99.1")],
        "wg0": [Told("10.0.0.9")],
        "eth1": [Told("169.254.3.4"), Told("8.8.4.4")],
        "eth0": [Told("10.1.2.3"), Told("fe80::1", AF_INET6)],
        "wlan0": [Told("192.168.0.12")],
        "wlan1": [Told("192.168.7.7")],
    }
    found = reachable(interfaces, {"wlan1": False})
    assert found == ["192.168.0.12", "10.1.2.3", "8.8.4.4", "192.168.99.1", "10.0.0.9"]


def test_a_machine_in_no_network_is_told_so():
    with pytest.raises(InputError, match=r"^--lan found no address .*; join the network .* --host$"):
        class_of(EVERYWHERE, 7860, "K7QX", reachable({"lo": [Told("127.0.0.1")]}, {}))


def test_the_address_that_was_chosen_is_the_one_that_is_said():
    assert class_of(EVERYWHERE, 7860, "K7QX", ["192.168.0.12", "10.1.2.3"]) == JOINED
    assert JOINED.url == "http://192.168.0.12:7860/K7QX"
    assert JOINED.others == ("10.1.2.3:7860/K7QX",)
    assert class_of("10.0.0.5", 80, "K7QX", ["192.168.0.12"]).typed == "10.0.0.5:80/K7QX"
    assert class_of("fd00::1", 80, "K7QX", []).typed == "[fd00::1]:80/K7QX"


def test_codes_are_no_words_and_differ():
    codes = {new_code() for _ in range(200)}
    assert len(codes) > 190
    assert all(CODE.fullmatch(code) for code in codes)
    assert not set("AEIOU01") & set(LETTERS)


@given(st.from_regex(r"http://[0-9.]{7,15}:[0-9]{2,5}/[A-Z2-9]{4}", fullmatch=True))
def test_the_picture_holds_the_address(url):
    assert read(modules(qr.svg(url))) == url


def test_the_terminal_says_it_and_draws_it_only_where_it_can(capsys, monkeypatch):
    announce(JOINED, "http://localhost:7860/")
    said = capsys.readouterr().out
    assert "192.168.0.12:7860/K7QX" in said
    assert "10.1.2.3:7860/K7QX" in said
    assert "http://localhost:7860/class" in said
    assert "█" not in said
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    announce(JOINED, "http://localhost:7860/")
    assert "█" in capsys.readouterr().out


class Stopped(BaseException):
    pass


@pytest.fixture
def started(monkeypatch):
    """-> function that starts the page; -> what was launched with, of whose settings. Nothing listens."""
    made = SimpleNamespace(tools=frozenset(), server_port=7861, local_url="http://localhost:7861/", joined=None)

    def stop():
        raise Stopped

    made.launch = lambda **given: made.__dict__.update(given=given)
    made.block_thread = stop
    made.prepared = threading.Event()  # set once the process that makes tokenizers was started
    monkeypatch.setattr(whole_page, "SOON", 0.0)
    monkeypatch.setattr(whole_page.made_apart, "prepare", made.prepared.set)
    monkeypatch.setattr(whole_page, "keep_freed_memory", lambda: None)
    monkeypatch.setattr(whole_page, "bound_arenas", lambda: None)
    monkeypatch.setattr(whole_page, "show_no_bars", lambda: made.__dict__.update(bars=False))
    monkeypatch.setattr(whole_page, "prepared", lambda settings: SimpleNamespace(settings=settings, start=lambda: None))
    monkeypatch.setattr(whole_page, "build", lambda state: made.__dict__.update(settings=state.settings) or made)
    monkeypatch.setattr(network, "own_addresses", lambda: ["192.168.0.12"])
    for name in ("WANDA_PUBLIC", "WANDA_TOOLS", "SPACE_ID", "GRADIO_SERVER_NAME"):
        monkeypatch.delenv(name, raising=False)

    def start(**given):
        with pytest.raises(Stopped):
            whole_page.serve(**given)
        return made

    return start


def test_only_on_this_wish_others_may_come_and_then_within_public_limits(started, capsys, monkeypatch):
    monkeypatch.setattr(whole_page, "check_place", lambda host, port: None)  # no address of this machine is told here
    made = started()
    assert made.given["server_name"] is None  # Gradio's own: this machine alone
    assert made.joined is None
    assert made.bars is False
    assert not made.settings.public
    assert not made.prepared.wait(0.2)
    made = started(lan=True)
    assert made.prepared.wait(10), "strangers' models do not wait for its start"
    assert made.given["server_name"] == EVERYWHERE
    assert made.settings.public
    assert made.settings.jobs_a_minute > 0
    assert made.joined.hosts == ("192.168.0.12:7861",)
    assert made.joined.typed in capsys.readouterr().out
    assert started(lan=True, host="192.168.0.12").given["server_name"] == "192.168.0.12"


def test_a_class_and_tools_exclude_each_other(started):
    with pytest.raises(SystemExit, match=r"public, and tools are for programs of its owner; .*--lan"):
        whole_page.serve(lan=True, tools=True)


def test_without_a_network_nothing_is_begun(started, monkeypatch):
    monkeypatch.setattr(network, "own_addresses", list)
    with pytest.raises(SystemExit, match=r"^--lan found no address"):
        whole_page.serve(lan=True)


@pytest.fixture
def joined(served):
    served[0].joined = JOINED
    yield
    served[0].joined = None


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_page_says_the_address_large_and_as_a_picture(raw, joined, language):
    told = raw.send("GET", f"/class?lang={language}")
    html = told.body.decode()
    assert told.status == 200
    assert "192.168.0.12:7860/<wbr><b>K7QX</b>" in html
    assert "10.1.2.3:7860/K7QX" in html
    assert read(modules(re.search(r"<svg.*?</svg>", html)[0])) == JOINED.url
    assert f'<html lang="{language}">' in html
    assert say(language, "class.type_or_scan") in unescape(html)


def test_a_page_of_this_machine_alone_says_how_to_open_it(raw):
    html = raw.send("GET", "/class").body.decode()
    assert "wanda-lab app --lan" in html
    assert "<svg viewBox" not in html


@pytest.mark.parametrize("path", ["/K7QX", "/k7qx"])
def test_what_is_typed_leads_to_the_lesson_of_that_class(raw, path):
    told = raw.send("GET", path)
    assert (told.status, told.headers["location"]) == (302, "./?lesson=1&class=K7QX")


@pytest.mark.parametrize("path", ["/info", "/docs", "/K7Q", "/K7QXX", "/K7Q0", "/class/K7QX", "/classy", "/KKKK/"])
def test_other_words_lead_nowhere(raw, path):
    assert raw.send("GET", path).status == 404


def test_a_policy_forbids_the_page_every_request(raw):
    html = raw.send("GET", "/class").body.decode()
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', html)[1]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe-eval" not in policy
    assert html.count("<script>") == 1
