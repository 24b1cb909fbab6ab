"""One and several processes on the same cores, from the command line: seconds, and how many weights differ."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from safetensors import safe_open

ROOT = Path(__file__).resolve().parent.parent
PROCESSES = 2
MOST_DIFFERING = 1e-4  # of the prunable weights
RECIPES = {
    "Wanda 50%, faithful": (),
    "Wanda 50%, in-flight": ("--order", "in-flight"),
    "Wanda 50% + least squares, in-flight": ("--order", "in-flight", "--update", "least-squares"),
}


def compare() -> bool:
    """Print a table, one row a recipe; whether counts are the same and few enough weights differ.

    Raises RuntimeError with the last line of a command that fails.
    """
    print(f"| recipe | 1 process | {PROCESSES} processes | of them waiting | zeros | weights that differ |")
    print("|---|---:|---:|---:|---:|---:|")
    met = True
    for name, recipe in RECIPES.items():
        with tempfile.TemporaryDirectory(prefix="wanda-bench-") as folder:
            one, many = Path(folder) / "one", Path(folder) / "many"
            alone, together = _pruned(1, one, recipe), _pruned(PROCESSES, many, recipe)
            differing = _differing(one, many)
            seconds_alone = json.loads((one / "wanda.json").read_text())["seconds"]
        share = differing / alone["prunable_weights"]
        same = alone["zeros"] == together["zeros"]
        met &= same and share <= MOST_DIFFERING
        seconds = ", ".join(f"{process['seconds']:.1f} s" for process in together["processes"])
        waited = ", ".join(f"{process['waited']:.1f} s" for process in together["processes"])
        zeros = f"{alone['zeros']:,}" if same else f"{alone['zeros']:,} and {together['zeros']:,}"
        cells = (
            name,
            f"{seconds_alone:.1f} s",
            seconds,
            waited,
            zeros,
            f"{differing:,} ({share:.6%})",
        )
        print(f"| {' | '.join(cells)} |", flush=True)
    print(
        f"\nat most {MOST_DIFFERING:.2%} of the weights differ, counts exact: {'met' if met else 'MISSED'}", flush=True
    )
    return met


def _pruned(processes: int, output: Path, recipe: tuple[str, ...]) -> dict[str, Any]:
    """Prune the built-in model by so many processes, which share the cores evenly; -> what the command says."""
    launch = (
        ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)] if processes > 1 else []
    )
    command = [
        sys.executable,
        *launch,
        "-m",
        "wanda_core",
        "prune",
        "--json",
        "--device",
        "cpu",
        "--output",
        str(output),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // processes))}
    done = subprocess.run([*command, *recipe], cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if "error: " in line] or done.stderr.splitlines()
        raise RuntimeError((said or ["no reason given"])[0][:300])
    return json.loads(done.stdout)


def _differing(first: Path, second: Path) -> int:
    """Prunable weights that are zero in one checkpoint and not in the other."""
    names = [linear["name"] for linear in json.loads((first / "wanda.json").read_text())["linears"]]
    with safe_open(first / "model.safetensors", "pt") as a, safe_open(second / "model.safetensors", "pt") as b:
        pairs = ((a.get_tensor(f"{name}.weight"), b.get_tensor(f"{name}.weight")) for name in names)
        return sum(int(((one == 0) != (other == 0)).sum()) for one, other in pairs)
