"""The static page as a folder: what lies in it, what it never replaces, and the commands that write such pages."""

import io
import json
import os
from pathlib import Path

import pytest
import yaml
from PIL import Image
from runs import SHORT, bare, hostile, line, small
from typer.testing import CliRunner

from wanda_core.errors import InputError, StorageError
from wanda_ui.away import site as sites
from wanda_ui.away.preview import SIZE, preview
from wanda_ui.away.site import write_site
from wanda_ui.away.telling import completed
from wanda_ui.command import commands

FILES = ["README.md", "index.html", "preview.png", "wanda.json"]
OPTIONAL_RUNS = {"whole": small, "bare": bare, "no lines": lambda: small(lines=[], answers={})}


def front(folder: Path) -> dict:
    """The front matter of a folder's README."""
    _, matter, _ = (folder / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    return yaml.safe_load(matter)


def listed(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("make", OPTIONAL_RUNS.values(), ids=OPTIONAL_RUNS)
def test_a_folder_holds_the_page_a_card_for_a_space_and_a_picture(tmp_path, make):
    folder = write_site(make(), tmp_path / "site")
    assert listed(folder) == FILES
    card = front(folder)
    assert (card["sdk"], card["app_file"]) == ("static", "index.html")
    assert card["title"] == "owner/other-model, pruned with Wanda"
    assert card["models"] == ["owner/other-model"]
    assert len(card["short_description"]) <= 60
    with Image.open(folder / "preview.png") as picture:
        assert (picture.format, picture.size) == ("PNG", SIZE)
    page = (folder / "index.html").read_text(encoding="utf-8")
    assert '<meta property="og:image" content="preview.png">' in page
    assert '<meta property="og:title" content="owner/other-model, pruned with Wanda">' in page
    assert "og:url" not in page


def test_the_address_makes_links_whole(tmp_path):
    page = (write_site(small(), tmp_path / "site", "ko", "https://me.example/lab/") / "index.html").read_text("utf-8")
    assert '<meta property="og:image" content="https://me.example/lab/preview.png">' in page
    assert '<meta property="og:url" content="https://me.example/lab/">' in page
    assert '<html lang="ko">' in page
    for wrong in ("me.example", "javascript:alert(1)", ""):
        with pytest.raises(InputError, match="does not begin with https://"):
            write_site(small(), tmp_path / "other", "en", wrong)
    assert listed(tmp_path) == ["site"]


@pytest.mark.parametrize("name", ["builtin", "/home/someone/model", "./model", "owner/model@v1.0"])
def test_only_a_model_of_the_hub_is_named_on_the_card(tmp_path, name):
    run = small()
    folder = write_site({**run, "made": {**run["made"], "name": name}}, tmp_path / "site")
    assert front(folder).get("models") == (["owner/model"] if "@" in name else None)


@pytest.mark.parametrize("text", SHORT)
def test_no_name_of_a_model_breaks_the_card_the_head_or_the_picture(tmp_path, text):
    run = hostile(text)
    folder = write_site(
        {**small(), "made": {**run["made"], "calibration": small()["made"]["calibration"]}}, tmp_path / "site"
    )
    card = front(folder)
    assert card["sdk"] == "static"
    assert card["title"].startswith("".join(sign if sign.isprintable() else " " for sign in text)[:40])
    head = (folder / "index.html").read_text(encoding="utf-8").split("</head>")[0]
    assert head.count("<script") == 0
    assert head.count("<meta") == 13
    body = (folder / "README.md").read_text(encoding="utf-8").split("---\n", 2)[2]
    assert len(body.strip().splitlines()) == 3


def test_a_name_of_a_model_is_text_on_the_card(tmp_path):
    run = small()
    name = "<img src=x onerror=alert(1)> [more](https://example.org) <!-- **a** `b`"
    folder = write_site({**run, "made": {**run["made"], "model": name}}, tmp_path / "site")
    body = (folder / "README.md").read_text(encoding="utf-8").split("---\n", 2)[2]
    assert r"&lt;img src=x onerror=alert(1)&gt; \[more\](https://example.org) &lt;!-- \*\*a\*\* \`b\`" in body
    assert "<" not in body.splitlines()[1]


def test_an_earlier_page_is_replaced_and_nothing_else_ever_is(tmp_path):
    folder = write_site(small(), tmp_path / "site")
    before = (folder / "index.html").read_bytes()
    write_site(bare(), folder)
    assert (folder / "index.html").read_bytes() != before
    assert listed(tmp_path) == ["site"]

    (folder / "notes.txt").write_text("mine")
    with pytest.raises(StorageError, match="holds other things than an earlier static page"):
        write_site(small(), folder)
    (folder / "notes.txt").unlink()
    (folder / "README.md").write_text("mine")
    with pytest.raises(StorageError, match="holds other things"):
        write_site(small(), folder)
    assert (folder / "README.md").read_text() == "mine"


def test_a_folder_of_something_else_stays_as_it_is(tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "index.html").write_text("mine")
    with pytest.raises(StorageError, match="holds other things"):
        write_site(small(), other)
    from wanda_core.checkpoint import manifest

    model = tmp_path / "model"  # a checkpoint as it was saved: a prune may replace it, a page may not
    model.mkdir()
    (model / "model.safetensors").write_text("weights")
    manifest.seal(model, {"wanda": "0.2.0"})
    with pytest.raises(StorageError, match="holds other things"):
        write_site(small(), model)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(StorageError, match="is a file"):
        write_site(small(), tmp_path / "file")
    assert (other / "index.html").read_text() == "mine"
    assert listed(tmp_path) == ["file", "model", "other"]


def test_an_empty_folder_is_taken_and_one_that_fails_leaves_nothing(tmp_path, monkeypatch):
    empty = tmp_path / "empty"
    empty.mkdir()
    write_site(small(), empty)
    assert listed(empty) == FILES

    def full(run):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(sites, "preview", full)
    with pytest.raises(StorageError, match=r"cannot be written \(No space left on device\)"):
        write_site(small(), tmp_path / "deep" / "site")
    before = (empty / "index.html").read_bytes()
    with pytest.raises(StorageError, match="No space left"):
        write_site(bare(), empty)
    assert (empty / "index.html").read_bytes() == before
    assert listed(tmp_path) == ["empty"]


def counts(run) -> list[int]:
    """How many pixels of the picture have the colours of the dense model, of Wanda, and of what it is against."""
    with Image.open(io.BytesIO(preview(completed(run)))) as picture:
        found = {colour: count for count, colour in picture.convert("RGB").getcolors(SIZE[0] * SIZE[1])}
    return [found.get(colour, 0) for colour in ((0, 114, 178), (230, 159, 0), (107, 116, 128))]


def test_the_picture_shows_the_lines_in_their_colours():
    assert min(counts(small())) > 500
    dense, wanda, other = counts(small(lines=[line("wanda", [50], [1e300])], answers={}))
    assert min(dense, wanda) > 100 > other  # one point, beyond the upper edge
    assert counts(small(lines=[], answers={}))[1:] == [0, 0]


def command(*arguments):
    return CliRunner().invoke(commands.app, [str(argument) for argument in arguments])


def test_the_command_writes_the_stored_run_or_ones_own(tmp_path):
    done = command("site", "--output", tmp_path / "stored")
    assert done.exit_code == 0, done.output
    assert done.stdout.strip() == os.fspath(tmp_path / "stored")
    assert "SmolLM2-135M-Instruct" in front(tmp_path / "stored")["title"]
    (tmp_path / "run.json").write_text(json.dumps(small()))
    done = command("site", "--run", tmp_path / "run.json", "--output", tmp_path / "own", "--language", "ko")
    assert done.exit_code == 0, done.output
    assert front(tmp_path / "own")["title"] == "Wanda로 가지치기한 owner/other-model"
    done = command("report", tmp_path / "run.json", "--output", tmp_path / "report.html")
    assert done.exit_code == 0, done.output
    assert (tmp_path / "report.html").stat().st_size < 400_000


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["site", "--output", "out", "--language", "fr"], "language 'fr' is not one of en, ko"),
        (["site", "--output", "out", "--run", "nothing.json"], "'nothing.json' cannot be read"),
        (["site", "--output", ""], "is no name"),
        (["report", "nothing.json", "--output", "out.html"], "cannot be read"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(tmp_path, monkeypatch, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    done = command(*arguments)
    assert done.exit_code == 2
    assert sentence in done.stderr
    assert done.stderr.count("\n") == 1
    assert listed(tmp_path) == []
