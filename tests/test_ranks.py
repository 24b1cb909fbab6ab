"""Several processes prune one model: the masks of one process, and a death or an error that ends all, leaving nothing."""

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
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from test_families import tiny

from wanda_core import ranks
from wanda_core.calibration import Calibration
from wanda_core.errors import InputError
from wanda_core.models import load_model
from wanda_core.process import rank_and_size
from wanda_core.profile import profile
from wanda_core.prune import prune
from wanda_core.recipe import PruneSpec, Solver

ROOT = Path(__file__).resolve().parent.parent
SAMPLES, SEQ_LEN = 5, 16  # an odd number for two processes
DIFFERING = 1e-4  # of all weights; sums in another order may turn a tie
UPDATED = {"order": "in-flight", "update": "least-squares", "solver": Solver(3, 0.1, 1, 0.5)}
RECIPES = {
    "faithful": {},
    "in-flight": {"order": "in-flight"},
    "one-shot": {"order": "one-shot", "pattern": "2:4"},
    "owl": {"allocation": "owl", "group": "matrix", "sparsity": 0.6},
    "columns": {"method": "ria", "group": "column:128"},
    "variant": {"method": "wanda-variant", "order": "in-flight"},
    "sparsegpt": {"method": "sparsegpt"},
    "obs": {"method": "ria", "update": "obs", "order": "in-flight"},
    "best": UPDATED,
    "weights": {"method": "magnitude", "group": "model"},
    "random": {"method": "random", "seed": 3},
}
OF_EXPERTS = ("faithful", "in-flight", "one-shot", "best", "sparsegpt")
CASES = [("Llama", name) for name in RECIPES] + [("Mixtral", name) for name in OF_EXPERTS]

PROGRAM = """
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from wanda_core import ranks

sys.path.insert(0, {tests!r})
import test_ranks

with ranks.joined("cpu"):
    folder = Path(sys.argv[1])
    for family, name in test_ranks.CASES:
        found = test_ranks.pruned(str(folder / family), name)
        save_file(found, folder / f"{{family}}-{{name}}-{{ranks._group.rank}}.safetensors")
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


def told(errors: str) -> list[str]:
    """What our processes said on stderr, without torchrun's own report."""
    return [line for line in errors.splitlines() if line.startswith(("error: ", "process 1: error: "))]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tokenizer) -> Path:
    place = tmp_path_factory.mktemp("ranks")
    for family in ("Llama", "Mixtral"):
        lm = tiny(family, tokenizer, torch.device("cpu"))
        lm.model.save_pretrained(place / family)
        tokenizer.save_pretrained(place / family)
    return place


@pytest.fixture(scope="module")
def by_two(folder) -> Path:
    program = folder / "program.py"
    program.write_text(PROGRAM.format(tests=str(ROOT / "tests")))
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
