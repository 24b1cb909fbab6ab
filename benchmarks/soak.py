"""Random recipes on the built-in model, one after the other: nothing may leak, and the dense model may not change.

`make soak`, or `python -m benchmarks.soak --minutes 10`. Every prune is checked for its zeros, every third is
cancelled half-way, and memory must stay where it was after the first ones.
"""

import argparse
import gc
import itertools
import random
import sys
import time
import zlib

import psutil
import torch
from torch import nn
from transformers.utils import logging

from wanda_core.methods import METHODS
from wanda_core.model.language_model import LanguageModel
from wanda_core.model.loading import load_model
from wanda_core.pruning.prune import prune_steps
from wanda_core.pruning.variant import Variant
from wanda_core.recipe import ORDERS, PruneSpec
from wanda_core.text.windows import Calibration, calibrate

SPAN = 6  # prunes; allocators keep some memory for a while, so only the least of as many tells
MOST_GROWTH = 0.3e9  # bytes; about half of one pruned model, so that a single one kept shows
TOLERANCE = 0.003  # of the share of zeros: rows round down by up to 1 of 576, magnitude per matrix cuts ties too


def main() -> None:
    """Prune until the time is over; exit code 1 with the first thing that is wrong."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=0, help="of the recipes, to repeat a run")
    arguments = parser.parse_args()
    logging.disable_progress_bar()
    try:
        count = soak(load_model("builtin"), arguments.minutes * 60, random.Random(arguments.seed))
    except AssertionError as error:
        sys.exit(f"FAILED: {error}")
    print(f"{count} prunes in {arguments.minutes:g} minutes: the dense model is unchanged and nothing leaked")


def soak(lm: LanguageModel, seconds: float, rng: random.Random) -> int:
    """Random prunes for so many seconds; how many there were. Raises AssertionError with what was wrong."""
    dense, zeros = fingerprint(lm.model), share_of_zeros(lm)
    end = time.monotonic() + seconds
    memory: list[int] = []
    count = 0
    while count < 2 * SPAN or time.monotonic() < end:
        count += 1
        spec, cancelled = random_recipe(rng), count % 3 == 0
        calibration = calibrate(lm, samples=rng.randint(1, 4), seq_len=rng.randint(16, 128), seed=rng.randint(0, 999))
        variant = _run(lm, spec, calibration, rng.randint(1, 100) if cancelled else None)
        if variant is not None:
            check_zeros(variant, zeros)
        del variant
        gc.collect()
        assert fingerprint(lm.model) == dense, f"the dense model changed under {spec}"
        memory.append(psutil.Process().memory_info().rss)
        what = f"{spec.label}, per {spec.group}{', cancelled' if cancelled else ''}"
        print(f"{count}: {what}; {memory[-1] / 1e9:.2f} GB", flush=True)
        first, last = min(memory[:SPAN]), min(memory[-SPAN:])
        assert last - first < MOST_GROWTH, f"memory grew from {first / 1e9:.2f} to {last / 1e9:.2f} GB"
    return count


def random_recipe(rng: random.Random) -> PruneSpec:
    """Any method and order, in half of all cases with an N:M pattern that every linear of the built-in model takes."""
    # Without the variant, which stops within 0.1% of what is asked.
    method = rng.choice([name for name in METHODS if METHODS[name].takes_patterns])
    order = rng.choice(ORDERS if not METHODS[method].sweeps else ORDERS[:2])
    if rng.random() < 0.5:
        return PruneSpec(method, pattern=rng.choice(["1:2", "1:4", "2:4", "3:4", "4:8", "5:16"]), order=order)
    return PruneSpec(method, round(rng.uniform(0.0, 0.95), 3), group=rng.choice(METHODS[method].groups), order=order)


def check_zeros(variant: Variant, dense: float) -> None:
    """Raise AssertionError unless the zeros, counted afresh, are what the recipe asks for.

    dense: share of zeros before; those of them that the recipe would keep come on top.
    """
    share, wanted = share_of_zeros(variant.lm), variant.spec.target
    assert wanted - TOLERANCE <= share <= wanted + dense + TOLERANCE, f"{variant.spec}: {share:.4%} zeros"
    assert share == variant.report.sparsity, f"{variant.spec}: the report says {variant.report.sparsity:.4%} zeros"


def share_of_zeros(lm: LanguageModel) -> float:
    """Exact zeros among the prunable weights, 0 to 1."""
    linears = lm.all_linears
    return sum(int((linear.weight == 0).sum()) for linear in linears) / sum(linear.weight.numel() for linear in linears)


def fingerprint(model: nn.Module) -> int:
    """A checksum of every parameter's bits."""
    value = 0
    for parameter in model.parameters():
        value = zlib.crc32(parameter.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes(), value)
    return value


def _run(lm: LanguageModel, spec: PruneSpec, calibration: Calibration, stop_after: int | None) -> Variant | None:
    """Prune to the end, or cancel after so many steps: then None."""
    steps = prune_steps(lm, spec, calibration if spec.needs_calibration else None)
    try:
        for _ in itertools.count() if stop_after is None else range(stop_after):
            next(steps)
    except StopIteration as end:
        return end.value
    finally:
        steps.close()
    return None


if __name__ == "__main__":
    main()
