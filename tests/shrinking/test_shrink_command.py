"""The command `shrink`: what it writes and says, and that every mistake is answered in one line."""

import json

import pytest
import torch
from command_line import refused, run

from wanda_core.model.loading import load_model

pytestmark = pytest.mark.usefixtures("transformers_as_before")
SMALL = ("--samples", "3", "--seq-len", "17", "--device", "cpu")


def test_it_writes_a_smaller_folder_and_says_by_how_much(dense, sample, tmp_path):
    command = ["shrink", "--model", dense, "--calibration", sample, *SMALL, "--neurons", "0.25"]
    result = run(*command, "--output", tmp_path / "out")
    assert result.exit_code == 0, result.output
    rows = {line.split()[0]: line.split()[1:] for line in result.stdout.splitlines() if line.strip()}
    assert rows["intermediate_size"] == ["96", "72", "75.0%"]
    loaded = load_model(str(tmp_path / "out"), device="cpu", dtype=torch.float32)
    assert rows["parameters"][1] == f"{loaded.n_parameters:,}"
    assert "saved to" in result.stderr


def test_zeros_follow_where_they_are_asked_for(dense, sample, tmp_path):
    command = ["shrink", "--model", dense, "--calibration", sample, *SMALL, "--json", "--output", tmp_path / "out"]
    told = json.loads(run(*command, "--neurons", "0.25", "--score", "flap", "--pattern", "2:4").stdout)
    assert told["label"] == "25% of the neurons gone by flap, Wanda 2:4"
    assert told["sparsity"] == 0.5
    assert told["shrunk"][0]["recipe"]["score"] == "flap"
    assert told["seconds"].keys() == {"load", "shrink", "prune", "save"}
    told = json.loads(run(*command, "--neurons", "0.25", "--update", "none", "--save-dtype", "bfloat16").stdout)
    assert told["dtype"] == "bfloat16"
    assert "sparsity" not in told


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--neurons", "1.5"), "neurons 1.5 is not a share above 0 and up to 0.9"),
        (("--neurons", "many"), "neurons 'many' is not a share"),
        ((), "nothing is to be removed, and a shrinking removes one of neurons, heads, blocks"),
        (("--neurons", "0.2", "--blocks", "1"), "neurons and blocks are to be removed"),
        (("--heads", "0.95"), "heads 0.95 is not a share"),
        (("--heads", "0.1"), "10% of the attention heads of"),
        (("--blocks", "3"), "3 of the 3 blocks of"),
        (("--blocks", "0"), "blocks 0.0 is neither a whole number from 1 to 1000 nor a share"),
        (("--blocks", "2.5"), "blocks 2.5 is neither a whole number from 1 to 1000 nor a share"),
        (("--blocks", "0.1"), "of the 3 blocks of dense is less than half a block"),
        (("--neurons", "0.2", "--score", "luck"), "score 'luck' is not offered"),
        (("--neurons", "0.2", "--multiple", "0"), "multiple 0 is not a whole number"),
        (("--neurons", "0.2", "--multiple", "512"), "of the 96 neurons of"),
        (("--neurons", "0.2", "--low-memory", "--sparsity", "0.5"), "do not go with shrink --low-memory"),
        (("--neurons", "0.2", "--sparsity", "2"), "sparsity 2.0 is not a number from 0 to"),
    ],
)
def test_a_mistake_is_answered_in_one_line_and_nothing_is_written(dense, tmp_path, given, said):
    refused(run("shrink", "--model", dense, *given, "--output", tmp_path / "out"), 2, said)
    assert not (tmp_path / "out").exists()
