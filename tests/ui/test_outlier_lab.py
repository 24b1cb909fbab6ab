"""The outlier lab in a browser: its sections answer what a person types with the engine's values."""

import time

import pytest
from browser import figure, open_tab

from wanda_core.assets import BUILTIN_EVALUATION
from wanda_core.evaluation.generation import generate
from wanda_core.evaluation.perplexity import perplexity
from wanda_core.explain.mask_comparison import column_detail, protection
from wanda_core.outliers.ablation import Ablation, ablated
from wanda_core.outliers.features import outlier_features
from wanda_core.outliers.massive import massive
from wanda_core.outliers.run_log import read_runs
from wanda_core.outliers.sentence import read_sentence
from wanda_core.outliers.sinks import sink_report
from wanda_core.text.files import read_text
from wanda_ui.outliers import ablation, sentence

pytestmark = [pytest.mark.browser, pytest.mark.builtin]

WINDOW = 128  # tokens


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


def test_the_default_sentence_is_read_when_the_section_is_opened(lab, lm):
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


def test_another_block_and_a_stricter_criterion_need_no_new_pass(lab, state):
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
def test_a_sentence_that_cannot_be_read_is_answered_in_one(lab, words, answer):
    section(lab, "sentence")
    write(lab, "sentence-text-box", words)
    lab.click("#sentence-run")
    answered(lab, "sentence", answer)


def test_emoji_and_right_to_left_text_stand_on_the_axis(lab, lm):
    words = "שלום <b>עולם</b> 🙂"
    write(lab, "sentence-text-box", words)
    lab.click("#sentence-run")
    lab.wait_for_function("() => !document.querySelector('#sentence-status').innerText.trim()")
    lab.wait_for_function(
        "words => words.length === document.querySelector('#sentence-cells .js-plotly-plot').data[0].x.length",
        arg=list(read_sentence(lm, words).tokens),
    )


def test_sinks_tell_the_engines_correlation(lab, lm):
    section(lab, "sinks")
    lab.wait_for_selector("#sinks-table table")
    report = sink_report(read_sentence(lm, sentence.SENTENCE))
    assert f"r = {report.correlation:.2f}" in lab.inner_text("#sinks-heatmap-text")
    assert lab.locator("#sinks-table tbody tr").count() == 30


def test_features_are_counted_once_and_the_shares_then_move_freely(lab, state):
    section(lab, "features")
    lab.wait_for_selector("#features-table table")
    (counts,) = (value for key, value in state.models["builtin"].measurements.items() if key[0] == "features")
    report = outlier_features(counts)
    assert report.meets
    assert f"{len(report.features)} of 576 channels" in lab.inner_text("#features-plane-title")
    assert f"{report.closest.position_share:.1%}" in lab.inner_text("#features-plane-text")
    lab.fill("#features-layers input[type=number]", "99")
    lab.wait_for_selector("#features-plane-title >> text=none of 576 channels")
    assert sum(key[0] == "features" for key in state.models["builtin"].measurements) == 1
    lab.fill("#features-layers input[type=number]", "25")


def test_the_model_in_the_page_adds_its_row_to_the_users_file(lab, lm, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDA_RUNS", str(tmp_path / "runs.jsonl"))
    section(lab, "growth")
    lab.wait_for_selector("#growth-table table")
    lab.click("#growth-run")
    lab.wait_for_function("() => !document.querySelector('#growth-status').innerText.trim()")
    while not (tmp_path / "runs.jsonl").exists():
        lab.wait_for_timeout(100)
    (row,) = read_runs(tmp_path / "runs.jsonl").rows
    assert (row.model, row.parameters, row.channel) == (lm.title, lm.n_parameters, 507)


def test_without_a_magnitude_nothing_is_counted(lab):
    section(lab, "features")
    write(lab, "features-magnitude", "")
    lab.click("#features-run")
    answered(lab, "features", "magnitude None is not a number above 0")


def test_masks_are_those_of_the_engine_and_a_typed_column_is_shown(lab, state):
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
def test_what_cannot_be_ablated_is_answered_in_one_sentence(lab, channels, start, answer):
    section(lab, "ablation")
    write(lab, "ablation-channels", channels)
    write(lab, "ablation-from", start)
    lab.click("#ablation-run")
    answered(lab, "ablation", answer)


def test_channel_507_ruins_the_model_and_random_channels_do_not(lab, lm, monkeypatch):
    monkeypatch.setattr(ablation, "LINE_TOKENS", 6)
    monkeypatch.setattr(ablation, "EVAL_SEQ_LEN", WINDOW)  # the whole model reads it nine times
    section(lab, "ablation")
    write(lab, "ablation-channels", "")
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
    plain = perplexity(lm, text, seq_len=WINDOW, windows=1).perplexity
    with ablated(lm, Ablation((507,))):
        ruined = perplexity(lm, text, seq_len=WINDOW, windows=1).perplexity
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


def test_cancel_stops_an_ablation_and_leaves_the_model_as_it_was(lab, lm):
    lab.fill("#ablation-windows input[type=number]", "8")
    lab.click("#ablation-run")
    lab.wait_for_selector("#ablation-status .wl-progress")
    lab.click("#ablation-cancel")
    lab.wait_for_function("() => !document.querySelector('#ablation-status .wl-progress')")
    ends = time.monotonic() + 30  # the window under way is measured to its end
    while sum(len(m._forward_hooks) for m in lm.model.modules()) and time.monotonic() < ends:
        time.sleep(0.1)
    assert sum(len(m._forward_hooks) for m in lm.model.modules()) == 0


def test_the_lab_fits_a_phone_and_raised_no_script_error(lab):
    lab.set_viewport_size({"width": 400, "height": 850})
    lab.wait_for_timeout(600)
    assert lab.evaluate("() => document.documentElement.scrollWidth") <= 400
    assert lab.complaints == []
