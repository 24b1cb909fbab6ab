"""What the page says of itself before it is opened: title, description, preview, icon, in its language."""

import json
import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path

import gradio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from wanda_ui.greeting import PREVIEW, PREVIEW_SIZE, address_of, greet, is_host
from wanda_ui.language import LANGUAGES, words
from wanda_ui.settings import Settings
from wanda_ui.view_files import FAVICON

TEMPLATE = (Path(gradio.__file__).parent / "templates" / "frontend" / "index.html").read_text(encoding="utf-8")
MOST_PREVIEW = 200_000  # bytes
# What the hub reads of a Space's README.
FRONT_MATTER = {
    *("title", "emoji", "colorFrom", "colorTo", "sdk", "sdk_version", "python_version", "app_file"),
    *("short_description", "license", "models", "preload_from_hub", "tags", "startup_duration_timeout"),
}


class Head(HTMLParser):
    """What a head says: the title, the metas by name, the icons."""

    def __init__(self, html):
        super().__init__()
        self.metas, self.icons, self.titles, self._in_title = [], [], [], False
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self._in_title = tag == "title"
        if tag == "meta" and "content" in given:
            self.metas.append((given.get("property") or given.get("name"), given["content"]))
        if tag == "link" and given.get("rel") == "icon":
            self.icons.append(given["href"])

    def handle_data(self, data):
        if self._in_title:
            self.titles.append(data)

    def handle_endtag(self, tag):
        self._in_title = False

    @property
    def by_name(self):
        names = [name for name, _ in self.metas if name not in ("theme-color", None)]
        assert sorted(set(names)) == sorted(names), "said twice"
        return dict(self.metas)


@pytest.mark.parametrize("language", LANGUAGES)
def test_gradios_words_for_itself_give_way_to_the_pages(language):
    head = Head(greet(TEMPLATE, language, "https://lab.example"))
    said, text = head.by_name, words(language)
    assert head.titles == [text["page.title"]]
    assert said["og:title"] == said["twitter:title"] == text["page.title"]
    assert said["description"] == said["og:description"] == said["twitter:description"] == text["page.description"]
    assert said["og:image"] == said["twitter:image"] == "https://lab.example/preview.png"
    assert said["og:url"] == "https://lab.example/"
    assert (said["og:image:width"], said["og:image:height"]) == ("1200", "630")
    assert said["og:image:alt"] == text["page.preview"]
    assert said["twitter:card"] == "summary_large_image"
    assert said["theme-color"]
    assert head.icons == ["favicon.ico"]
    assert "adio" not in json.dumps(said)
    assert 50 < len(text["page.description"]) <= 200  # search engines and chats cut longer ones


def test_without_an_address_no_picture_is_named():
    head = Head(greet(TEMPLATE, "en", ""))
    assert not {"og:image", "og:url", "twitter:image"} & set(head.by_name)
    assert head.by_name["twitter:card"] == "summary"


@pytest.mark.parametrize(
    ("headers", "scheme", "root", "environ", "address"),
    [
        ({b"host": "127.0.0.1:7860"}, "http", "", {}, "http://127.0.0.1:7860"),
        ({b"host": "[::1]:7860"}, "http", "", {}, "http://[::1]:7860"),
        ({b"host": "lab.example"}, "https", "", {}, "https://lab.example"),
        ({b"host": "inside:1", b"x-forwarded-host": "lab.example"}, "http", "", {}, "http://lab.example"),
        ({b"host": "a.example", b"x-forwarded-proto": "https,http"}, "http", "", {}, "https://a.example"),
        ({b"host": "a.example", b"x-forwarded-proto": "javascript"}, "http", "", {}, "http://a.example"),
        ({b"host": "a.example"}, "http", "/lab/", {}, "http://a.example/lab"),
        ({b"host": "a.example"}, "http", "https://b.example/lab/", {}, "https://b.example/lab"),
        ({b"host": "inside:7860"}, "http", "", {"SPACE_HOST": "me-lab.hf.space"}, "https://me-lab.hf.space"),
        ({b"host": 'a.example/"><script>'}, "http", "", {}, ""),
        ({b"host": "a.example@b.example"}, "http", "", {}, ""),
        ({b"host": "a.example:99999"}, "http", "", {}, ""),
        ({b"host": "a..example"}, "http", "", {}, ""),
        ({b"host": "a.example", b"x-forwarded-host": "a b"}, "http", "", {}, ""),
        ({b"host": "a.example"}, "http", "", {"SPACE_HOST": "not a host"}, ""),
        ({}, "http", "", {}, ""),
    ],
)
def test_the_address_is_a_hosts_or_none(headers, scheme, root, environ, address):
    assert address_of(headers, scheme, root, environ) == address


