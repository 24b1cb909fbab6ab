"""What the tests in a browser share; their fixtures are in conftest.py."""

import os
import re
import shutil

ON_PATH = filter(None, map(shutil.which, ("chromium-headless-shell", "chromium", "google-chrome")))
CHROMIUM = os.environ.get("WANDA_CHROMIUM") or next(ON_PATH, None)  # None: Playwright's own
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


def ready(page):
    """The page stands and its model is loaded: the head says in which type it runs."""
    page.wait_for_function(
        "() => document.querySelector('#view .wl-svg')"
        " && /float/.test(document.getElementById('wl-model-chip').textContent)"
    )


def column(page, which):
    """-> (title, perplexity, answer, note) of a column of the view: dense, 0, 1, 2."""
    parts = (".wl-col-name", ".wl-col-cost b", ".wl-answer", ".wl-col-note")
    return tuple(page.inner_text(f".wl-col-{which} {part}") for part in parts)


def settled(page, title=None):
    """Nothing is asked for any more, and the first recipe's column has this title."""
    page.wait_for_function(
        "title => !document.querySelector('.wl-busy') && document.getElementById('cancel').hidden"
        " && (!title || document.querySelector('.wl-col-0 .wl-col-name').textContent.startsWith(title))",
        arg=title,
    )


def let_go(page, percent):
    """Drag the handle there and let it go."""
    box = page.locator(".wl-svg").bounding_box()
    left, right = 64, 18  # of the plot, as in the script
    x = box["x"] + left + (box["width"] - left - right) * percent / 80
    page.mouse.move(box["x"] + left + 5, box["y"] + 60)
    page.mouse.down()
    page.mouse.move(x, box["y"] + 60, steps=4)
    page.mouse.up()


def wait_for_address(page, words, there=True):
    """The address is written by events of their own, some time after what they follow."""
    page.wait_for_function("([words, there]) => location.search.includes(words) === there", arg=[words, there])


def open_tab(page, name, figure):
    page.click(f"#nav-{name}")
    page.wait_for_selector(f"#{figure} .js-plotly-plot .main-svg", state="visible")


def figure(page, element):
    page.wait_for_selector(f"#{element} .js-plotly-plot .main-svg", state="visible")
    return page.evaluate(DATA, element)


def grave(page, context=None):
    """-> what axe-core finds serious or critical, in words; context: a selector of the part to look at"""
    from axe_playwright_python.sync_playwright import Axe

    return [
        f"{rule['id']} ({rule['impact']}): {node['html'][:160]} {node.get('failureSummary', '')[:200]}"
        for rule in Axe().run(page, context).response["violations"]
        if rule["impact"] in ("serious", "critical")
        for node in rule["nodes"]
    ]


def zeros(note):
    """The share of zeros that a column's note tells, in percent."""
    return float(re.search(r"([\d.]+)% zeros", note)[1])


def number(words):
    return float(words.replace("≈", "").replace(",", ""))
