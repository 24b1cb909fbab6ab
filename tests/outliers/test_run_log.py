"""Rows of analysed models: what is in them, and a file that survives damage, haste and crowds."""

import csv
import dataclasses
import errno
import io
import json
import os
import subprocess
import sys
import time

import pytest
import torch

from wanda_core.errors import InputError, StorageError
from wanda_core.model.language_model import LanguageModel
from wanda_core.outliers import run_log
from wanda_core.outliers.analysis import analyse
from wanda_core.outliers.features import find_outlier_features
from wanda_core.outliers.run_log import Run, add_run, all_runs, read_runs, run_of, runs_csv, runs_path
from wanda_core.text.windows import calibrate

RUN = Run(
    model="tiny",
    revision="local",
    parameters=1000,
    blocks=3,
    width=64,
    ratio=12.5,
    channel=21,
    block=1,
    massive=False,
    features=0,
    features_share=0.0,
    text="given text",
    calibration="ab",
    samples=2,
    seq_len=16,
    dtype="float32",
    when="2025-01-01T00:00:00+00:00",
    wanda_lab="0",
    torch="2",
    transformers="5",
)


def other(name: str, **changes) -> Run:
    return dataclasses.replace(RUN, model=name, **changes)


def test_a_row_holds_what_the_analysis_and_the_features_say(tiny_llama, tiny_gpt2, tiny_opt, text):
    for lm in (tiny_llama, tiny_gpt2, tiny_opt):
        calibration = calibrate(lm, text, samples=2, seq_len=16)
        analysis, report = analyse(lm, calibration), find_outlier_features(lm, calibration)
        run = run_of(lm, analysis, report)
        assert run.ratio == float(analysis.ratios.max()) == float(analysis.ratios[run.block, run.channel])
        assert (run.parameters, run.blocks, run.width) == (lm.n_parameters, len(lm.linears), 64)
        assert (run.features, run.features_share) == (len(report.features), report.blocks_share)
        assert (run.calibration, run.samples, run.seq_len) == (calibration.fingerprint, 2, 16)
        assert (run.text, run.dtype, run.massive) == ("given text", "float32", False)


def test_a_planted_channel_is_massive_in_the_row(own_llama, text):
    with torch.no_grad():
        own_llama.model.get_input_embeddings().weight[:, 21] = 50_000
    calibration = calibrate(own_llama, text, samples=2, seq_len=16)
    run = run_of(own_llama, analyse(own_llama, calibration), find_outlier_features(own_llama, calibration))
    assert (run.massive, run.channel) == (True, 21)
    assert run.ratio > 1000


def test_features_by_other_thresholds_make_no_row(tiny_llama, text):
    calibration = calibrate(tiny_llama, text, samples=1, seq_len=16)
    report = find_outlier_features(tiny_llama, calibration, magnitude=5.0)
    with pytest.raises(InputError, match="rows are compared at"):
        run_of(tiny_llama, analyse(tiny_llama, calibration), report)


def test_rows_come_back_and_the_same_measurement_replaces_its_row(tmp_path):
    file = tmp_path / "deep" / "runs.jsonl"
    assert read_runs(file) == run_log.Runs(())
    for run in (RUN, other("second"), other("tiny", when="later", ratio=13.0), other("tiny", calibration="cd")):
        assert add_run(run, file) == file
    assert [(row.model, row.calibration, row.ratio) for row in read_runs(file).rows] == [
        ("second", "ab", 12.5),
        ("tiny", "ab", 13.0),
        ("tiny", "cd", 12.5),
    ]
    assert sorted(p.name for p in file.parent.iterdir()) == [".runs.jsonl.lock", "runs.jsonl"]


@pytest.mark.parametrize(
    "line",
    [
        b"half a row {",
        b"",
        b"null",
        b"[1]",
        b"{}",
        b"\xff\xfe",
        json.dumps(dataclasses.asdict(RUN) | {"ratio": "high"}).encode(),
        json.dumps(dataclasses.asdict(RUN) | {"blocks": True}).encode(),
        json.dumps(dataclasses.asdict(RUN) | {"ratio": float("nan")}).encode(),
        json.dumps(dataclasses.asdict(RUN) | {"ratio": 10**400}).encode(),
        json.dumps(dataclasses.asdict(RUN) | {"blocks": 10**400}).encode(),
        json.dumps(dataclasses.asdict(RUN) | {"revision": "\ud800"}).encode(),
        b"[" * 100_000,
    ],
)
def test_a_damaged_line_is_told_by_its_number_and_stays_in_the_file(tmp_path, line):
    file = tmp_path / "runs.jsonl"
    add_run(RUN, file)
    file.write_bytes(file.read_bytes() + line + b"\n")
    add_run(other("second"), file)
    found = read_runs(file)
    assert [row.model for row in found.rows] == ["tiny", "second"]
    assert found.damaged == ((2,) if line else ())
    assert line in file.read_bytes()


def test_a_full_file_is_refused_and_keeps_every_row_and_damaged_lines(tmp_path, monkeypatch):
    monkeypatch.setattr(run_log, "MOST_RUNS", 3)
    file = tmp_path / "runs.jsonl"
    add_run(other("a"), file)
    file.write_bytes(file.read_bytes() + b"not a row\n")
    for name in "bc":
        add_run(other(name), file)
    before = file.read_bytes()
    with pytest.raises(StorageError, match="holds 3 rows, as many as are read; move it away"):
        add_run(other("d"), file)
    assert file.read_bytes() == before
    assert [row.model for row in read_runs(file).rows] == ["a", "b", "c"]
    assert read_runs(file).damaged == (2,)
    add_run(other("b"), file)  # replaces the row that measures the same
    assert [row.model for row in read_runs(file).rows] == ["a", "c", "b"]


