"""Texts and paths as people give them to commands."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from command_line import refused, run
from safetensors.torch import load_file

from wanda_core.checkpoint import manifest
from wanda_core.model.loading import load_model
from wanda_core.text.windows import calibrate

SMALL = ("--samples", "2", "--seq-len", "16", "--device", "cpu", "--json")
MEASURE = ("--seq-len", "32", "--windows", "2", "--device", "cpu", "--json")
pytestmark = pytest.mark.usefixtures("transformers_as_before")


@pytest.fixture
def with_begin(dense, tmp_path):
    """The dense folder with a tokenizer that puts a begin token before a text."""
    folder = shutil.copytree(dense, tmp_path / "begins")
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | {"bos_token": "<end>"}))
    whole = json.loads((folder / "tokenizer.json").read_text())
    sequence = [{"SpecialToken": {"id": "<end>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    special = {"<end>": {"id": "<end>", "ids": [0], "tokens": ["<end>"]}}
    whole["post_processor"] = {
        "type": "TemplateProcessing",
        "single": sequence,
        "pair": [*sequence, {"Sequence": {"id": "B", "type_id": 0}}],
        "special_tokens": special,
    }
    (folder / "tokenizer.json").write_text(json.dumps(whole))
    return str(folder)


def measured(*arguments):
    result = run("perplexity", *arguments, *MEASURE)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout), result.stderr


def test_a_table_is_measured_as_the_text_in_it_and_it_is_said(dense, tmp_path, text):
    (tmp_path / "a.txt").write_text(text.replace(". ", ".\n\n"))
    (tmp_path / "a.jsonl").write_text(
        "".join(json.dumps({"text": part, "url": "https://example.org"}) + "\r\n" for part in text.split(". "))
    )
    plain, said = measured("--model", dense, "--text", tmp_path / "a.txt")
    assert "note" not in said
    rows = json.dumps([{"body": part, "n": 1} for part in text.replace(". ", ".\n\n").split("\n\n")])
    (tmp_path / "b.json").write_text(rows)
    found, said = measured("--model", dense, "--text", tmp_path / "b.json")
    assert found["perplexity"] == plain["perplexity"]
    assert found["text"] == "b.json"
    assert "note: b.json is read as a table: 90 documents from its column body" in said
    assert (
        measured("--model", dense, "--text", tmp_path / "b.json", "--column", "body")[0]["perplexity"]
        == plain["perplexity"]
    )
    assert "read as a table" in measured("--model", dense, "--text", tmp_path / "a.jsonl")[1]


def test_ends_of_lines_make_no_difference(dense, tmp_path, text):
    values = set()
    for name, end in (("lf", "\n"), ("crlf", "\r\n"), ("cr", "\r")):
        (tmp_path / f"{name}.txt").write_bytes(text.replace(". ", "." + end).encode())
        values.add(measured("--model", dense, "--text", tmp_path / f"{name}.txt")[0]["perplexity"])
    assert len(values) == 1


def test_short_documents_are_joined_with_a_note_or_refused(dense, tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "train.jsonl").write_text('{"text": "The sky is blue."}\n' * 40)
    command = ["prune", "--model", dense, "--calibration", tmp_path / "d", "--output", tmp_path / "out", *SMALL]
    for option, noted in (([], True), (["--pack"], False)):
        result = run(*command, *option, "--seq-len", "64")
        assert result.exit_code == 0, result.output
        assert json.loads(result.stdout)["calibration"]["packed"]
        assert ("no document of d has more than 64 tokens, so they were joined" in result.stderr) == noted
    assert "documents joined" in (tmp_path / "out" / "README.md").read_text()
    result = run(*command, "--no-pack", "--seq-len", "64")
    assert result.exit_code == 2
    assert "join them (--pack)" in result.stderr.splitlines()[-1]


@pytest.mark.parametrize("how", [[], ["--low-memory"]])
def test_the_begin_token_goes_before_every_window_and_into_the_record(with_begin, sample, tmp_path, text, how):
    command = ["prune", "--model", with_begin, "--calibration", sample, *SMALL, *how, "--output", tmp_path / "out"]
    plain = run(*command)
    assert "puts <end> before a text, and by the paper's protocol other windows than the first lack it" in plain.stderr
    assert json.loads(plain.stdout)["calibration"]["bos"] is False
    begun = run(*command, "--bos")
    assert begun.exit_code == 0, begun.output
    assert "paper's protocol" not in begun.stderr
    calibration = json.loads((tmp_path / "out" / manifest.RECORD).read_text())["calibration"]
    lm = load_model(with_begin, device="cpu", dtype=torch.float32)
    drawn = calibrate(lm, text, samples=2, seq_len=16, bos=True)
    assert drawn.ids[:, 0].tolist() == [0, 0]
    assert calibration["bos"] is True
    assert calibration["fingerprint"] == drawn.fingerprint
    assert "tokens, each after the begin token" in (tmp_path / "out" / "README.md").read_text()


def test_the_begin_token_in_a_profile_and_in_perplexity(with_begin, dense, sample, tmp_path):
    norms = tmp_path / "norms.safetensors"
    taken = run("profile", "--model", with_begin, "--calibration", sample, *SMALL, "--bos", "--output", norms)
    assert json.loads(taken.stdout)["bos"] is True
    command = ["prune", "--model", with_begin, "--order", "one-shot", "--profile", norms, "--output", tmp_path / "out"]
    assert json.loads(run(*command, "--device", "cpu", "--json").stdout)["calibration"]["bos"] is True
    plain, said = measured("--model", with_begin, "--text", sample)
    assert said.count("--bos puts it before every window") == 1
    begun, said = measured("--model", with_begin, "--text", sample, "--bos", "--against", with_begin)
    assert "--bos" not in said
    assert (plain["bos"], begun["bos"], begun["against"]["top1"]) == (False, True, 1.0)
    assert plain["perplexity"] != begun["perplexity"]
    refusal = run("perplexity", "--model", dense, "--text", sample, "--bos", *MEASURE)
    assert refusal.exit_code == 2
    assert "dense has no begin token" in refusal.stderr.splitlines()[-1]


def test_every_option_takes_a_path_as_it_was_typed(dense, sample, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WANDA_RUNS", "'~/my runs.jsonl'")
    shutil.copytree(dense, tmp_path / "my model")
    (tmp_path / "my text.txt").write_bytes(sample.read_bytes())
    (tmp_path / "blocks.json").write_text("\ufeff[0.2, 0.4, 0.6]", encoding="utf-8")
    model, text = "'~/my model'", ' "~/my text.txt" '
    draw = ["--model", model, "--calibration", text, *SMALL]
    assert run("profile", *draw, "--output", "~/norms.safetensors").exit_code == 0
    assert run("prune", *draw, "--output", "'~/out 1'", "--allocation", "~/blocks.json").exit_code == 0
    one_shot = ["--order", "one-shot", "--profile", "'~/norms.safetensors'"]
    assert run("prune", "--model", model, *one_shot, "--device", "cpu", "--output", "~/out 2").exit_code == 0
    assert run("outliers", *draw, "--keep").exit_code == 0
    assert measured("--model", "~/out 1", "--text", text)[0]["text"] == "my text.txt"
    made = {"my runs.jsonl", "norms.safetensors", "out 1", "out 2"}
    assert made <= {path.name for path in tmp_path.iterdir()}
    assert load_file(tmp_path / "out 1" / "model.safetensors").keys()
    assert json.loads((tmp_path / "out 1" / manifest.RECORD).read_text())["recipe"]["allocation"] == [0.2, 0.4, 0.6]


@pytest.mark.parametrize("command", ["prune", "perplexity", "profile", "outliers"])
@pytest.mark.parametrize("name", ["gone/a.jsonl", "gone.csv", "./gone", "gone/books/1.txt.gz", "~/gone"])
def test_a_missing_file_is_called_one_and_nothing_else_is_tried(command, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("wanda_core.model.loading.load_model", lambda *a, **k: pytest.fail("a model was loaded"))
    option = "--text" if command == "perplexity" else "--calibration"
    output = ["--output", tmp_path / "out"] if command in ("prune", "profile") else []
    refused(run(command, option, name, *output), 2, "cannot be read (No such file or directory); give the path of a te")


def test_a_column_needs_a_table(tmp_path, sample):
    refused(run("perplexity", "--column", "text"), 2, "column 'text' is that of a table, and no text was given")
    refused(run("perplexity", "--text", sample, "--column", "text"), 2, "sample.txt is plain text without columns")


def test_a_file_given_as_a_model_is_called_a_file(dense, tmp_path):
    for name in ("model.safetensors", "config.json"):
        refused(run("perplexity", "--model", Path(dense) / name), 2, f"{name}' is a file, and a model is a folder")
    refused(
        run("prune", "--model", Path(dense) / "model.safetensors", "--output", tmp_path / "out"), 2, "is a file, and"
    )
