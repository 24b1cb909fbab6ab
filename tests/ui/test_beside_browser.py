"""What stands beside the steps, in a browser without a server: the sketch, the piece, the test, the file handed in."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from wanda_core.assets import ASSETS
from wanda_core.explain.small_piece import Piece, best_mask, mask_by, total_error
from wanda_core.outliers.analysis import analyse
from wanda_core.report.exam import draw
from wanda_core.text.windows import calibrate
from wanda_ui.away.shell import as_json
from wanda_ui.language import words
from wanda_ui.lesson.beside import told_to_page
from wanda_ui.view_files import LESSON, lesson_style, scripts_of, style

pytestmark = pytest.mark.browser

ITEMS = [
    {
        "kind": "two_weights",
        "step": "two",
        "figures": {"w": [0.08, -0.2], "x": [14, 2]},
        "options": ["1_right", "1_wrong", "2_right", "2_wrong"],
        "answer": "1_wrong",
    },
    {
        "kind": "massive",
        "step": "meet",
        "figures": {"block": 14, "channel": 507, "value": 3120, "median": 0.9},
        "options": ["yes", "near", "small", "both"],
        "answer": "yes",
    },
]


@pytest.fixture(scope="module")
def bare(browser, tmp_path_factory):
    """A page with the scripts and nothing else; none of them fails."""
    told = {key: text for key, text in words("en").items() if key.startswith(("try.", "view."))}
    scripts = scripts_of(lambda number: number == 1) + scripts_of(lambda number: number < 50, LESSON)
    file = tmp_path_factory.mktemp("bare") / "page.html"
    file.write_text(
        f"<!doctype html><html lang=en><meta charset=utf-8><style>{style()}{lesson_style()}</style>"
        f"<body class=gradio-container><div class=wl-try id=a></div><div class=wl-try id=b></div>"
        f"<script type=application/json id=wl-lesson>{as_json(told_to_page('en'))}</script>"
        f"<script>{scripts}; WandaLab.words = {as_json(told)};</script>",
        encoding="utf-8",
    )
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.set_default_timeout(20_000)
    complaints = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(file.as_uri() + "?class=k7qx")
    yield page
    assert complaints == []
    page.close()


def piece_of(told):
    W, gram = torch.tensor(told["w"]), torch.tensor(told["gram"], dtype=torch.float64)
    rows, columns, read = tuple(told["rows"]), tuple(told["columns"]), (told["windows"], told["seq_len"])
    return Piece(told["linear"], rows, columns, W, gram, *read, told["budget"])


def test_the_script_removes_what_the_engine_removes(bare):
    told = told_to_page("en")["piece"]
    piece = piece_of(told)
    found = bare.evaluate("piece => WandaLab.beatMasks(piece)", told)
    assert found["magnitude"] == mask_by(piece, "magnitude").tolist()
    assert found["wanda"] == mask_by(piece, "wanda").tolist()
    assert found["best"] == best_mask(piece).tolist()


def test_a_hand_with_the_best_mask_beats_wanda_and_is_told_so(bare):
    told = told_to_page("en")["piece"]
    piece = piece_of(told)
    best = best_mask(piece)
    bare.evaluate("piece => WandaLab.beat(document.getElementById('a'), piece, told => { window.told = told; })", told)
    assert bare.locator("#a .wl-beat-bar").count() == 1  # the others are not given away
    for i, row in enumerate(best.tolist()):
        for j, gone in enumerate(row):
            if gone:
                bare.click(f"#a tbody tr:nth-child({i + 1}) td:nth-child({j + 2}) button")
    assert bare.locator("#a .wl-beat-bar").count() == 4
    assert bare.inner_text("#a .wl-beat-said").startswith("You found the best mask there is")
    kept = bare.evaluate("() => window.told")
    assert kept["you"] == pytest.approx(total_error(piece, best), rel=1e-6)
    assert kept["wanda"] == pytest.approx(total_error(piece, mask_by(piece, "wanda")), rel=1e-6)
    assert kept["beaten"]
    kept_weight = best.tolist()[0].index(False)
    bare.click(f"#a tbody tr:nth-child(1) td:nth-child({kept_weight + 2}) button")
    assert "has lost its" in bare.inner_text("#a .wl-beat-said")


def test_weights_are_removed_by_the_keyboard_alone(bare):
    bare.evaluate("piece => WandaLab.beat(document.getElementById('a'), piece)", told_to_page("en")["piece"])
    bare.focus("#a tbody button >> nth=0")
    for key in ("ArrowRight", "ArrowDown", "Space", "End", "Space"):
        bare.keyboard.press(key)
    pressed = "#a tbody tr:nth-child(2) td:nth-child({}) button[aria-pressed=true]"
    assert bare.locator(pressed.format(3)).count() == 1
    assert bare.locator(pressed.format(9)).count() == 1


def test_a_curve_is_drawn_by_mouse_and_keys_and_laid_over(bare):
    spec = {"kind": "bars", "names": ["a", "b"], "low": 10, "high": 1000, "ask": "?", "label": "x"}
    bare.evaluate(
        "spec => { window.drawn = null; window.pad = WandaLab.sketch(document.getElementById('b'), spec,"
        " d => { window.drawn = [...d]; }); }",
        spec,
    )
    box = bare.locator("#b svg").bounding_box()
    bare.mouse.click(box["x"] + box["width"] * 0.35, box["y"] + box["height"] * (14 + 196 / 2) / 250)
    assert bare.evaluate("() => window.drawn")[0] == pytest.approx(100, rel=0.1)
    bare.focus("#b [role=slider] >> nth=1")
    bare.keyboard.press("Home")
    bare.keyboard.press("PageUp")
    assert bare.evaluate("() => window.drawn")[1] == 100
    assert bare.get_attribute("#b [role=slider] >> nth=1", "aria-valuetext") == "100"
    bare.evaluate("() => window.pad.reveal([100, 50000])")
    assert "50,000, 500 times as much" in bare.inner_text("#b .wl-sketch-said")
    assert bare.locator("#b .wl-sketch-bar").count() == 2
    bare.keyboard.press("ArrowUp")  # what was shown is drawn no more
    assert bare.evaluate("() => window.drawn")[1] == 100


def test_a_mask_is_laid_over_the_methods_own(bare):
    spec = {"kind": "mask", "w": [[1, 2], [3, 4]], "rows": ["y₁", "y₂"], "heads": ["a", "b"], "budget": 1, "ask": "?"}
    bare.evaluate("spec => { window.pad = WandaLab.sketch(document.getElementById('b'), spec); }", spec)
    for row in (1, 2):
        bare.click(f"#b tbody tr:nth-child({row}) td:nth-child(2) button")
    bare.click("#b tbody tr:nth-child(1) td:nth-child(3) button")
    assert "has lost its 1 weights" in bare.inner_text("#b .wl-sketch-count")
    bare.evaluate("() => window.pad.reveal([[true, false], [false, true]])")
    assert "Of the 2 weights that Wanda removes, half of each row, you chose 1" in bare.inner_text("#b .wl-sketch-said")
    assert bare.locator("#b .wl-apart").count() == 2


def sketch(page, spec):
    page.evaluate("spec => { window.pad = WandaLab.sketch(document.getElementById('b'), spec); }", spec)


def test_a_sketch_is_there_again_when_the_page_is(bare):
    curve = {"kind": "curve", "names": ["a", "b"], "low": 10, "high": 1000, "ask": "?", "label": "x", "step": "cost"}
    mask = {"kind": "mask", "w": [[0.5, -0.1]], "heads": ["x", "y"], "rows": ["r"], "budget": 1, "ask": "?"}
    mask["step"] = "matrix"
    sketch(bare, curve)
    bare.focus("#b [role=slider] >> nth=0")
    bare.keyboard.press("End")
    sketch(bare, mask)
    bare.click("#b tbody button >> nth=1")
    sketch(bare, curve)
    values = bare.locator("#b [role=slider]").evaluate_all("all => all.map(one => one.getAttribute('aria-valuetext'))")
    assert values == ["1,000", words("en")["try.sketch.empty"]]
    bare.evaluate("() => window.pad.reveal([100, 100])")
    assert bare.inner_text("#b .wl-sketch-said") == "You drew 1,000 for “a”, 10.0 times as much as it is (100.0)."
    assert bare.locator("#b svg").evaluate("svg => getComputedStyle(svg).touchAction") == "auto"
    sketch(bare, mask)
    assert bare.get_attribute("#b tbody button >> nth=1", "aria-pressed") == "true"
    bare.click("#b .wl-sketch-again")
    for other in (
        mask,
        {**curve, "step": "matrix"},
        {**curve, "names": ["a", "b", "c"]},
    ):  # cleared, or of another form
        sketch(bare, other)
        assert bare.locator("#b [aria-pressed=true]").count() == 0
        assert bare.locator("#b [aria-valuetext='1,000']").count() == 0


def test_an_infinite_perplexity_has_a_sign_and_an_axis_that_ends(bare):
    sketch(bare, {"kind": "bars", "names": ["a", "b"], "low": 10, "high": 1000, "ask": "?", "label": "x"})
    bare.focus("#b [role=slider] >> nth=1")
    bare.keyboard.press("Home")
    bare.evaluate("() => window.pad.reveal([100, 1e300])")
    assert bare.inner_text("#b .wl-sketch-said") == "You drew 10.0 for “b”; it is ∞, ∞ times as much."
    assert bare.locator("#b .wl-sketch-grid").count() == 9
    assert bare.locator("#b .wl-sketch-value").all_text_contents() == ["100.0", "∞"]


def test_a_piece_that_was_begun_is_there_again_when_the_page_is(bare):
    opened = "() => WandaLab.lesson.beat(document.getElementById('a'), { ask: () => {}, watch: () => {} })"
    bare.evaluate(opened)
    bare.click("#a tbody button >> nth=3")
    bare.evaluate(opened)
    assert bare.locator("#a tbody [aria-pressed=true]").count() == 1
    assert bare.get_attribute("#a tbody button >> nth=3", "aria-pressed") == "true"
    bare.click("#a .wl-beat-again")
    bare.evaluate(opened)
    assert bare.locator("#a tbody [aria-pressed=true]").count() == 0


def test_wanda_is_beaten_by_as_little_as_another_mask_is_called_better(bare):
    """Removing columns 1 and 3 costs 0.995 of what Wanda's choice, 1 and 2, costs: both sentences have to say so."""
    gram = [[1.0, 0.0, -0.01, 0.0], [0.0, 1.0, 0.0, 0.0], [-0.01, 0.0, 1.0001, 0.0], [0.0, 0.0, 0.0, 9.0]]
    piece = {"linear": "x", "rows": [0], "columns": [1, 2, 3, 4], "w": [[1.0, 1.0, 1.0, 1.0]], "gram": gram}
    piece |= {"windows": 1, "seq_len": 8, "budget": 2}
    bare.evaluate("piece => WandaLab.beat(document.getElementById('a'), piece, told => { window.told = told; })", piece)
    for place in (0, 2):
        bare.click(f"#a tbody button >> nth={place}")
    told = bare.evaluate("() => window.told")
    assert 0.99 < told["you"] / told["wanda"] < 0.999
    assert told["beaten"]
    assert "can be done better than Wanda does them: 0." in bare.inner_text("#a .wl-beat-why")


