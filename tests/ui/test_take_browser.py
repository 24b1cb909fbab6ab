"""Figures taken away: names that every system takes, tables true to the stored run, pictures that stand alone."""

import csv
import io
import re

import pytest
from pictures import alone, drawn, opened, parsed, texts
from view_alone import MODEL, Alone

from wanda_ui.replay import replay

pytestmark = pytest.mark.browser

KINDS = ("csv", "svg", "png")
PLACES = {  # where each control stands, and the name of its files
    "curve": (".wl-under-curve .wl-take", "smollm2-135m-instruct-perplexity-curve"),
    "door to Scores": (
        ".wl-door:nth-child(1) .wl-take",
        "smollm2-135m-instruct-plane-mlp.up_proj-11-wanda-45-magnitude-45",
    ),
    "door to Outliers": (".wl-door:nth-child(2) .wl-take", "smollm2-135m-instruct-channel-507"),
    "door to Learn": (".wl-door:nth-child(3) .wl-take", "smollm2-135m-instruct-without-channel-507"),
}
FIGURES = {  # of Scores
    "#figure-plane": "plane-mlp.up_proj-11-wanda-45-magnitude-45",
    "#figure-blocks": "blocks-mlp.up_proj-score-wanda-45-magnitude-45",
    "#figure-by-score": "histogram-score-mlp.up_proj-11-wanda-45",
    "#figure-by-size": "histogram-size-mlp.up_proj-11-wanda-45",
    ".wl-weights > section:nth-child(1)": "weights-mlp.up_proj-11-wanda-45-magnitude-45",
    ".wl-weights > section:nth-child(2)": "single-weights-mlp.up_proj-11-wanda-45-magnitude-45",
    "#figure-masks": "masks-wanda-45-magnitude-45",
}
HOSTILE = {
    "../../etc/passwd": "etc-passwd",
    "..": "wanda-lab",
    "": "wanda-lab",
    "CON": "wanda-con",
    "nul.txt": "wanda-nul.txt",
    "COM1": "wanda-com1",
    "C:\\Windows\\*?<>|\"'": "c-windows",
    "a\tb\nc\0d": "a-b-c-d",
    "\u202egpj.exe": "gpj.exe",
    "trailing. . ": "trailing",
    "org/Model@1f2e": "org-model-1f2e",
    "한국어 모델": "한국어-모델",
    "שלום": "שלום",
    "=cmd|' /C calc'!A0": "cmd-c-calc-a0",
}
TOLD = {  # what the server says of a token; tokens may be anything
    "run": 1,
    "dense": [["=SUM(A1)", 0.5], ["-", 0.2], ['say "hi"', 0.1], ["a,b", 0.05], ["\u0000\u0007\ufffe", 0.01]],
    "columns": [[1, [["@x", 0.4], [" 한", 0.3]], [0.0, 0.25, 1.5]], [2, [["+1", 0.6]], [0.0, 0.125, 3.0]]],
    "pieces": ["What", "\u0007\u202e", "</text><script>alert(1)</script>"],
    "prompt": 1,
    "at": 2,
}


def table(content):
    """-> the rows of a CSV file, as texts."""
    return list(csv.reader(io.StringIO(content.decode("utf-8-sig"), newline="")))


@pytest.fixture(scope="module")
def view(browser):
    view = Alone(browser)
    yield view
    view.close()


@pytest.fixture(scope="module")
def scores(browser):
    """The tab Scores, which shows the stored run."""
    view = Alone(browser, query="&tab=scores", attached=False)
    view.page.wait_for_selector("#figure-plane .wl-cell")
    yield view
    view.close()


def take(view, place, kind):
    return view.saved(f"{place} [data-kind={kind}]")


@pytest.mark.parametrize("given", HOSTILE)
def test_names_of_files_are_safe_whatever_a_model_is_called(view, given):
    assert view.page.evaluate("given => WandaLab.stem(given)", given) == HOSTILE[given]


def test_a_long_name_is_cut_and_still_says_what_is_shown(view):
    for letter in ("a", "한", "😀", "ﷺ"):
        name = view.page.evaluate("name => WandaLab.stem(name, 'perplexity-curve', 'wanda-45')", 300 * letter)
        assert name.endswith("perplexity-curve-wanda-45")
        assert len(name.encode()) <= 200


