"""The outlier lab: its figures show the engine's values within bounds, and its sections answer what a person types."""

import base64
import json
import math
import re
import time
from dataclasses import replace

import pytest
import torch
from browser import figure, open_tab

from wanda_core.assets import BUILTIN_EVALUATION
from wanda_core.errors import InputError
from wanda_core.evaluation.generation import generate
from wanda_core.evaluation.perplexity import perplexity
from wanda_core.explain.mask_comparison import ModelProtection, column_detail, protection
from wanda_core.outliers.ablation import Ablation, AblationReport, Measured, ablated
from wanda_core.outliers.features import FeatureCounts, outlier_features
from wanda_core.outliers.massive import massive
from wanda_core.outliers.run_log import MEASURED_RUNS, Run, Runs, read_runs, runs_csv
from wanda_core.outliers.sentence import Sentence, read_sentence
from wanda_core.outliers.sinks import sink_report
from wanda_core.outliers.super_weight import SuperWeightReport, ZeroedWeight
from wanda_core.progress import Progress, finish
from wanda_core.text.files import read_text
from wanda_ui.app_state import MAX_MEASUREMENTS, AppState, Loaded
from wanda_ui.language import ENGLISH, LANGUAGES, say
from wanda_ui.outliers import ablation, features, growth, sentence, sinks
from wanda_ui.outliers import protection as masks
from wanda_ui.outliers.figures.features import feature_plane
from wanda_ui.outliers.figures.growth import growth_scatter
from wanda_ui.outliers.figures.protection import column_weights, parting_heatmap, protection_curve
from wanda_ui.outliers.figures.sentence import token_channels, token_surface
from wanda_ui.outliers.figures.sinks import sink_heatmap
from wanda_ui.outliers.figures.strips import ablation_strip, super_strip
from wanda_ui.outliers.words import channel_list

MOST_BYTES, MOST_MARKS = 200_000, 5_000


