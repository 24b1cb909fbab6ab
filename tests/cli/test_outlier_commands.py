"""The commands of the outlier lab: each thing by itself, numbers as the engine has them, mistakes in one line."""

import json

import pytest
from command_line import refused, run
from families import tiny

from wanda_core.cli import outliers, tables
from wanda_core.model.loading import load_model
from wanda_core.outliers.ablation import Ablation, ablate, channel_means
from wanda_core.outliers.analysis import analyse
from wanda_core.outliers.features import find_outlier_features
from wanda_core.outliers.massive import massive
from wanda_core.outliers.norms import largest_norms
from wanda_core.outliers.run_log import read_runs
from wanda_core.outliers.sentence import read_sentence
from wanda_core.outliers.super_weight import super_weights
from wanda_core.text.windows import calibrate

SMALL = ("--samples", "2", "--seq-len", "16", "--device", "cpu")
pytestmark = pytest.mark.usefixtures("transformers_as_before")


@pytest.fixture
def lm(dense):
    return load_model(dense, device="cpu")


def test_outliers_gives_what_the_engine_finds_and_keeps_a_row_when_asked(dense, sample, lm, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDA_RUNS", str(tmp_path / "runs.jsonl"))
    command = [
        "outliers",
        "--model",
        dense,
        "--calibration",
        sample,
        *SMALL,
        "--sentence",
        "Rivers carry sand",
        "--json",
    ]
    result = run(*command)
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert not (tmp_path / "runs.jsonl").exists()
    calibration = calibrate(lm, sample.read_text(), samples=2, seq_len=16)
    sentence, analysis = read_sentence(lm, "Rivers carry sand"), analyse(lm, calibration)
    assert found["sentence"] == {"text": "Rivers carry sand", "tokens": list(sentence.tokens)}
    assert found["massive_activations"] == [vars(one) for one in massive(sentence.hidden)]
    assert found["attention_sinks"]["to_first"] == pytest.approx(sentence.to_first.mean(dim=1).tolist())
    assert found["super_weight"] == vars(super_weights(lm, "Rivers carry sand")[0])
    report = find_outlier_features(lm, calibration)
    assert [one["channel"] for one in found["outlier_features"]["features"]] == [one.channel for one in report.features]
    assert found["outlier_features"]["magnitude"] == 6.0
    assert found["input_norms"] == [vars(one) for one in largest_norms(lm, analysis.profile)]
    assert found["run"]["ratio"] == float(analysis.ratios.max())
    result = run(*command, "--keep")
    (row,) = read_runs(tmp_path / "runs.jsonl").rows
    assert row.ratio == found["run"]["ratio"]
    assert "kept in" in result.stderr


def test_the_three_things_are_printed_apart(dense, sample, lm):
    result = run("outliers", "--model", dense, "--calibration", sample, *SMALL)
    assert result.exit_code == 0, result.output
    titles = [
        "Massive activations of the sentence",
        "Attention sink",
        "Super weight",
        "LLM.int8()",
        "Wanda's input norms",
    ]
    places = [result.stdout.index(title) for title in titles]
    assert places == sorted(places)
    assert "none: no value of this sentence meets both" in result.stdout
    for one in largest_norms(lm, analyse(lm, calibrate(lm, sample.read_text(), samples=2, seq_len=16)).profile):
        assert [one.kind, str(one.block), str(one.column)] in [line.split()[:3] for line in result.stdout.splitlines()]


def test_ablate_gives_what_the_engine_measures(dense, sample, lm):
    text = sample.read_text()
    command = ["ablate", "--model", dense, "--device", "cpu", "--text", sample, "--seq-len", "16", "--windows", "2"]
    result = run(*command, "--channels", "3, 7", "--from-block", "1", "--tokens", "others", "--draws", "6", "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    plan = Ablation((3, 7), tokens="others", from_block=1)
    expected = ablate(lm, plan, text, draws=6, seq_len=16, windows=2)
    assert (found["untouched"], found["chosen"]["perplexity"]) == (expected.untouched, expected.chosen.perplexity)
    assert [one["perplexity"] for one in found["random"]] == [one.perplexity for one in expected.random]
    assert found["chosen"]["line"] is None
    mean = ["--value", "mean", "--calibration", sample, "--prompt", "Rivers carry"]
    found = json.loads(run(*command, "--channels", "3", *mean, "--json").stdout)
    means = channel_means(lm, calibrate(lm, text, source="sample.txt"))
    expected = ablate(lm, Ablation((3,), "mean"), text, means=means, seq_len=16, windows=2, prompt="Rivers carry")
    assert (found["chosen"]["perplexity"], found["line"]) == (expected.chosen.perplexity, expected.line)
    assert [one["line"] for one in found["random"]] == [one.line for one in expected.random]


def test_ablate_prints_a_row_for_every_setting(dense, sample):
    command = ["ablate", "--model", dense, "--device", "cpu", "--text", sample, "--seq-len", "16", "--windows", "1"]
    result = run(*command, "--channels", "3", "--calibration", sample)
    assert result.exit_code == 0, result.output
    assert "sample.txt: 1 windows of 16 tokens" in result.stdout
    assert result.stdout.count("random: ") == 5
    assert "untouched" in result.stdout
    assert "--calibration is not used" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ablate", "--channels", "a"], "channels 'a' are no whole numbers with commas between"),
        (["ablate", "--channels", "1,,2"], "are no whole numbers"),
        (["ablate", "--channels", "-1"], "are no whole numbers"),
        (["ablate", "--channels", "1,1"], "name each once"),
        (["ablate", "--channels", "64"], "channel 64 does not exist; this model has channels 0 to 63"),
        (["ablate", "--channels", "1", "--from-block", "3"], "from_block 3 is not a whole number from 0 to 2"),
        (["ablate", "--channels", "1", "--value", "half"], "value 'half' is not one of zero, mean"),
        (["ablate", "--channels", "1", "--tokens", "last"], "tokens 'last' is not one of all, first, others"),
        (["ablate", "--channels", "1", "--draws", "4"], "draws 4 is not a whole number from 5 to 50"),
        (["ablate", "--channels", "1", "--windows", "0"], "windows 0"),
        (["ablate", "--channels", "1", "--text", "nothing.txt"], "'nothing.txt' cannot be read"),
        (["ablate", "--channels", "1", "--seq-len", "16", "--prompt", " "], "the prompt is empty"),
        (["outliers", "--sentence", " "], "the sentence is empty"),
        (["outliers", "--sentence", "a" * 50_000], "the sentence has 50,000 characters"),
        (["outliers", "--samples", "0"], "samples 0"),
        (["outliers", "--calibration", "nothing.txt"], "'nothing.txt' cannot be read"),
    ],
)
def test_every_mistake_is_answered_in_one_line(dense, arguments, message):
    refused(run(*arguments, "--model", dense, "--device", "cpu"), 2, message)


