"""The outlier lab without a browser: its figures show the engine's values within bounds, and typed input is read."""

import base64
import json
import math
import re
from dataclasses import replace
from functools import partial

import pytest
import torch
from families import tiny

from wanda_core.errors import InputError
from wanda_core.explain.mask_comparison import ModelProtection, column_detail, protection
from wanda_core.outliers.ablation import Ablation, AblationReport, Measured
from wanda_core.outliers.features import FeatureCounts, outlier_features
from wanda_core.outliers.massive import massive
from wanda_core.outliers.run_log import MEASURED_RUNS, Run, Runs, read_runs, runs_csv
from wanda_core.outliers.sentence import Sentence
from wanda_core.outliers.sinks import sink_report
from wanda_core.outliers.super_weight import SuperWeight, SuperWeightReport, ZeroedWeight
from wanda_core.progress import Progress, finish
from wanda_ui.app_state import MAX_MEASUREMENTS, AppState
from wanda_ui.engine.loaded import Loaded
from wanda_ui.language import ENGLISH, LANGUAGES, say
from wanda_ui.outliers import ablation, features, growth, sentence, sinks, super_weight
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
    counts = FeatureCounts(6.0, over, over, (0, 1, 2, 3), ("q", "fc1"), (100,) * 4, 4)
    report = outlier_features(counts)
    others, passing = sized(feature_plane(counts, report, ENGLISH))["data"]
    assert (passing["x"], passing["y"], passing["text"]) == ([100], [30], ["0"])
    assert (others["x"], others["y"], others["text"]) == ([25, 25], [1.5, 0.25], ["1", "2"])
    wide = torch.ones(2, 9000, dtype=torch.int64)
    many = FeatureCounts(6.0, wide, wide, (0, 1), ("q",), (100, 100), 2)
    for least in (0.0, 1.0):
        sized(feature_plane(many, outlier_features(many, 0.0, least), ENGLISH))


def test_a_column_of_several_streams_is_called_no_channel_and_what_is_read_is_counted_in_positions():
    over = torch.tensor([[30, 0, 1], [30, 0, 0]])
    told = {}
    for streams in (True, False):
        counts = FeatureCounts(6.0, over, over, (0, 1), ("q",), (9, 7), 2, streams)
        for language, least in (("en", 6), ("en", 100), ("ko", 6), ("ko", 100)):
            drawing, table = features.show(counts, partial(say, language), 25, least)
            figure = sized(drawing.figure)
            hovers = {trace["hovertemplate"].partition(" ")[0] for trace in figure["data"] if trace["text"]}
            words = f"{drawing.title} {drawing.text} {table} {hovers} {[trace['name'] for trace in figure['data']]}"
            told[language, streams, least] = words.lower()
    for (language, streams, _), words in told.items():
        channel, column, positions = {
            "en": ("channel", "column", "over 9 positions of the calibration"),
            "ko": ("채널", "열", "보정 텍스트의 위치 9곳을"),
        }[language]
        own = words.replace("so no column is one of their channels", "").replace("열은 스트림의 채널이 아니에요", "")
        assert (channel in own, column in own) == (streams, not streams), words
        assert positions in words


def report_of(chosen: float, zero: float | None = None, worst: float = 30.9) -> AblationReport:
    """Of channel 507 at zero, else at its mean with `zero` measured besides."""
    draws = (*(Measured((place,), 30.5 + place / 10) for place in range(4)), Measured((4,), worst))
    plan = Ablation((507,), "zero" if zero is None else "mean")
    zeroed = None if zero is None else Measured((507,), zero)
    return AblationReport(plan, 30.0, Measured((507,), chosen), draws, 512, 2, zeroed=zeroed)


@pytest.mark.parametrize(
    ("chosen", "zero", "worst", "said"),
    [
        (513_259.0, None, 30.9, ["which channels are changed that matters", "when they are set to their mean"]),
        (36.66, 900.0, 30.9, ["less than the 2 ×", "they act like a constant"]),  # above every draw, by a hair
        (30.2, 30.1, 30.9, ["less than the 2 ×", "does not need them either way"]),
        (
            900.0,
            2_000.0,
            30.9,
            ["which channels are changed that matters", "neither zero nor their mean replaces them"],
        ),
        (900.0, 31.0, 30.9, ["which channels are changed that matters", "less harm than their mean"]),
        (900.0, None, 700.0, ["nothing sets these apart"]),
        (30.2, None, 700.0, ["these are not the ones that matter"]),
        (31.5, None, 30.9, ["less than the 2 ×"]),
    ],
)
def test_what_an_ablation_is_said_to_show_has_an_effect_to_show_for_it(chosen, zero, worst, said):
    text = ablation.show(report_of(chosen, zero, worst), ENGLISH)[0].text
    assert [words for words in said if words not in text] == []
    blamed = "which channels are changed that matters" in text
    assert blamed == (chosen >= 60 and worst < 60)


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


