"""Texts that would be scripts, in a real browser: typed into every box of every tab, said by the model, named by it."""

from dataclasses import replace
from urllib.parse import quote

import pytest
from browser import MINUTE, ready, settled
from engine_room import server, serving, without_other_models
from ui.leaf_browser import opened, writer
from ui.runs import SHORT, hostile

from wanda_core.outliers import interventions
from wanda_core.outliers import sentence as sentences
from wanda_core.progress import Progress, finish
from wanda_ui.engine import look as looks
from wanda_ui.engine.loaded import Loaded

pytestmark = pytest.mark.browser

LINE = "Output"
RUNS = "window.canary=1"
MORE = (
    f"<img src=x onerror={RUNS}>",
    f"<svg><animate onbegin={RUNS} attributeName=x dur=1s>",
    f"<details open ontoggle={RUNS}>",
    "<iframe srcdoc='<script>parent.canary=1</script>'>",
    f"<a href=javascript:{RUNS}>x</a>",
    f"<math><mi xlink:href=javascript:{RUNS}>",
    f"[x](javascript:{RUNS})",
    f'![x](x" onerror="{RUNS})',
    f"<body onload={RUNS}>",
    f"<input autofocus onfocus={RUNS}>",
    f"<style onload={RUNS}>",
)
# A label of Gradio's whose key is HTML: its page makes JSON of it, and puts it there as it is.
LABEL = f'__i18n__{{"key":"\\u003cimg src=x onerror={RUNS}\\u003e"}}'
MARKED = (LABEL, f"behind words {LABEL}", f"{LABEL} {LABEL}")
PAYLOADS = [*MARKED, *MORE, *(text for text in SHORT if "\0" not in text)][:39]
FAMILY = f"<img src=x onerror={RUNS}>"
# What stands in the page as a part of it and not as words.
NAMES = ("onerror", "onbegin", "ontoggle", "onfocus", "onload", "onmouseover", "srcdoc", "href")
STRANGE = (
    f"() => [...document.querySelectorAll('{','.join(f'[{name}*=canary]' for name in NAMES)}')]"
    ".map(element => element.outerHTML.slice(0, 200))"
)
BOXES = "textarea:visible, input[type=text]:visible, input:not([type]):visible"


@pytest.fixture(scope="module")
def hostile_page(tiny_llama, tmp_path_factory):
    """The address of a page over a model that is named, and answers, as an attacker likes."""

    def said(lm, prompt, **settings):
        for number, grown in enumerate(generate(lm, prompt, **settings)):
            yield replace(grown, text="".join(PAYLOADS), pieces=tuple(PAYLOADS[: number + 1]))

    def line(lm, prompt, length):
        yield Progress("line", 0, 1, "tokens")
        return " ".join(MARKED)

    generate = looks.generate
    with without_other_models() as patch:
        patch.setattr(looks, "generate", said)
        patch.setattr(interventions, "greedy_steps", line)
        patch.setattr(sentences, "token_texts", lambda lm, tokens: tuple(LABEL for _ in tokens))
        patch.setenv("GRADIO_TEMP_DIR", str(tmp_path_factory.mktemp("uploads")))
        named = replace(tiny_llama, name=FAMILY)
        state = server(tiny_llama)
        state.models["builtin"] = Loaded(named, "builtin")
        finish(state.open_steps("builtin"))
        with serving(state) as (_, address):
            yield address


@pytest.fixture(scope="module")
def visitor(hostile_page, browser):
    """Its visitor. The browser comes second: it has an event loop of its own, in which no server can be started."""
    page = browser.new_page(viewport={"width": 1440, "height": 1000})
    page.set_default_timeout(2 * MINUTE)
    page.said = []
    page.on("dialog", lambda dialog: (page.said.append(dialog.message), dialog.dismiss()))
    page.goto(f"{hostile_page}/?prompt={quote(FAMILY)}&key={quote(FAMILY)}")
    ready(page)
    yield page
    page.close()


def ran(page) -> list:
    """What a script left, and what looks like one."""
    canary = page.evaluate("() => window.canary ?? null")
    return [*([canary] if canary is not None else []), *page.said, *page.evaluate(STRANGE)]


def test_no_text_in_a_table_of_the_lab_is_run(visitor):
    visitor.click("#nav-outliers")
    visitor.locator("#lab > div button[role=tab]:visible").nth(4).click()
    visitor.fill("#ablation-channels textarea, #ablation-channels input", "3")
    visitor.click("#ablation-run")
    visitor.wait_for_selector("#ablation-table tbody tr")
    assert ran(visitor) == []
    cell = visitor.locator("#ablation-table tbody tr").first.locator("td").last
    assert cell.inner_text().replace("\u2060", "") == " ".join(MARKED)


def test_no_text_is_run_in_any_tab(visitor, figures):
    page, found, filled = visitor, [], 0
    page.click("#nav-compare")
    page.click("#own-prompts summary")
    page.fill("#wl-own", "\n".join(PAYLOADS))
    page.click("#own-run")
    page.wait_for_function("count => document.querySelectorAll('#own-prompts tbody tr').length >= count", arg=20)
    page.fill("#wl-prompt", " ".join(MORE[:5]))
    page.click("#ask")
    settled(page)
    page.locator(".wl-col-dense .wl-token").first.click()
    found += ran(page)
    shown = page.inner_text(".wl-col-dense .wl-answer")
    assert MORE[0] in shown, "the answer is not what the model said"
    for tab in ("compare", "scores", "outliers", "learn"):
        page.click(f"#nav-{tab}")
        sides = page.locator("#lab > div button[role=tab]:visible, #lesson-steps [data-step]:visible").all()
        for side in sides or [None]:
            if side is not None:
                side.click()
                page.wait_for_timeout(300)
            boxes = page.locator(BOXES).all()
            for number, box in enumerate(boxes):
                if box.is_editable():
                    box.fill(PAYLOADS[(filled + number) % len(PAYLOADS)])
                    box.press("Enter")
                    filled += 1
            for button in page.locator("button[id$=-run]:visible, button[id$=-see]:visible").all():
                if button.is_enabled():
                    button.click()
                    page.wait_for_timeout(500)
        found += ran(page)
    assert filled > 8, "no box was found"
    assert not found, found
    figures.exactly(LINE, f"texts, of {len(PAYLOADS)}, that ran in any tab of a browser", len(found), 0)


@pytest.mark.parametrize("kind", ["site", "report"])
def test_no_text_of_a_run_is_run_in_the_site_nor_the_report(browser, tmp_path, kind, figures):
    run = hostile(*PAYLOADS)
    with opened(browser, writer(kind, tmp_path)(run)) as page:
        page.wait_for_timeout(500)
        canary, strange = page.evaluate("() => window.canary ?? null"), page.evaluate(STRANGE)
    assert (canary, strange) == (None, [])
    figures.exactly(LINE, f"texts, of {len(PAYLOADS)}, that ran in the {kind}", len(strange), 0)
