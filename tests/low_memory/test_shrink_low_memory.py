"""Shrinking from disk to disk: the same bytes as in memory, whatever the model, what goes, or a kill in between."""

import errno
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from command_line import run
from families import tiny
from test_low_memory import calibration, saved, tensors  # noqa: F401

from wanda_core.checkpoint.manifest import RECORD
from wanda_core.checkpoint.save import save
from wanda_core.errors import ModelError, StorageError
from wanda_core.low_memory import resume
from wanda_core.low_memory.model_on_disk import open_model
from wanda_core.low_memory.shrink import shrink_steps, shrink_to_folder
from wanda_core.model import devices
from wanda_core.model.loading import load_model
from wanda_core.progress import finish
from wanda_core.shrinking.shrink import shrink
from wanda_core.shrinking.spec import ShrinkSpec

NEURONS = ShrinkSpec(0.3, multiple=4)
HEADS = ShrinkSpec(heads=0.5)
BLOCKS = ShrinkSpec(blocks=1)


def contents(folder: Path) -> tuple[dict, dict, dict]:
    """Every tensor as type, shape and bits; every other file but the index; the record without the seconds."""
    weights = {
        name: (value.dtype, tuple(value.shape), value.contiguous().view(torch.uint8).numpy().tobytes())
        for name, value in tensors(folder).items()
    }
    record = json.loads((folder / RECORD).read_text())
    assert record["shrunk"][-1].pop("seconds") > 0
    assert record.pop("files").keys() >= {"config.json", "README.md", "tokenizer.json"}
    assert len(record.pop("sha256")) == 64
    others = {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix != ".safetensors"}
    return weights, {name: data for name, data in others.items() if "index" not in name and name != RECORD}, record


def in_both_ways(name: str, spec: ShrinkSpec, calibration, tmp_path: Path, saved_in=None, **options) -> None:  # noqa: F811
    try:
        shrunk = shrink(load_model(name, **options), spec, calibration)
    except ModelError as error:
        with pytest.raises(ModelError, match=f"^{re.escape(str(error))}$"):
            shrink_to_folder(open_model(name, **options), spec, tmp_path / "out", calibration)
        assert [path.name for path in tmp_path.iterdir()] == ["dense"]
        return
    theirs = save(shrunk, tmp_path / "in-memory", dtype=saved_in)
    ours = tmp_path / "out"
    report = shrink_to_folder(open_model(name, **options), spec, ours, calibration, dtype=saved_in)
    assert report.to_dict() | {"seconds": 0} == shrunk.report.to_dict() | {"seconds": 0}
    assert contents(ours) == contents(theirs)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dense", "in-memory", "out"]
    load_model(str(ours), **options)


FAMILIES_TRIED = [
    (NEURONS, "Llama GPT2 GPTJ OPT Phi3 Mixtral GptOss DeepseekV3 Jamba"),  # transposed, with biases, fused, experts
    (replace(NEURONS, update="none", score="random"), "Llama Mixtral"),
    (HEADS, "Llama Phi3 GPT2"),  # of GPT-2 its configuration cannot say it
    (BLOCKS, "Llama Gemma2 DeepseekV3 Jamba GPT2"),  # of every second kind, the first another, hardly any that can go
]


@pytest.mark.parametrize(
    ("spec", "family"),
    [pytest.param(spec, family) for spec, families in FAMILIES_TRIED for family in families.split()],
    ids=lambda given: given if isinstance(given, str) else f"{given.part} {given.score}",
)
def test_it_comes_out_as_it_does_in_memory(tokenizer, device, calibration, tmp_path, family, spec):  # noqa: F811
    name = saved(tiny(family, tokenizer, device), tmp_path / "dense")
    in_both_ways(name, spec, calibration, tmp_path, device=device, dtype=torch.float32)


@pytest.mark.parametrize("spec", [ShrinkSpec(0.4), BLOCKS], ids=lambda spec: spec.part)  # bfloat16 wants multiples of 8
def test_number_formats_and_hidden_states_in_files_change_nothing(
    tokenizer,
    calibration,  # noqa: F811
    tmp_path,
    monkeypatch,
    spec,
):
    monkeypatch.setattr(resume, "MAPPED_SHARE", 0)
    lm = tiny("DeepseekV3", tokenizer, torch.device("cpu"))
    lm.model.to(torch.bfloat16)
    name = saved(lm, tmp_path / "dense")
    options = {"device": "cpu", "dtype": torch.float32}
    in_both_ways(name, spec, calibration, tmp_path, **options)
    assert {dtype for dtype, _, _ in contents(tmp_path / "out")[0].values()} == {torch.bfloat16}
    for made in ("out", "in-memory"):
        shutil.rmtree(tmp_path / made)
    in_both_ways(name, spec, calibration, tmp_path, torch.float16, device="cpu", dtype=torch.bfloat16)


