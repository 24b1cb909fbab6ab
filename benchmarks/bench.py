"""Time, perplexity and memory of the built-in model, against their targets: `make bench`.

Everything runs on the CPU in float32. Exit code 1 when a target is missed or a measurement fails.
"""

import argparse
import copy
import os
import platform
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import torch
import transformers
from torch import nn
from transformers.utils import logging

from benchmarks import memory, plain
from wanda_core.calibration import BUILTIN_EVALUATION, Calibration, calibrate
from wanda_core.errors import WandaError
from wanda_core.evaluate import perplexity
from wanda_core.linears import decoder_blocks
from wanda_core.models import LanguageModel, load_model
from wanda_core.process import keep_freed_memory
from wanda_core.prune import prune
from wanda_core.recipe import PruneSpec

ROUNDS = 3
BUSY = 1.2  # slowest round / fastest; on an idle machine it is below 1.05
SPARSITY = 0.5
SAMPLES, SEQ_LEN = 16, 256  # of calibration, in windows and tokens
WINDOWS, WINDOW_TOKENS = 16, 512  # of evaluation
RECIPES = (
    PruneSpec("magnitude", SPARSITY),
    PruneSpec("wanda", SPARSITY),
    PruneSpec("wanda", pattern="2:4"),
    PruneSpec("wanda", pattern="4:8"),
)
MOST_RATIO = 0.65  # faithful order / plain loop
MOST_PRUNE_GB = 2.0
MOST_APP_GB = 3.0
SECTIONS = ("speed", "perplexity", "memory")


def main() -> None:
    """Print the sections asked for, all when none is named."""
    arguments = _arguments()
    keep_freed_memory()  # as the command line and the app do; the plain loop has it too
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    sections = arguments.only or SECTIONS
    print(_machine())
    met = []
    if "speed" in sections or "perplexity" in sections:
        lm = load_model("builtin", device="cpu", dtype=torch.float32)
        calibration = calibrate(lm, samples=SAMPLES, seq_len=SEQ_LEN)
        if "speed" in sections:
            met.append(speed(lm, calibration))
        if "perplexity" in sections:
            perplexities(lm, calibration, *evaluation_text(arguments.wikitext))
    if "memory" in sections:
        met.append(peaks())
    sys.exit(0 if all(met) else 1)


def speed(lm: LanguageModel, calibration: Calibration) -> bool:
    """Time the faithful order and the plain loop in turn; whether the ratio of their medians is met."""
    _heading(f"Speed: Wanda {SPARSITY:.0%}, {SAMPLES} × {SEQ_LEN} tokens of the {calibration.source}")
    warm_up = calibrate(lm, samples=1, seq_len=32)  # first calls pay for what later ones find ready
    faithful_run(lm, warm_up)
    plain_run(lm, warm_up)
    ours, theirs = [], []
    for number in range(1, ROUNDS + 1):
        seconds, faithful = faithful_run(lm, calibration)
        ours.append(seconds)
        seconds, reference = plain_run(lm, calibration)
        theirs.append(seconds)
        print(f"round {number}: faithful {ours[-1]:.2f} s, plain loop {theirs[-1]:.2f} s")
        assert_same_bits(faithful, reference)
        del faithful, reference  # a model each
    if max(ours) > BUSY * min(ours) or max(theirs) > BUSY * min(theirs):
        print("The rounds differ much: something else is running here, and the ratio says little.")
    ratio = median(ours) / median(theirs)
    print(f"medians: faithful {median(ours):.2f} s, plain loop {median(theirs):.2f} s; identical weights, bit for bit")
    return _judge("ratio", ratio, MOST_RATIO)


def faithful_run(lm: LanguageModel, calibration: Calibration) -> tuple[float, nn.Module]:
    """Seconds of the engine's pruning, and the pruned model."""
    started = time.perf_counter()
    variant = prune(lm, PruneSpec("wanda", SPARSITY), calibration)
    return time.perf_counter() - started, variant.lm.model


def plain_run(lm: LanguageModel, calibration: Calibration) -> tuple[float, nn.Module]:
    """Seconds of the plain loop, and the pruned model. The deep copy it works on is not counted."""
    model = copy.deepcopy(lm.model)
    _, blocks = decoder_blocks(model)
    started = time.perf_counter()
    plain.prune_in_place(model, blocks, calibration.ids, SPARSITY)
    return time.perf_counter() - started, model


