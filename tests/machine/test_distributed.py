"""Several processes prune one model: the masks of one process; a death or an error ends all and leaves nothing."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch
from families import tiny
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from typer.testing import CliRunner

from wanda_core.calibration.profile import load_profile, profile
from wanda_core.cli import commands, console
from wanda_core.errors import InputError
from wanda_core.machine import distributed, joining
from wanda_core.machine.process import rank_and_size
from wanda_core.model.loading import load_model
from wanda_core.pruning.prune import prune
from wanda_core.recipe import PruneSpec, Solver
from wanda_core.text.windows import Calibration, calibrate

ROOT = Path(__file__).resolve().parents[2]
SAMPLES, SEQ_LEN = 5, 16  # an odd number for two processes
DIFFERING = 1e-4  # of all weights; sums in another order may turn a tie
UPDATED = {
    "order": "in-flight",
    "update": "least-squares",
    "group": "matrix",
    "solver": Solver(steps=3, damping=0.1, shrinkage=0.3, rounds=1, dense_share=0.5, stream_share=0.5),
}
RECIPES = {
    "faithful": {},
    "in-flight": {"order": "in-flight"},
    "one-shot": {"order": "one-shot", "pattern": "2:4"},
    "owl": {"allocation": "owl", "group": "matrix", "sparsity": 0.6},
    "measured": {"allocation": "measured", "order": "one-shot", "sparsity": 0.6},
    "columns": {"method": "ria", "group": "column:128"},
    "variant": {"method": "wanda-variant", "order": "in-flight"},
    "sparsegpt": {"method": "sparsegpt"},
    "obs": {"method": "ria", "update": "obs", "order": "in-flight"},
    "best": UPDATED,
    "weights": {"method": "magnitude", "group": "model"},
    "random": {"method": "random", "seed": 3},
}
OF_EXPERTS = ("faithful", "in-flight", "one-shot", "best", "sparsegpt")
MODEL = "--model {folder}/Llama --device cpu"
TINY = f"{MODEL} --samples 3 --seq-len 16"
COMMANDS = (
    f"prune {TINY} --output {{folder}}/pruned --json",
    f"prune {TINY} --output {{folder}}/words",
    f"profile {TINY} --output {{folder}}/norms.safetensors",
    f"prune {TINY} --output {{folder}}/Llama-faithful-0.safetensors",
    f"prune {MODEL} --seq-len 16 --samples 1 --output {{folder}}/one",
    f"prune {TINY} --calibration {{folder}}/text-{{rank}}.txt --output {{folder}}/text",
    f"prune {TINY} --sparsity 7 --output {{folder}}/seven",
    "prune --model {folder}/Llama --device mps --output {folder}/mps",
    f"perplexity {MODEL}",
    f"generate {MODEL} --prompt a",
)
CASES = [("Llama", name) for name in RECIPES] + [("Mixtral", name) for name in OF_EXPERTS]
CASES += [("Qwen3Next", "faithful"), ("Qwen3Next", "in-flight")]  # with a linear of one row: a process has none of it

PROGRAM = """
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from wanda_core.machine import distributed, joining, process

sys.path[:0] = {tests!r}
import test_distributed

with joining.joined("cpu"):
    folder = Path(sys.argv[1])
    for family, name in test_distributed.CASES:
        found = test_distributed.pruned(str(folder / family), name)
        save_file(found, folder / f"{{family}}-{{name}}-{{distributed._group.rank}}.safetensors")
