"""The command `distil`: what it writes and tells, and that a stopped training goes on where it was."""

import json
import os
import signal
import subprocess
import sys

import pytest
import torch
from command_line import ROOT, refused, run
from safetensors.torch import load_file

from wanda_core.checkpoint import manifest
from wanda_core.cli import training
from wanda_core.cli.training import state_of
from wanda_core.evaluation.perplexity import agreement
from wanda_core.model.loading import load_model

SMALL = ("--samples", "4", "--seq-len", "16")
STEPS = ("--steps", "3", "--batch", "2", "--learning-rate", "0.002")
pytestmark = pytest.mark.usefixtures("transformers_as_before")


@pytest.fixture
def pruned(dense, sample, tmp_path):
    folder = tmp_path / "pruned"
    result = run(
        *("prune", "--model", dense, "--calibration", sample, *SMALL, "--device", "cpu", "--preset", "best"),
        *("--sparsity", "0.6", "--output", folder),
    )
    assert result.exit_code == 0, result.output
    return folder


def distil(pruned, dense, sample, *more):
    where = ("--model", pruned, "--dense", dense, "--calibration", sample, "--held-out", sample, "--device", "cpu")
    return run("distil", *where, *SMALL, *STEPS, *more)


def test_distil_writes_a_checkpoint_that_says_it_was_trained(dense, sample, pruned, tmp_path):
    before = {path.name: path.read_bytes() for path in pruned.iterdir()}
    output = tmp_path / "trained"
    result = distil(pruned, dense, sample, "--output", output, "--json")
    assert result.exit_code == 0, result.output
    assert {path.name: path.read_bytes() for path in pruned.iterdir()} == before
    earlier, found = json.loads(before[manifest.RECORD]), json.loads((output / manifest.RECORD).read_text())
    assert earlier["training"] is None
    told = found["training"]
    assert told["settings"] == {"steps": 3, "batch": 2, "learning_rate": 0.002, "seed": 0}
    assert (told["calibration"]["samples"], told["calibration"]["seq_len"], told["tokens"]) == (4, 16, 3 * 2 * 16)
    assert found["label"] == earlier["label"] + ", then trained"
    for key in ("base", "recipe", "calibration", "sparsity", "zeros", "linears", "blocks"):
        assert found[key] == earlier[key], key
    ours, theirs = load_file(pruned / "model.safetensors"), load_file(output / "model.safetensors")
    linears = {f"{linear['name']}.weight" for linear in earlier["linears"]}
    for name, weight in ours.items():
        assert torch.equal(weight == 0, theirs[name] == 0)
        assert torch.equal(weight, theirs[name]) == (name not in linears)
    lm, parent = (load_model(str(folder), device="cpu", dtype=torch.float32) for folder in (output, dense))
    measured = agreement(parent, lm, sample.read_text(), seq_len=told["seq_len"], windows=told["windows"])
    assert [measured.kl, measured.top1] == [told["kl"][1], told["top1"][1]]
    card, old_card = (output / "README.md").read_text(), before["README.md"].decode()
    assert "Nothing was retrained" in old_card
    assert "Nothing was retrained" not in card
    assert "**The kept weights were trained.**" in card
    assert "This is training, not pruning alone" in card
    assert "3 steps of Adam on 4 windows of 16 tokens, sample.txt (96 tokens in all" in card
    assert f"{told['kl'][0]:.4f} nats before, {told['kl'][1]:.4f} after." in card
    assert f"pruned: {found['label']}" in card
    assert json.loads(result.stdout)["training"] == told
    assert not state_of(output).exists()
    measured = run("perplexity", "--model", output, "--text", sample, "--seq-len", "32", "--windows", "1")
    assert "note: trained was trained after pruning, so its figures are not those of pruning alone" in measured.stderr
    measured = run("perplexity", "--model", pruned, "--text", sample, "--seq-len", "32", "--windows", "1")
    assert "trained after pruning" not in measured.stderr


def test_people_are_told_memory_time_and_what_came_of_it(dense, sample, pruned, tmp_path):
    result = distil(pruned, dense, sample, "--output", tmp_path / "trained")
    said = result.stderr.splitlines()
    memory = next(number for number, line in enumerate(said) if line.startswith("training takes "))
    time = next(number for number, line in enumerate(said) if line.startswith("a step takes "))
    assert memory < time
    assert result.stdout.startswith("trained for 3 steps in ")
    assert "on sample.txt the KL divergence from dense went from " in result.stdout


def test_what_cannot_be_trained_is_refused_before_a_model_is_read(dense, sample, pruned, tmp_path):
    output = ("--output", tmp_path / "trained")
    refused(run("distil", "--model", dense, *output), 2, "has no wanda.json that tells how it was pruned")
    refused(
        run("distil", "--model", pruned, *output), 2, "was pruned from a folder, dense, whose place it does not tell"
    )
    refused(distil(pruned, dense, sample, *output, "--steps", "0"), 2, "steps 0 is not a whole number")
    refused(distil(pruned, dense, sample, *output, "--learning-rate", "7"), 2, "learning_rate 7.0 is not a number")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes").write_text("mine")
    refused(distil(pruned, dense, sample, "--output", tmp_path / "mine"), 1, "mine")
    assert distil(pruned, dense, sample, *output).exit_code == 0
    again = distil(tmp_path / "trained", dense, sample, "--output", tmp_path / "more")
    assert again.exit_code == 2
    assert "was trained already, 3 steps long" in again.stderr


STOPPED = """
import os, signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a parent in the background may have it ignored
from wanda_core.cli import commands
from wanda_core.training import distil

learn, seen = distil._Trainer.learn, []


def slow(self, x):
    seen.append(x)
    if len(seen) == 4:  # in the middle of the second step
        os.write(1, b"learning")
        time.sleep(60)
    return learn(self, x)


distil._Trainer.learn = slow
commands.main()
"""


@pytest.mark.long
@pytest.mark.skipif(os.name == "nt", reason="sends SIGINT")
def test_a_checkpoint_that_is_written_anew_meanwhile_is_not_trained(dense, sample, pruned, tmp_path, monkeypatch):
    record, load = pruned / manifest.RECORD, training.load
    told = json.loads(record.read_text())

    def meanwhile(*given):
        record.write_text(json.dumps(told | {"sparsity": 0.9}))
        return load(*given)

    monkeypatch.setattr(training, "load", meanwhile)
    refused(distil(pruned, dense, sample, "--output", tmp_path / "trained"), 1, "changed while they were read; open it")
    assert not (tmp_path / "trained").exists()


def test_ctrl_c_keeps_whole_steps_and_the_same_command_goes_on(dense, sample, pruned, tmp_path):
    whole, output = tmp_path / "whole", tmp_path / "trained"
    assert distil(pruned, dense, sample, "--output", whole).exit_code == 0
    where = ("--model", pruned, "--dense", dense, "--calibration", sample, "--held-out", sample, "--device", "cpu")
    process = subprocess.Popen(
        [sys.executable, "-c", STOPPED, "distil", *map(str, (*where, *SMALL, *STEPS)), "--output", str(output)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout.read(8) == b"learning", process.stderr.read()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.decode().splitlines()[-1] == "cancelled"
    assert state_of(output).is_file()
    assert not output.exists()
    result = distil(pruned, dense, sample, "--output", output)
    assert "going on after step 1 of 3, the last that an earlier run finished" in result.stderr
    assert (output / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    assert not state_of(output).exists()