def test_a_recipe_has_one_name_in_every_language(browser):
    names = []
    for language in ("en", "ko"):
        view = Alone(browser, language=language)
        recipe = {"method": "magnitude", "pattern": "2:4", "order": "faithful", "text": "0123456789abcdef"}
        names.append(view.page.evaluate("given => WandaLab.recipeStem(WandaLab.recipe(given), 50)", recipe))
        view.close()
    assert set(names) == {"magnitude-faithful-text-01234567-2-4"}


CELLS = {
    "=1+1": "'=1+1",
    "+1": "'+1",
    "-1": "'-1",
    "@cmd": "'@cmd",
    "\tx": '"\'\tx"',
    "＝1": "'＝1",
    'a"b': '"a""b"',
    "a,b": '"a,b"',
    "a\nb": '"a\nb"',
    " a": '" a"',
    -1.5: "-1.5",
    0.1: "0.1",
    1e300: "inf",
    None: "",
    "plain": "plain",
}


@pytest.mark.parametrize("given", CELLS)
def test_a_cell_is_quoted_where_need_be_and_no_spreadsheet_computes_a_text(view, given):
    assert view.page.evaluate("given => WandaLab.csv([[given]])", given).removeprefix("\ufeff") == CELLS[given] + "\r\n"


def test_the_mark_of_utf8_stands_where_a_letter_is_not_ascii(view):
    assert view.page.evaluate("() => WandaLab.csv([['한']])").startswith("\ufeff")
    assert view.page.evaluate("() => WandaLab.csv([['a']])").startswith("a")


def test_the_curve_is_the_stored_one(view):
    name, content = take(view, PLACES["curve"][0], "csv")
    assert name == f"{PLACES['curve'][1]}.csv"
    assert content.endswith(b"\r\n")
    rows = table(content)
    assert rows[0][:4] == ["recipe", "removed_percent", "perplexity", "source"]
    stored = view.page.evaluate(
        "() => { const known = new WandaLab.Known(JSON.parse(document.getElementById('wl-data').textContent).replay);"
        " return ['wanda', 'magnitude'].map(method => known.storedLine('builtin', WandaLab.recipe({ method }))); }"
    )
    told = {(name, at): point for name, line in zip(("wanda", "magnitude"), stored, strict=True) for at, point in line}
    assert len(rows) == 2 + len(told) > 30
    assert rows[1] == ["dense", "0", str(replay()["dense"]["perplexity"]), "dense", "", "", "", ""]
    for name, at, perplexity, source, _, top1, kl, seconds in rows[2:]:
        point = told[name, float(at)]
        assert source == "stored"
        assert float(perplexity) == point["perplexity"]
        for text, value in ((top1, point["top1"]), (kl, point["kl"]), (seconds, point["seconds"])):
            assert (float(text) if text else None) == value


def test_figures_of_the_doors_hold_their_numbers(view):
    stored = replay()
    rows = table(take(view, PLACES["door to Outliers"][0], "csv")[1])
    assert rows[0] == ["block", "largest", "median"]
    assert [float(row[1]) for row in rows[1:]] == stored["stream"]["largest"]
    rows = table(take(view, PLACES["door to Learn"][0], "csv")[1])
    ablation = stored["ablation"]
    assert [float(row[1]) for row in rows[1:]] == [ablation[name] for name in ("nothing", "random", "channel")]
    rows = table(take(view, PLACES["door to Scores"][0], "csv")[1])
    assert [[int(count) for count in row[2:]] for row in rows[1:]] == [
        cell[2:] for cell in stored["linears"][0]["plane"]["cells"]
    ]


def test_figures_of_scores_hold_their_numbers(scores):
    stored = replay()
    linear = stored["linears"][0]
    for metric in ("score", "size"):
        rows = table(take(scores, f"#figure-by-{metric}", "csv")[1])
        assert rows[0] == ["from", "to", "kept", "removed"]
        assert [int(row[2]) for row in rows[2:]] == linear[metric]["kept"]
        assert float(rows[2][0]) == pytest.approx(10 ** linear[metric]["edges"][0], rel=1e-12)  # not rounded
    rows = table(take(scores, "#figure-blocks", "csv")[1])
    shares = [share for row in stored["scores"]["score"]["share"] for share in row]
    assert [float(row[-1]) for row in rows[1:]] == shares
    rows = table(take(scores, "#figure-masks", "csv")[1])
    differ = stored["masks"]["differ"][0]
    assert [float(row[2]) if row[2] else None for row in rows[1:]] == [value for kind in differ for value in kind]


