"""A run made from a tiny model: whole, twice the same, true to the engine; and the replay, written in one step."""

import json

import pytest
import torch
from run_shape import assert_whole

from wanda_core.calibration.profile import profile
from wanda_core.errors import ModelError
from wanda_core.evaluation.generation import Generated, generate
from wanda_core.evaluation.perplexity import agreement, perplexity
from wanda_core.explain.mask_comparison import two_masks
from wanda_core.presets import preset
from wanda_core.progress import Progress, finish
from wanda_core.pruning.prune import prune
from wanda_core.recipe import PruneSpec
from wanda_core.report import replay as module
from wanda_core.report.keys import Key
from wanda_core.report.making import run_steps
from wanda_core.report.numbers import rounded, significant
from wanda_core.report.plan import KIND, PICTURED, PICTURES, PROMPTS, Cell, Plan, lines_of
from wanda_core.report.points import Dense, stored
from wanda_core.report.replay import main
from wanda_core.report.run import dumped
from wanda_core.text.windows import calibrate

SMALL = Plan(
    lines=(*lines_of(PICTURED, (0, 20, 60), ("2:4",)), *lines_of([Key("best")], (50,))),
    prompts=PROMPTS[:2],
    answer_tokens=4,
    windows=2,
    ablation_windows=1,
    seq_len=64,
    pictures=PICTURES,
    kind=KIND,
    sparsity=50,
    blocks=(1, 0),
)
READ = {"samples": 3, "seq_len": 32}
MEASURED = {"seq_len": 64, "windows": 2}


def small_run(lm, plan=SMALL):
    return run_steps(Dense(lm, calibrate(lm, **READ)), plan)


def timeless(run: dict) -> dict:
    """All of it but what another run may change."""
    copy = json.loads(dumped(run))
    copy["made"] |= {"date": "", "calibration": copy["made"]["calibration"] | {"seconds": 0}}
    for line in copy["lines"]:
        line["seconds"] = 0
    return copy


def line_of(run: dict, key: str) -> dict:
    (line,) = (line for line in run["lines"] if line["key"] == key)
    return line


@pytest.fixture(scope="module")
def made(tiny_llama):
    """-> (the run, the steps it took)"""
    steps: list[Progress] = []
    return finish(small_run(tiny_llama), steps.append), steps


def test_it_holds_everything_that_the_plan_names(made, tiny_llama):
    run, _ = made
    assert_whole(run, SMALL, len(tiny_llama.linears))
    assert (run["made"]["name"], run["made"]["revision"]) == ("tiny", "local")
    assert run["made"]["parameters"] == tiny_llama.n_parameters
    assert json.loads(dumped(run)) == run


def test_a_second_run_gives_the_same(made, tiny_llama):
    assert timeless(finish(small_run(tiny_llama))) == timeless(made[0])


def test_progress_goes_through_all_recipes_by_name(made):
    steps = made[1]
    names = list(dict.fromkeys(step.detail for step in steps))
    cells = [f"{method}@{at}" for method in ("wanda", "magnitude") for at in (20, 60)]
    cells[2:2], cells[5:5] = ["wanda,pattern=2:4@50"], ["magnitude,pattern=2:4@50", "best@50"]
    assert names == ["analysis", "dense", *cells, "ablation"]
    assert {step.total for step in steps} == {len(names)}
    fractions = [step.fraction for step in steps]
    assert fractions[0] == 0
    assert fractions[-1] == 1
    assert all(step.inner is not None for step in steps)


def test_points_are_what_the_engine_measures(made, tiny_llama):
    run, _ = made
    taken = profile(tiny_llama, calibrate(tiny_llama, **READ))
    for line, spec, place in (
        ("wanda", PruneSpec("wanda", 0.6, order="one-shot"), 2),
        ("magnitude", PruneSpec("magnitude", 0.2), 1),
    ):
        variant = prune(tiny_llama, spec, profile=taken if spec.needs_norms else None)
        found = {name: line_of(run, line)[name][place] for name in ("perplexity", "top1", "kl")}
        assert found["perplexity"] == significant(perplexity(variant.lm, **MEASURED).perplexity)
        agreed = agreement(tiny_llama, variant.lm, seq_len=64, windows=1)
        assert (found["top1"], found["kl"]) == (rounded(agreed.top1), rounded(agreed.kl))
    best = prune(tiny_llama, preset("best", sparsity=0.5), calibrate(tiny_llama, **READ))
    measured = perplexity(best.lm, **MEASURED).perplexity
    assert line_of(run, "best")["perplexity"] == [pytest.approx(measured, rel=1e-3)]