test_distributed.command_lines(folder)
process.leave(0)
"""


def pruned(folder: str, name: str) -> dict[str, torch.Tensor]:
    """The pruned linears by one of RECIPES, (C_out, C_in) each, and the norms that decided."""
    lm = load_model(folder, device="cpu", dtype=torch.float32)
    if "Mixtral" in folder:
        send_windows_apart(lm)
    variant = prune(lm, PruneSpec(**RECIPES[name]), calibration())
    found = {linear.name: linear.weight.contiguous() for block in variant.lm.linears for linear in block}
    norms = variant.profile.norms if variant.profile else {}
    return found | {f"norms of {name}": norm for name, norm in norms.items()}


def command_lines(folder: Path) -> None:
    """Run COMMANDS one after the other and note what each process prints."""
    rank, _ = rank_and_size()
    found = []
    for command in COMMANDS:
        arguments = [part.format(folder=folder, rank=rank) for part in command.split()]
        console._heard = None
        result = CliRunner().invoke(commands.app, arguments)
        found.append((result.exit_code, result.stdout, result.stderr))
    (folder / f"said-{rank}.json").write_text(json.dumps(found))


def calibration() -> Calibration:
    """Windows whose tokens tell the first, the last and the others apart."""
    generator = torch.Generator().manual_seed(4)
    ids = torch.randint(1, 50, (SAMPLES, SEQ_LEN), generator=generator)
    ids[0] += 100
    ids[-1] += 200
    return Calibration(ids, "random", 0, ids.numel())


def send_windows_apart(lm) -> None:
    """In the first block expert 0 gets all tokens; besides expert 3 those of the first window, which one process
    reads, expert 2 those of the last, which the other reads, and expert 1 the rest."""
    embedding = lm.model.get_input_embeddings().weight
    embedding.data[:, :2] = 0
    embedding.data[100:200, 0] = embedding.data[200:, 1] = 9

    def instead(module, args, output):
        logits, shares, indices = output
        x = args[0].reshape(len(indices), -1)
        other = torch.where(x[:, 0] > 1, 3, torch.where(x[:, 1] > 1, 2, 1))
        return logits, torch.full_like(shares, 0.5), torch.stack([torch.zeros_like(other), other], dim=1)

    lm.model.get_submodule("model.layers.0.mlp.gate").register_forward_hook(instead)


def start(*command: object, processes: int = 2, **environment: str) -> subprocess.Popen:
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    return subprocess.Popen(
        [*launch, *map(str, command)],
        cwd=ROOT,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tokenizer) -> Path:
    place = tmp_path_factory.mktemp("ranks")
    for family in ("Llama", "Mixtral", "Qwen3Next"):
        lm = tiny(family, tokenizer, torch.device("cpu"))
        lm.model.save_pretrained(place / family)
        tokenizer.save_pretrained(place / family)
    return place


@pytest.fixture(scope="module")
def by_two(folder) -> Path:
    (folder / "text-0.txt").write_text("The sky is blue because sunlight is scattered by the air. " * 20)
    program = folder / "program.py"
    program.write_text(PROGRAM.format(tests=[str(ROOT / "tests"), str(Path(__file__).parent)]))
    process = start(program, folder)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    return folder


@pytest.mark.parametrize(("family", "name"), CASES)
def test_two_processes_give_one_processs_masks(by_two, family, name):
    alone = pruned(str(by_two / family), name)
    first, second = (load_file(by_two / f"{family}-{name}-{rank}.safetensors") for rank in (0, 1))
    assert first.keys() == second.keys() == alone.keys()
    differing = weights = 0
    for key, ours in alone.items():
        assert torch.equal(first[key], second[key])  # every process holds the same model
        if key.startswith("norms"):
            torch.testing.assert_close(first[key], ours, rtol=1e-4, atol=1e-6)
            continue
        assert int((first[key] == 0).sum()) == int((ours == 0).sum())
        differing += int(((first[key] == 0) != (ours == 0)).sum())
        weights += ours.numel()
        torch.testing.assert_close(first[key], ours, rtol=1e-3, atol=1e-4)
    assert differing <= DIFFERING * weights


def test_experts_that_one_process_alone_reads_tokens_for_are_measured(by_two):
    found = load_file(by_two / "Mixtral-in-flight-1.safetensors")
    name = "norms of model.layers.0.mlp.experts.{}.down_proj"
    assert all(found[name.format(expert)].any() for expert in range(4))


@pytest.fixture(scope="module")
def said(by_two) -> dict[str, tuple[list, list]]:
    """What (exit code, stdout, stderr) each command ended with in both processes."""
    both = (json.loads((by_two / f"said-{rank}.json").read_text()) for rank in (0, 1))
    return dict(zip(COMMANDS, zip(*both, strict=True), strict=True))


def test_the_first_process_alone_speaks_and_writes(said, by_two, folder):
    (code, out, errors), other = said[COMMANDS[0]]
    assert (code, other) == (0, [0, "", ""])
    found = json.loads(out)
    assert (found["sparsity"], len(found["processes"])) == (0.5, 2)
    assert all(0 <= process["waited"] <= process["seconds"] for process in found["processes"])
    assert json.loads((by_two / "pruned" / "wanda.json").read_text())["processes"] == found["processes"]
    (code, out, errors), other = said[COMMANDS[1]]
    assert (code, other) == (0, [0, "", ""])
    assert [line.split(":")[0] for line in errors.splitlines() if line.startswith("process")] == [
        "process 0 of 2",
        "process 1 of 2",
    ]
    assert "all" in out


def test_a_profile_by_two_processes_is_that_of_one(said, by_two):
    lm = load_model(str(by_two / "Llama"), device="cpu", dtype=torch.float32)
    assert [code for code, _, _ in said[COMMANDS[2]]] == [0, 0]
    taken = load_profile(by_two / "norms.safetensors")
    alone = profile(lm, calibrate(lm, samples=3, seq_len=16))
    assert taken.calibration == alone.calibration
    for name, norm in alone.norms.items():
        torch.testing.assert_close(taken.norms[name], norm, rtol=1e-5, atol=0)


@pytest.mark.parametrize(
    ("number", "message", "codes"),
    [
        (3, "error: '", [1, 1]),  # only the first process looks at the folder, and the other stops with it
        (4, "samples 1 are too few to be split over 2 processes", [2, 2]),
        (5, "process 1: error: ", [1, 2]),  # a file that only the first process has
        (6, "sparsity 7.0 is not a number", [2, 2]),
        (7, "device 'mps' cannot be shared by several processes", [2, 2]),
        (8, "perplexity is the work of one process and 2 were started", [2, 2]),
        (9, "generate is the work of one process and 2 were started", [2, 2]),
    ],
)
def test_a_mistake_ends_all_and_is_said_once(said, by_two, number, message, codes):
    first, second = said[COMMANDS[number]]
    assert [first[0], second[0]] == codes
    assert first[1] == second[1] == ""
    lines = [line for line in [*first[2].splitlines(), *second[2].splitlines()] if not line.startswith("loaded ")]
    assert len(lines) == 1, lines
    assert message in lines[0]
    assert sorted(path.name for path in by_two.iterdir() if path.name.startswith(".")) == []
    assert not any((by_two / name).exists() for name in ("one", "text", "seven", "mps"))


@pytest.mark.long
def test_torchrun_prunes_from_the_command_line(folder, tmp_path):
    command = ("-m", "wanda_core", "prune", "--model", folder / "Mixtral", "--samples", 3, "--seq-len", 16)
    process = start(*command, "--device", "cpu", "--json", "--output", tmp_path / "out")
    out, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert json.loads(out)["sparsity"] == 0.5
    assert load_model(str(tmp_path / "out"), device="cpu").n_parameters


@pytest.mark.long
def test_a_killed_process_ends_the_other_with_a_message_and_nothing_is_written(folder, tmp_path):
    draw = ("--samples", 4096, "--seq-len", 64, "--order", "in-flight", "--update", "least-squares")
    command = ("-m", "wanda_core", "prune", "--model", folder / "Llama", *draw, "--device", "cpu")
    process = start(*command, "--output", tmp_path / "above" / "out")
    before = []
    for line in process.stderr:
        before.append(line)
        if line.startswith("loaded "):
            break
    workers = psutil.Process(process.pid).children()
    second = [worker for worker in workers if worker.environ().get("RANK") == "1"]
    assert len(second) == 1, before
    second[0].kill()
    killed = time.monotonic()
    _, errors = process.communicate(timeout=120)
    assert time.monotonic() - killed < 60
    assert process.returncode != 0
    said = [line for line in errors.splitlines() if line.startswith("error: ")]
    assert len(said) == 1, errors
    assert "another process ended" in said[0]
    assert list(tmp_path.iterdir()) == []
    assert not any(worker.is_running() for worker in workers)


SAVING = """
import os, time
from wanda_core.checkpoint import save
from wanda_core.cli import commands


