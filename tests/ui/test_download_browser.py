"""A real browser saves the checkpoint by its address, under its name, and all of it."""

import zipfile

import pytest
from browser import MINUTE
from take_away import NAME, SENT

pytestmark = pytest.mark.browser

ASK = """async (given) => {
    const answer = await fetch("wanda/checkpoint", {
        method: "POST", headers: {"content-type": "application/json"}, body: JSON.stringify(given),
    });
    const made = await answer.json();
    const link = Object.assign(document.createElement("a"), {href: made.address, download: made.name});
    document.body.append(link);
    link.click();
    return made;
}"""


def test_a_browser_saves_the_whole_file_under_its_name(taken, browser, tmp_path):
    with browser.new_page(accept_downloads=True) as page:
        page.goto(taken[2], timeout=MINUTE)
        with page.expect_download(timeout=MINUTE) as begun:
            made = page.evaluate(ASK, {"model": "tiny", "recipe": SENT, "dtype": "bfloat16"})
        assert begun.value.suggested_filename == made["name"] == f"{NAME}.zip"
        begun.value.save_as(tmp_path / "saved.zip")
        assert begun.value.failure() is None
    assert (tmp_path / "saved.zip").stat().st_size == made["bytes"]
    with zipfile.ZipFile(tmp_path / "saved.zip") as opened:
        assert opened.testzip() is None