def test_the_printed_sheet_is_light_and_keeps_its_colours_where_the_page_is_dark(browser, bare):
    page = browser.new_page()
    page.goto(bare.url)
    for name in ("style.css", "lesson.css"):
        page.add_style_tag(content=(ASSETS / name).read_text(encoding="utf-8"))
    page.emulate_media(media="print", color_scheme="dark")
    page.evaluate(
        """() => {
            window.print = () => {};
            document.body.classList.add("dark");
            const figure = document.createElement("div");
            figure.innerHTML = "<div class='wl-hbar'><span>x</span><i class='wl-fill-other' style='--share:0.5'></i>"
                + "<b>1</b></div><svg class='wl-drawing'><text>t</text></svg>";
            WandaLab.printSheet([["two", "Two"]], () => null, () => [figure]);
        }"""
    )
    look = """name => { const look = getComputedStyle(document.querySelector(`#wl-print ${name}`));
        return [look.fill, look.backgroundColor, look.color, look.printColorAdjust]; }"""
    assert page.evaluate(look, "text")[0] == "rgb(28, 36, 48)"
    assert page.evaluate(look, "i")[1::2] == ["rgb(107, 118, 131)", "exact"]
    assert page.evaluate(look, "h2")[2] == "rgb(28, 36, 48)"
    page.evaluate("() => dispatchEvent(new Event('afterprint'))")
    assert page.locator("#wl-print").count() == 0
    page.close()


