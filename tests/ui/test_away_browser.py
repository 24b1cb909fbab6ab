"""Take it with you: what is offered, in every state, by mouse and by keys; a run is taken away and brought back."""

import csv
import io
import json
import zipfile

import pytest
from axe_playwright_python.sync_playwright import Axe
from view_alone import ATTACH, MODEL, Alone, take_answer

from wanda_ui.language import words

pytestmark = pytest.mark.browser

ZIP = {"address": "wanda/checkpoint/t1/SmolLM2-wanda-45.zip", "name": "SmolLM2-wanda-45.zip", "bytes": 269_000_123}
SECRET = "hf_secret0123456789"
RUN = {
    "format": 1,
    "made": {"date": "2026-10-01", "model": MODEL, "name": "builtin"},
    "dense": {"perplexity": 34.4},
    "lines": [
        {
            "key": "ria",
            "recipe": {"method": "ria"},
            "calibration": None,
            "at": [0, 40, 60],
            "perplexity": [34.4, 50.5, 1e300],
            "top1": [None, 0.8, 0.5],
            "kl": [None, 0.2, 1.5],
            "seconds": [0.0, 1.5, 1.25],
        }
    ],
    "prompts": [],
    "answers": {},
}
# What other files of the view define; here no more than what these tests look at.
STUBS = """() => {
    WandaLab.runOf ??= ({ known, model, recipes, about, at, prompt, answers }) => ({
        format: 1, made: about, dense: { perplexity: known.densePerplexity(model) }, prompts: [{ text: prompt }], answers,
        lines: recipes.map(recipe => {
            const points = known.storedLine(model, recipe);
            const names = ['perplexity', 'top1', 'kl', 'seconds'];
            const values = names.map(name => [name, points.map(([, point]) => point[name])]);
            return { key: WandaLab.keyOf(recipe), at: points.map(([at]) => at), ...Object.fromEntries(values) };
        }) });
    WandaLab.readRun ??= text => {
        const run = JSON.parse(text);
        if (run.format !== 1) throw new Error('it has another form; open a run.json');
        return run;
    };
    WandaLab.reportFile ??= (shell, run) => shell.replace('RUN', run.made.model);
    WandaLab.Known.prototype.addRun ??= function (run) {
        for (const line of run.lines)
            this.stored.set(line.key, line.at.map((at, i) => [at, { perplexity: line.perplexity[i],
                top1: line.top1[i], kl: line.kl[i], seconds: line.seconds[i] }]));
        return null;
    };
}"""


def opened(browser, answers=None, **more):
    """-> the view with its other files."""
    view = Alone(browser, {"take": take_answer, **(answers or {})}, attached=False, **more)
    view.page.evaluate(STUBS)
    view.page.evaluate(ATTACH, MODEL)
    view.page.locator("#take-away").scroll_into_view_if_needed()
    return view


@pytest.fixture
def view(browser):
    view = opened(browser)
    yield view
    view.close()
    assert view.complaints == []


def asks(view, name="take"):
    return [given for asked, given in view.asked if asked == name]


def panel(view):
    return view.page.inner_text("#take-panel")


def said(view, part):
    view.page.wait_for_function("part => document.getElementById('take-said').textContent.includes(part)", arg=part)


def look_ends(view, **more):
    """The server has looked at what the page asked for last."""
    run = view.calls("look")[-1]["run"]
    view.hear("run", run=run, columns={}, ended=True, **more)


def test_it_is_asked_when_it_comes_into_sight_and_says_the_size_before(browser):
    view = Alone(browser, {"take": take_answer}, attached=False)
    assert view.page.is_hidden("#take-checkpoint")  # without a server there is none
    view.page.evaluate(ATTACH, MODEL)
    view.page.wait_for_timeout(300)
    assert view.asked == []  # it is not in sight
    view.page.locator("#take-away").scroll_into_view_if_needed()
    view.page.wait_for_function("() => document.getElementById('take-checkpoint').innerText.includes('269 MB')")
    (asked,) = asks(view)
    assert asked["model"] == "builtin"
    assert [recipe["key"] for recipe in asked["recipes"]] == ["wanda", "magnitude"]
    assert asked["ask"]["prompt"]
    for missing in ("report", "run", "points", "open"):
        assert view.page.is_hidden(f"#take-{missing}"), missing  # nothing here makes them
    assert view.page.locator("#view .wl-primary:visible").count() == 1
    view.close()


