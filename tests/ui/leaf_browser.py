"""What tests of pages without a server share in a browser: a file that is opened, and all that it does and may not."""

from contextlib import contextmanager

from axe_playwright_python.sync_playwright import Axe

from wanda_ui.away.shell import filled, shell

# Whether a policy was broken is an event of the page; a clipboard of a test's own tells what was copied.
WATCH = """
window.broken = [];
addEventListener('securitypolicyviolation', event => broken.push(event.violatedDirective + ' ' + event.blockedURI));
Object.defineProperty(navigator, 'clipboard', { value: { writeText: async text => { window.copied = text; } } });
"""
FULL = {"width": 1280, "height": 900}
PHONE = {"width": 400, "height": 800}


def writer(kind, folder):
    """-> function that writes a page with a run to a file of its own, and returns its path"""

    def write(run, language="en"):
        file = folder / f"{len(list(folder.iterdir()))}.html"
        file.write_text(filled(shell(kind, language), run, f"A {kind}"), encoding="utf-8")
        return file

    return write


@contextmanager
def opened(browser, file, query="", **settings):
    """Open a page from its file, without any network. It may ask for nothing, say nothing and break no policy."""
    context = browser.new_context(**{"viewport": FULL, "offline": True, "accept_downloads": True, **settings})
    context.add_init_script(WATCH)
    page = context.new_page()
    page.set_default_timeout(20_000)
    page.asked, page.said = [], []
    page.on("request", lambda request: page.asked.append(request.url))
    page.on("console", lambda message: page.said.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: page.said.append(str(error)))
    page.on("dialog", lambda dialog: (page.said.append(f"dialog {dialog.message}"), dialog.dismiss()))
    address = f"{file.as_uri()}{query}"
    page.goto(address)
    page.wait_for_selector("#wl-leaf main")
    page.wait_for_function(
        "() => [...document.querySelectorAll('.wl-fitted')].every(e => e.firstChild || !e.offsetWidth)"
    )
    try:
        yield page
        page.wait_for_timeout(50)
        assert [url for url in page.asked if not url.startswith(("data:", "blob:"))] == [address]
        assert page.said == []
        assert page.evaluate("() => [window.broken, window.canary ?? null]") == [[], None]
    finally:
        context.close()


def grave(page) -> list[str]:
    """What axe-core finds serious or critical, with everything open that opens."""
    page.evaluate("() => { for (const part of document.querySelectorAll('details')) part.open = true; }")
    return [
        f"{rule['id']} ({rule['impact']}): {node['html'][:160]} {node.get('failureSummary', '')[:200]}"
        for rule in Axe().run(page).response["violations"]
        if rule["impact"] in ("serious", "critical")
        for node in rule["nodes"]
    ]


def levels(page) -> list[int]:
    """The levels of the headings that can be seen or heard, from the top."""
    return page.evaluate(
        "() => Array.from(document.querySelectorAll('h1, h2, h3, h4'))"
        ".filter(e => e.checkVisibility() && e.textContent.trim()).map(e => Number(e.tagName[1]))"
    )


def wider_than_the_page(page) -> list[str]:
    """What reaches beyond the right edge, without being inside of something that scrolls or cuts."""
    return page.evaluate(
        """() => {
            const wide = document.documentElement.clientWidth;
            const inside = e => { for (let p = e.parentElement; p; p = p.parentElement)
                if (getComputedStyle(p).overflowX !== 'visible') return true; return false; };
            const found = [...document.querySelectorAll('#wl-leaf *')].filter(e => !e.closest('svg svg, .wl-hidden')
                && e.getBoundingClientRect().right > wide + 1 && !inside(e)).map(e => e.outerHTML.slice(0, 120));
            if (document.documentElement.scrollWidth > wide) found.push('page ' + document.documentElement.scrollWidth);
            return found;
        }"""
    )
