"""The command line: what it prints where, its exit codes, and that every mistake is answered in one line."""

import inspect
import json
import os
import signal
import subprocess
import sys

import pytest
import torch
from command_line import ROOT, in_a_process, refused, run
from safetensors.torch import load_file

from wanda_core.checkpoint import manifest, save
from wanda_core.cli import console, options
from wanda_core.errors import StorageError
from wanda_core.model.loading import load_model
from wanda_core.presets import preset
from wanda_core.progress import Progress
from wanda_core.recipe import PruneSpec
from wanda_core.text import windows

SMALL = ("--samples", "2", "--seq-len", "16")
pytestmark = pytest.mark.usefixtures("transformers_as_before")


def test_prune_writes_a_checkpoint_and_a_summary(dense, sample, tmp_path, device):
    output = tmp_path / "out"
    result = run("prune", "--model", dense, "--calibration", sample, *SMALL, "--output", output, "--device", device)
    assert result.exit_code == 0, result.output
    rows = {line.split()[0]: line.split()[1:] for line in result.stdout.splitlines() if line.strip()}
    assert rows["self_attn.q_proj"] == ["3", "12,288", "50.00%"]
    assert rows["mlp.down_proj"] == ["3", "18,432", "50.00%"]
    assert rows["all"] == ["21", "92,160", "50.00%"]
    assert "pruned to 50.00% zeros in" in result.stderr
    assert "saved to" in result.stderr
    found = json.loads((output / manifest.RECORD).read_text())
    assert found["calibration"]["source"] == "sample.txt"
    assert load_model(str(output), device="cpu", dtype=torch.float32).n_parameters


def test_every_option_reaches_the_recipe(dense, sample, tmp_path):
    command = ["prune", "--model", dense, "--device", "cpu", "--json", "--output", tmp_path / "out"]
    draw = ["--calibration", sample, "--samples", "3", "--seq-len", "17", "--seed", "4"]
    found = json.loads(run(*command, *draw, "--sparsity", "0.25", "--group", "matrix", "--order", "faithful").stdout)
    assert found["recipe"] == PruneSpec("wanda", 0.25, group="matrix", seed=4).to_dict()
    assert {key: found["calibration"][key] for key in ("samples", "seq_len", "seed")} == {
        "samples": 3,
        "seq_len": 17,
        "seed": 4,
    }
    assert found["output"] == str(tmp_path / "out")
    assert found["seconds"].keys() == {"load", "prune", "save"}
    found = json.loads(run(*command, *draw, "--pattern", "2:4", "--dtype", "bfloat16").stdout)
    assert found["dtype"] == "float32"  # as the dense model is saved, whatever it ran in
    found = json.loads(run(*command, *draw, "--pattern", "2:4", "--save-dtype", "bfloat16").stdout)
    assert (found["recipe"]["pattern"], found["sparsity"], found["dtype"]) == ("2:4", 0.5, "bfloat16")
    result = run(*command, "--method", "magnitude", "--group", "model", "--calibration", sample, "--seq-len", "9")
    assert json.loads(result.stdout)["calibration"] is None
    assert "note: magnitude does not look at activations, so sample.txt is not used" in result.stderr


def test_methods_orders_and_updates_reach_the_recipe(dense, sample, tmp_path):
    command = ["prune", "--model", dense, "--device", "cpu", "--json", "--output", tmp_path / "out"]
    draw = ["--calibration", sample, "--samples", "3", "--seq-len", "17"]
    best = json.loads(run(*command, *draw, "--preset", "best", "--sparsity", "0.6").stdout)
    assert best["recipe"] == preset("best", sparsity=0.6).to_dict()
    finest = json.loads(run(*command, *draw[:2], "--seq-len", "17", "--preset", "finest").stdout)
    assert finest["recipe"] == preset("best").to_dict()
    assert (finest["calibration"]["samples"], finest["calibration"]["seq_len"]) == (32, 17)
    too_long = run(*command, *draw[:2], "--preset", "finest")
    assert too_long.exit_code == 2
    assert "512" in too_long.stderr
    blocks = tmp_path / "blocks.json"
    blocks.write_text("[0.2, 0.4, 0.6]")
    found = json.loads(run(*command, *draw, "--method", "ria", "--allocation", blocks, "--update", "obs").stdout)
    assert found["recipe"] == PruneSpec("ria", allocation=(0.2, 0.4, 0.6), update="obs").to_dict()
    for option, words in (("--allocation", "neither uniform nor owl"), ("--profile", "cannot be read")):
        result = run(*command, option, tmp_path / "nothing")
        assert result.exit_code == 2
        assert words in result.stderr


