"""What pruning buys, of zeros and of smaller models: size, memory and seconds, beside the perplexity."""

import gc
import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from benchmarks import memory
from benchmarks.quality import WINDOW_TOKENS, WINDOWS
from wanda_core.evaluation.footprint import Footprint, footprint, rise_promised
from wanda_core.evaluation.perplexity import Agreement, agreement, perplexity
from wanda_core.evaluation.speed import PROMPT_TOKENS, Speed, speed_steps
from wanda_core.model.language_model import LanguageModel
from wanda_core.progress import finish
from wanda_core.pruning.prune import prune
from wanda_core.recipe import PruneSpec
from wanda_core.shrinking.shrink import shrink
from wanda_core.shrinking.spec import ShrinkSpec
from wanda_core.text.windows import Calibration, calibrate

LOADS = 3  # fresh processes, of which the median counts
ROUNDS = 3  # turns of every model
AGREEMENT_WINDOWS = 2  # of the windows that the perplexity is measured on
LEAST_OF_PROMISE = 0.8  # of what the removed weights promise a new token, that it must rise by
MOST_PERPLEXITY = {"20% of the neurons gone": 54.0}
Make = Callable[[Mapping[str, LanguageModel], Calibration], LanguageModel]  # from what is made already, by name


DENSE = "dense"
FIFTH = "20% of the neurons gone"


def zeros(pattern: str = "unstructured", of: str = DENSE) -> Make:
    """Wanda's zeros: half of the weights. of: the model that is pruned."""
    return lambda models, calibration: prune(models[of], PruneSpec("wanda", pattern=pattern), calibration).lm


def smaller(**what: Any) -> Make:
    """A smaller model. what: of `ShrinkSpec`."""
    return lambda models, calibration: shrink(models[DENSE], ShrinkSpec(**what), calibration).lm


RECIPES: dict[str, Make] = {
    DENSE: lambda models, calibration: models[DENSE],
    "Wanda 50%": zeros(),
    "Wanda 2:4": zeros("2:4"),
    "10% of the neurons gone": smaller(neurons=0.1),
    FIFTH: smaller(neurons=0.2),
    "30% of the neurons gone": smaller(neurons=0.3),
    "2 blocks gone": smaller(blocks=2),
    "4 blocks gone": smaller(blocks=4),
    f"{FIFTH}, then Wanda 50%": zeros(of=FIFTH),
}


@dataclass(frozen=True)
class Loaded:
    """What a fresh process tells that loads a folder by transformers alone and reads a prompt: seconds of loading, and
    the most memory it held, in bytes."""

    seconds: float
    peak: float


@dataclass(frozen=True)
class Bought:
    """All that is measured of one model. disk: bytes of its folder's files; agreement: None for the dense model."""

    footprint: Footprint
    disk: int
    loaded: Loaded
    speed: Speed
    perplexity: float
    agreement: Agreement | None


def same_text(lm: LanguageModel, calibration: Calibration, text: str, source: str) -> Calibration:
    """Draw a calibration of the same size from the half of a text that is not measured, where there is one."""
    middle = len(text) // 2
    half = middle + max(text[middle:].find("\n"), 0)
    if len(lm.encode(text[:half])) < WINDOWS * WINDOW_TOKENS:
        return calibration
    drawn = {"samples": calibration.samples, "seq_len": calibration.seq_len}
    return calibrate(lm, text[half:], source=f"the second half of {source}", **drawn)


def table(lm: LanguageModel, calibration: Calibration, text: str) -> bool:
    """Print what every recipe buys and what was promised; whether all targets are met."""
    models: dict[str, LanguageModel] = {DENSE: lm}
    quality: dict[str, tuple[float, Agreement | None]] = {}
    for name, make in RECIPES.items():
        began = time.perf_counter()
        models[name] = made = make(models, calibration)
        spent = time.perf_counter() - began
        windows = {"seq_len": WINDOW_TOKENS}
        found = perplexity(made, text, windows=WINDOWS, **windows).perplexity
        apart = None if made is lm else agreement(lm, made, text, windows=AGREEMENT_WINDOWS, **windows)
        quality[name] = (found, apart)
        print(f"{name}: made in {spent:.1f} s, perplexity {found:,.2f}", flush=True)
    print("Seconds follow.", flush=True)
    stored = {name: stored_and_loaded(model) for name, model in models.items()}
    gc.collect()
    ids = torch.tensor([lm.encode(text[: 20 * PROMPT_TOKENS])[:PROMPT_TOKENS]])
    speeds = finish(speed_steps(list(models.values()), ids, rounds=ROUNDS))
    rows = {
        name: Bought(footprint(model.model), *stored[name], speed, *quality[name])
        for (name, model), speed in zip(models.items(), speeds, strict=True)
    }
    print()
    print("\n".join(lines(rows)))
    return judged(rows)