def test_the_weights_in_sight_are_those_of_the_tiles(scores):
    rows = table(take(scores, ".wl-weights > section:nth-child(1)", "csv")[1])
    head, cells = rows[0], [[float(value) for value in row] for row in rows[1:]]
    linear = replay()["linears"][0]
    side = 2 ** linear["levels"]
    assert head[5:] == ["kept_by_wanda-45", "kept_by_magnitude-45"]
    assert len(cells) == linear["overview"]["width"] * linear["overview"]["height"]
    assert cells[0][:4] == [0, side - 1, 0, side - 1]
    assert cells[-1][1] == linear["rows"] - 1
    assert cells[-1][3] == linear["columns"] - 1
    shares = [sum(row[place] for row in cells) / len(cells) for place in (5, 6)]
    assert shares == pytest.approx(linear["kept"], abs=0.02)
    near = table(take(scores, ".wl-weights > section:nth-child(2)", "csv")[1])
    assert {row[5] for row in near[1:]} <= {"0", "1"}  # single weights are kept or not
    assert all(row[0] == row[1] for row in near[1:])


@pytest.mark.parametrize("place", PLACES)
def test_pictures_of_compare_stand_by_themselves(view, browser, tmp_path, place):
    where, stem = PLACES[place]
    name, svg = take(view, where, "svg")
    assert name == f"{stem}.svg"
    root = parsed(svg)
    assert any(MODEL in text for text in texts(root))
    assert drawn(alone(browser, svg, tmp_path)) > 0.005
    name, png = take(view, where, "png")
    assert name == f"{stem}.png"
    image = opened(png)
    assert image.size == (2 * int(root.get("width")), 2 * int(root.get("height")))
    assert drawn(image) > 0.005


@pytest.mark.parametrize("place", FIGURES)
def test_pictures_of_scores_stand_by_themselves(scores, browser, tmp_path, place):
    name, svg = take(scores, place, "svg")
    assert name == f"smollm2-135m-instruct-{FIGURES[place]}.svg"
    root = parsed(svg)
    assert drawn(alone(browser, svg, tmp_path)) > 0.02
    name, png = take(scores, place, "png")
    image = opened(png)
    assert image.size == (2 * int(root.get("width")), 2 * int(root.get("height")))
    assert drawn(image) > 0.02


def test_colours_dashes_and_ground_are_those_of_the_theme(browser, tmp_path):
    grounds = {}
    for theme in ("light", "dark"):
        view = Alone(browser, query=f"&__theme={theme}", attached=False)
        shown = view.page.evaluate(
            "() => Array.from(document.querySelectorAll('.wl-svg path.wl-line'), line => getComputedStyle(line))"
            ".map(style => [style.stroke, style.strokeDasharray, style.strokeWidth])"
        )
        svg = take(view, PLACES["curve"][0], "svg")[1]
        root = parsed(svg)
        lines = [element for element in root.iter() if element.tag.endswith("}path")]
        for (stroke, dash, width), line in zip(shown, lines, strict=True):
            assert line.get("stroke") == "#" + "".join(f"{int(part):02x}" for part in re.findall(r"\d+", stroke))
            assert (line.get("stroke-dasharray") or "none") == dash
            assert line.get("stroke-width") == width
        grounds[theme] = alone(browser, svg, tmp_path).getpixel((5, 5))
        assert "perplexity" in " ".join(texts(root)).lower()
        view.close()
    assert grounds["light"] == (255, 255, 255)
    assert max(grounds["dark"]) < 40