def test_sensitivities_are_kept_in_a_profile_and_their_cost_is_said_before(dense, sample, tmp_path):
    kept = tmp_path / "measured.safetensors"
    draw = ["--calibration", sample, "--samples", "3", "--seq-len", "17"]
    taken = run("profile", "--model", dense, "--device", "cpu", *draw, "--output", kept, "--sensitivities", "--json")
    assert "note: each of 3 blocks is pruned alone" in taken.stderr
    losses = json.loads(taken.stdout)["sensitivities"]
    command = ["prune", "--model", dense, "--device", "cpu", "--json", "--order", "one-shot"]
    command += ["--allocation", "measured", "--output", tmp_path / "out"]
    from_kept = run(*command, "--sparsity", "0.4", "--profile", kept)
    assert "pruned alone" not in from_kept.stderr
    found = json.loads(from_kept.stdout)
    assert found["sensitivities"]["losses"] == losses
    assert sum(block["sparsity"] for block in found["blocks"]) == pytest.approx(3 * 0.4)
    anew = run(*command, *draw, "--sparsity", "0.4")
    assert "pruned alone" in anew.stderr
    assert json.loads(anew.stdout)["blocks"] == found["blocks"]


def test_a_profile_is_taken_once_and_pruned_from(dense, sample, tmp_path):
    norms = tmp_path / "norms.safetensors"
    draw = ["--calibration", sample, "--samples", "3", "--seq-len", "17"]
    taken = json.loads(run("profile", "--model", dense, "--device", "cpu", *draw, "--output", norms, "--json").stdout)
    assert taken["bytes"] == norms.stat().st_size
    assert (taken["samples"], taken["seq_len"], taken["text"]) == (3, 17, "sample.txt")
    command = ["prune", "--model", dense, "--device", "cpu", "--json", "--order", "one-shot"]
    first = json.loads(run(*command, "--profile", norms, "--output", tmp_path / "a").stdout)
    again = json.loads(run(*command, *draw, "--output", tmp_path / "b").stdout)
    assert first["zeros"] == again["zeros"]
    a, b = (load_file(tmp_path / which / "model.safetensors") for which in "ab")
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_defaults_are_those_of_the_package():
    usual = inspect.signature(windows.calibrate_steps).parameters
    shown = " ".join(run("prune", "--help").stdout.split())
    assert f"Windows of calibration text. Default: {usual['samples'].default}." in shown
    assert f"Tokens in a window. Default: {usual['seq_len'].default}." in shown


def test_perplexity_in_words_and_as_json(dense, sample):
    command = ["perplexity", "--model", dense, "--text", sample, "--seq-len", "32", "--windows", "3", "--device", "cpu"]
    found = json.loads(run(*command, "--json").stdout)
    assert (found["windows"], found["seq_len"], found["tokens"], found["text"]) == (3, 32, 93, "sample.txt")
    assert 1 < found["perplexity"] < 10_000
    words = run(*command).stdout
    assert words.startswith(f"perplexity {found['perplexity']:.4f} (sample.txt: 3 windows of 32 tokens")
    assert run("perplexity", "--model", dense, "--seq-len", "64", "--windows", "1").exit_code == 0  # built-in text