def stored_and_loaded(lm: LanguageModel) -> tuple[int, Loaded]:
    """Write a model's folder as transformers does, and load it in fresh processes. -> bytes of the folder, medians."""
    with TemporaryDirectory(prefix="wanda-bench-") as folder:
        lm.model.save_pretrained(folder)  # type: ignore[operator]
        disk = sum(file.stat().st_size for file in Path(folder).iterdir())
        found = [_loaded(Path(folder)) for _ in range(LOADS)]
    return disk, Loaded(median(each.seconds for each in found), median(each.peak for each in found))


def _loaded(folder: Path) -> Loaded:
    command = [sys.executable, "-m", "benchmarks.buys", str(folder)]
    done = subprocess.run(command, cwd=memory.ROOT, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"loading {folder.name} failed: {(done.stderr.strip().splitlines() or ['?'])[-1][:300]}")
    return Loaded(**json.loads(done.stdout.strip().splitlines()[-1]))


def lines(rows: dict[str, Bought]) -> list[str]:
    """Write the table, with the rise of tokens a second beside what the removed weights promise."""
    head = ("model", "parameters", "non-zero", "on the disk", "peak memory", "loads in", "prompt", "answer")
    head += ("answer, of dense", "promised", "perplexity", "agrees")
    told = [f"| {' | '.join(head)} |", "|---|" + "---:|" * (len(head) - 1)]
    dense = rows[DENSE]
    for name, row in rows.items():
        cells = [name, f"{row.footprint.parameters / 1e6:.1f} M", f"{row.footprint.nonzero / 1e6:.1f} M"]
        cells += [f"{row.disk / 1e6:,.0f} MB", f"{row.loaded.peak / memory.GB:.2f} GB", f"{row.loaded.seconds:.2f} s"]
        cells += [f"{row.speed.prefill:,.0f} tokens/s", f"{row.speed.decode:.1f} tokens/s"]
        cells += [f"{row.speed.decode / dense.speed.decode:.2f}"]
        cells += [f"{1 + rise_promised(dense.footprint, row.footprint):.2f}", f"{row.perplexity:,.2f}"]
        cells += ["" if row.agreement is None else f"{row.agreement.top1:.1%}"]
        told.append(f"| {' | '.join(cells)} |")
    return told


def judged(rows: dict[str, Bought]) -> bool:
    """Print every target beside what was measured; whether all are met."""
    print("\n| model | what | measured | target |\n|---|---|---:|---:|")
    dense = rows[DENSE]
    met = True
    for name, row in rows.items():
        promised = rise_promised(dense.footprint, row.footprint)
        if promised > 0:
            rise = row.speed.decode / dense.speed.decode - 1
            met &= (fast := rise >= LEAST_OF_PROMISE * promised)
            print(f"| {name} | tokens a second, of what is promised | {rise / promised:.2f} | {_least(fast)} |")
        if name in MOST_PERPLEXITY:
            most = MOST_PERPLEXITY[name]
            met &= (good := row.perplexity <= most)
            print(f"| {name} | perplexity | {row.perplexity:.2f} | {most:g}, {'met' if good else 'MISSED'} |")
    return met


def _least(met: bool) -> str:
    return f"{LEAST_OF_PROMISE:g}, {'met' if met else 'MISSED'}"


def main() -> None:
    """`python -m benchmarks.buys FOLDER` loads it, reads a prompt, and prints seconds and bytes."""
    torch.set_grad_enabled(False)
    memory.reset_peak()
    began = time.perf_counter()
    model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32).eval()
    seconds = time.perf_counter() - began
    model(torch.arange(PROMPT_TOKENS)[None])
    print(json.dumps({"seconds": seconds, "peak": memory.peak() or 0}))


if __name__ == "__main__":
    main()