def test_the_same_channels_at_zero_stand_below_their_mean():
    told = sized(ablation_strip(report_of(30.2, 500_000.0), ENGLISH))
    dots = {trace["name"]: trace["x"] for trace in told["data"] if trace["mode"] == "markers"}
    assert (dots["chosen channels"], dots["the same at zero"]) == ([30.2], [500_000])


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
    above, below, _ = sized(growth_scatter(rows, ENGLISH))["data"]
    assert (above["x"], above["y"]) == ([10, 7000], [20, 4000])
    assert above["text"][0] == "&lt;i&gt;small&lt;/i&gt;"
    assert below["y"] == [round(100 * row.features_share, 2) for row in rows]
    drawing, tables, link = growth.show(Runs(rows, (3,)), ENGLISH)
    assert "20.0 to 4,000 ×" in drawing.title
    assert tables.split("</table>")[0].count("<tr") == 3
    assert base64.b64decode(re.search(r"base64,([^\"]+)", link)[1]).decode() == runs_csv(rows)
    assert "a second size is needed" in growth.show(Runs(rows[:1]), ENGLISH)[0].title
    sized(growth_scatter([run_named("m", 10**6 + place, 2.0) for place in range(1000)], ENGLISH))


def search_of(chosen: float, largest: float = 30.5) -> super_weight.Search:
    def zeroed(place: int, perplexity: float) -> ZeroedWeight:
        return ZeroedWeight("model.layers.11.mlp.down_proj", 507, place, 5.88, perplexity)

    draws = tuple(zeroed(place, 30.0 + place / 100) for place in range(5))
    report = SuperWeightReport(30.0, zeroed(1229, chosen), zeroed(9, largest), draws, 512, 2)
    candidate = SuperWeight(11, "l.11.down_proj", "down_proj", 507, 1229, 5.88, 0, 3e3, 2e4, 0.74, 900.0, True)
    return super_weight.Search(10**8, (candidate,), report)


@pytest.mark.parametrize(
    ("chosen", "largest", "said"),
    [
        (300.0, 30.5, "this one weight that matters"),
        (30.9, 30.5, "no super weight here"),  # above all the others, by a hair
        (300.0, 200.0, "not alone in this"),
        (30.2, 200.0, "the weight that matters is another"),
    ],
)
def test_one_weight_is_called_super_by_what_taking_it_away_costs(chosen, largest, said):
    drawing = super_weight.show(search_of(chosen, largest), ENGLISH)[0]
    assert said in drawing.text
    assert drawing.title.startswith("One weight of 100,000,000 at zero")


def test_one_weight_stands_beside_the_largest_other_and_random_ones():
    told = sized(super_strip(search_of(300.0).report, ENGLISH))
    dots = [trace for trace in told["data"] if trace["mode"] == "markers"]
    assert [trace["x"] for trace in dots] == [[30], [30, 30.01, 30.02, 30.03, 30.04], [30.5], [300]]
    assert dots[3]["text"] == ["11.mlp.down_proj[507, 1229]"]


def test_where_every_block_ends_in_routed_experts_one_sentence_says_that_there_is_no_such_weight(tokenizer):
    for family in ("Mixtral", "Qwen3Moe"):
        with pytest.raises(InputError, match=r"^no block of tiny ends in a linear that every token passes"):
            finish(super_weight.searched(Loaded(tiny(family, tokenizer, "cpu")), {}))


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
    counts = FeatureCounts(6.0, over, over, (0, 1), ("q",), (100, 100), 2)
    for least in (6, 100):
        assert "{" not in spoken(*features.show(counts, speak, 25, least))
    for chosen in (500_000.0, 30.2):
        assert "{" not in spoken(*ablation.show(report_of(chosen), speak))
        for zero in (500_000.0, 30.2):
            assert "{" not in spoken(*ablation.show(report_of(chosen, zero), speak))
    for chosen in (300.0, 30.2):
        for largest in (400.0, 30.5):
            assert "{" not in spoken(*super_weight.show(search_of(chosen, largest), speak)[:2])


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
        return finish(state.measurement_steps("tiny", ("test", key), lambda loaded: steps(key)))

    assert [find(1), find(1), find(2)] == [2, 2, 4]
    assert passes == [1, 2]
    for key in range(10, 10 + MAX_MEASUREMENTS):
        find(key)
    assert len(loaded.measurements) == MAX_MEASUREMENTS
    assert find(1) == 2
    assert passes.count(1) == 2
