"""Curves from the command line: what is measured, that each point is kept, and that the same command goes on."""

import csv
import json
import re
import shutil
from itertools import pairwise
from types import SimpleNamespace

import pytest
from command_line import refused, run
from hypothesis import given
from hypothesis import strategies as st

from wanda_core.cli import sweeping
from wanda_core.cli.sweeping import percents_of
from wanda_core.errors import InputError, ModelError
from wanda_core.evaluation.perplexity import agreement, perplexity
from wanda_core.model.loading import load_model
from wanda_core.presets import preset
from wanda_core.pruning.prune import prune
from wanda_core.recipe import PruneSpec
from wanda_core.report import making
from wanda_core.report.keys import Key
from wanda_core.report.numbers import rounded, significant
from wanda_core.report.plan import PICTURES, PROMPTS
from wanda_core.report.run import COLUMNS, points_of, read_run, rows_of, write_run
from wanda_core.text.windows import calibrate
from wanda_ui.engine.recipe import KeptTexts

pytestmark = pytest.mark.usefixtures("transformers_as_before")
DRAW = ("--samples", "3", "--seq-len", "17")
WINDOWS = ("--windows", "2", "--eval-seq-len", "32")
READ = "samples=3,seq_len=17"


def sweep(dense, output, *more):
    return run("sweep", "--model", dense, "--device", "cpu", *DRAW, *WINDOWS, "--output", output, *more)


def timeless(found: dict) -> dict:
    """A run without what another one may change."""
    lines = [{**line, "seconds": None} for line in found["lines"]]
    return {**found, "made": {**found["made"], "date": "", "calibration": ""}, "lines": lines}


@pytest.fixture(scope="module")
def swept(dense, tmp_path_factory):
    """-> (the result of the command, its run, its folder)"""
    place = tmp_path_factory.mktemp("swept")
    more = ("--sparsities", "0,20-60:40", "--patterns", "2:4", "--methods", "wanda,magnitude,best")
    result = sweep(dense, place / "run.json", *more, "--csv", place / "points.csv")
    assert result.exit_code == 0, result.output
    return result, read_run(place / "run.json"), place


def test_every_recipe_is_measured_along_the_percents_and_under_the_patterns(swept, dense):
    _, found, _ = swept
    keys = [f"wanda,{READ}", f"wanda,pattern=2:4,{READ}", "magnitude", "magnitude,pattern=2:4"]
    keys += [f"best,{READ}", f"best,pattern=2:4,{READ}"]
    assert [line["key"] for line in found["lines"]] == keys
    assert [line["at"] for line in found["lines"]] == [[0, 20, 60], [50]] * 3
    made = found["made"]
    assert (made["name"], made["windows"], made["seq_len"], made["dtype"]) == (dense, 2, 32, "float32")
    assert (made["calibration"]["samples"], made["calibration"]["seq_len"]) == (3, 17)
    assert made["calibration"]["seconds"] > 0
    assert (found["prompts"], found["answers"]) == ([], {})


def test_the_points_are_what_the_engine_measures(swept, dense):
    _, found, _ = swept
    lm, points = load_model(dense, device="cpu"), points_of(found)
    drawn = calibrate(lm, samples=3, seq_len=17)
    for name, spec in (
        (f"wanda,{READ}@60", PruneSpec("wanda", 0.6, order="one-shot")),
        ("magnitude,pattern=2:4@50", PruneSpec("magnitude", pattern="2:4")),
        (f"best,{READ}@20", preset("best", sparsity=0.2)),
    ):
        pruned = prune(lm, spec, drawn).lm
        measured = perplexity(pruned, seq_len=32, windows=2).perplexity
        assert points[name]["perplexity"] == pytest.approx(significant(measured), rel=1e-4)
        agreed = agreement(lm, pruned, seq_len=32, windows=1)
        assert points[name]["top1"] == pytest.approx(rounded(agreed.top1), abs=1e-3)
    assert found["dense"] == {"perplexity": significant(perplexity(lm, seq_len=32, windows=2).perplexity)}
    nothing = {"perplexity": found["dense"]["perplexity"], "top1": 1, "kl": 0, "seconds": 0}
    assert points["magnitude@0"] == nothing


def test_it_prints_a_table_and_says_what_takes_longer(swept):
    result, found, place = swept
    rows = [line.split() for line in result.stdout.splitlines() if "%" in line]
    assert len(rows) == len(rows_of(found)) == 12
    assert rows[3][0] == "wanda,pattern=2:4"
    assert rows[1][:3] == ["wanda", "20%", f"{found['lines'][0]['perplexity'][1]:,.2f}"]
    words = rf"note: best,{READ} takes its own order, in-flight with the update least-squares: 2 points, about \d+ s of"
    assert re.search(f"{words} pruning each", result.stderr)
    assert "note: wanda" not in result.stderr
    assert "12 points measured in" in result.stderr
    assert f"{place / 'run.json'} has 12" in result.stderr