def test_answers_are_the_variants_own(made, tiny_llama):
    run, _ = made
    variant = prune(tiny_llama, PruneSpec("magnitude", pattern="2:4"))
    for lm, name in ((tiny_llama, "dense"), (variant.lm, "magnitude,pattern=2:4@50")):
        *_, answer = generate(lm, PROMPTS[1].text, max_new_tokens=4, chat=True)
        assert run["answers"][name][1] == stored(answer)


def test_an_answer_is_put_down_by_pieces_and_whole_percents():
    answer = Generated("ab", (1, 2, 3), ("a", "", "b"), (0.004, 0.996, 0.425))
    assert stored(answer) == {"t": ["a", "", "b"], "p": [0, 100, 42]}


@pytest.fixture(scope="module")
def taken(tiny_llama):
    return profile(tiny_llama, calibrate(tiny_llama, **READ))


@pytest.mark.parametrize("place", [0, 1])
def test_pictures_are_of_the_linears_that_are_named(made, tiny_llama, taken, place):
    run, _ = made
    block = SMALL.blocks[place]
    linear = tiny_llama.of_kind("mlp.up_proj")[block]
    norms, W = taken.norms[linear.name], linear.weight.cpu()
    S = W.abs() * norms
    by_magnitude, by_wanda = two_masks(W, norms, 0.5, "matrix")
    told = run["linears"][place]
    plane = told["plane"]
    assert plane["cuts"][1]["median"] == pytest.approx(float(W.abs()[by_magnitude].max().log10()), abs=1e-4)
    thresholds = S.masked_fill(~by_wanda, 0).amax(dim=1)
    assert plane["cuts"][0]["median"] == pytest.approx(float(thresholds.median().log10()), abs=1e-4)
    assert plane["loudest"]["column"] == int(norms.argmax())
    assert plane["differ"] == pytest.approx(float((by_magnitude != by_wanda).float().mean()), abs=1e-4)
    assert told["kept"] == pytest.approx(
        [1 - float(mask.float().mean()) for mask in (by_wanda, by_magnitude)], abs=1e-6
    )
    line = S.flatten().sort().values[int(by_wanda.sum()) - 1]
    assert told["score"]["misplaced"] == pytest.approx(float((S[by_wanda] > line).float().mean()), abs=1e-4)
    scores = run["scores"]
    assert [cuts[block] for cuts in scores["cuts"]] == plane["cuts"]
    assert [shares[block] for shares in scores["sparsities"]] == pytest.approx(
        [1 - kept for kept in told["kept"]], abs=1e-5
    )
    assert scores["score"]["median"][block] == pytest.approx(float(S.median().log10()), abs=1e-3)
    assert scores["size"]["median"][block] == pytest.approx(float(W.abs().median().log10()), abs=1e-3)


def test_masks_are_compared_in_every_linear(made, tiny_llama, taken):
    masks = made[0]["masks"]
    differ = total = 0
    for linear in tiny_llama.all_linears:
        by_magnitude, by_wanda = two_masks(linear.weight, taken.norms[linear.name], 0.5, "matrix")
        share = float((by_magnitude != by_wanda).float().mean())
        assert masks["differ"][0][masks["kinds"].index(linear.kind)][linear.block] == pytest.approx(share, abs=1e-4)
        differ, total = differ + int((by_magnitude != by_wanda).sum()), total + by_wanda.numel()
    assert masks["overall"] == pytest.approx([differ / total], abs=1e-4)


def test_the_weight_that_is_told_is_the_models_own(made, tiny_llama, taken):
    linear = tiny_llama.of_kind("mlp.up_proj")[SMALL.blocks[0]]
    norms, W = taken.norms[linear.name], linear.weight.cpu()
    told = made[0]["linears"][0]["told"]
    row, column = told["weight"]["row"], told["weight"]["column"]
    assert told["weight"]["value"] == significant(float(W[row, column]))
    assert told["weight"]["norm"] == told["column"]["norm"] == significant(float(norms[column]))
    assert told["weight"]["score"] == pytest.approx(float(W[row, column].abs() * norms[column]), rel=1e-4)
    assert told["place"] == norms.argsort(stable=True).tolist().index(column)
    by_magnitude, by_wanda = two_masks(W, norms, 0.5, "matrix")
    kept = [1 - float(mask[row].float().mean()) for mask in (by_wanda, by_magnitude)]
    assert told["row"]["kept"] == pytest.approx(kept, abs=1e-4)
    cuts = [float(W[row].abs()[mask[row]].max()) for mask in (by_wanda, by_magnitude)]
    assert told["row"]["size_cuts"] == pytest.approx(cuts, rel=1e-4)


