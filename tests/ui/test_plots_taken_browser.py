"""Figures that Plotly draws, on the real page: saved beside their titles, and again after they were drawn anew."""

import csv
import io

import pytest
from browser import MINUTE, ready
from pictures import alone, drawn, opened, parsed, texts

pytestmark = pytest.mark.browser

STEP = "#outliers-heatmap"
CONTROL = f"{STEP} > .wl-take"
# What Plotly holds, a row a cell; -> [x, y, z, ...]
HELD = """() => document.querySelector('#outliers-heatmap .js-plotly-plot').data.flatMap((trace) =>
    Array.from(trace.z, (row, j) => Array.from(row, (z, i) =>
        [trace.x ? trace.x[i] : i, trace.y ? trace.y[j] : j, z].map(String))).flat())"""


@pytest.fixture(scope="module")
def learner(served, browser):
    """The norms of the tiny model, which is read already."""
    page = browser.new_page(viewport={"width": 1280, "height": 1000})
    page.set_default_timeout(MINUTE)
    page.complaints = []
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.goto(f"{served[1]}?tab=outliers")
    page.wait_for_selector(f"{STEP} .main-svg", state="visible")
    page.wait_for_selector(f"{CONTROL} button")
    ready(page)  # files are named after the model that is looked at
    yield page
    page.close()


def take(page, kind):
    with page.expect_download() as taken:
        page.click(f"{CONTROL} [data-kind={kind}]")
    return taken.value.suggested_filename, taken.value.path().read_bytes()


def rows(page):
    return list(csv.reader(io.StringIO(take(page, "csv")[1].decode("utf-8-sig"), newline="")))


def cells(page):
    """Place and height of every cell of the table that is saved."""
    return [[row[1], row[2], row[3]] for row in rows(page)[1:]]


def test_the_table_is_what_plotly_holds(learner):
    name, _ = take(learner, "csv")
    assert name == "tiny-outliers-heatmap.csv"
    assert rows(learner)[0][0] == "trace"
    assert cells(learner) == learner.evaluate(HELD)


def test_the_picture_stands_by_itself_under_the_finding(learner, browser, tmp_path):
    name, svg = take(learner, "svg")
    assert name == "tiny-outliers-heatmap.svg"
    root = parsed(svg)
    title = learner.inner_text("#outliers-heatmap-title").strip()
    assert title.split()[0] in texts(root)[0]
    assert drawn(alone(browser, svg, tmp_path)) > 0.02
    _, png = take(learner, "png")
    image = opened(png)
    assert image.size == (2 * int(root.get("width")), 2 * int(root.get("height")))
    assert drawn(image) > 0.02


def test_it_stays_when_the_figure_is_drawn_anew_and_saves_the_new_one(learner):
    before = rows(learner)
    learner.evaluate("control => { window.kept = document.querySelector(control); }", CONTROL)
    for place in (1, 4):  # what q_proj reads, and o_proj; k_proj reads what q_proj does
        shown = learner.evaluate(HELD)
        learner.click("#outliers-where input")
        learner.locator("#outliers-where [role=option]").nth(place).click()
        learner.wait_for_function(f"shown => JSON.stringify(({HELD})()) !== JSON.stringify(shown)", arg=shown)
    assert learner.locator(f"{STEP} .wl-take").count() == 1
    assert learner.evaluate("control => window.kept === document.querySelector(control)", CONTROL)
    assert rows(learner) != before
    assert cells(learner) == learner.evaluate(HELD)


def test_it_stands_beside_the_title_and_moves_nothing(learner):
    finding, control, plot = (
        learner.locator(part).bounding_box()
        for part in ("#outliers-heatmap-title", CONTROL, f"{STEP} .main-svg >> nth=0")
    )
    assert control["y"] + control["height"] <= plot["y"] + 4
    assert control["x"] + control["width"] <= finding["x"] + finding["width"] + 1
    words = learner.evaluate(
        "() => { const range = document.createRange();"
        " range.selectNodeContents(document.querySelector('#outliers-heatmap-title h2'));"
        " return Math.max(...Array.from(range.getClientRects(), box => box.right)); }"
    )
    assert words <= control["x"]
    assert learner.locator(f"{STEP} .modebar-btn[data-title^='Download plot']:visible").count() == 0


def test_a_plot_that_cannot_be_drawn_is_said(learner):
    learner.evaluate("() => { window.drew = Plotly.toImage; Plotly.toImage = async () => '<html/>'; }")
    learner.click(f"{CONTROL} [data-kind=svg]")
    learner.wait_for_function(
        "control => document.querySelector(control).innerText.includes('SVG could not be made')", arg=CONTROL
    )
    learner.evaluate("() => { Plotly.toImage = window.drew; }")


TRACES = [
    (  # one pair of axes, texts with markup, numbers as Plotly keeps them
        {
            "data": [
                {"type": "scatter", "name": "a &lt;b&gt;", "x": [1, 2], "y": [0.1, 1e-9], "text": ["=1", "x<br>y"]},
                {"type": "scatter", "x": [3], "y": [None], "visible": "legendonly"},
            ],
            "layout": {"xaxis": {"title": {"text": "‖X‖<sub>2</sub>"}}, "yaxis": {"title": {"text": "|W|"}}},
        },
        [["trace", "‖X‖2", "|W|", "text"], ["a <b>", 1, 0.1, "=1"], ["a <b>", 2, 1e-9, "x y"]],
    ),
    (  # a heatmap whose colours are powers, and what is shown of it
        {
            "data": [
                {
                    "type": "heatmap",
                    "z": [[0, 1], [2, 3]],
                    "x": ["507", "3"],
                    "y": [0, 1],
                    "customdata": [[1, 10], [100, 1000]],
                    "colorbar": {"title": {"text": "times"}, "ticktext": ["1", "10<sup>2</sup>"]},
                }
            ],
            "layout": {"xaxis": {"title": {"text": "channel"}}, "yaxis": {"title": {"text": "block"}}},
        },
        [
            ["trace", "channel", "block", "log10 times", "shown"],
            ["1", "507", 0, 0, 1],
            ["1", "3", 0, 1, 10],
            ["1", "507", 1, 2, 100],
            ["1", "3", 1, 3, 1000],
        ],
    ),
    (  # axes of their own, one of which shares another's range and title
        {
            "data": [
                {"type": "scatter", "name": "size", "x": [0], "y": [5]},
                {"type": "scatter", "name": "share", "x": [0], "y": [50], "xaxis": "x2", "yaxis": "y2"},
            ],
            "layout": {
                "xaxis": {"matches": "x2"},
                "xaxis2": {"title": {"text": "block"}},
                "yaxis": {"title": {"text": "|x|"}},
                "yaxis2": {"title": {"text": "%"}},
            },
        },
        [["trace", "block", "y", "y_axis"], ["size", 0, 5, "|x|"], ["share", 0, 50, "%"]],
    ),
]


@pytest.mark.parametrize("case", range(len(TRACES)))
def test_rows_are_named_by_the_axes(learner, case):
    figure, expected = TRACES[case]
    assert learner.evaluate("figure => WandaLab.plotRows(figure)", figure) == expected


def test_numbers_in_typed_arrays_are_rows_too(learner):
    told = learner.evaluate(
        "() => WandaLab.plotRows({ data: [{ type: 'scatter', x: new Float64Array([1, 2]), y: new Int8Array([3, -4]) }],"
        " layout: {} })"
    )
    assert told == [["trace", "x", "y"], ["1", 1, 3], ["1", 2, -4]]


def test_no_script_failed(learner):
    assert learner.complaints == []