def planted(blocks: int = 4, tokens: int = 5, width: int = 40) -> Sentence:
    """Small noise, and in block 2 one scalar of -5,000 at token 0, channel 7; later tokens look back at the first."""
    hidden = torch.rand(blocks, tokens, width, generator=torch.Generator().manual_seed(0)) + 0.5
    hidden[2:, 0, 7] = -5000
    texts = tuple(["<b>The</b>", "שלום", "🙂 1/2", "a&b", "."] * (tokens // 5 + 1))[:tokens]
    return Sentence("", texts, hidden, torch.linspace(0.1, 0.9, blocks)[:, None].repeat(1, 3))


def sized(made) -> dict:
    """A figure as it travels, within the bounds; Python would write NaN, which is no JSON."""
    text = made.to_json()
    assert len(text) <= MOST_BYTES
    told = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} in a figure"))
    marks = sum(len(trace["x"]) for trace in told["data"] if trace["type"] == "scatter")
    assert marks <= MOST_MARKS
    return told


# ---- figures -------------------------------------------------------------------------------------------------------


def test_the_token_picture_has_the_strongest_channel_on_top_and_a_ring_where_it_is_massive():
    read = planted()
    cells, rings = sized(token_channels(read, 2, ENGLISH))["data"]
    assert cells["y"][0] == "7"
    assert len(cells["y"]) == 24
    assert cells["customdata"][0][0] == -5000
    assert cells["z"][0][0] == pytest.approx(math.log10(5000), abs=0.01)
    for row, channel in enumerate(cells["y"]):
        assert cells["customdata"][row] == pytest.approx(read.hidden[2, :, int(channel)].tolist(), abs=0.006)
    assert (rings["x"], rings["y"]) == ([0], ["7"])
    assert sized(token_channels(read, 2, ENGLISH, ratio=1e6))["data"][1]["x"] == []
    assert sized(token_channels(read, 1, ENGLISH))["data"][1]["x"] == []


def test_tokens_stand_on_the_axis_as_text_and_never_as_tags():
    axis = sized(token_channels(planted(), 2, ENGLISH))["layout"]["xaxis"]
    assert axis["ticktext"][:2] == ["&lt;b&gt;The&lt;/b&gt;", "שלום"]
    assert axis["tickvals"] == [0, 1, 2, 3, 4]


def test_figures_of_a_long_sentence_and_a_wide_model_stay_small():
    read = planted(tokens=256, width=4096)
    cells, _ = sized(token_channels(read, 3, ENGLISH, 0.0, 0.0))["data"]
    assert (len(cells["z"]), len(cells["z"][0])) == (24, 256)
    assert len(sized(token_channels(read, 3, ENGLISH))["layout"]["xaxis"]["tickvals"]) <= 32
    (surface,) = sized(token_surface(read, 3, ENGLISH))["data"]
    assert (len(surface["z"]), len(surface["z"][0])) == (24, 64)


def test_the_sinks_are_the_engines_and_a_block_without_attention_is_a_hole():
    read = planted()
    read.to_first[1] = math.nan
    report = sink_report(read)
    heat, entering, share = sized(sink_heatmap(report, ENGLISH))["data"]
    assert heat["z"] == [[pytest.approx(10), None, pytest.approx(63.333, abs=1e-3), pytest.approx(90)]] * 3
    assert entering["y"][0] is None
    assert entering["y"][3] == 5000
    assert share["y"] == heat["z"][0]


def test_the_plane_shows_every_channel_that_reaches_and_parts_them_as_the_report_does():
    over = torch.tensor([[30, 0, 1], [30, 0, 0], [30, 0, 0], [30, 6, 0]])
    counts = FeatureCounts(6.0, over, over, (0, 1, 2, 3), ("q", "fc1"), 100, 4)
    report = outlier_features(counts)
    others, passing = sized(feature_plane(counts, report, ENGLISH))["data"]
    assert (passing["x"], passing["y"], passing["text"]) == ([100], [30], ["0"])
    assert (others["x"], others["y"], others["text"]) == ([25, 25], [1.5, 0.25], ["1", "2"])
    wide = torch.ones(2, 9000, dtype=torch.int64)
    many = FeatureCounts(6.0, wide, wide, (0, 1), ("q",), 100, 2)
    for least in (0.0, 1.0):
        sized(feature_plane(many, outlier_features(many, 0.0, least), ENGLISH))


def report_of(chosen: float) -> AblationReport:
    draws = tuple(Measured((place,), 30.5 + place / 10) for place in range(5))
    return AblationReport(Ablation((507,)), 30.0, Measured((507,), chosen), draws, 512, 2)


def test_every_run_of_an_ablation_is_a_dot_in_its_row():
    told = sized(ablation_strip(report_of(500_000.0), ENGLISH))
    dots = {trace["name"]: trace["x"] for trace in told["data"] if trace["mode"] == "markers"}
    assert dots == {
        "untouched": [30],
        "random channels": [30.5, 30.6, 30.7, 30.8, 30.9],
        "chosen channels": [500_000],
    }
    assert told["layout"]["yaxis"]["categoryarray"] == list(dots)
    assert [note["text"] for note in told["layout"]["annotations"]] == ["30.00", "30.50 – 30.90", "500,000"]


def test_an_infinite_perplexity_is_drawn_beyond_the_others_and_called_infinite():
    told = sized(ablation_strip(report_of(math.inf), ENGLISH))
    (chosen,) = (trace for trace in told["data"] if trace.get("name") == "chosen channels")
    assert chosen["x"] == [pytest.approx(309)]
    assert told["layout"]["annotations"][-1]["text"] == "∞"


def run_named(model: str, parameters: int, ratio: float) -> Run:
    (row, *_) = read_runs(MEASURED_RUNS).rows
    return replace(row, model=model, parameters=parameters, ratio=ratio)


def test_every_analysed_model_is_a_point_and_a_row_of_the_file():
    rows = (run_named("<i>small</i>", 10_000_000, 20.0), run_named("large", 7_000_000_000, 4000.0))
    above, below = sized(growth_scatter(rows, ENGLISH))["data"]
    assert (above["x"], above["y"]) == ([10, 7000], [20, 4000])
    assert above["text"][0] == "&lt;i&gt;small&lt;/i&gt;"
    assert below["y"] == [round(100 * row.features_share, 2) for row in rows]
    drawing, table, link = growth.show(Runs(rows, (3,)), ENGLISH)
    assert "20.0 to 4,000 ×" in drawing.title
    assert table.count("<tr") == 3
    assert base64.b64decode(re.search(r"base64,([^\"]+)", link)[1]).decode() == runs_csv(rows)
    assert "a second size is needed" in growth.show(Runs(rows[:1]), ENGLISH)[0].title
    sized(growth_scatter([run_named("m", 10**6 + place, 2.0) for place in range(1000)], ENGLISH))


def test_one_weight_stands_beside_the_largest_other_and_random_ones():
    def zeroed(place: int, perplexity: float) -> ZeroedWeight:
        return ZeroedWeight("model.layers.11.mlp.down_proj", 507, place, 5.88, perplexity)

    draws = tuple(zeroed(place, 30.0 + place / 100) for place in range(5))
    told = sized(super_strip(SuperWeightReport(30.0, zeroed(1229, 300.0), zeroed(9, 30.5), draws, 512, 2), ENGLISH))
    dots = [trace for trace in told["data"] if trace["mode"] == "markers"]
    assert [trace["x"] for trace in dots] == [[30], [30, 30.01, 30.02, 30.03, 30.04], [30.5], [300]]
    assert dots[3]["text"] == ["11.mlp.down_proj[507, 1229]"]


def test_masks_are_shown_with_the_engines_shares_and_all_weights_of_a_column_are_counted():
    generator = torch.Generator().manual_seed(0)
    W, X_norm = torch.randn(1500, 300, generator=generator), torch.rand(300, generator=generator) + 0.1
    X_norm[11] = 40
    protected = protection(W, X_norm, 0.5)
    by_magnitude, top_magnitude, by_wanda, top_wanda = sized(protection_curve(protected, ENGLISH))["data"]
    assert by_magnitude["y"] == pytest.approx((100 * protected.bins.magnitude).tolist(), abs=0.01)
    assert by_wanda["y"] == pytest.approx((100 * protected.bins.wanda).tolist(), abs=0.01)
    assert top_wanda["text"][0] == "11"
    assert top_wanda["y"][0] == pytest.approx(100 * protected.top[0].wanda, abs=0.01)
    assert top_wanda["y"][0] < 10 < 40 < top_magnitude["y"][0]
    detail = column_detail(W, X_norm, 0.5, 11)
    traces = sized(column_weights(detail, ENGLISH))["data"]
    assert sum(len(trace["x"]) for trace in traces) == 1024
    counts = [int(trace["name"].split("(")[1].rstrip(")")) for trace in traces]
    assert sum(counts) == 1500
    assert counts[1] == detail.cut_by_magnitude > 0


def test_a_block_without_such_a_linear_is_a_hole_in_the_picture_of_the_model():
    overall, top = (torch.tensor([[q, q + 0.1], [q + 0.2, math.nan]]) for q in (0.1, 0.5))
    model = ModelProtection(("q", "up"), overall, top, 0.5, "row", 0)
    (heat,) = sized(parting_heatmap(model, ENGLISH))["data"]
    assert heat["z"] == [[50, 60], [70, None]]
    drawing = masks.show_all(model, ENGLISH)
    assert "up of block 0" in drawing.title
    assert "In 3 of 3 linears" in drawing.text


def spoken(drawing, table="") -> str:
    assert drawing.title
    assert drawing.text
    return drawing.title + drawing.text + table


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_section_finds_its_words_in_every_language(language):
    def speak(key, **values):
        return say(language, key, **values)

    read = planted()
    for block, ratio in ((2, 1000.0), (0, 1000.0), (2, 1e9), (2, 0.0)):
        magnitude = 0.0 if not ratio else 100.0
        massives = massive(read.hidden, magnitude, ratio)
        cells = sentence.draw_cells(read, massives, block, (magnitude, ratio), speak)
        assert "{" not in spoken(cells, sentence.massive_table(read, massives, speak))
        assert "{" not in spoken(sentence.draw_lines(read, block, speak))
    assert "{" not in spoken(*sinks.show(read, speak))
    over = torch.tensor([[30, 0], [30, 1]])
    counts = FeatureCounts(6.0, over, over, (0, 1), ("q",), 100, 2)
    for least in (6, 100):
        assert "{" not in spoken(*features.show(counts, speak, 25, least))
    for chosen in (500_000.0, 30.2):
        assert "{" not in spoken(*ablation.show(report_of(chosen), speak))


# ---- what is typed, and what is kept -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "channels"),
    [("507", (507,)), (" 507, 3;12\n9 ", (507, 3, 12, 9)), ("0", (0,)), ("١", None), ("-1", None)],
)
def test_channels_are_read_from_a_list_of_whole_numbers(typed, channels):
    if channels is None:
        with pytest.raises(InputError, match="is not a channel"):
            ablation.channels_of(typed)
    else:
        assert ablation.channels_of(typed) == channels


