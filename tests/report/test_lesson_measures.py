"""What the lesson measures, on a tiny model: the parts against the engine's own measurements, the picture by hand."""

import json

import pytest
import torch

from wanda_core.assets import BUILTIN_EVALUATION
from wanda_core.evaluation.perplexity import perplexity
from wanda_core.explain.mask_comparison import two_masks
from wanda_core.outliers.ablation import Ablation, ablated, channel_means
from wanda_core.outliers.analysis import analyse
from wanda_core.outliers.readers import unread
from wanda_core.outliers.sentence import read_sentence
from wanda_core.outliers.super_weight import zeroed
from wanda_core.progress import finish
from wanda_core.pruning.prune import prune
from wanda_core.recipe import PruneSpec
from wanda_core.report.lesson import consequences, making, sentences
from wanda_core.report.lesson.making import dumped
from wanda_core.report.lesson.plan import CELLS, PROMPT, SENTENCE, SPARSITY, WINDOWS
from wanda_core.text.files import read_text
from wanda_core.text.windows import calibrate


@pytest.fixture(scope="module")
def calibration(tiny_llama):
    return calibrate(tiny_llama, samples=2, seq_len=32)


@pytest.fixture(scope="module")
def analysis(tiny_llama, calibration):
    return analyse(tiny_llama, calibration)


def cost(lm):
    text = read_text(BUILTIN_EVALUATION)
    return perplexity(lm, text, seq_len=sentences.window(lm), windows=WINDOWS).perplexity


def test_the_picture_holds_the_largest_of_every_run_of_channels():
    hidden = torch.tensor([[1.0, 10.0, 0.1, 100.0], [1000.0, 1.0, 1.0, 1.0]])
    assert sentences.token_map(hidden, 2) == {
        "rows": [[0.0, 1.0, -1.0, 2.0], [3.0, 0.0, 0.0, 0.0]],
        "starts": [0, 1, 2, 3, 4],
        "at": 2,
    }
    wide = sentences.token_map(torch.arange(1.0, 73.0).repeat(20, 1), 71)
    assert len(wide["rows"]) == sentences.MAP_TOKENS
    assert wide["starts"][:3] == [0, 2, 4]
    assert wide["rows"][0][:2] == [round(float(torch.tensor(x).log10()), 2) for x in (2.0, 4.0)]
    assert wide["at"] == 35


def test_a_sentence_is_told_as_it_is_read(tiny_llama):
    told = finish(sentences.meet_steps(tiny_llama, SENTENCE))
    hidden = read_sentence(tiny_llama, SENTENCE).hidden
    ratios = hidden.abs().flatten(1).amax(dim=1) / torch.stack([block.abs().flatten().median() for block in hidden])
    assert told["block"] == int(ratios.argmax())
    assert told["ratio"] == pytest.approx(float(ratios.max()), rel=1e-3)
    assert abs(told["value"]) == pytest.approx(float(hidden[told["block"]].abs().max()), rel=1e-3)
    others = [token for token in range(len(told["tokens"])) if token != told["token"]]
    elsewhere = hidden[told["block"], others, told["channel"]].abs().max()
    assert told["elsewhere"] == pytest.approx(float(elsewhere), rel=1e-3)
    assert told["massive"] == []


def test_the_weight_behind_a_spike_is_taken_away_alone(tiny_llama):
    told = finish(sentences.source_steps(tiny_llama))
    weight = told["first"]["weight"]
    linear = tiny_llama.linear(weight["linear"])
    assert weight["weight"] == pytest.approx(float(linear.weight[weight["row"], weight["column"]]), rel=1e-3)
    assert weight["share"] == pytest.approx(weight["weight"] * weight["input"] / weight["spike"], rel=1e-3)
    assert told["untouched"] == pytest.approx(cost(tiny_llama), rel=1e-4)
    with zeroed(tiny_llama, weight["linear"], weight["row"], weight["column"]):
        assert told["zeroed"] == pytest.approx(cost(tiny_llama), rel=1e-4)
    assert len(told["random"]) == 5