@given(st.text(max_size=80))
def test_whatever_a_host_header_holds_only_letters_of_hosts_reach_the_page(text):
    address = address_of({b"host": text}, "http", "", {})
    assert address in ("", f"http://{text}")
    if address:
        assert is_host(text)
        assert re.fullmatch(r"[A-Za-z0-9.:\[\]-]+", text)
    assert greet(TEMPLATE, "en", address).count("<script") == TEMPLATE.count("<script")


def test_the_preview_is_of_the_size_that_is_told_and_light_enough_to_be_shown():
    with Image.open(PREVIEW) as picture:
        assert picture.size == PREVIEW_SIZE
        assert picture.format == "PNG"
        colours = picture.convert("RGB").getcolors(maxcolors=2**20)
    assert len(colours) > 50  # no empty picture
    assert PREVIEW.stat().st_size <= MOST_PREVIEW


def test_the_icon_is_a_drawing_and_holds_no_letters():
    """An emoji would look different on every machine, and be of somebody else's hand."""
    tags = {element.tag.rpartition("}")[2] for element in ElementTree.parse(FAVICON).iter()}
    assert tags == {"svg", "title", "clipPath", "rect", "g", "path"}


def test_the_page_preview_and_icon_are_served(raw):
    page = raw.send("GET", "/", headers={"host": "lab.example:7860"})
    head = Head(page.body.decode())
    assert head.by_name["og:image"] == "http://lab.example:7860/preview.png"
    for address, kind, file in (
        ("/preview.png", "image/png", PREVIEW),
        ("/favicon.ico", "image/svg+xml", FAVICON),
        ("/pwa_icon", "image/svg+xml", FAVICON),
    ):
        reply = raw.send("GET", address)
        assert (reply.status, reply.headers["content-type"]) == (200, kind)
        assert reply.body == file.read_bytes()
        assert raw.send("HEAD", address).status < 500
    manifest = json.loads(raw.send("GET", "/manifest.json").body)
    assert [icon["src"] for icon in manifest["icons"]] == ["/pwa_icon"]
    assert raw.send("POST", "/preview.png").status == 405


def test_readmes_front_matter_is_what_a_space_takes():
    readme = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")
    front = readme.split("---")[1]
    said = dict(re.findall(r"^(\w+): (.+)$", front, re.MULTILINE))
    assert set(re.findall(r"^(\w+):", front, re.MULTILINE)) <= FRONT_MATTER
    assert said["sdk"] == "gradio"
    assert said["license"] == "apache-2.0"
    assert re.search(r"^models:\n  - HuggingFaceTB/SmolLM2-135M-Instruct$", front, re.MULTILINE)
    assert said["sdk_version"] == gradio.__version__
    assert said["python_version"] == '"3.12"'
    assert len(said["short_description"]) <= 60
    assert said["colorFrom"] in ("red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray")
    assert (Path(__file__).resolve().parents[2] / said["app_file"]).is_file()
    assert not Settings.from_environment({"SPACE_ID": "me/lab"}).local_folders