@pytest.mark.parametrize("typed", ["", " , ", None, 5])
def test_no_channel_at_all_is_said(typed):
    with pytest.raises(InputError, match="no channel is given"):
        ablation.channels_of(typed)


def test_a_column_may_be_left_out_and_must_be_a_number():
    assert masks.column_of("") is None
    assert masks.column_of(" 7 ") == 7
    with pytest.raises(InputError, match=r"'1\.5' is not a column"):
        masks.column_of("1.5")


def test_an_even_share_is_that_of_tokens_which_look_at_all_alike():
    assert sinks.even_share(2) == pytest.approx(1 / 2)
    assert sinks.even_share(4) == pytest.approx((1 / 2 + 1 / 3 + 1 / 4) / 3)


def test_signs_and_lists_are_told_shortly():
    assert features.sign(1.0) == "+ 100%"
    assert features.sign(0.25) == "− 75%"
    assert channel_list(range(10), most=3) == "0, 1, 2 … (10)"


def test_what_was_found_is_found_again_without_a_pass_and_the_oldest_goes(tiny_llama):
    state = AppState()
    loaded = state.models["tiny"] = Loaded(tiny_llama)
    passes = []

    def steps(key):
        yield Progress("sentence", 0, 1, "blocks")
        passes.append(key)
        return key * 2

    def find(key):
        return finish(state.measurement_steps("tiny", key, lambda loaded: steps(key)))

    assert [find(1), find(1), find(2)] == [2, 2, 4]
    assert passes == [1, 2]
    for key in range(10, 10 + MAX_MEASUREMENTS):
        find(key)
    assert len(loaded.measurements) == MAX_MEASUREMENTS
    assert find(1) == 2
    assert passes.count(1) == 2