@pytest.fixture(scope="module")
def jamba(tokenizer, tmp_path_factory):
    """Four blocks, with experts in every second."""
    return saved(tiny("Jamba", tokenizer, torch.device("cpu")), tmp_path_factory.mktemp("jamba") / "dense")


@pytest.fixture(scope="module")
def on_disk(jamba, dense):
    """What is cut off, and then goes on from the same model: nothing may be left in that."""
    return {
        part: open_model(name, device="cpu", dtype=torch.float32)
        for part, name in (("neurons", jamba), ("blocks", dense))
    }


@pytest.fixture
def begun(on_disk, calibration, tmp_path, monkeypatch):  # noqa: F811
    """Begin a shrinking. -> its steps, and what it says."""
    monkeypatch.setattr(resume.os, "fsync", lambda descriptor: None)  # no power cut here, and it is slow

    def begin(spec):
        said = []
        return shrink_steps(on_disk[spec.part], spec, tmp_path / "work" / "out", calibration, said.append), said

    return begin


def cut_off(steps, after: int) -> None:
    for _ in range(after):
        next(steps)
    steps.close()


@pytest.mark.parametrize("spec", [NEURONS, ShrinkSpec(blocks=2)], ids=lambda spec: spec.part)
def test_cut_off_at_any_step_the_next_run_goes_on_and_writes_the_same_bytes(begun, on_disk, tmp_path, spec):
    target = tmp_path / "work" / "out"
    count = sum(1 for _ in begun(spec)[0])
    undisturbed = contents(target)
    notes = set()
    for stop in range(2, count + 1, max(count // 5, 1)):
        shutil.rmtree(target)
        cut_off(begun(spec)[0], stop)
        assert not target.exists()
        assert all(parameter.is_meta for parameter in on_disk[spec.part].model.parameters())
        steps, said = begun(spec)
        finish(steps)
        assert contents(target) == undisturbed, stop
        assert [path.name for path in target.parent.iterdir()] == ["out"]
        notes |= {note.removeprefix("note: going on after ").partition(",")[0] for note in said}
    assert len({note for note in notes if note.startswith("block ")}) >= (2 if spec.blocks is None else 1)
    assert spec.blocks is None or notes >= {"the choice of 1 of 2 blocks", "the choice of 2 of 2 blocks"}


def test_what_another_recipe_left_is_not_used(begun, tmp_path):
    cut_off(begun(ShrinkSpec(blocks=2))[0], 4)
    noted = json.loads((tmp_path / "work" / ".out.unfinished" / "state.json").read_text())["noted"]
    assert len(noted["kept"]) == 2
    steps, said = begun(BLOCKS)
    finish(steps)
    assert said == ["note: what an earlier run left had another recipe, so this one begins afresh"]
    (tmp_path / "work").rename(tmp_path / "first")
    finish(begun(BLOCKS)[0])
    assert contents(tmp_path / "first" / "out") == contents(tmp_path / "work" / "out")


def test_a_full_disk_is_said_with_what_is_finished(begun, tmp_path, monkeypatch):
    add = resume.RunState.add_shard

    def full(job, *args):
        if job.done == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        add(job, *args)

    monkeypatch.setattr(resume.RunState, "add_shard", full)
    steps, said = begun(NEURONS)
    with pytest.raises(StorageError, match="the disk became full while writing"):
        finish(steps)
    assert said == [said[0]]
    assert said[0].startswith("note: 2 blocks are finished; the same command goes on from there (")


def test_a_block_and_the_smaller_one_must_fit(jamba, calibration, tmp_path, monkeypatch):  # noqa: F811
    lm = open_model(jamba, device="cpu", dtype=torch.float32)
    monkeypatch.setattr(devices, "free_memory", lambda device: 10**5)
    with pytest.raises(ModelError, match="for one block and the smaller one cut from it and"):
        shrink_to_folder(lm, NEURONS, tmp_path / "out", calibration)
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("transformers_as_before")
def test_from_the_command_line(jamba, sample, tmp_path):
    command = ["shrink", "--model", jamba, "--calibration", sample, "--samples", "2", "--seq-len", "16"]
    command += ["--device", "cpu", "--neurons", "0.5", "--json", "--output"]
    low, usual = (run(*command, tmp_path / name, *flags) for name, flags in (("a", ["--low-memory"]), ("b", [])))
    assert low.exit_code == usual.exit_code == 0, low.output
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    told = json.loads(low.stdout)
    assert told["label"] == "50% of the neurons gone"
    assert told["seconds"].keys() == {"load", "shrink"}
    assert re.search(r"shrunk from [\d,]+ to [\d,]+ parameters \(\d+\.\d%\) and saved to", low.stderr)