def assert_same_bits(first: nn.Module, second: nn.Module) -> None:
    """Raise AssertionError naming a parameter that differs in any bit."""
    others = dict(second.named_parameters())
    for name, parameter in first.named_parameters():
        same = torch.equal(parameter.contiguous().view(torch.uint8), others.pop(name).contiguous().view(torch.uint8))
        if not same:
            raise AssertionError(f"{name} differs between the faithful order and the plain loop")
    if others:
        raise AssertionError(f"only the plain loop's model has {', '.join(others)}")


def perplexities(lm: LanguageModel, calibration: Calibration, text: str, source: str) -> None:
    """Print the perplexity of the dense model and of every recipe as a Markdown table."""
    _heading(f"Perplexity: {source}, first {WINDOWS} windows of {WINDOW_TOKENS} tokens")
    print("| model | zeros | perplexity | seconds to prune | seconds to evaluate |")
    print("|---|---:|---:|---:|---:|")
    _row("Dense", 0.0, None, lm, text)
    for spec in RECIPES:
        variant = prune(lm, spec, calibration if spec.needs_calibration else None)
        _row(spec.label, variant.report.sparsity, variant.report.seconds, variant.lm, text)


def _row(label: str, zeros: float, seconds: float | None, lm: LanguageModel, text: str) -> None:
    started = time.perf_counter()
    found = perplexity(lm, text, seq_len=WINDOW_TOKENS, windows=WINDOWS)
    evaluation = time.perf_counter() - started
    spent = "" if seconds is None else f"{seconds:.1f}"
    few = "" if found.windows == WINDOWS else f" ({found.windows} windows)"
    print(f"| {label} | {zeros:.1%} | {found.perplexity:,.2f}{few} | {spent} | {evaluation:.1f} |", flush=True)


def evaluation_text(path: Path | None) -> tuple[str, str]:
    """The text to measure perplexity on, and its name: a file, else WikiText-2 by `datasets`, else the built-in one."""
    if path is not None:
        return without_blank_lines(path.read_text(encoding="utf-8")), path.name
    try:
        import datasets
    except ImportError:
        print("No WikiText-2 given (--wikitext or WANDA_WIKITEXT) and `datasets` is not installed: built-in text.")
        return BUILTIN_EVALUATION.read_text(encoding="utf-8"), "the built-in evaluation text"
    rows = datasets.load_dataset("Salesforce/wikitext", "wikitext-2-raw-v1", split="test")["text"]
    return without_blank_lines("".join(rows)), "WikiText-2 (raw) test split"


def without_blank_lines(text: str) -> str:
    """The copies of WikiText-2 differ in blank lines alone; without them all give the same figure."""
    return "".join(f"{line}\n" for line in text.split("\n") if line.strip())


def peaks() -> bool:
    """Print the peak memory of a prune and of the app; whether both are met. What cannot be measured is not missed."""
    _heading("Peak resident memory")
    met = True
    for what, measure, most in (
        ("prune from the command line", memory.prune_peak, MOST_PRUNE_GB),
        ("app after a prune and a comparison", memory.app_peak, MOST_APP_GB),
    ):
        try:
            met &= _judge(what, measure() / memory.GB, most, " GB")
        except memory.Skipped as reason:
            print(f"{what}: skipped, {reason}")
        except RuntimeError as error:
            print(f"{what}: FAILED, {error}")
            met = False
    return met


def _judge(what: str, value: float, most: float, unit: str = "") -> bool:
    met = value <= most
    print(f"{what}: {value:.2f}{unit} (target at most {most:g}{unit}): {'met' if met else 'MISSED'}", flush=True)
    return met


def _heading(text: str) -> None:
    print(f"\n## {text}\n", flush=True)


def _machine() -> str:
    return (
        f"Python {platform.python_version()}, torch {torch.__version__}, transformers {transformers.__version__}, "
        f"{platform.machine()}, {os.cpu_count()} CPUs, {torch.get_num_threads()} threads"
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench", description=__doc__)
    default = os.environ.get("WANDA_WIKITEXT")
    parser.add_argument(
        "--wikitext", type=Path, default=Path(default) if default else None, help="WikiText-2's wiki.test.raw"
    )
    parser.add_argument("--only", action="append", choices=SECTIONS, help="this section alone; may be repeated")
    arguments = parser.parse_args()
    if arguments.wikitext is not None and not arguments.wikitext.is_file():
        parser.error(f"{str(arguments.wikitext)!r} is not a file; give the path of wiki.test.raw")
    return arguments


@contextmanager
def _one_sentence() -> Iterator[None]:
    try:
        yield
    except WandaError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    with _one_sentence():
        main()