def test_the_csv_has_all_points(swept):
    _, found, place = swept
    with (place / "points.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    assert [(row["key"], float(row["percent"]), float(row["perplexity"])) for row in rows] == [
        (row["key"], row["percent"], row["perplexity"]) for row in rows_of(found)
    ]


@pytest.fixture
def read_once(monkeypatch):
    """How often the calibration text is read."""
    counted = []
    steps = making.profile_steps
    monkeypatch.setattr(making, "profile_steps", lambda *given: counted.append(1) or steps(*given))
    return counted


@pytest.fixture
def pruned(monkeypatch):
    """The names of what is pruned; the third one fails with what `pruned` is told."""
    names, steps = [], making.point_steps

    class Pruned(list):
        fails = None

    names = Pruned()

    def point_steps(dense, spec, plan):
        if names.fails is not None and len(names) == 2:
            raise names.fails
        names.append(spec.label)
        return (yield from steps(dense, spec, plan))

    monkeypatch.setattr(making, "point_steps", point_steps)
    return names


MORE = ("--methods", "wanda,ria", "--sparsities", "30-50:10")


@pytest.mark.parametrize(
    ("failure", "code", "last"),
    [
        (KeyboardInterrupt(), 130, "cancelled"),
        (ModelError("the model broke; load it again"), 2, "error: the model broke; load it again"),
    ],
)
def test_whatever_ends_it_leaves_what_is_measured(dense, tmp_path, monkeypatch, pruned, failure, code, last):
    written, write = [], sweeping.write_run
    monkeypatch.setattr(sweeping, "write_run", lambda run, path: written.append(read_run(write(run, path))))
    pruned.fails = failure
    place, table = tmp_path / "run.json", tmp_path / "points.csv"
    result = sweep(dense, place, *MORE, "--csv", table)
    assert result.exit_code == code
    assert result.stderr.splitlines()[-1] == last
    assert (f"2 points in {place}; the same command goes on" in result.stderr) == (code == 130)
    assert [len(points_of(each)) for each in written] == [0, 1, 2]
    assert read_run(place) == written[-1]
    assert len(table.read_text().splitlines()) == 3
    assert sorted(file.name for file in tmp_path.iterdir()) == ["points.csv", "run.json"]


def test_the_same_command_goes_on_and_comes_to_the_same(dense, tmp_path, pruned, read_once):
    pruned.fails = KeyboardInterrupt()
    assert sweep(dense, tmp_path / "run.json", *MORE).exit_code == 130
    pruned.fails = None
    assert sweep(dense, tmp_path / "run.json", *MORE).exit_code == 0
    assert pruned == ["Wanda 30%", "Wanda 40%", "Wanda 50%", "RIA 30%", "RIA 40%", "RIA 50%"]
    assert len(read_once) == 2  # once a command
    assert sweep(dense, tmp_path / "whole.json", *MORE).exit_code == 0
    assert timeless(read_run(tmp_path / "run.json")) == timeless(read_run(tmp_path / "whole.json"))


def test_what_is_there_is_not_measured_again_and_more_is_added(dense, tmp_path, pruned, read_once):
    place = tmp_path / "run.json"
    assert sweep(dense, place, "--methods", "magnitude", "--sparsities", "50").exit_code == 0
    assert not read_once  # magnitude looks at no input
    before = read_run(place)
    assert before["made"]["calibration"]["seconds"] is None
    result = sweep(dense, place, "--methods", "magnitude", "--sparsities", "50")
    assert "0 points measured" in result.stderr
    assert timeless(read_run(place)) == timeless(before)
    again = json.loads(sweep(dense, place, "--methods", "wanda,magnitude", "--sparsities", "40,50", "--json").stdout)
    assert pruned == ["Magnitude 50%", "Wanda 40%", "Wanda 50%", "Magnitude 40%"]
    assert again["measured"] == 3
    assert [(line["key"], line["at"]) for line in again["lines"]] == [
        ("magnitude", [40, 50]),
        (f"wanda,{READ}", [40, 50]),
    ]
    assert again["lines"][0]["perplexity"][1] == before["lines"][0]["perplexity"][0]
    assert again["seconds"].keys() == {"load", "sweep"}
    assert again["output"] == str(place)