def test_generate_streams_what_it_gives_as_json(dense):
    command = ["generate", "--model", dense, "--prompt", "The sky", "--max-new-tokens", "12", "--device", "cpu"]
    found = json.loads(run(*command, "--json").stdout)
    assert found["tokens"] == 12
    result = run(*command)
    assert result.stdout == found["text"] + "\n"
    assert "12 tokens in" in result.stderr
    drawn = [json.loads(run(*command, "--json", "--temperature", "2", "--seed", s).stdout)["text"] for s in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert "has no chat template, so the prompt is used as it is" in run(*command, "--chat").stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--sparsity", "nan"], "sparsity nan is not a number from 0 to 0.95"),
        (["--sparsity", "-1"], "sparsity -1.0 is not a number"),
        (["--sparsity", "1"], "sparsity 1.0 is not a number"),
        (["--sparsity", "abc"], "sparsity 'abc' is not a number"),
        (["--pattern", "4:2"], "pattern '4:2' is neither"),
        (["--pattern", "0:4"], "pattern '0:4' is neither"),
        (["--pattern", "x"], "pattern 'x' is neither"),
        (["--pattern", "2:4", "--sparsity", "0.6"], "contradicts pattern 2:4"),
        (["--method", "guess"], "method 'guess' is not offered"),
        (["--group", "model"], "group for wanda 'model' is not offered"),
        (["--order", "random"], "order 'random' is not offered"),
        (["--samples", "0"], "samples 0 is not a whole number from 1"),
        (["--samples", "many"], "Invalid value for '--samples'"),
        (["--seq-len", "1"], "seq_len 1 is not a whole number from 2"),
        (["--seed", "-1"], "seed -1 is not a whole number from 0"),
        (["--dtype", "int8"], "'int8' is not one of 'float32'"),
        (["--colour", "red"], "No such option: --colour"),
        (["--model"], "requires an argument"),
        (["--model", "two words"], "nor a valid hub id"),
        (["--model", "https://huggingface.co/datasets/owner/name"], "the hub's address of a data set"),
    ],
)
def test_a_bad_option_is_refused_before_a_model_is_loaded(options, message, tmp_path, monkeypatch):
    monkeypatch.setattr("wanda_core.model.loading.load_model", lambda *a, **k: pytest.fail("a model was loaded"))
    refused(run("prune", "--output", tmp_path / "out", *options), 2, message)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["prune", "perplexity"])
@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "bad.txt is empty"),
        (b"three short words", "bad.txt has 17 bytes, too few for a window"),
        (bytes(range(256)) * 20, "bad.txt is not UTF-8 text"),
        (b"zero\0" * 500, "bad.txt holds zero bytes"),
        (None, "cannot be read (No such file or directory)"),
    ],
)
def test_a_bad_text_is_refused_before_a_model_is_loaded(command, data, message, tmp_path, monkeypatch):
    monkeypatch.setattr("wanda_core.model.loading.load_model", lambda *a, **k: pytest.fail("a model was loaded"))
    file = tmp_path / "bad.txt"
    if data is not None:
        file.write_bytes(data)
    where = ["--calibration", file, "--output", tmp_path / "out"] if command == "prune" else ["--text", file]
    refused(run(command, *where), 2, message)
    assert not (tmp_path / "out").exists()


def test_a_text_of_too_few_tokens_is_refused(dense, tmp_path):
    file = tmp_path / "few.txt"
    file.write_text("The sky is blue because sunlight is scattered by the air.")
    options = ["--model", dense, "--device", "cpu", "--seq-len", "50"]
    refused(run("prune", *options, "--calibration", file, "--output", tmp_path / "out"), 2, "(few.txt) has")
    refused(run("perplexity", *options, "--text", file), 2, "one window takes 50")


def test_more_tokens_than_the_model_has_positions_are_refused(dense, tmp_path):
    options = ["--model", dense, "--device", "cpu", "--seq-len", "300"]
    refused(run("prune", *options, "--output", tmp_path / "out"), 2, "more than the 256 tokens dense can read")
    refused(run("perplexity", *options), 2, "more than the 256 tokens")


