"""What nobody foresaw: one line on stderr, a file with the traceback, and finished work is kept."""

import copy
import io
import json
import logging
import shutil
from pathlib import Path

import pytest
import torch
from command_line import refused, run
from families import tiny
from transformers import PreTrainedTokenizerBase

from wanda_core.checkpoint.save import check_saveable
from wanda_core.cli import console
from wanda_core.low_memory import resume
from wanda_core.model.loading import load_model

SMALL = ("--samples", "2", "--seq-len", "16")
pytestmark = pytest.mark.usefixtures("transformers_as_before")


@pytest.fixture(scope="module")
def mixtral(tmp_path_factory, tokenizer):
    """A folder whose weights transformers has to write: experts, stored one by one, are one tensor in memory."""
    folder = tmp_path_factory.mktemp("models") / "mixtral"
    lm = tiny("Mixtral", tokenizer, "cpu")
    lm.model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("failure", [RuntimeError("a defect\nof two lines"), KeyError(7), AssertionError()])
def test_what_nobody_foresaw_is_one_line_that_names_the_file_with_the_traceback(monkeypatch, tmp_path, failure):
    def fail(*args, **kwargs):
        raise failure

    monkeypatch.setattr("wanda_core.model.loading.load_model", fail)
    monkeypatch.setattr(console.tempfile, "tempdir", str(tmp_path))
    result = run("perplexity")
    [report] = tmp_path.iterdir()
    assert report.name.startswith("wanda-lab-")
    first = str(failure).splitlines()[:1]
    what = ": ".join([type(failure).__name__, *first])
    refused(result, 1, f"error: {what}, which is not foreseen; {report} says where it happened")
    written = report.read_text(encoding="utf-8").splitlines()
    assert "Traceback (most recent call last):" in written
    assert "    raise failure" in written


def test_a_traceback_that_cannot_be_kept_is_shown(monkeypatch, tmp_path):
    def fail(*args, **kwargs):
        raise RuntimeError("a defect")

    monkeypatch.setattr("wanda_core.model.loading.load_model", fail)
    monkeypatch.setattr(console.tempfile, "tempdir", str(tmp_path / "gone"))
    result = run("perplexity")
    assert result.exit_code == 1
    assert '    raise RuntimeError("a defect")' in result.stderr
    assert result.stderr.splitlines()[-1].startswith("error: RuntimeError: a defect, which is not foreseen; the lines")


def test_blocks_that_are_finished_are_kept_and_gone_on_with(dense, sample, tmp_path, monkeypatch):
    command = ["prune", "--low-memory", "--model", dense, "--calibration", sample, *SMALL, "--device", "cpu"]
    command += ["--output", tmp_path / "work" / "out"]
    monkeypatch.setattr(console.tempfile, "tempdir", str(tmp_path))
    add = resume.RunState.add_shard

    def odd(job, *given):
        if job.done:
            raise KeyError("odd")
        add(job, *given)

    with monkeypatch.context() as patch:
        patch.setattr(resume.RunState, "add_shard", odd)
        result = run(*command)
    assert result.exit_code == 1
    note, line = result.stderr.splitlines()[-2:]
    assert note.startswith("note: 1 blocks are finished; the same command goes on from there (")
    assert line.startswith("error: KeyError: 'odd', which is not foreseen; ")
    result = run(*command)
    assert result.exit_code == 0
    assert "note: going on after block 1, the last that an earlier run finished" in result.stderr


@pytest.mark.parametrize("more", [(), ("--low-memory",)])
def test_a_model_that_cannot_be_saved_again_is_refused_before_the_work(mixtral, sample, tmp_path, monkeypatch, more):
    def fail(*args, **kwargs):
        raise TypeError("not JSON\nserializable")

    monkeypatch.setattr(PreTrainedTokenizerBase, "save_pretrained", fail)
    command = ["prune", "--model", mixtral, "--calibration", sample, *SMALL, "--output", tmp_path / "out", *more]
    result = run(*command, "--device", "cpu")
    assert result.exit_code == 2
    _, line = result.stderr.splitlines()  # the first says that it was loaded
    assert "could be read, but cannot be saved once it is pruned (not JSON); correct its config.json" in line
    assert not (tmp_path / "out").exists()


def test_what_is_copied_as_it_was_read_need_not_be_written_again(dense, sample, tmp_path, monkeypatch):
    monkeypatch.setattr(PreTrainedTokenizerBase, "save_pretrained", None)
    result = run("prune", "--model", dense, "--calibration", sample, *SMALL, "--output", tmp_path / "out")
    assert result.exit_code == 0
    assert (tmp_path / "out" / "tokenizer.json").read_bytes() == (Path(dense) / "tokenizer.json").read_bytes()


def test_trying_to_save_leaves_the_model_as_it_is(mixtral):
    lm = load_model(str(mixtral), device="cpu", dtype=torch.float32)
    before = copy.deepcopy((vars(lm.model.config), vars(lm.model.generation_config)))
    check_saveable(lm)
    assert (vars(lm.model.config), vars(lm.model.generation_config)) == before


def test_what_a_strangers_files_say_reaches_no_terminal_by_the_log_of_transformers(dense, tmp_path):
    folder = shutil.copytree(dense, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"use_return_dict": "\x1b[2Jowned"}))
    handler = logging.StreamHandler(io.StringIO())
    logging.getLogger("transformers").addHandler(handler)
    try:
        result = run("perplexity", "--model", folder)
    finally:
        logging.getLogger("transformers").removeHandler(handler)
    refused(result, 2, "has a configuration that cannot be used: property 'use_return_dict'")
    assert "\x1b" not in result.stderr + handler.stream.getvalue()