@pytest.mark.long
def test_every_place_and_value_of_the_ablation_is_its_own(tiny_llama, analysis, calibration):
    told = finish(consequences.lean_steps(tiny_llama, analysis, calibration))
    channel, means = told["channel"], channel_means(tiny_llama, calibration)
    for place in ("first", "others", "all"):
        with ablated(tiny_llama, Ablation((channel,), tokens=place)):
            assert told["zero"][place] == pytest.approx(cost(tiny_llama), rel=1e-4)
        with ablated(tiny_llama, Ablation((channel,), "mean", place), means):
            assert told["mean"][place] == pytest.approx(cost(tiny_llama), rel=1e-4)
    for each, measured in told["random"]:
        assert each != channel
        with ablated(tiny_llama, Ablation((each,))):
            assert measured == pytest.approx(cost(tiny_llama), rel=1e-4)
    assert told["readers"][0][0] == channel
    for each, measured in told["readers"]:
        with unread(tiny_llama, each, analysis.features.kinds):
            assert measured == pytest.approx(cost(tiny_llama), rel=1e-4)
    assert told["line"]
    dumped(told)


def test_the_masks_are_those_of_both_methods_within_rows(tiny_llama, analysis):
    told = consequences.masks(tiny_llama, analysis, 1)
    linear = tiny_llama.linears[1][0]
    norms = analysis.profile.norms[linear.name]
    by_size, by_score = two_masks(linear.weight, norms, SPARSITY)
    assert told["overall"] == pytest.approx(float((by_size != by_score).float().mean()), abs=1e-4)
    loudest = int(norms.argmax())
    assert told["loudest"][0][0] == loudest
    assert told["loudest"][0][2:] == pytest.approx(
        [float(m[:, loudest].float().mean()) for m in (by_size, by_score)], abs=1e-4
    )
    spike = told["spike"]
    assert spike["before"] == pytest.approx(float(analysis.stream_norms[0, spike["channel"]]), rel=1e-3)
    assert spike["rank"] == 1 + int((norms > norms[spike["channel"]]).sum())
    assert [channel for channel, _ in told["before"]] == analysis.stream_norms[0].argsort(descending=True)[:6].tolist()
    weight = told["weight"]
    if weight is not None:
        row, column = weight["row"], weight["column"]
        assert by_size[row, column]
        assert not by_score[row, column]
        assert weight["by_size"] == 1 + int((linear.weight[row].abs() > linear.weight[row, column].abs()).sum())
    assert (
        consequences.masks(tiny_llama, analysis, 0)["spike"] is None
    )  # what enters the first block is no block's output


def test_the_four_cells_are_variants_of_the_recipe(tiny_llama, analysis):
    told = finish(consequences.price_steps(tiny_llama, analysis))
    assert told["dense"] == pytest.approx(cost(tiny_llama), rel=1e-4)
    for (method, group), cell in zip(CELLS, told["cells"], strict=True):
        assert cell[:2] == [method, group]
        spec = PruneSpec(method, SPARSITY, order="one-shot", group=group)
        assert cell[2] == pytest.approx(cost(prune(tiny_llama, spec, profile=analysis.profile).lm), rel=1e-4)
    assert dict(map(tuple, told["along"]["wanda"]))[SPARSITY] == told["cells"][3][2]
    assert dict(map(tuple, told["along"]["magnitude"]))[SPARSITY] == told["cells"][0][2]
    assert told["answers"]["prompt"] == PROMPT
    assert len(told["answers"]["lines"]) == 1 + len(CELLS)
    json.dumps(told, allow_nan=False)


def test_the_command_writes_every_step_and_says_its_size(tiny_llama, calibration, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(making, "load_model", lambda name, **how: tiny_llama)
    monkeypatch.setattr(making, "calibrate", lambda lm: calibration)
    target = tmp_path / "lesson.json"
    making.main(["--output", str(target)])
    written = json.loads(target.read_text(encoding="utf-8"))
    assert list(written) == ["format", "made", "meet", "source", "change", "sinks", "lean", "masks", "price"]
    assert f"{target}: {target.stat().st_size:,} bytes" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == [target]


def test_a_place_that_cannot_be_written_is_said_before_the_work(monkeypatch, tmp_path):
    monkeypatch.setattr(making, "load_model", None)
    with pytest.raises(SystemExit, match=r"^error: the lesson cannot be written to .*; choose another place$"):
        making.main(["--output", str(tmp_path / "nowhere" / "lesson.json")])