def test_the_test_scores_with_reasons_and_names_the_step(bare):
    bare.evaluate(
        "items => WandaLab.exam(document.getElementById('b'),"
        " { items, steps: { two: [1, 'Two'], meet: [3, 'Spike'] } },"
        " { done: answers => { window.answers = answers; } })",
        ITEMS,
    )
    bare.check("input[name=wl-exam-0][value='1_wrong']")
    assert "Right: w₁, but y would change less without w₂." in bare.inner_text(".wl-exam-told >> nth=0")
    assert "Step 1, “Two”, showed how." in bare.inner_text(".wl-exam-told >> nth=0")
    assert "1 of 2 answered" in bare.inner_text(".wl-exam-score")
    bare.check("input[name=wl-exam-1][value=both]")
    assert "Not this one; right is: yes. It has to be above 100, and it is 3,120" in bare.inner_text(
        ".wl-exam-told >> nth=1"
    )
    assert "1 of 2 right" in bare.inner_text(".wl-exam-score")
    assert "3 · Spike" in bare.inner_text(".wl-exam-score li")
    assert bare.evaluate("() => window.answers") == ["1_wrong", "both"]
    assert bare.locator("#b input:not([aria-disabled=true])").count() == 0


def test_every_kind_of_item_that_is_drawn_has_its_words(bare, tiny_llama):
    analysis = analyse(tiny_llama, calibrate(tiny_llama, samples=2, seq_len=32))
    kinds = set()
    for seed in range(12):
        items = [asdict(item) for item in draw(tiny_llama, analysis, seed)]
        kinds |= {item["kind"] for item in items}
        bare.evaluate("items => WandaLab.exam(document.getElementById('b'), { items, steps: {} })", items)
        for place in range(6):
            bare.check(f"input[name=wl-exam-{place}] >> nth=0")
        assert "of 6 right" in bare.inner_text(".wl-exam-score")
    assert len(kinds) == 7


