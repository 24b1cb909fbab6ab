"""How the lab's figures look: log axes are named, a method has one colour, what was published is told from measured."""

import inspect
import json

import pytest
import torch
from test_outlier_figures import planted, report_of, run_named, search_of, sized
from view_events import built_page

from wanda_core.explain.mask_comparison import column_detail, protection
from wanda_core.outliers.features import FeatureCounts, outlier_features
from wanda_core.outliers.massive import top_and_median
from wanda_core.outliers.published import EMERGENCE, ROWS
from wanda_core.outliers.run_log import Runs
from wanda_core.outliers.sinks import sink_report
from wanda_ui.app_state import AppState
from wanda_ui.language import ENGLISH, LANGUAGES, say
from wanda_ui.outliers import growth
from wanda_ui.outliers.figures.features import feature_plane
from wanda_ui.outliers.figures.growth import growth_scatter
from wanda_ui.outliers.figures.protection import column_weights, protection_curve
from wanda_ui.outliers.figures.sentence import token_channels
from wanda_ui.outliers.figures.sinks import sink_heatmap
from wanda_ui.outliers.figures.stream import magnitude_lines, norm_heatmap
from wanda_ui.outliers.figures.strips import ablation_strip, super_strip
from wanda_ui.plot_style import DENSE, MAGNITUDE, PRUNED, WANDA

W, X_NORM = torch.randn(40, 30, generator=torch.Generator().manual_seed(0)), torch.linspace(0.1, 9, 30)


def figures(speak) -> list[dict]:
    read = planted()
    over = torch.tensor([[30, 0, 1], [30, 6, 0]])
    counts = FeatureCounts(6.0, over, over, (0, 1), ("q",), (100, 100), 2)
    made = [
        magnitude_lines(*top_and_median(read.hidden), speak),
        norm_heatmap(torch.rand(4, 80) + 0.1, speak),
        token_channels(read, 2, speak),
        sink_heatmap(sink_report(read), speak),
        feature_plane(counts, outlier_features(counts), speak),
        ablation_strip(report_of(500.0), speak),
        super_strip(search_of(300.0).report, speak),
        protection_curve(protection(W, X_NORM, 0.5), speak),
        growth_scatter([run_named("small", 10**7, 20.0)], speak),
    ]
    return [sized(figure) for figure in made]


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_logarithmic_axis_and_colour_says_so(language):
    word = {"en": "log scale", "ko": "로그 눈금"}[language]
    logarithmic = 0
    for told in figures(lambda key, **values: say(language, key, **values)):
        axes = {name: axis for name, axis in told["layout"].items() if name.startswith(("xaxis", "yaxis"))}
        for axis in axes.values():
            if axis.get("type") == "log" and "matches" not in axis:  # a shared axis is named once
                assert word in axis["title"]["text"]
                logarithmic += 1
        bars = [trace["colorbar"] for trace in told["data"] if "colorbar" in trace]
        for bar in (bar for bar in bars if "10<sup>" in json.dumps(bar) or "ticktext" in bar):
            assert word in bar["title"]["text"]
            logarithmic += 1
    assert logarithmic == 10


def test_wanda_is_orange_and_magnitude_grey_as_in_the_view():
    assert (WANDA[0], MAGNITUDE[0]) == (PRUNED, "#808790")
    traces = sized(protection_curve(protection(W, X_NORM, 0.5), ENGLISH))["data"]
    assert [trace["marker" if trace["mode"] == "markers" else "line"]["color"] for trace in traces] == [
        MAGNITUDE[0],
        MAGNITUDE[0],
        WANDA[0],
        WANDA[0],
    ]
    assert [trace["line"]["dash"] for trace in traces if trace["mode"] == "lines"] == ["dot", "solid"]
    kept = {trace["name"]: trace["marker"]["color"] for trace in sized(weights())["data"]}
    assert [colour for name, colour in kept.items() if name.startswith("kept by Wanda alone")] == [WANDA[0]]


def weights():
    return column_weights(column_detail(W, X_NORM, 0.5, 29), ENGLISH)


def test_attention_is_a_solid_blue_line_and_the_size_beside_it_is_dotted():
    _, size, attention = sized(sink_heatmap(sink_report(planted()), ENGLISH))["data"]
    assert (attention["line"]["color"], attention["line"].get("dash", "solid")) == (DENSE, "solid")
    assert size["line"]["dash"] == "dot"


def test_what_a_paper_counted_is_labelled_and_apart_from_what_was_measured():
    rows = (run_named("small", 134_515_008, 14_435.7),)
    above, below, paper = sized(growth_scatter(rows, ENGLISH))["data"]
    assert paper["name"] == "published with LLM.int8()"
    assert len(paper["x"]) == len(ROWS) == 10
    assert below["name"] == "measured here" != paper["name"]
    assert paper["marker"]["color"] != below["marker"]["color"] == above["marker"]["color"]
    drawing, tables, _ = growth.show(Runs(rows), ENGLISH)
    assert "called emergent" in drawing.text
    assert "arXiv 2208.07339" in drawing.text
    assert "wanda-lab outliers --model builtin" in drawing.text
    assert rows[0].when[:10] in tables
    assert "Published:" in tables


def test_features_come_to_reach_every_layer_where_they_are_said_to_emerge():
    low, high = EMERGENCE
    assert all(row.layers < 0.65 for row in ROWS if row.parameters <= low)
    assert all(row.layers == 1 for row in ROWS if row.parameters >= high)
    assert list(ROWS) == sorted(ROWS, key=lambda row: row.parameters)


def test_a_return_to_a_section_that_shows_its_answer_changes_nothing():
    """A generator that yields nothing would leave every output empty."""
    starts = [inspect.unwrap(fn.fn) for fn in built_page(AppState()).fns.values() if fn.name == "first"]
    told = [list(start(None, "builtin", "<h2>shown</h2>")) for start in starts if inspect.isgeneratorfunction(start)]
    assert told == [[{"__type__": "update"}]] * 4
