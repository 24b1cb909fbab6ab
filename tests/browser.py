"""What the tests in a browser share; their fixtures are in conftest.py."""

import os
import shutil

CHROMIUM = os.environ.get("WANDA_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
QUIET = ["--no-sandbox", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
MINUTE = 60_000  # ms

# plotly keeps typed arrays; plain lists travel back
DATA = """id => Array.from(document.querySelector('#' + id + ' .js-plotly-plot').data, t => ({
    type: t.type, name: t.name || '', x: Array.from(t.x), y: Array.from(t.y),
    z: t.z ? Array.from(t.z, row => Array.from(row)) : null }))"""


def wait_for(page, element, words):
    page.wait_for_function(
        "([id, words]) => document.querySelector('#' + id)?.innerText.includes(words)", arg=[element, words]
    )


def wait_for_address(page, words, there=True):
    """The address is written by events of their own, some time after what they follow."""
    page.wait_for_function("([words, there]) => location.search.includes(words) === there", arg=[words, there])


def open_tab(page, name, figure):
    page.click(f"#tab-{name}-button")
    page.wait_for_selector(f"#{figure} .js-plotly-plot .main-svg", state="visible")


def figure(page, element):
    page.wait_for_selector(f"#{element} .js-plotly-plot .main-svg", state="visible")
    return page.evaluate(DATA, element)