def write(variant, folder, *more):
    (folder / "model.safetensors").write_bytes(b"half of it")
    os.write(1, b"writing")
    time.sleep(60)


save._write = write
commands.main()
"""


@pytest.mark.skipif(os.name == "nt", reason="sends SIGTERM")
@pytest.mark.long
def test_ending_torchrun_while_it_saves_leaves_nothing(folder, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(SAVING)
    command = ("prune", "--model", folder / "Llama", "--samples", 2, "--seq-len", 16, "--device", "cpu")
    process = start(program, *command, "--output", tmp_path / "out")
    assert process.stdout.read(7) == "writing", process.stderr.read()
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode != 0
    said = [line for line in errors.splitlines() if "error: stopped, because" in line]
    assert len(said) == 1, errors  # by whichever was told first; the second may not have left yet
    assert [path.name for path in tmp_path.iterdir()] == ["program.py"]


@given(st.integers(1, 300), st.integers(1, 20))
def test_parts_are_even_and_make_up_the_whole(count, size):
    before = distributed._group
    distributed._group = distributed.Group(0, size, torch.device("cpu"))
    try:
        parts = [range(count)[distributed.part(count, rank)] for rank in range(size)]
    finally:
        distributed._group = before
    assert [number for part in parts for number in part] == list(range(count))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_alone_everything_is_given_back():
    x = torch.ones(3, 2)
    with joining.joined("cpu") as device:
        assert device == "cpu"
        assert distributed.first()
        assert distributed.total(x) is x
        assert distributed.whole(x, 3) is x
        assert distributed.each(2.0) == ()
        assert (distributed.least(4), distributed.sum_of(4)) == (4, 4)


@pytest.mark.skipif(torch.cuda.is_available(), reason="here processes would get GPUs")
def test_a_process_without_a_gpu_of_its_own_is_refused():
    with pytest.raises(InputError, match="process 0 of this machine has no GPU of its own, torch sees 0"):
        joining._own_device("cuda")
    with pytest.raises(InputError, match="device 'cuda:1' cannot be shared"):
        joining._own_device("cuda:1")
    assert joining._own_device(None) == torch.device("cpu")