@pytest.mark.parametrize(
    ("cell", "spec"),
    [
        (Cell(Key("wanda"), 45), PruneSpec("wanda", 0.45, order="one-shot")),
        (Cell(Key("wanda", "2:4"), 50), PruneSpec("wanda", pattern="2:4", order="one-shot")),
        (Cell(Key("magnitude"), 5), PruneSpec("magnitude", 0.05, order="one-shot")),
        (Cell(Key("best"), 70), preset("best", sparsity=0.7)),
    ],
)
def test_a_cells_recipe(cell, spec):
    assert cell.spec == spec


@pytest.mark.parametrize(
    ("value", "kept"), [(1234567.0, 1234600.0), (22.123456, 22.123), (0.000123456, 0.00012346), (0.0, 0.0)]
)
def test_five_digits_say_enough(value, kept):
    assert significant(value) == kept


def test_a_rounded_zero_has_no_sign():
    assert str(rounded(-0.00001)) == "0.0"


@pytest.fixture
def small_model(monkeypatch, tiny_llama):
    """The command's model is tiny, and its plan small."""
    asked = []

    def load(name, **how):
        asked.append((name, how))
        return tiny_llama

    monkeypatch.setattr(module, "load_model", load)
    monkeypatch.setattr(module, "WHOLE", SMALL)
    monkeypatch.setattr(module, "calibrate", lambda lm: calibrate(lm, **READ))
    return asked


def test_the_command_writes_the_file_in_one_step_and_says_its_size(small_model, made, tmp_path, capsys):
    target = tmp_path / "replay.json"
    target.write_text("an earlier one")
    main(["--output", str(target)])
    assert timeless(json.loads(target.read_text(encoding="utf-8"))) == timeless(made[0])
    said = capsys.readouterr()
    assert f"{target}: {target.stat().st_size:,} bytes" in said.out
    assert "3 of 10: wanda@20\n" in said.err
    assert small_model == [("builtin", {"device": "cpu", "dtype": torch.float32})]
    assert list(tmp_path.iterdir()) == [target]


def test_what_todays_recipes_made_is_kept_where_that_is_asked(small_model, made, tmp_path, capsys):
    earlier = json.loads(dumped(made[0]))
    best = line_of(earlier, "best")
    best |= {"recipe": best["recipe"] | {"group": "row"}, "perplexity": [1.5]}
    earlier["answers"]["best@50"] = earlier["answers"]["dense"]
    target = tmp_path / "replay.json"
    target.write_text(dumped(earlier), encoding="utf-8")
    main(["--output", str(target), "--keep"])
    assert timeless(json.loads(target.read_text(encoding="utf-8"))) == timeless(made[0])
    said = capsys.readouterr().err
    assert "best@50" in said
    assert "wanda@" not in said


def test_a_place_that_is_not_there_is_refused_before_the_work(small_model, tmp_path):
    with pytest.raises(SystemExit, match=r"^error: .*nowhere' is no folder; make it, or choose another place$"):
        main(["--output", str(tmp_path / "nowhere" / "replay.json")])
    assert not small_model


def test_a_file_that_cannot_be_written_is_said_in_a_sentence(small_model, tmp_path):
    (tmp_path / "replay.json").mkdir()
    with pytest.raises(SystemExit, match=r"^error: the run cannot be written to .*; choose another place$"):
        main(["--output", str(tmp_path / "replay.json")])
    assert [path.name for path in tmp_path.iterdir()] == ["replay.json"]


def test_a_run_that_fails_leaves_the_earlier_file(small_model, monkeypatch, tmp_path):
    def broken(*_):
        raise ModelError("the model broke; load it again")
        yield

    monkeypatch.setattr(module, "run_steps", broken)
    target = tmp_path / "replay.json"
    target.write_text("an earlier one")
    with pytest.raises(SystemExit, match=r"^error: the model broke; load it again$"):
        main(["--output", str(target)])
    assert target.read_text() == "an earlier one"
    assert list(tmp_path.iterdir()) == [target]


def test_a_number_that_is_none_is_no_replay():
    with pytest.raises(ValueError, match="not JSON compliant"):
        dumped({"perplexity": float("nan")})