def test_the_test_is_taken_by_keyboard_and_an_answer_that_was_given_stays(bare):
    bare.evaluate("items => WandaLab.exam(document.getElementById('b'), { items, steps: {} })", ITEMS)
    first = "input[name=wl-exam-0]"
    bare.focus(f"{first} >> nth=0")
    for _ in range(2):
        bare.keyboard.press("ArrowDown")
    bare.keyboard.press("ArrowUp")
    bare.keyboard.press("ArrowUp")
    bare.keyboard.press("ArrowLeft")  # round to the last one
    assert bare.locator(f"{first}:checked").count() == 0
    bare.keyboard.press("Space")
    assert bare.get_attribute(f"{first}:checked", "value") == ITEMS[0]["options"][-1]
    bare.keyboard.press("ArrowUp")
    bare.keyboard.press("Space")
    assert bare.get_attribute(f"{first}:checked", "value") == ITEMS[0]["options"][-1]
    assert bare.evaluate("() => document.activeElement.name") == "wl-exam-0"


def test_a_test_that_was_finished_counts_until_another_one_is(bare):
    told = bare.evaluate(
        """items => {
            const so_far = () => WandaLab.answersSoFar([], () => null).exam;
            const before = { seed: 5, items, answers: ["1_wrong", "yes"] };
            return [
                { ...before }, { seed: 6, items, answers: ["1_right", null], before },
                { seed: 6, items, answers: ["1_right", "both"], before: null },
                { seed: 7, items, answers: ["1_right", null], before: null },
            ].map(exam => { WandaLab.kept.set("wanda-exam", exam); return so_far().seed; });
        }""",
        ITEMS,
    )
    assert told == [5, 5, 6, 7]


def test_one_file_is_handed_in_and_holds_no_more_than_was_answered(bare):
    bare.evaluate(
        """items => {
            WandaLab.kept.set("wanda-lesson", { model: "builtin", steps: { 1: { guess: "first", values: [1] } } });
            WandaLab.kept.set("wanda-exam", { seed: 5, items, answers: ["1_wrong", null] });
            WandaLab.handIn(document.getElementById("b"), { steps: [["two", "Two"], ["matrix", "M"]],
                fits: number => number === 1, figures: () => null });
        }""",
        ITEMS,
    )
    bare.fill("#b input", "Ann / 김민준 <b>")
    with bare.expect_download() as download:
        bare.click(".wl-handin-save")
    assert download.value.suggested_filename == "wanda-lesson-K7QX-Ann-김민준-b.json"
    told = json.loads(Path(download.value.path()).read_text(encoding="utf-8"))
    assert told["class"] == "K7QX"
    assert told["name"] == "Ann / 김민준 <b>"
    assert told["steps"] == [{"step": "two", "guess": "first", "fits": True}]
    assert told["exam"]["items"] == [{"kind": "two_weights", "step": "two", "answer": "1_wrong", "right": True}]


def test_words_of_waiting_go_when_the_server_refuses_and_the_old_items_stay(bare):
    bare.evaluate(
        """items => {
            WandaLab.kept.set("wanda-exam", { seed: 5, items, answers: ["1_wrong", "yes"] });
            const place = document.getElementById("a");
            const status = Object.assign(document.createElement("div"), { id: "lesson-exam-status" });
            place.after(status);
            window.asked = 0;
            WandaLab.lesson.exam(place, { ask: () => { window.asked += 1; }, watch: () => {} });
        }""",
        ITEMS,
    )
    bare.click("#a .wl-exam-again")
    waiting = words("en")["try.exam.drawing"]
    assert bare.evaluate("asked") == 1
    assert waiting in bare.inner_text("#a")
    bare.evaluate("document.getElementById('lesson-exam-status').textContent = 'no-such is not a model'")
    bare.wait_for_function("waiting => !document.getElementById('a').innerText.includes(waiting)", arg=waiting)
    assert bare.locator("#a fieldset").count() == 2
    assert "2 of 2 right" in bare.inner_text("#a")