# ---- the page ------------------------------------------------------------------------------------------------------

in_browser = [pytest.mark.browser, pytest.mark.builtin]


@pytest.fixture(scope="module")
def lab(page):
    """The outlier lab of the page, with the model analysed."""
    open_tab(page, "outliers", "outliers-lines")
    return page


@pytest.fixture
def lm(state):
    return state.models["builtin"].lm


def section(lab, name):
    lab.click(f"#lab-{name}-button")
    lab.wait_for_selector(f"#{name}-run", state="visible")


def write(lab, element, words):
    lab.fill(f"#{element} input, #{element} textarea", words)


def answered(lab, name, words):
    lab.wait_for_selector(f"#{name}-status .wl-problem >> text={words}")
    assert len(lab.inner_text(f"#{name}-status .wl-problem").splitlines()) == 1


class TestInTheBrowser:
    pytestmark = in_browser

    def test_the_default_sentence_is_read_when_the_section_is_opened(self, lab, lm):
        section(lab, "sentence")
        lab.wait_for_selector("#sentence-table table")
        read = read_sentence(lm, sentence.SENTENCE)
        massives = massive(read.hidden)
        cells, rings = lab.evaluate(
            """() => document.querySelector('#sentence-cells .js-plotly-plot').data.map(t => ({
                x: Array.from(t.x), y: Array.from(t.y), values: Array.from(t.customdata || [], row => Array.from(row))
            }))"""
        )
        block = massives[0].block
        assert cells["y"][0] == str(massives[0].channel) == "507"
        assert cells["values"][0] == pytest.approx(read.hidden[block, :, 507].tolist(), abs=0.5)
        assert len(rings["x"]) == sum(m.block == block for m in massives)
        assert f"{len(massives)} of {read.hidden.numel():,} numbers" in lab.inner_text("#sentence-cells-text")
        assert lab.locator("#sentence-table tbody tr").count() == len(massives)
        assert lab.get_attribute("#sentence-cells", "aria-label") == lab.inner_text("#sentence-cells-title")

    def test_another_block_and_a_stricter_criterion_need_no_new_pass(self, lab, state):
        section(lab, "sentence")
        lab.wait_for_selector("#sentence-table table")
        before = set(state.models["builtin"].measurements)
        write(lab, "sentence-ratio", "1e9")
        lab.press("#sentence-ratio input", "Enter")
        lab.wait_for_selector("#sentence-cells-text >> text=shows no massive activation")
        assert set(state.models["builtin"].measurements) == before
        write(lab, "sentence-ratio", "")
        lab.press("#sentence-ratio input", "Enter")
        answered(lab, "sentence", "ratio None is not a number")
        write(lab, "sentence-ratio", "1000")
        lab.press("#sentence-ratio input", "Enter")
        lab.wait_for_function("() => !document.querySelector('#sentence-status .wl-problem')")

    @pytest.mark.parametrize(
        ("words", "answer"),
        [
            ("", "the sentence is empty"),
            ("word " * 10_000, "has 50,000 characters"),
            ("stones " * 300, "256 are read at most"),
        ],
        ids=["empty", "50,000 characters", "too many tokens"],
    )
    def test_a_sentence_that_cannot_be_read_is_answered_in_one(self, lab, words, answer):
        section(lab, "sentence")
        write(lab, "sentence-text-box", words)
        lab.click("#sentence-run")
        answered(lab, "sentence", answer)

    def test_emoji_and_right_to_left_text_stand_on_the_axis(self, lab, lm):
        words = "שלום <b>עולם</b> 🙂"
        write(lab, "sentence-text-box", words)
        lab.click("#sentence-run")
        lab.wait_for_function("() => !document.querySelector('#sentence-status').innerText.trim()")
        lab.wait_for_function(
            "words => words.length === document.querySelector('#sentence-cells .js-plotly-plot').data[0].x.length",
            arg=list(read_sentence(lm, words).tokens),
        )

    def test_sinks_tell_the_engines_correlation(self, lab, lm):
        section(lab, "sinks")
        lab.wait_for_selector("#sinks-table table")
        report = sink_report(read_sentence(lm, sentence.SENTENCE))
        assert f"r = {report.correlation:.2f}" in lab.inner_text("#sinks-heatmap-text")
        assert lab.locator("#sinks-table tbody tr").count() == 30

    def test_features_are_counted_once_and_the_shares_then_move_freely(self, lab, state):
        section(lab, "features")
        lab.wait_for_selector("#features-table table")
        (counts,) = (value for key, value in state.models["builtin"].measurements.items() if key[0] == "features")
        report = outlier_features(counts)
        assert report.meets
        assert f"{len(report.features)} of 576 channels" in lab.inner_text("#features-plane-title")
        assert f"{report.closest.position_share:.1%}" in lab.inner_text("#features-plane-text")
        began = time.monotonic()
        lab.fill("#features-layers input[type=number]", "99")
        lab.wait_for_selector("#features-plane-title >> text=none of 576 channels")
        assert time.monotonic() - began < 5
        assert sum(key[0] == "features" for key in state.models["builtin"].measurements) == 1
        lab.fill("#features-layers input[type=number]", "25")

    def test_the_model_in_the_page_adds_its_row_to_the_users_file(self, lab, lm, tmp_path, monkeypatch):
        monkeypatch.setenv("WANDA_RUNS", str(tmp_path / "runs.jsonl"))
        section(lab, "growth")
        lab.wait_for_selector("#growth-table table")
        lab.click("#growth-run")
        lab.wait_for_function("() => !document.querySelector('#growth-status').innerText.trim()")
        while not (tmp_path / "runs.jsonl").exists():
            lab.wait_for_timeout(100)
        (row,) = read_runs(tmp_path / "runs.jsonl").rows
        assert (row.model, row.parameters, row.channel) == (lm.title, lm.n_parameters, 507)

    def test_without_a_magnitude_nothing_is_counted(self, lab):
        section(lab, "features")
        write(lab, "features-magnitude", "")
        lab.click("#features-run")
        answered(lab, "features", "magnitude None is not a number above 0")

    def test_masks_are_those_of_the_engine_and_a_typed_column_is_shown(self, lab, state):
        section(lab, "protection")
        lab.wait_for_selector("#protection-table table")
        loaded = state.models["builtin"]
        linear = next(x for x in loaded.lm.linears[15] if x.kind == "self_attn.q_proj")
        protected = protection(linear.weight, loaded.analysis.profile.norms[linear.name], 0.5)
        title = lab.inner_text("#protection-curve-title")
        assert f"{protected.parting.overall:.1%}" in title
        assert f"{protected.parting.top:.1%}" in title
        detail = column_detail(linear.weight, loaded.analysis.profile.norms[linear.name], 0.5, 507)
        write(lab, "protection-column", "507")
        lab.click("#protection-run")
        lab.wait_for_selector(
            f"#protection-weights-title >> text=Column 507: magnitude alone cuts {detail.cut_by_magnitude}"
        )
        for typed, answer in (("9999", "column 9999 does not exist"), ("<b>", "is not a column")):
            write(lab, "protection-column", typed)
            lab.click("#protection-run")
            answered(lab, "protection", answer)

    @pytest.mark.parametrize(
        ("channels", "start", "answer"),
        [
            ("abc", "0", "'abc' is not a channel"),
            ("", "0", "no channel is given"),
            ("576", "0", "channel 576 does not exist; this model has channels 0 to 575"),
            ("507, 507", "0", "name each once"),
            ("507", "30", "from_block"),
            ("507", "", "from_block"),
        ],
    )
    def test_what_cannot_be_ablated_is_answered_in_one_sentence(self, lab, channels, start, answer):
        section(lab, "ablation")
        write(lab, "ablation-channels", channels)
        write(lab, "ablation-from", start)
        lab.click("#ablation-run")
        answered(lab, "ablation", answer)

    def test_channel_507_ruins_the_model_and_random_channels_do_not(self, lab, lm):
        section(lab, "ablation")
        lab.click("#ablation-take")
        lab.wait_for_function(
            "() => document.querySelector('#ablation-channels').querySelector('input, textarea').value.includes('507')"
        )
        write(lab, "ablation-channels", "507")
        write(lab, "ablation-from", "0")
        write(lab, "ablation-prompt", "The sky is")
        lab.fill("#ablation-windows input[type=number]", "1")
        lab.click("#ablation-run")
        lab.wait_for_selector("#ablation-status .wl-progress")
        lab.wait_for_selector("#ablation-table table")
        text = read_text(BUILTIN_EVALUATION)
        plain = perplexity(lm, text, windows=1).perplexity
        with ablated(lm, Ablation((507,))):
            ruined = perplexity(lm, text, windows=1).perplexity
        dots = {t["name"]: t["x"] for t in figure(lab, "ablation-strip") if t["name"]}
        assert dots["untouched"] == [pytest.approx(plain, rel=1e-4)]
        assert dots["chosen channels"] == [pytest.approx(ruined, rel=1e-4)]
        assert ruined > 100 * plain
        assert len(dots["random channels"]) == 5
        assert max(dots["random channels"]) < 1.2 * plain
        lines = lab.locator("#ablation-table tbody td:last-child").all_inner_texts()
        (said,) = {step.text for step in list(generate(lm, "The sky is", max_new_tokens=ablation.LINE_TOKENS))[-1:]}
        assert lines[0] == " ".join(said.split())
        assert lines[1] != lines[0]

    def test_cancel_stops_an_ablation_and_leaves_the_model_as_it_was(self, lab, lm):
        lab.fill("#ablation-windows input[type=number]", "8")
        lab.click("#ablation-run")
        lab.wait_for_selector("#ablation-status .wl-progress")
        lab.click("#ablation-cancel")
        lab.wait_for_function("() => !document.querySelector('#ablation-status .wl-progress')")
        ends = time.monotonic() + 30  # the window under way is measured to its end
        while sum(len(m._forward_hooks) for m in lm.model.modules()) and time.monotonic() < ends:
            time.sleep(0.1)
        assert sum(len(m._forward_hooks) for m in lm.model.modules()) == 0

    def test_the_lab_fits_a_phone_and_raised_no_script_error(self, lab):
        lab.set_viewport_size({"width": 400, "height": 850})
        lab.wait_for_timeout(600)
        assert lab.evaluate("() => document.documentElement.scrollWidth") <= 400
        assert lab.complaints == []