def test_command_and_python_are_those_of_the_recipe_that_is_chosen(view):
    page = view.page
    page.click("#take-command")
    page.wait_for_selector("#take-code-command:visible")
    assert page.inner_text("#take-code-command code").startswith("wanda-lab prune --method wanda --sparsity 0.45")
    page.select_option("#take-recipe", label="Magnitude 45%")
    assert "--method magnitude" in page.inner_text("#take-code-command code")
    page.click("#take-python")
    assert page.is_hidden("#take-code-command")
    assert "PruneSpec('magnitude', 0.45)" in page.inner_text("#take-code-python code")
    assert page.get_attribute("#take-python", "aria-expanded") == "true"
    page.click("#take-python")
    assert page.is_hidden("#take-panel")


def test_code_is_copied_and_selected_where_the_clipboard_is_shut(view):
    page = view.page
    view.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.click("#take-command")
    page.click("#take-code-command-copy")
    page.wait_for_function("() => document.getElementById('take-code-command-copy').textContent === 'Copied'")
    assert page.evaluate("() => navigator.clipboard.readText()") == page.inner_text("#take-code-command code")
    page.evaluate("() => { navigator.clipboard.writeText = async () => { throw new Error('shut'); }; }")
    page.click("#take-code-command-copy")
    page.wait_for_function("() => document.getElementById('take-code-command-copy').textContent.startsWith('Selected')")
    assert page.evaluate("() => String(getSelection())") == page.inner_text("#take-code-command code")


def test_changed_recipes_are_asked_anew_and_what_is_old_is_grey(view):
    page = view.page
    page.click("#take-command")
    page.wait_for_selector("#take-code-command:visible")
    before = len(asks(view))
    page.focus(".wl-handle")
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    assert "wl-stale" in page.get_attribute("#take-panel", "class")
    page.wait_for_function("() => document.querySelector('#take-code-command code').textContent.includes('0.5 ')")
    assert "wl-stale" not in page.get_attribute("#take-panel", "class")
    assert len(asks(view)) == before + 1  # once, when it rests


def test_while_the_model_is_read_it_says_so_and_asks_again(browser):
    ready = []
    view = opened(browser, {"take": lambda given: take_answer(given) if ready else {"wait": True}})
    view.page.click("#take-checkpoint")
    view.page.wait_for_function("() => document.getElementById('take-wait').textContent.includes('being read')")
    assert view.page.is_hidden("#take-download")
    ready.append(1)
    view.page.wait_for_selector("#take-download:visible")
    view.close()


def test_what_goes_wrong_is_a_sentence(browser):
    view = opened(browser, {"take": {"status": 400, "detail": "The recipe is none; choose another"}})
    view.page.click("#take-command")
    view.page.wait_for_function("() => document.getElementById('take-wait').textContent.startsWith('The recipe')")
    view.answers["take"] = take_answer
    view.page.click("#take-command")
    view.page.click("#take-command")
    view.page.wait_for_selector("#take-code-command:visible")
    view.close()
    silent = opened(browser, {"take": {"status": 500}})
    silent.page.click("#take-command")
    silent.page.wait_for_selector("#take-wait.wl-problem-words")
    assert silent.page.inner_text("#take-wait").strip()
    silent.close()


def test_a_made_variant_is_saved_at_once_in_the_format_that_is_chosen(browser):
    view = opened(browser, {"checkpoint": ZIP})
    view.page.click("#take-checkpoint")
    view.page.wait_for_selector("#take-download:visible")
    assert "bfloat16 · 269 MB, as stored" in panel(view)
    assert view.page.is_checked("input[name=take-dtype][value=bfloat16]")
    view.page.check("input[name=take-dtype][value=float32]", force=True)
    assert "538 MB" in view.page.inner_text("#take-checkpoint")
    name, content = view.saved("#take-download")
    assert name == ZIP["name"]
    assert zipfile.ZipFile(io.BytesIO(content)).namelist() == []
    (given,) = asks(view, "checkpoint")
    assert (given["dtype"], given["recipe"]["key"], given["model"]) == ("float32", "wanda", "builtin")
    said(view, "269 MB")
    assert view.calls("look") == []
    view.close()


