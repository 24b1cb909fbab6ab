"""The format of a run: what is whole is read as it is, and whatever else a file holds is refused in one sentence."""

import copy
import csv
import io
import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from run_mutations import JUNK, mutated, places_in
from small_run import RUN, small_run

from wanda_core.errors import InputError, StorageError
from wanda_core.report import run as module
from wanda_core.report.keys import Key
from wanda_core.report.run import (
    COLUMNS,
    csv_of,
    dumped,
    points_of,
    read_run,
    recipe_of,
    rows_of,
    with_point,
    write_run,
)

OPTIONAL = ("scores", "linears", "masks", "stream", "ablation", "toy", "shown")


def problem_of(run) -> str | None:
    """-> the sentence that says why it is no run, None where it is one."""
    try:
        read_run(run if isinstance(run, str) else json.dumps(run))
    except InputError as error:
        return str(error)
    return None


def is_a_sentence(words: str | None) -> bool:
    return words is not None and "\n" not in words and words.count("; ") == 1


def test_a_whole_run_is_read_as_it_is_from_a_text_and_from_a_file(tmp_path):
    assert read_run(dumped(RUN)) == RUN
    assert read_run(f"\ufeff \n{dumped(RUN)}") == RUN
    path = write_run(RUN, tmp_path / "run.json")
    assert read_run(path) == read_run(str(path)) == RUN


def test_what_is_optional_may_be_missing_and_what_else_there_is_does_not_matter():
    bare = {name: value for name, value in RUN.items() if name not in OPTIONAL}
    assert read_run(dumped(bare)) == bare
    empty = {**bare, "lines": [], "prompts": [], "answers": {}, "more": [None]}
    assert read_run(dumped(empty)) == empty
    for name in ("dtype", "bos"):
        made = {field: value for field, value in RUN["made"].items() if field != name}
        assert read_run(dumped({**bare, "made": made}))["made"] == made
    unnamed = [line | {"recipe": None} for line in RUN["lines"]]
    assert read_run(dumped({**bare, "lines": unnamed}))["lines"] == unnamed


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (lambda run: run["lines"][0]["at"].reverse(), "lines[0].at does not ascend"),
        (
            lambda run: run["lines"][0]["kl"].pop(),
            "kl, seconds of lines[0] have different lengths",
        ),
        (lambda run: run["lines"][0].update(key="wanda,colour=red"), "lines[0] has no recipe that can be made"),
        (lambda run: run["lines"][0].update(key="wanda,group=default"), "lines[0] has no recipe that can be made"),
        (lambda run: run["lines"][0].update(key="magnitude"), "lines[0].recipe is not of its key"),
        (lambda run: run["lines"][0]["recipe"].update(depth=3), "lines[0] has no recipe that can be made"),
        (lambda run: run["lines"][2].update(at=[50, 96]), "lines[2] has no recipe that can be made (sparsity 0.96"),
        (lambda run: run["lines"][1].update(at=[50]), "lines[1].at is not [66.66"),
        (lambda run: run["lines"].append(run["lines"][0]), "lines[4].key stands twice"),
        (lambda run: run["dense"].update(perplexity=0.5), "dense.perplexity is not a number from 1"),
        (lambda run: run["lines"][0]["perplexity"].__setitem__(1, 10**400), "lines[0].perplexity[1] is not a number"),
        (lambda run: run["answers"].update({"best@50": [None, None]}), "answers['best@50'] is of no line"),
        (lambda run: run["answers"].update({"wanda@050": [None, None]}), "answers['wanda@050'] is of no line"),
        (lambda run: run["answers"].update({"wanda@0": [None, None]}), "answers['wanda@0'] is of no line"),
        (lambda run: run["answers"].update({"wanda@62.5": [None]}), "answers['wanda@62.5'] is not a list of 2"),
        (lambda run: run["answers"]["dense"][0]["p"].pop(), "t, p of answers['dense'][0] have different lengths"),
        (
            lambda run: run["answers"]["dense"][0]["t"].__setitem__(0, "\ud800"),
            "['dense'][0].t[0] is not a text",
        ),
        (lambda run: run.update(shown=5), "shown is not an object"),
        (lambda run: run["shown"].update(at="x"), "shown.at is not a number from 0 to 97"),
        (lambda run: run["shown"].update(keys=[["a"]]), "shown.keys[0] is not a text"),
        (lambda run: run["shown"].update(prompt=3), "shown.prompt is not a text"),
        (lambda run: run["made"].update(bos=1), "made.bos is neither true nor false"),
        (lambda run: run["made"].pop("eval"), "made.eval is missing"),
        (lambda run: run["scores"]["cuts"][0].pop(), "scores.cuts does not have 2 blocks"),
        (lambda run: run["scores"]["size"]["share"][1].pop(), "scores.size does not have 2 blocks of 2 bins"),
        (lambda run: run["linears"][0]["near"].update(width=3), "linears[0].near.size is not base64 of 1 × 3 bytes"),
        (lambda run: run["linears"][0]["near"].update(size="é"), "linears[0].near.size is not base64"),
        (lambda run: run["masks"]["differ"][0].append([0.5]), "masks.differ does not have 1 kinds"),
        (lambda run: run["stream"]["median"].pop(), "largest, median of stream have different lengths"),
    ],
)
def test_what_is_broken_is_told_by_its_place(change, where):
    run = copy.deepcopy(RUN)  # also what stands in two places of it
    run["scores"]["size"] = copy.deepcopy(run["scores"]["size"])
    change(run)
    problem = problem_of(run)
    assert is_a_sentence(problem)
    assert where in problem


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "is not JSON"),
        ("{'format': 1}", "is not JSON"),
        (dumped(RUN).replace("90.0", "NaN"), "is not JSON (NaN is no number)"),
        (f'{{"format": {"1" * 5000}}}', "is not JSON"),
        ('{"format": ' + "[" * 100_000, "is not JSON"),
        ("{}", "does not say its format"),
        ('{"format": 2}', "is a run of format 2, and format 1 is read here"),
        ('{"format": true}', "is a run of format True"),
        ('{"format": 1}', "made is missing"),
        ('{"format": 1, "made": []}', "made is not an object"),
    ],
)
def test_what_is_no_run_of_this_format_says_so(text, words):
    problem = problem_of(text)
    assert is_a_sentence(problem)
    assert words in problem