def test_an_output_that_must_not_be_replaced_is_refused_before_a_model_is_loaded(tmp_path, monkeypatch):
    monkeypatch.setattr("wanda_core.model.loading.load_model", lambda *a, **k: pytest.fail("a model was loaded"))
    (tmp_path / "thesis.txt").write_text("years of work")
    refused(run("prune", "--output", tmp_path), 1, "holds other files")
    refused(run("prune", "--output", tmp_path / "thesis.txt"), 1, "is a file, and a checkpoint is a folder")
    refused(run("prune", "--output", ""), 2, "is no name")
    refused(run("prune"), 2, "Missing option '--output'; see")


def test_a_model_that_is_none_is_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    refused(run("perplexity", "--model", tmp_path / "empty"), 2, "holds no config.json")
    refused(run("perplexity", "--model", tmp_path / "missing"), 2, "does not exist")
    refused(run("generate", "--model", "no id!", "--prompt", "a"), 2, "nor a valid hub id")


def test_a_bad_prompt_is_refused(dense):
    command = ["generate", "--model", dense, "--device", "cpu"]
    refused(run(*command, "--prompt", " "), 2, "the prompt is empty")
    refused(run(*command, "--prompt", "a", "--temperature", "nan"), 2, "temperature nan")
    refused(run(*command, "--prompt", "a", "--max-new-tokens", "0"), 2, "max_new_tokens 0")
    refused(run(*command, "--prompt", "a\udcff"), 2, "the prompt is not UTF-8 text (character 1)")


def test_a_missing_or_unknown_command_is_one_line():
    refused(run(), 2, "Missing command")
    refused(run("grow"), 2, "No such command 'grow'")


@pytest.mark.parametrize(
    ("failure", "code", "message"),
    [
        (StorageError("the disk\nbecame full; free some space"), 1, "the disk became full; free some space"),
        (OSError(5, "Input/output error"), 1, "Input/output error"),
        (MemoryError(), 1, "the memory is used up"),
        (torch.OutOfMemoryError("CUDA out of memory"), 1, "the memory is used up"),
    ],
)
def test_an_expected_failure_is_one_line(monkeypatch, failure, code, message):
    def fail(*args, **kwargs):
        raise failure

    monkeypatch.setattr("wanda_core.model.loading.load_model", fail)
    refused(run("perplexity"), code, message)


def test_a_disk_that_fills_up_is_one_line_and_the_earlier_checkpoint_stays(dense, sample, tmp_path, monkeypatch):
    command = ["prune", "--model", dense, "--calibration", sample, *SMALL, "--device", "cpu", "--output"]
    assert run(*command, tmp_path / "out").exit_code == 0
    before = (tmp_path / "out" / manifest.RECORD).read_bytes()

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(save, "_write", full)
    result = run(*command, tmp_path / "out")
    assert result.exit_code == 1
    assert "the disk became full" in result.stderr.splitlines()[-1]
    assert (tmp_path / "out" / manifest.RECORD).read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "sample.txt"]


def test_what_libraries_print_does_not_reach_the_json(dense, monkeypatch):
    def chatty(*args, **kwargs):
        print("some advice")
        return load_model(*args, **kwargs)

    monkeypatch.setattr("wanda_core.model.loading.load_model", chatty)
    result = run("perplexity", "--model", dense, "--seq-len", "32", "--windows", "1", "--device", "cpu", "--json")
    assert json.loads(result.stdout)["windows"] == 1
    assert "some advice" in result.stderr


def test_json_has_no_infinity_and_stays_ascii(capsys):
    console.print_json({"perplexity": float("inf"), "text": "é\n", "rest": [float("nan"), 1]})
    assert capsys.readouterr().out == '{"perplexity": null, "text": "\\u00e9\\n", "rest": [null, 1]}\n'


