"""The view in a browser without a server: its questions are answered by the test, its events are written down."""

import json

from wanda_core.assets import REPLAY
from wanda_core.report.keys import Key
from wanda_core.report.run import read_run
from wanda_ui.first_view import first_view
from wanda_ui.settings import Settings

ADDRESS = "https://lab.test/"  # what is https may write to the clipboard
# A host as the server's component hands it over; `calls` are the events, `heard` takes messages by their kind.
ATTACH = """ready => {
    const names = ['look', 'sweep', 'open', 'expect', 'why', 'own', 'text', 'cancel', 'cancel_sweep', 'masks',
        'cancel_masks', 'push', 'cancel_push', 'buys', 'cancel_buys'];
    window.calls = [];
    window.heard = {};
    const host = Object.fromEntries(names.map(name => [name, data => calls.push([name, data])]));
    WandaLab.page.attach(document.getElementById('view'), { ...host, watch: (name, call) => { heard[name] = call; } });
    if (ready) heard.opened({ model: 'builtin', ready: true, title: ready, chip: `${ready} · CPU float32` });
}"""
MODEL = "SmolLM2-135M-Instruct"


def html(language="en"):
    """-> the page as it is sent, with an empty place for the view instead of Gradio's part."""
    place = "<div id='view'><div class='wl-slot'></div></div>"
    return (
        f"<!doctype html><html lang='{language}'><head><meta charset='utf-8'><title>Wanda Lab</title></head><body>"
        f"{first_view(language, Settings())}<gradio-app>{place}</gradio-app></body></html>"
    )


class Alone:
    """A tab with the view.

    answers: by the name of a question a value, or a function of what is asked; asked: all of it. A value
    with `status` and `detail` is a refusal.
    """

    def __init__(self, browser, answers=None, language="en", attached=True, title=MODEL, query="", **context):
        self.answers, self.asked = answers or {}, []
        self.context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **context})
        self.page = self.context.new_page()
        self.page.set_default_timeout(20_000)
        self.complaints = []
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.route("**/*", self._answer)
        self.language = language
        self.page.goto(f"{ADDRESS}?lang={language}{query}")
        self.page.wait_for_selector(".wl-svg path", state="attached")  # in whichever tab
        if attached:
            self.page.evaluate(ATTACH, title)

    def _answer(self, route):
        path = route.request.url.removeprefix(ADDRESS).partition("?")[0]
        if not path:
            route.fulfill(body=html(self.language), content_type="text/html; charset=utf-8")
            return
        name = path.removeprefix("wanda/")
        if name in self.answers:
            given = route.request.post_data_json
            self.asked.append((name, given))
            answer = self.answers[name]
            answer = answer(given) if callable(answer) else answer
            status = answer.get("status", 200)
            route.fulfill(status=status, body=json.dumps(answer), content_type="application/json")
        elif name.startswith("checkpoint/"):
            self.asked.append((name, None))
            headers = {"content-disposition": f"attachment; filename={name.rpartition('/')[2]}"}
            route.fulfill(body=b"PK\x05\x06" + bytes(18), content_type="application/zip", headers=headers)
        else:
            route.fulfill(status=404, body="{}", content_type="application/json")

    def hear(self, kind, **message):
        """Tell the view what a server would."""
        self.page.evaluate("([kind, message]) => heard[kind](message)", [kind, message])

    def asks(self, name):
        """-> what was asked by a question's name."""
        return [given for asked, given in self.asked if asked == name]

    def calls(self, name):
        """-> what was sent with the events of a name."""
        return [data for called, data in self.page.evaluate("calls") if called == name]

    def saved(self, where):
        """Press what saves a file. -> (its name, its bytes)"""
        with self.page.expect_download() as taken:
            self.page.locator(where).click()
        return taken.value.suggested_filename, taken.value.path().read_bytes()

    def close(self):
        self.context.close()


def take_answer(given, **checkpoint):
    """-> an answer of /wanda/take for what is asked."""
    recipes = [
        {
            "id": recipe["id"],
            "name": f"{MODEL}-{recipe['method']}-{recipe['at']}",
            "title": f"{recipe['method']} {recipe['at']}%",
            "command": f"wanda-lab prune --method {recipe['method']} --sparsity {recipe['at'] / 100} --output out/it",
            "python": f"import wanda_core as wanda\n\nwanda.PruneSpec({recipe['method']!r}, {recipe['at'] / 100})",
            "recipe": Key.parse(recipe["key"]).spec(recipe["at"]).to_dict(),
            "made": False,
        }
        for recipe in given["recipes"]
    ]
    sizes = {"bfloat16": 269_000_000, "float16": 269_000_000, "float32": 538_000_000}
    offered = {"offered": True, "why": None, "bytes": sizes, "own": "bfloat16", **checkpoint}
    about = {**read_run(REPLAY)["made"], "model": MODEL, "name": given["model"], "date": "2026-11-27"}
    return {"ready": True, "about": about, "recipes": recipes, "checkpoint": offered}


def whole_view(browser, answers=None, **more):
    """-> the view with all its files, at what it hands over."""
    view = Alone(browser, {"take": take_answer, **(answers or {})}, attached=False, **more)
    view.page.evaluate(ATTACH, MODEL)
    view.page.locator("#take-away").scroll_into_view_if_needed()
    return view


def said(view, part):
    """Wait until the section says something."""
    view.page.wait_for_function("part => document.getElementById('take-said').textContent.includes(part)", arg=part)