def test_a_file_of_another_kind_and_what_lies_where_the_lock_would_are_left_alone(tmp_path):
    file = tmp_path / "notes.txt"
    file.write_text("years of work\n\n")
    with pytest.raises(StorageError, match="none is a row of runs, so it is another file"):
        add_run(RUN, file)
    assert file.read_text() == "years of work\n\n"
    lock = tmp_path / ".runs.jsonl.lock"
    lock.write_text("mine")
    with pytest.raises(StorageError, match="would be used as a lock and holds something"):
        add_run(RUN, tmp_path / "runs.jsonl")
    assert lock.read_text() == "mine"


def test_a_file_that_is_too_large_or_none_is_refused_and_left_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(run_log, "MOST_BYTES", 1000)
    file = tmp_path / "runs.jsonl"
    file.write_bytes(b"x" * 1001)
    for call in (lambda: read_runs(file), lambda: add_run(RUN, file)):
        with pytest.raises(StorageError, match="move it away"):
            call()
    assert file.read_bytes() == b"x" * 1001
    (tmp_path / "folder").mkdir()
    with pytest.raises(StorageError, match="set WANDA_RUNS to another file"):
        read_runs(tmp_path / "folder")
    with pytest.raises(StorageError, match="set WANDA_RUNS to another file"):
        add_run(RUN, file / "below")


def test_a_folder_that_has_gone_and_that_the_file_is_named_from_is_told(monkeypatch):
    def gone():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))

    monkeypatch.setattr(os, "getcwd", gone)
    with pytest.raises(StorageError, match=r"written to 'runs.jsonl' \(No such file or directory\); set WANDA_RUNS"):
        add_run(RUN, "runs.jsonl")


def test_a_lock_held_too_long_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(run_log, "LOCK_SECONDS", 0.05)
    with run_log.FileLock(tmp_path / ".runs.jsonl.lock"), pytest.raises(StorageError, match="held by another process"):
        add_run(RUN, tmp_path / "runs.jsonl")


def test_processes_that_add_at_the_same_time_lose_no_row(tmp_path):
    file = tmp_path / "runs.jsonl"
    program = (
        "import sys, dataclasses, pathlib; from wanda_core.outliers.run_log import Run, add_run\n"
        f"run = {RUN!r}\n"
        "for n in range(10): add_run(dataclasses.replace(run, model=f'{sys.argv[1]}-{n}'), pathlib.Path(sys.argv[2]))"
    )
    with subprocess.Popen([sys.executable, "-c", program, "there", str(file)], stderr=subprocess.PIPE) as job:
        while not file.exists() and job.poll() is None:
            time.sleep(0.001)
        for n in range(10):
            add_run(dataclasses.replace(RUN, model=f"here-{n}"), file)
        assert job.communicate(timeout=120)[1] == b""
    found = read_runs(file)
    assert {row.model for row in found.rows} == {f"{place}-{n}" for place in ("here", "there") for n in range(10)}
    assert found.damaged == ()


def test_rows_as_csv_read_back_as_they_are():
    rows = [RUN, other('a, "quoted" name')]
    read = list(csv.DictReader(io.StringIO(runs_csv(rows))))
    assert [row["model"] for row in read] == ["tiny", 'a, "quoted" name']
    assert {name: str(value) for name, value in dataclasses.asdict(RUN).items()} == read[0]
    assert runs_csv([]).strip() == ",".join(field.name for field in dataclasses.fields(Run))


def test_the_measured_row_is_there_from_the_start_until_the_user_measures_it_anew(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDA_RUNS", str(tmp_path / "runs.jsonl"))
    assert runs_path() == tmp_path / "runs.jsonl"
    (shipped,) = all_runs().rows
    assert shipped.model == "SmolLM2-135M-Instruct"
    add_run(dataclasses.replace(shipped, when="today"))
    add_run(RUN)
    assert [(row.model, row.when) for row in all_runs().rows] == [
        (shipped.model, "today"),
        ("tiny", RUN.when),
    ]
    monkeypatch.delenv("WANDA_RUNS")
    assert runs_path().name == "runs.jsonl"


@pytest.mark.long
@pytest.mark.builtin
def test_the_measured_row_is_what_the_built_in_model_gives(builtin_lm):
    (shipped,) = read_runs(run_log.MEASURED_RUNS).rows
    calibration = calibrate(builtin_lm)
    lm = LanguageModel(builtin_lm.model, builtin_lm.tokenizer, builtin_lm.name, builtin_lm.revision)
    run = run_of(lm, analyse(lm, calibration), find_outlier_features(lm, calibration))
    same = ("model", "revision", "parameters", "blocks", "width", "channel", "block", "massive", "features", "text")
    assert {name: getattr(run, name) for name in same} == {name: getattr(shipped, name) for name in same}
    assert run.key == shipped.key
    assert run.ratio == pytest.approx(shipped.ratio, rel=1e-3)
    assert run.features_share == pytest.approx(shipped.features_share, abs=0.04)