def test_answers_and_pictures_can_be_added_to_what_is_there(dense, tmp_path, pruned, monkeypatch):
    monkeypatch.setattr(sweeping, "PROMPTS", PROMPTS[:1])
    place = tmp_path / "run.json"
    more = ("--methods", "magnitude", "--sparsities", "50")
    assert sweep(dense, place, *more).exit_code == 0
    assert sweep(dense, place, *more, "--answers", "--pictures").exit_code == 0
    found = read_run(place)
    assert pruned == ["Magnitude 50%"] * 2
    assert [prompt["text"] for prompt in found["prompts"]] == [PROMPTS[0].text]
    assert list(found["answers"]) == ["dense", "magnitude@50"]
    assert all(answer["t"] for answers in found["answers"].values() for answer in answers)
    assert set(PICTURES) <= found.keys()
    assert found["scores"]["kind"] == "mlp.up_proj"
    first = found["stream"]["block"]
    assert found["linears"][0]["block"] == first
    assert {linear["block"] for linear in found["linears"]} <= {0, 1, 2}
    assert sweep(dense, place, *more, "--answers", "--pictures").exit_code == 0
    assert len(pruned) == 2
    assert timeless(read_run(place)) == timeless(found)


def test_pictures_of_another_architecture_show_its_own_largest_linear(tiny_gpt2, tmp_path):
    tiny_gpt2.model.save_pretrained(tmp_path / "gpt2")
    tiny_gpt2.tokenizer.save_pretrained(tmp_path / "gpt2")
    place = tmp_path / "run.json"
    more = ("--methods", "magnitude", "--sparsities", "50", "--pictures", "--windows", "1", "--eval-seq-len", "32")
    result = run("sweep", "--model", tmp_path / "gpt2", "--device", "cpu", *DRAW, "--output", place, *more)
    assert result.exit_code == 0, result.output
    assert read_run(place)["scores"]["kind"] == "mlp.c_fc"


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--seed", "1"), "calibration text or its draw"),
        (("--windows", "1"), "number of windows"),
        (("--eval-seq-len", "33"), "tokens in a window"),
        (("--dtype", "bfloat16"), "number format"),
    ],
)
def test_a_run_of_something_else_is_not_gone_on_with(dense, tmp_path, swept, more, words):
    place = shutil.copy(swept[2] / "run.json", tmp_path)
    before = (tmp_path / "run.json").read_bytes()
    result = sweep(dense, place, "--methods", "magnitude", "--sparsities", "70", *more)
    refused(result, 2, f"differs in its {words}")
    assert (tmp_path / "run.json").read_bytes() == before


def test_neither_is_a_line_that_an_earlier_version_made_by_another_recipe(dense, tmp_path, swept):
    found = read_run(swept[2] / "run.json")
    found["lines"][4]["recipe"]["solver"]["steps"] += 1
    place = write_run(found, tmp_path / "run.json")
    more = ("--sparsities", "70", "--methods")
    refused(sweep(dense, place, *more, "magnitude,best"), 2, f"differs in its recipe of best,{READ}, and one curve")
    assert sweep(dense, place, *more, "magnitude").exit_code == 0


def test_neither_is_one_of_another_model_or_measured_on_another_text(dense, tmp_path, swept, sample):
    place = shutil.copy(swept[2] / "run.json", tmp_path)
    other = shutil.copytree(dense, tmp_path / "other")
    refused(sweep(other, place), 2, "differs in its model")
    refused(sweep(dense, place, "--text", sample), 2, "differs in its evaluation text")


def test_a_folder_that_holds_other_weights_by_now_is_noticed(dense, own_llama, tmp_path, swept):
    place = tmp_path / "run.json"
    own_llama.model.model.layers[0].mlp.down_proj.weight.mul_(3)
    own_llama.model.save_pretrained(tmp_path / "changed")
    own_llama.tokenizer.save_pretrained(tmp_path / "changed")
    run = read_run(swept[2] / "run.json")
    run["made"]["name"] = str(tmp_path / "changed")
    write_run(run, place)
    before = place.read_bytes()
    result = sweep(tmp_path / "changed", place, "--methods", "magnitude", "--sparsities", "70")
    refused(result, 2, "was made of other weights under the name")
    assert place.read_bytes() == before


