"""Pruning from disk to disk: the same bytes as in memory, whatever the model, the recipe, or a kill in between."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from families import FAMILIES, tiny
from safetensors import safe_open
from typer.testing import CliRunner

from benchmarks import low_memory as low_memory_bench
from wanda_core.checkpoint.manifest import RECORD
from wanda_core.checkpoint.save import save
from wanda_core.cli import commands
from wanda_core.errors import ModelError, StorageError
from wanda_core.low_memory import resume
from wanda_core.low_memory.model_on_disk import open_model as open_on_disk
from wanda_core.low_memory.prune import prune_to_folder
from wanda_core.model import devices, loading
from wanda_core.model.loading import load_model
from wanda_core.presets import preset
from wanda_core.pruning.prune import prune
from wanda_core.recipe import PruneSpec
from wanda_core.text.windows import draw

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def calibration():
    generator = torch.Generator().manual_seed(4)
    return draw(torch.randint(1, 250, (500,), generator=generator).tolist(), samples=4, seq_len=16)


def saved(lm, folder: Path) -> str:
    lm.model.save_pretrained(folder)
    lm.tokenizer.save_pretrained(folder)
    return str(folder)


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    found = {}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            found |= {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    return found


def same(ours: Path, theirs: Path) -> None:
    """Every tensor bit for bit, and every other file but for the seconds in the record."""
    a, b = tensors(ours), tensors(theirs)
    assert a.keys() == b.keys()
    for name in a:
        assert a[name].dtype == b[name].dtype
        assert torch.equal(a[name].contiguous().view(torch.uint8), b[name].contiguous().view(torch.uint8)), name
    for path in theirs.iterdir():
        if path.suffix == ".safetensors" or path.name.endswith("index.json"):
            continue
        if path.name == RECORD:
            records = [json.loads((folder / path.name).read_text()) for folder in (ours, theirs)]
            assert all(record.pop("seconds") > 0 for record in records)
            for record in records:  # of files that are compared themselves, or differ in how weights are shared out
                assert record.pop("files").keys() >= {"config.json", "README.md", "tokenizer.json"}
                assert len(record.pop("sha256")) == 64
            assert records[0] == records[1]
        else:
            assert (ours / path.name).read_bytes() == path.read_bytes(), path.name


def in_both_ways(name: str, spec: PruneSpec, calibration, tmp_path: Path, **options) -> None:
    lm = load_model(name, **options)
    theirs = save(prune(lm, spec, calibration), tmp_path / "in-memory")
    variant = prune_to_folder(open_on_disk(name, **options), spec, tmp_path / "out", calibration)
    assert variant.report.sparsity == pytest.approx(spec.target, abs=0.05)
    same(tmp_path / "out", theirs)
    again = load_model(str(tmp_path / "out"), **options)
    dense = dict(lm.model.named_buffers())
    for key, buffer in again.model.named_buffers():
        assert torch.equal(buffer, dense[key])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dense", "in-memory", "out"]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_comes_out_as_it_does_in_memory(tokenizer, device, calibration, tmp_path, family):
    name = saved(tiny(family, tokenizer, device), tmp_path / "dense")
    in_both_ways(name, PruneSpec("wanda", 0.5), calibration, tmp_path, device=device, dtype=torch.float32)


RECIPES = [
    PruneSpec("wanda", 0.5, order="in-flight"),
    PruneSpec("wanda", 0.5, order="one-shot"),
    PruneSpec("wanda", 0.6, allocation="owl"),
    PruneSpec("wanda", 0.6, order="in-flight", allocation="measured"),
    PruneSpec("wanda", pattern="2:4", update="obs"),
    PruneSpec("sparsegpt", 0.5),
    PruneSpec("magnitude", 0.5, group="model"),
    PruneSpec("magnitude", 0.5, group="row"),
    PruneSpec("random", 0.5),
    preset("best"),
]


@pytest.mark.parametrize("family", ["Llama", "GPT2", "Mixtral"])
@pytest.mark.parametrize("spec", RECIPES, ids=lambda spec: f"{spec.label} {spec.order} {spec.group}")
def test_a_recipe_comes_out_as_it_does_in_memory(tokenizer, device, calibration, tmp_path, family, spec):
    name = saved(tiny(family, tokenizer, device), tmp_path / "dense")
    in_both_ways(name, spec, calibration, tmp_path, device=device, dtype=torch.float32)


@pytest.mark.parametrize("spec", [PruneSpec(), preset("best"), PruneSpec(order="one-shot")], ids=lambda x: x.label)
def test_hidden_states_that_are_large_pass_from_block_to_block_in_a_file(
    tokenizer, calibration, tmp_path, monkeypatch, spec
):
    monkeypatch.setattr(resume, "MAPPED_SHARE", 0)
    mapped = []
    of = resume._map
    monkeypatch.setattr(resume, "_map", lambda *a: mapped.append(a) or of(*a))
    name = saved(tiny("Llama", tokenizer, torch.device("cpu")), tmp_path / "dense")
    in_both_ways(name, spec, calibration, tmp_path, device="cpu", dtype=torch.float32)
    assert mapped


@pytest.mark.builtin
def test_the_built_in_model_comes_out_as_it_does_in_memory(builtin_lm, tmp_path, monkeypatch):
    """Cut after four blocks, saved anew, calibrated on windows as long as usual."""
    found = loading.locate("builtin", device="cpu", dtype=torch.float32)
    lm = load_model("builtin", device="cpu", dtype=torch.float32)
    lm.model.model.layers = lm.model.model.layers[:4]
    lm.model.config.num_hidden_layers = 4
    lm.model.config.layer_types = None
    name = saved(lm, tmp_path / "dense")
    assert found.config.tie_word_embeddings
    generator = torch.Generator().manual_seed(1)
    windows = draw(torch.randint(1, 40000, (2000,), generator=generator).tolist(), samples=2, seq_len=128)
    in_both_ways(name, PruneSpec(order="in-flight"), windows, tmp_path, device="cpu", dtype=torch.float32)


DRIVER = """
# Prune again and again, each time in a child that kills itself at another step; then let the next go on.
import json, os, shutil, signal, sys
from pathlib import Path
import torch
from wanda_core.low_memory import resume
from wanda_core.low_memory.model_on_disk import open_model as open_on_disk
from wanda_core.low_memory.prune import prune_to_folder
from wanda_core.text.windows import draw
from wanda_core.presets import preset
from wanda_core.recipe import PruneSpec