def test_what_is_not_made_is_pruned_first(browser):
    made = []
    view = opened(browser, {"checkpoint": lambda given: ZIP if made else {"missing": True}})
    page = view.page
    page.click("#take-checkpoint")
    page.wait_for_selector("#take-download:visible")
    assert page.inner_text("#take-download") == "Prune and download"
    page.click("#take-download")
    said(view, "pruned first")
    assert page.is_disabled("#take-download")
    made.append(1)
    with page.expect_download() as taken:
        look_ends(view)
    assert taken.value.suggested_filename == ZIP["name"]
    page.wait_for_function("() => !document.getElementById('take-download').disabled")
    assert len(view.calls("look")) == 1
    view.close()


def test_a_pruning_that_fails_or_is_cancelled_is_said(browser):
    view = opened(browser, {"checkpoint": {"missing": True}})
    page = view.page
    page.click("#take-checkpoint")
    page.click("#take-download")
    said(view, "pruned first")
    look_ends(view, problem="The text is too short; choose a longer one")
    said(view, "too short")
    page.click("#take-download")
    said(view, "pruned first")
    look_ends(view, done="Cancelled; what was measured before stays.")
    said(view, "is not pruned")
    view.answers["checkpoint"] = {"status": 400, "detail": "The disk is full; free some space"}
    page.click("#take-download")
    said(view, "The disk is full")
    assert "wl-problem-words" in page.get_attribute("#take-said", "class")
    view.close()


def test_on_a_public_server_the_command_stands_in_its_place(browser):
    why = "This page is public and hands no checkpoints over; the command makes the same one."
    view = opened(browser, {"take": lambda given: take_answer(given, offered=False, why=why)})
    view.page.click("#take-checkpoint")
    view.page.wait_for_selector("#take-why:visible")
    assert view.page.inner_text("#take-why") == why
    assert view.page.inner_text("#take-instead code").startswith("wanda-lab prune")
    assert view.page.is_hidden("#take-download")
    assert view.page.is_hidden("#take-hub")
    assert "MB" not in view.page.inner_text("#take-checkpoint")
    view.close()


def push(view, repository="somebody/model-wanda-45", token=SECRET):
    page = view.page
    if page.is_hidden("#take-panel"):
        page.click("#take-checkpoint")
    if page.is_hidden("#take-repository"):
        page.click("#take-hub summary")
    page.fill("#take-repository", repository)
    page.fill("#take-token", token)
    page.click("#take-push")


def test_a_push_is_private_says_how_far_it_is_and_where_it_went(view):
    page = view.page
    push(view, "no owner")
    assert view.calls("push") == []  # the field says what is wrong with it
    push(view)
    (sent,) = view.calls("push")
    assert sent["repository"] == "somebody/model-wanda-45"
    assert sent["private"] is True
    assert sent["token"] == SECRET
    assert sent["recipe"]["key"] == "wanda"
    assert sent["dtype"] == "bfloat16"
    assert page.input_value("#take-token") == ""  # it is sent once
    assert page.get_attribute("#take-token", "type") == "password"
    assert page.get_attribute("#take-token", "autocomplete") == "off"
    assert SECRET not in page.content()
    assert page.is_disabled("#take-push")
    view.hear("pushed", run=sent["run"], progress={"words": "uploading · 120 of 269 MB", "percent": 45})
    assert "120 of 269 MB" in page.inner_text("#take-push-said")
    assert page.evaluate("() => document.querySelector('.wl-push-bar i').style.width") == "45%"
    view.hear("pushed", run=sent["run"] - 1, ended=True, problem="of another")
    assert page.is_disabled("#take-push")
    address = "https://huggingface.co/somebody/model-wanda-45"
    view.hear("pushed", run=sent["run"], ended=True, url=address)
    assert page.get_attribute("#take-push-said a", "href") == address
    assert page.get_attribute("#take-push-said a", "rel") == "noopener noreferrer"
    assert page.is_enabled("#take-push")