def test_a_file_of_another_kind_is_refused_before_a_model_is_loaded(tmp_path, monkeypatch):
    monkeypatch.setattr("wanda_core.model.loading.load_model", lambda *a, **k: pytest.fail("a model was loaded"))
    (tmp_path / "thesis.json").write_text('{"years": 5}')
    (tmp_path / "thesis.csv").write_text("year,page\n1,2\n")
    run_file = tmp_path / "run.json"
    refused(sweep("builtin", tmp_path / "thesis.json"), 2, "does not say its format")
    refused(sweep("builtin", tmp_path), 2, "cannot be read (Is a directory)")
    refused(sweep("builtin", run_file, "--csv", tmp_path / "thesis.csv"), 1, "is no table of an earlier sweep")
    refused(sweep("builtin", run_file, "--csv", run_file), 2, "for the run and for the table; choose two files")
    around = tmp_path / ".." / tmp_path.name / "run.json"
    refused(sweep("builtin", run_file, "--csv", around), 2, "for the run and for the table; choose two files")
    refused(sweep("builtin", tmp_path / "nowhere" / "run.json"), 1, "the run cannot be written to")
    assert (tmp_path / "thesis.csv").read_text() == "year,page\n1,2\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["thesis.csv", "thesis.json"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--methods", "wanda,guess"), "method 'guess' is not offered; choose from wanda"),
        (("--methods", ""), "method '' is not offered"),
        (("--sparsities", "0.5"), "sparsities '0.5' are not up to 200 percents, each 0 or from 1 to 95"),
        (("--sparsities", "10-80"), "as 50,62.5, and ranges as 10-80:10"),
        (("--patterns", "4:2"), "pattern '4:2' is neither"),
        (("--patterns", "unstructured"), "is no N:M"),
        (("--methods", "wanda-variant", "--patterns", "2:4"), "choose wanda"),
        (("--windows", "0"), "windows 0 is not a whole number"),
        (("--samples", "0"), "samples 0 is not a whole number"),
        (("--seed", "1000000000"), "seed 1000000000 is not a whole number from 0 to 999999999"),
        (("--column", "text"), "no text was given"),
    ],
)
def test_a_bad_option_is_refused_before_a_model_is_loaded(tmp_path, monkeypatch, more, message):
    monkeypatch.setattr("wanda_core.model.loading.load_model", lambda *a, **k: pytest.fail("a model was loaded"))
    refused(sweep("builtin", tmp_path / "run.json", *more), 2, message)
    assert list(tmp_path.iterdir()) == []


def test_a_pattern_that_does_not_fit_the_model_is_refused_before_anything_is_measured(dense, tmp_path):
    refused(sweep(dense, tmp_path / "run.json", "--patterns", "2:7"), 2, "input columns divisible by 7")
    assert list(tmp_path.iterdir()) == []


def test_ones_own_text_has_the_name_that_the_page_gives_it(dense, tmp_path, sample):
    place = tmp_path / "run.json"
    more = ("--calibration", sample, "--methods", "wanda,magnitude", "--sparsities", "50")
    assert sweep(dense, place, *more).exit_code == 0
    digest = KeptTexts().put(sample.read_text(encoding="utf-8"))
    found = read_run(place)
    assert [line["key"] for line in found["lines"]] == [f"wanda,text={digest},{READ}", "magnitude"]
    assert found["made"]["calibration"]["source"] == "sample.txt"


def test_a_draw_that_the_page_cannot_make_is_not_taken_for_one_of_its_own():
    def drawn(bos):
        return SimpleNamespace(bos=bos, fingerprint="f" * 64, samples=16, seq_len=256, seed=0)

    assert sweeping._digest(None, "built in", drawn(False), None) == ""
    own = sweeping._digest("mine.txt", "mine", drawn(False), None)
    assert own == KeptTexts().put("mine")
    for bos, pack in ((True, None), (False, True), (False, False)):
        assert sweeping._digest(None, "built in", drawn(bos), pack) == "f" * 32
    keys = [Key("wanda"), Key("random"), Key("sparsegpt", order="faithful")]
    named = sweeping._drawn(keys, drawn(False), own)
    assert [key.text for key in named] == [own, "", own]


@pytest.mark.parametrize(
    ("given", "percents"),
    [
        ("50", [50]),
        ("0", [0]),
        ("10-80:10", [10, 20, 30, 40, 50, 60, 70, 80]),
        ("5, 10-20:5 ,62.5,10", [5, 10, 15, 20, 62.5]),
        ("10-11:0.25", [10, 10.25, 10.5, 10.75, 11]),
        ("10-19:5", [10, 15]),
        ("95-95:1", [95]),
    ],
)
def test_percents_in_a_list(given, percents):
    assert percents_of(given) == percents
    assert [type(each) for each in percents_of(given)] == [type(each) for each in percents]


@pytest.mark.parametrize(
    "given", ["", ",", "0.5", "96", "-5", "50%", "1e1", "٥٠", "10-80", "80-10:10", "10-80:0", "1-95:0.25", "50,,60"]
)
def test_what_is_no_list_of_percents(given):
    with pytest.raises(InputError, match=r"are not up to 200 percents"):
        percents_of(given)


@given(st.text(alphabet="0159.,-: ", max_size=12))
def test_whatever_is_given_becomes_percents_or_a_sentence(given):
    try:
        percents = percents_of(given)
    except InputError as error:
        assert "\n" not in str(error)  # noqa: PT017 - either is right
    else:
        assert percents
        assert all(each == 0 or 1 <= each <= 95 for each in percents)
        assert all(a < b for a, b in pairwise(percents))