def test_rows_are_cut_off_and_what_a_model_writes_is_no_markup(capsys):
    assert tables._runs([2, 3, 4, 7, 9, 10]) == "2–4, 7, 9–10"
    assert tables._names(range(15)) == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11 and 3 more"
    table = tables._table("text", ())
    table.add_row("[/b] [red]x :smile:")
    tables._print(table)
    assert "[/b] [red]x :smile:" in capsys.readouterr().out


@pytest.mark.parametrize("family", ["Qwen3Moe", "Mamba2"])
def test_what_a_model_does_not_have_is_said_and_the_rest_is_told(tokenizer, tmp_path, sample, family):
    lm = tiny(family, tokenizer, "cpu")
    lm.model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    command = ["outliers", "--model", tmp_path / "model", "--calibration", sample, *SMALL]
    result = run(*command, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    printed = run(*command).stdout
    if family == "Qwen3Moe":
        assert found["super_weight"] is None
        assert "there is no candidate" in printed
        assert "mlp.experts.*.down_proj" in [one["kind"] for one in found["input_norms"]]
    else:
        assert found["attention_sinks"]["to_first"] is None
        assert found["attention_sinks"]["why"] in printed


@pytest.mark.builtin
@pytest.mark.long
def test_channel_507_is_seen_from_the_command_line():
    result = run("outliers", "--samples", "1", "--seq-len", "64", "--device", "cpu", "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["sentence"]["text"] == outliers.SENTENCE
    assert found["massive_activations"][0]["channel"] == 507
    assert (found["super_weight"]["row"], found["super_weight"]["column"]) == (507, 1229)
    assert found["run"]["channel"] == 507