def test_a_push_is_cancelled_and_a_failed_one_says_why(view):
    page = view.page
    page.click("#take-checkpoint")
    page.click("#take-hub summary")
    page.check("input[name=take-visibility][value=public]", force=True)
    push(view, token="")
    page.click("#take-push-cancel")
    assert len(view.calls("cancel_push")) == 1
    (sent,) = view.calls("push")
    assert (sent["private"], sent["token"]) == (False, "")
    view.hear("pushed", run=sent["run"], ended=True, done="Cancelled; nothing was left on the hub.")
    assert "nothing was left" in page.inner_text("#take-push-said")
    assert page.is_hidden("#take-push-cancel")
    push(view)
    view.hear("pushed", run=sent["run"] + 1, ended=True, problem="The token may not write; give one that may")
    assert page.inner_text("#take-push-said").startswith("The token may not write")
    push(view)
    view.hear("pushed", run=sent["run"] + 2, ended=True, url="javascript:alert(1)")
    assert page.is_hidden("#take-push-said a")


def test_the_run_its_points_and_the_report_are_made_in_the_browser(browser):
    shell = {"html": "<!doctype html><title>RUN</title>"}
    view = opened(browser, {"report": shell})
    name, content = view.saved("#take-run")
    assert name == "smollm2-135m-instruct-run.json"
    run = json.loads(content)
    assert [line["key"] for line in run["lines"]] == ["wanda", "magnitude"]
    assert run["made"]["model"] == MODEL
    name, content = view.saved("#take-points")
    assert name == "smollm2-135m-instruct-points.csv"
    rows = list(csv.reader(io.StringIO(content.decode(), newline="")))
    assert rows[1][:3] == ["dense", "0", str(run["dense"]["perplexity"])]
    told = [(line["key"], at, p) for line in run["lines"] for at, p in zip(line["at"], line["perplexity"], strict=True)]
    assert [(row[0], float(row[1]), float(row[2])) for row in rows[2:]] == told
    name, content = view.saved("#take-report")
    assert name == "smollm2-135m-instruct-report.html"
    assert MODEL in content.decode()
    assert asks(view, "report") == [{"language": "en"}]
    view.answers["report"] = {"status": 429, "detail": "Too many questions; wait a minute"}
    view.page.click("#take-report")
    said(view, "Too many questions")
    view.close()


def choose(view, file):
    with view.page.expect_file_chooser() as chooser:
        view.page.click("#take-open")
    chooser.value.set_files(str(file))


def drop(view, name, text, where=".wl-curve"):
    """Drop a file on a part of the page."""
    data = view.page.evaluate_handle(
        "([name, text]) => { const data = new DataTransfer();"
        " data.items.add(new File([text], name, { type: 'application/json' })); return data; }",
        [name, text],
    )
    for event in ("dragover", "drop"):
        view.page.dispatch_event(where, event, {"dataTransfer": data})


def test_a_run_is_brought_back_and_its_lines_stand_on_the_curve(view, tmp_path):
    file = tmp_path / "run.json"
    file.write_text(json.dumps(RUN))
    choose(view, file)
    said(view, f"Run of {MODEL} from 2026-10-01: 1 lines")
    assert view.page.inner_text("#status").startswith("Run of ")
    names = view.page.locator(".wl-svg .wl-name").all_inner_texts()
    assert any("RIA" in name for name in names)  # none of its lines stood there
    assert view.page.inner_text(".wl-col-0 .wl-col-name").startswith("RIA")
    content = view.saved(".wl-under-curve [data-kind=csv]")[1].decode()
    assert "ria,40,50.5,stored,,0.8,0.2,1.5" in content
    assert "ria,60,inf,stored" in content


def test_a_run_may_be_dropped_anywhere_and_one_of_another_model_says_so(view):
    drop(view, "run.json", json.dumps({**RUN, "made": {**RUN["made"], "model": "Other-1B", "name": "org/other"}}))
    said(view, "Run of Other-1B")
    assert view.page.inner_text(".wl-col-0 .wl-col-name").startswith("Wanda")
    view.page.click("#take-other")
    assert view.calls("open")[-1] == {"model": "org/other"}
    assert view.page.url.startswith("https://lab.test/")  # the browser did not open the file itself