def test_files_that_cannot_be_a_run_are_refused(tmp_path, monkeypatch):
    for name, content, words in (
        ("list.json", b"[]", "does not say its format"),
        ("noise.json", bytes(range(256)), "is not UTF-8 text"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=words):
            read_run(tmp_path / name)
    for path in (tmp_path, tmp_path / "nothing.json"):
        with pytest.raises(InputError, match="cannot be read"):
            read_run(path)
    monkeypatch.setattr(module, "MOST_BYTES", 100)
    (tmp_path / "large.json").write_text("é" * 51, encoding="utf-8")  # cut in the middle of a letter
    for given_run in (tmp_path / "large.json", dumped(RUN)):
        with pytest.raises(InputError, match="holds more than"):
            read_run(given_run)


def test_no_place_of_a_run_takes_anything():
    """Whatever stands in the place of any value, a run is read or refused in a sentence; no place takes all of it."""
    for place in places_in(RUN):
        problems = [problem_of(mutated(place, junk)) for junk in JUNK]
        assert all(problem is None or is_a_sentence(problem) for problem in problems), place
        assert any(problems), place


LEAVES = st.none() | st.booleans() | st.floats() | st.integers() | st.text()
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=5)


@given(st.sampled_from(list(places_in(RUN))), VALUES)
def test_anything_anywhere_is_read_or_refused(place, value):
    problem = problem_of(mutated(place, value))
    assert problem is None or "\n" not in problem


POINT = {"perplexity": 15.0, "top1": 0.75, "kl": None, "seconds": 2.0}


@given(st.lists(st.sampled_from([0, 5, 12.5, 50, 62.5, 80]), max_size=6), st.sampled_from(["wanda", "best", "ria"]))
def test_points_are_added_in_order_and_the_run_stays_whole(percents, method):
    run = small_run()
    before = points_of(run)
    for percent in percents:
        run = with_point(run, Key(method), percent, POINT)
    assert read_run(dumped(run)) == run
    assert points_of(run) == before | {f"{method}@{percent}": POINT for percent in percents}
    assert [line["key"] for line in run["lines"]][:4] == [line["key"] for line in RUN["lines"]]


def test_a_new_line_says_its_recipe_and_the_run_that_was_there_is_untouched():
    run = small_run()
    longer = with_point(run, Key("best", "2:4"), 50.0, POINT)
    assert run == RUN
    assert longer["lines"][-1] == {
        "key": "best,pattern=2:4",
        "recipe": recipe_of(Key("best", "2:4")),
        "calibration": None,
        "at": [50],
        **{name: [value] for name, value in POINT.items()},
    }
    assert '"at":[50],' in dumped(longer)
    assert "sparsity" not in longer["lines"][-1]["recipe"]


def test_the_table_has_a_row_a_point():
    rows = list(csv.DictReader(io.StringIO(csv_of(RUN))))
    assert list(rows[0]) == list(COLUMNS)
    assert len(rows) == len(rows_of(RUN)) == 7
    assert list(rows[1].values()) == ["owner/tiny", "abc", "wanda", "Wanda 50%", "50", "20.0", "0.5", "0.25", "1.5"]
    assert [row["label"] for row in rows] == [
        *("Dense", "Wanda 50%", "Wanda 62%", "Wanda 1:3", "Magnitude 50%", "Magnitude 80%", "Wanda 50%")
    ]
    assert float(rows[3]["percent"]) == 100 * (1 - 1 / 3)
    assert rows[5]["perplexity"] == "inf"
    assert math.isinf(float(rows[5]["perplexity"]))
    assert (rows[5]["top1"], rows[5]["kl"]) == ("", "")


def test_a_run_is_written_in_one_step(tmp_path, monkeypatch):
    path = tmp_path / "run.json"
    path.write_text("an earlier one")

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", full)
        with pytest.raises(StorageError, match=r"the run cannot be written to .* \(No space left on device\); choose"):
            write_run(RUN, path)
    assert path.read_text() == "an earlier one"
    assert write_run(RUN, path) == path
    assert [file.name for file in tmp_path.iterdir()] == ["run.json"]