def test_what_is_told_of_a_token_is_taken_away_too(view, browser, tmp_path):
    view.page.locator(".wl-col-0 .wl-token").first.click()
    view.hear("told", **TOLD)
    rows = table(take(view, ".wl-why > .wl-take", "csv")[1])
    assert rows[0] == ["model", "rank", "token", "probability"]
    assert rows[1] == ["Dense", "1", "'=SUM(A1)", "0.5"]
    assert [row[2] for row in rows[2:5]] == ["'-", 'say "hi"', "a,b"]
    assert rows[7][0] == "Wanda 45%"
    name, along = take(view, ".wl-along-box .wl-take", "csv")
    assert name == "smollm2-135m-instruct-wanda-45-magnitude-45-kl-along-answer.csv"
    rows = table(along)
    assert rows[0] == ["place", "part", "token", "model", "kl_nats"]
    assert [float(row[4]) for row in rows[1:]] == [0.0, 0.25, 1.5, 0.0, 0.125, 3.0]
    assert [row[1] for row in rows[1:4]] == ["prompt", "answer", "answer"]
    for place in (".wl-why > .wl-take", ".wl-along-box .wl-take"):
        svg = take(view, place, "svg")[1]
        parsed(svg)
        assert drawn(alone(browser, svg, tmp_path)) > 0.003
        assert drawn(opened(take(view, place, "png")[1])) > 0.003
    said = texts(parsed(take(view, ".wl-why > .wl-take", "svg")[1]))
    assert "=SUM(A1)" in said  # a picture computes nothing
    assert "50.0%" in said
    view.page.click(".wl-why > .wl-remove")


def test_a_model_of_any_name_gives_files_that_can_be_opened(browser, tmp_path):
    name = "<b>&\u0001\u202e" + "long " * 60
    view = Alone(browser, title=name)
    view.page.wait_for_function("() => WandaLab.looked().title.startsWith('<b>')")
    file, svg = take(view, PLACES["curve"][0], "svg")
    assert file.endswith("-perplexity-curve.svg")
    assert len(file.encode()) < 255
    assert "\u202e" not in file
    assert "<b>&" in " ".join(texts(parsed(svg)))
    view.close()


def test_the_control_is_reached_by_keys_and_says_what_it_saves(view):
    page = view.page
    page.focus("#wl-paper")
    for kind in KINDS:
        page.keyboard.press("Tab")
        if page.evaluate("() => document.activeElement.tagName") == "SUMMARY":
            page.keyboard.press("Tab")
        assert page.evaluate("() => document.activeElement.dataset.kind") == kind
    with page.expect_download() as taken:
        page.keyboard.press("Enter")
    assert taken.value.suggested_filename.endswith(".png")
    page.wait_for_function(
        "name => document.querySelector('.wl-under-curve .wl-take [role=status]').textContent.includes(name)",
        arg=taken.value.suggested_filename,
    )
    assert page.get_attribute(".wl-under-curve .wl-take", "aria-label").startswith("Save: Perplexity")
    labels = page.evaluate(
        "() => Array.from(document.querySelectorAll('.wl-take'), each => each.getAttribute('aria-label'))"
    )
    assert len(labels) == len(set(labels)) >= 4


def test_fingers_find_it(browser):
    view = Alone(browser, viewport={"width": 400, "height": 800}, has_touch=True, is_mobile=True)
    sizes = view.page.evaluate(
        "() => Array.from(document.querySelectorAll('.wl-take-as'), each => each.getBoundingClientRect())"
        ".map(({ width, height }) => [width, height]).filter(([width]) => width)"
    )
    assert sizes
    assert all(side >= 44 for size in sizes for side in size)
    assert view.page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
    view.close()


def test_a_picture_that_cannot_be_made_is_said_and_nothing_moves(view):
    top = "() => document.querySelector('.wl-cols').getBoundingClientRect().top"
    before = view.page.evaluate(top)
    view.page.evaluate("() => { window.kept = WandaLab.png; WandaLab.png = async () => { throw new Error('no'); }; }")
    view.page.click(".wl-under-curve [data-kind=png]")
    view.page.wait_for_function(
        "() => document.querySelector('.wl-under-curve .wl-take').innerText.includes('PNG could not be made')"
    )
    assert view.page.evaluate(top) == before
    view.page.evaluate("() => { WandaLab.png = window.kept; }")


def test_korean_figures_are_korean_and_their_tables_the_same(browser):
    view = Alone(browser, language="ko")
    name, content = take(view, PLACES["curve"][0], "csv")
    assert name == f"{PLACES['curve'][1]}.csv"
    assert table(content)[0][0] == "recipe"
    assert "퍼플렉시티" in " ".join(texts(parsed(take(view, PLACES["curve"][0], "svg")[1])))
    assert view.page.inner_text(".wl-under-curve .wl-take").split()[0] == "저장"
    view.close()


def test_no_script_failed(view, scores):
    assert view.complaints == []
    assert scores.complaints == []