def test_the_progress_bar_is_for_people_only(capsys, monkeypatch):
    with console.bar() as on_progress:
        on_progress(Progress("pruning", 1, 2, "blocks", "linear [1]"))
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    with console.bar() as on_progress:
        on_progress(Progress("pruning", 1, 2, "blocks", "linear [1]"))
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "pruning · block 2 of 2 · linear [1]" in shown.err


def test_help_is_there_for_every_option_and_needs_no_torch():
    for command in ("prune", "perplexity", "generate"):
        text = run(command, "--help").stdout
        options = [line.split()[0] for line in text.splitlines() if line.startswith("  --")]
        assert {"--model", "--device", "--dtype", "--json"} <= set(options)
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import wanda_core.cli.commands, sys; print([m for m in ('torch', 'transformers') if m in sys.modules])",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.strip() == "[]"


def test_real_processes_answer_in_one_line(tmp_path):
    refused(in_a_process("prune", "--sparsity", "nan", "--output", tmp_path / "out"), 2, "sparsity nan")
    offline = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hub")}
    refused(in_a_process("perplexity", "--model", "nobody/nothing", **offline), 2, "'nobody/nothing' is not on this")


def test_a_real_process_prints_only_json(dense, sample, tmp_path):
    options = ["--device", "cpu", "--json", "--model", dense]
    done = in_a_process("prune", *options, "--calibration", sample, *SMALL, "--output", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["sparsity"] == 0.5
    assert [line.split()[0] for line in done.stderr.splitlines()] == ["loaded", "pruned", "saved"]


INTERRUPTED = """
import os, signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a parent in the background may have it ignored
from wanda_core.checkpoint import save
from wanda_core.cli import commands


def write(variant, folder, *more):
    (folder / "model.safetensors").write_bytes(b"half of it")
    os.write(1, b"writing")
    time.sleep(60)


save._write = write
commands.main()
"""


@pytest.mark.skipif(os.name == "nt", reason="sends SIGINT")
def test_ctrl_c_says_cancelled_and_leaves_nothing(dense, sample, tmp_path):
    options = ["--model", dense, "--calibration", str(sample), *SMALL, "--device", "cpu"]
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, "prune", *options, "--output", str(tmp_path / "above" / "out")],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout.read(7) == b"writing", process.stderr.read()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert errors.decode().splitlines()[-1] == "cancelled"
    assert "Traceback" not in errors.decode()
    assert [path.name for path in tmp_path.iterdir()] == ["sample.txt"]


def test_perplexity_against_the_dense_model_tells_how_far_predictions_are(dense, sample, tmp_path):
    assert run("prune", "--model", dense, "--output", tmp_path / "out", "--calibration", sample, *SMALL).exit_code == 0
    found = run(
        *("perplexity", "--model", tmp_path / "out", "--against", dense, "--text", sample),
        *("--seq-len", "32", "--windows", "2", "--json"),
    )
    against = json.loads(found.stdout)["against"]
    assert against["model"] == dense
    assert against["kl"] > 0
    assert 0 < against["top1"] < 1
    assert against["tokens"] == 62


def test_a_data_set_in_a_folder_calibrates(dense, tmp_path, text):
    place = tmp_path / "documents"
    place.mkdir()
    (place / "train.jsonl").write_text("".join(json.dumps({"text": text[i:]}) + "\n" for i in range(4)))
    found = run("prune", "--model", dense, "--output", tmp_path / "out", "--calibration", place, "--json", *SMALL)
    assert found.exit_code == 0, found.output
    assert json.loads(found.stdout)["calibration"]["source"] == "documents"


def test_the_papers_preset_reads_c4(monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(options.corpora, "calibration_text", lambda name, *_: asked.append(name) or [""])
    run("prune", "--preset", "paper", "--model", tmp_path / "nothing", "--output", tmp_path / "out")
    assert asked == ["c4"]