torch.set_num_threads(1)  # a forked child has no other threads
os.environ["HF_DEACTIVATE_ASYNC_LOAD"] = "1"
os.fsync = lambda descriptor: None  # a kill, unlike a power cut, loses nothing that was written; and this is slow
here = Path(sys.argv[1])
ids = torch.randint(1, 250, (500,), generator=torch.Generator().manual_seed(4)).tolist()
calibration = draw(ids, samples=4, seq_len=16)


def contents(folder):
    found = {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    record = json.loads(found.pop("wanda.json"))
    del record["seconds"], record["sha256"]
    return found, record


def run(spec, folder, stop=0):
    # Kill this process at that line of resume.py; -> how many there were.
    lines = 0

    def count(frame, event, arg):
        nonlocal lines
        if frame.f_code.co_filename != resume.__file__:
            return None
        if event == "line":
            lines += 1
            if lines == stop:
                os.kill(os.getpid(), signal.SIGKILL)
        return count

    said = []
    lm = open_on_disk(str(here / "dense"), device="cpu", dtype=torch.float32)
    sys.settrace(count)
    prune_to_folder(lm, spec, folder, calibration, say=said.append)
    sys.settrace(None)
    return lines, said


results = []
for number, spec in enumerate((PruneSpec(), preset("best"), PruneSpec("random", 0.3))):
    target = here / str(number) / "out"
    lines, said = run(spec, target)
    assert not said
    undisturbed = contents(target)
    for stop in range(7, lines, max(lines // 7, 1)):
        shutil.rmtree(target.parent)
        child = os.fork()
        if not child:
            try:
                run(spec, target, stop)
            finally:
                os._exit(0)
        assert os.waitpid(child, 0)[1] == signal.SIGKILL
        assert not target.exists()
        said = run(spec, target)[1]
        assert contents(target) == undisturbed, stop
        assert os.listdir(target.parent) == ["out"]
        results += said
print(json.dumps(results))
"""


@pytest.mark.long
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_after_a_kill_at_any_step_the_next_run_goes_on_and_writes_the_same_bytes(tokenizer, tmp_path):
    saved(tiny("Jamba", tokenizer, torch.device("cpu")), tmp_path / "dense")
    (tmp_path / "driver.py").write_text(DRIVER)
    done = subprocess.run(
        [sys.executable, str(tmp_path / "driver.py"), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    notes = json.loads(done.stdout.splitlines()[-1])
    assert len({note for note in notes if note.startswith("note: going on after block")}) >= 2, notes


@pytest.fixture
def cut_off(tokenizer, calibration, tmp_path, monkeypatch):
    """A run that found the disk full in its second block, and how to run again."""
    name = saved(tiny("Jamba", tokenizer, torch.device("cpu")), tmp_path / "dense")
    target = tmp_path / "work" / "out"

    def again(spec=None, fail=False):
        said = []
        lm = open_on_disk(name, device="cpu", dtype=torch.float32)
        with monkeypatch.context() as patch:
            if fail:
                add = resume.RunState.add_shard
                patch.setattr(resume.RunState, "add_shard", lambda job, *a: full() if job.done else add(job, *a))
            prune_to_folder(lm, spec or PruneSpec(), target, calibration, say=said.append)
        return said

    def full():
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(StorageError, match="the disk became full while writing"):
        again(fail=True)
    assert [path.name for path in target.parent.iterdir()] == [".out.unfinished"]
    return target, again


def test_a_full_disk_leaves_what_is_finished_and_the_next_run_goes_on(cut_off):
    target, again = cut_off
    assert again() == ["note: going on after block 1, the last that an earlier run finished"]
    assert [path.name for path in target.parent.iterdir()] == ["out"]


@pytest.mark.parametrize("file", ["model/model-00002-of-00005.safetensors", "prune-1-*.hidden", "state.json"])
@pytest.mark.parametrize("how", ["cut", "changed", "gone"])
def test_a_torn_file_is_never_trusted(cut_off, file, how):
    target, again = cut_off
    (path,) = (target.parent / ".out.unfinished").glob(file)
    data = path.read_bytes()
    if how == "gone":
        path.unlink()
    else:
        path.write_bytes(data[: len(data) // 2] if how == "cut" else data[:-9] + b"\0" * 9)
    said = again()
    assert not any("going on" in note for note in said)
    assert said == [] if (how, file) == ("gone", "state.json") else "so this one begins afresh" in said[0]
    assert load_model(str(target), device="cpu", dtype=torch.float32)


def test_another_recipe_begins_afresh_and_says_so(cut_off):
    _, again = cut_off
    said = again(PruneSpec("wanda", 0.6))
    assert said == ["note: what an earlier run left had another recipe, so this one begins afresh"]


def test_a_defect_of_the_model_leaves_nothing(tokenizer, calibration, tmp_path):
    lm = tiny("Llama", tokenizer, torch.device("cpu"))
    lm.model.model.layers[1].mlp.up_proj.weight[0, 0] = torch.nan
    name = saved(lm, tmp_path / "dense")
    with pytest.raises(ModelError, match="not finite"):
        prune_to_folder(open_on_disk(name, device="cpu"), PruneSpec("magnitude"), tmp_path / "a" / "out", calibration)
    assert [path.name for path in tmp_path.iterdir()] == ["dense"]


def test_what_is_not_whole_is_refused_before_anything_is_read(tokenizer, tmp_path):
    folder = tmp_path / "m"
    low_memory_bench.write(folder, 2, 64, Path(saved(tiny("GPT2", tokenizer, torch.device("cpu")), tmp_path / "words")))
    assert open_on_disk(str(folder), device="cpu").dtype == torch.float32
    index = folder / "model.safetensors.index.json"
    told = json.loads(whole := index.read_text())
    lost = told["weight_map"]["model.layers.1.mlp.up_proj.weight"]
    told["weight_map"] = {name: file for name, file in told["weight_map"].items() if file != lost}
    index.write_text(json.dumps(told))
    with pytest.raises(ModelError, match=r"lacks \d+ of its weights, model\.layers\.1\."):
        open_on_disk(str(folder), device="cpu")
    index.write_text(whole)
    (folder / lost).write_bytes((folder / lost).read_bytes()[:5000])
    with pytest.raises(ModelError, match=r"could not be read: .*; give a complete checkpoint"):
        open_on_disk(str(folder), device="cpu")


def test_one_block_and_the_embeddings_must_fit(tokenizer, tmp_path, monkeypatch):
    folder = tmp_path / "m"
    size = low_memory_bench.write(
        folder, 8, 256, Path(saved(tiny("GPT2", tokenizer, torch.device("cpu")), tmp_path / "words"))
    )
    monkeypatch.setattr(devices, "free_memory", lambda device: size // 4)
    with pytest.raises(ModelError, match=r"for its weights and .* choose a smaller model"):
        load_model(str(folder), device="cpu")
    assert open_on_disk(str(folder), device="cpu")
    monkeypatch.setattr(devices, "free_memory", lambda device: size // 16)
    with pytest.raises(ModelError, match="for its embeddings and one block and"):
        open_on_disk(str(folder), device="cpu")


@pytest.mark.skipif(os.name == "nt", reason="the peak is read from getrusage")
@pytest.mark.long
def test_the_peak_does_not_grow_with_the_number_of_blocks(tokenizer, tmp_path):
    """A small version of the benchmark: eight blocks more have 100 MB of weights."""
    words = Path(saved(tiny("GPT2", tokenizer, torch.device("cpu")), tmp_path / "words"))
    found = low_memory_bench.peaks((2, 10), 512, words, seq_len=32)
    assert found[10][0] - found[2][0] == pytest.approx(100e6, rel=0.05)
    assert found[10][1] - found[2][1] < 30e6


CAPPED = """
# The command line with so many bytes of address space more than it takes once everything is imported.
import resource, sys
from wanda_core.checkpoint import save
from wanda_core.cli import commands
from wanda_core.low_memory import prune
from wanda_core.machine import process
process.give_back_freed_memory()
size = int(next(line for line in open("/proc/self/status") if line.startswith("VmSize")).split()[1]) * 1024
cap = size + int(sys.argv.pop(1))
resource.setrlimit(resource.RLIMIT_AS, (cap, cap))
commands.main()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.long
def test_a_model_larger_than_the_memory_allowed_prunes_and_reloads(tokenizer, tmp_path):
    """`ulimit -v`: 200 MB for a model of 340."""
    folder, room = tmp_path / "m", 200 * 10**6
    assert (
        low_memory_bench.write(
            folder, 12, 768, Path(saved(tiny("GPT2", tokenizer, torch.device("cpu")), tmp_path / "w"))
        )
        > 340e6
    )
    command = ["prune", "--model", str(folder), "--device", "cpu", "--samples", "2", "--seq-len", "32"]

    def capped(*options: str) -> subprocess.CompletedProcess:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        return subprocess.run(
            [sys.executable, "-c", CAPPED, str(room), *command, "--output", str(tmp_path / "out"), *options],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
        )

    assert "annot allocate memory" in capped().stderr
    done = capped("--low-memory")
    assert done.returncode == 0, done.stderr
    lm = load_model(str(tmp_path / "out"), device="cpu", dtype=torch.float32)
    zeros = sum(int((linear.weight == 0).sum()) for block in lm.linears for linear in block)
    assert zeros / sum(linear.weight.numel() for block in lm.linears for linear in block) == pytest.approx(0.5)


def test_from_the_command_line(tokenizer, text, tmp_path):
    name = saved(tiny("Llama", tokenizer, torch.device("cpu")), tmp_path / "dense")
    (tmp_path / "a.txt").write_text(text)
    where = ["--model", name, "--calibration", str(tmp_path / "a.txt"), "--output", str(tmp_path / "out")]
    command = ["prune", "--low-memory", *where, "--samples", "2", "--seq-len", "16", "--device", "cpu"]
    done = CliRunner().invoke(commands.app, [*command, "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["sparsity"] == 0.5
    assert "pruned to 50.00% zeros and saved to" in done.stderr
    refused = CliRunner().invoke(commands.app, [*command, "--low-memory=much"])
    assert refused.exit_code == 2
    assert len(refused.stderr.splitlines()) == 1
