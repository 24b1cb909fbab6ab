"""Where zeros pay: README, the model card and the page show one table, that of `wanda_core.runtimes`."""

import json
import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from wanda_core.checkpoint.model_card import card
from wanda_core.runtimes import CHECKED, COLUMNS, NEEDS, RUNTIMES, USES, markdown
from wanda_ui.first_view import view_data
from wanda_ui.language import LANGUAGES, words
from wanda_ui.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
RECORD = {
    "recipe": {"method": "wanda", "pattern": "unstructured", "group": "row", "sparsity": 0.5, "update": "none"},
    "base": {"name": "org/name", "title": "name", "revision": "0" * 40},
    "label": "Wanda 50%",
    "sparsity": 0.5,
    "prunable_weights": 100,
    "calibration": None,
    "perplexity": {},
    "dtype": "float32",
}


def rows_of(text: str) -> list[list[str]]:
    """The rows of the first table under a heading that names our columns, without the head."""
    lines = text.splitlines()
    start = lines.index(f"| {' | '.join(COLUMNS)} |")
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split(" | ")])
    return rows


def known() -> list[list[str]]:
    return [
        [one.name, USES[one.scattered], USES[one.two_of_four], USES[one.smaller], f"[{one.source}]({one.address})"]
        for one in RUNTIMES
    ]


def test_readme_and_the_model_card_show_the_table_with_its_date():
    for text in ((ROOT / "README.md").read_text(encoding="utf-8"), card(RECORD)):
        assert rows_of(text) == known()
        assert markdown()[-1] in text
    assert CHECKED in markdown()[-1]
    assert NEEDS in markdown()[-1]


def test_the_page_has_the_table_and_words_for_every_use():
    for language in LANGUAGES:
        shown = json.loads(json.dumps(view_data(language, Settings())["settings"]["runtimes"]))
        assert shown["checked"] == CHECKED
        uses = ("scattered", "two_of_four", "smaller")
        assert [
            [row["name"], *(USES[row[use]] for use in uses), f"[{row['source']}]({row['address']})"]
            for row in shown["rows"]
        ] == known()
        assert {f"view.where.{use}" for use in USES} <= words(language).keys()


def test_every_row_has_a_source_of_its_own_and_every_dated_one_is_no_later_than_the_reading():
    assert re.fullmatch(r"20\d\d-(0[1-9]|1[0-2])", CHECKED)
    assert len({one.address for one in RUNTIMES}) == len({one.name for one in RUNTIMES}) == len(RUNTIMES)
    for one in RUNTIMES:
        assert urlsplit(one.address).scheme == "https"
        assert all(when <= CHECKED for when in re.findall(r"20\d\d-\d\d", one.source))
        assert one.source.partition(",")[0].lstrip("#") in one.address or "#" not in one.source


@pytest.mark.browser
@pytest.mark.parametrize("language", LANGUAGES)
def test_the_table_on_the_page_reads_as_the_data(browser, language):
    from view_alone import Alone

    view = Alone(browser, language=language)
    view.page.locator("#where summary").click()
    table = view.page.locator("#where tbody tr")
    assert table.count() == len(RUNTIMES)
    for place, one in enumerate(RUNTIMES):
        told = table.nth(place).locator("th, td").all_inner_texts()
        assert told == [one.name, *(words(language)[f"view.where.{use}"] for use in one.uses), one.source]
        assert table.nth(place).locator("a").get_attribute("href") == one.address
    assert CHECKED in view.page.locator("#where").inner_text()
    assert not view.complaints
    view.context.close()