WRONG = {
    "no JSON": "hello",
    "another JSON": '{"format": 2}',
    "nothing": "",
    "markup": "<script>alert(1)</script>",
}


@pytest.mark.parametrize("case", WRONG)
def test_a_file_that_is_no_run_is_answered_in_a_sentence(view, case):
    drop(view, "<b>wrong</b>.json", WRONG[case])
    said(view, "<b>wrong</b>.json is no run")
    assert "is no run" in view.page.inner_text("#status")
    assert view.page.inner_text(".wl-col-0 .wl-col-name").startswith("Wanda")


def test_a_file_that_is_dropped_on_a_field_for_files_is_not_taken_for_a_run(view):
    view.page.click(".wl-more-button")
    drop(view, "run.json", json.dumps(RUN), "#wl-text")
    view.page.wait_for_timeout(200)
    assert view.page.inner_text("#take-said") == ""


def test_all_of_it_is_done_by_keys(view):
    page = view.page
    view.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.focus("#take-checkpoint")
    page.keyboard.press("Enter")
    page.wait_for_selector("#take-download:visible")
    order = ["take-command", "take-python", "take-report", "take-run", "take-points", "take-open"]
    for name in order:
        page.keyboard.press("Tab")
        assert page.evaluate("() => document.activeElement.id") == name
    page.keyboard.press("Tab")
    assert page.evaluate("() => document.activeElement.name") == "take-dtype"
    page.keyboard.press("ArrowRight")
    assert page.is_checked("input[name=take-dtype][value=float16]")
    page.keyboard.press("Tab")
    assert page.evaluate("() => document.activeElement.id") == "take-download"
    page.focus("#take-command")
    page.keyboard.press("Space")
    page.wait_for_selector("#take-code-command:visible")
    page.focus("#take-code-command-copy")
    page.keyboard.press("Enter")
    page.wait_for_function("() => document.getElementById('take-code-command-copy').textContent === 'Copied'")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_serious_in_any_state(browser, theme):
    why = "This page is public; the command makes the same checkpoint."
    states = [opened(browser, query=f"&__theme={theme}") for _ in range(1)]
    states.append(
        opened(browser, {"take": lambda given: take_answer(given, offered=False, why=why)}, query=f"&__theme={theme}")
    )
    states.append(opened(browser, {"take": {"wait": True}}, query=f"&__theme={theme}"))
    push(states[0])
    for view in states:
        for name in ("checkpoint", "command"):
            if view.page.get_attribute(f"#take-{name}", "aria-expanded") == "false":
                view.page.click(f"#take-{name}")
            view.page.wait_for_timeout(300)
            found = Axe().run(view.page).response["violations"]
            grave = [rule for rule in found if rule["impact"] in ("serious", "critical")]
            assert not grave, [(rule["id"], rule["nodes"][0]["html"][:200]) for rule in grave]
        view.close()


def test_it_speaks_korean(browser):
    view = opened(browser, language="ko")
    page = view.page
    told = words("ko")
    assert page.inner_text("#take-title") == told["view.away.title"]
    page.click("#take-checkpoint")
    page.wait_for_selector("#take-download:visible")
    page.click("#take-hub summary")
    shown = page.inner_text("#take-away")
    for english in ("Take", "Prune", "Download", "Push", "stored", "Token", "private"):
        assert english not in shown
    for name in ("prune_download", "hub", "token_help", "private"):
        assert told[f"view.away.{name}"] in shown
    assert view.page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
    view.close()


def test_on_a_phone_nothing_is_wider_than_the_page(browser):
    view = opened(browser, viewport={"width": 400, "height": 800}, has_touch=True, is_mobile=True)
    for name in ("checkpoint", "command", "python"):
        view.page.click(f"#take-{name}")
        view.page.wait_for_timeout(100)
        if name == "checkpoint":
            view.page.click("#take-hub summary")
        assert view.page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
    heights = view.page.evaluate(
        "() => Array.from(document.querySelectorAll('#take-away :is(button, select, summary)'))"
        ".filter(each => each.checkVisibility()).map(each => each.getBoundingClientRect().height)"
    )
    assert min(heights) >= 44
    view.close()
