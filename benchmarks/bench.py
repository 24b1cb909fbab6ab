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
from torch import Tensor, nn
from transformers.utils import logging

from benchmarks import buys, low_memory, memory, plain, processes, quality
from wanda_core.assets import BUILTIN_EVALUATION
from wanda_core.calibration.batching import BATCH_TOKENS, batched
from wanda_core.calibration.profile import Profile, profile
from wanda_core.errors import WandaError
from wanda_core.machine.process import keep_freed_memory
from wanda_core.model.block_calls import BlockCall, StopForward, block_calls
from wanda_core.model.language_model import LanguageModel
from wanda_core.model.linears import decoder_blocks
from wanda_core.model.loading import load_model
from wanda_core.presets import FINEST
from wanda_core.pruning.prune import prune
from wanda_core.recipe import PruneSpec
from wanda_core.text.files import read_text
from wanda_core.text.windows import Calibration, calibrate

ROUNDS = 3
BUSY = 1.2  # slowest round / fastest; on an idle machine it is below 1.05
SPARSITY = 0.5
SAMPLES, SEQ_LEN = 16, 256  # of calibration, in windows and tokens
MOST_RATIO = {"faithful": 0.6, "in-flight": 0.4, "one-shot": 1 / 15}  # of the plain loop's time
PASSES = {  # through the network that an order cannot avoid
    "faithful": ("one pass", "short pass"),
    "in-flight": ("one pass",),
    "one-shot": (),
}
MOST_PRUNE_GB = 2.0
MOST_APP_GB = 3.0
SECTIONS = ("speed", "perplexity", "buys", "memory", "low-memory", "processes", "targets")


def main() -> None:
    """Print the sections asked for, all when none is named."""
    arguments = _arguments()
    keep_freed_memory()  # as the command line and the app do; the plain loop has it too
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    sections = arguments.only or SECTIONS[:-1]
    print(_machine())
    met = []
    if any(section in sections for section in ("speed", "perplexity", "buys", "targets")):
        lm = load_model("builtin", device="cpu", dtype=torch.float32)
        own = read_text(arguments.calibration) if arguments.calibration else None
        name = arguments.calibration.name if arguments.calibration else None
        calibration = calibrate(lm, own, samples=SAMPLES, seq_len=SEQ_LEN, source=name)
        plainly = None
        if "speed" in sections:
            fast, plainly = speed(lm, calibration)
            met.append(fast)
        if any(section in sections for section in ("perplexity", "buys", "targets")):
            text, source = quality.evaluation_text(arguments.wikitext)
            read = f"{source}, first {quality.WINDOWS} windows of {quality.WINDOW_TOKENS} tokens; "
            read += f"calibrated on {SAMPLES} × {SEQ_LEN} tokens of "
        if "perplexity" in sections or "targets" in sections:
            _heading(f"Perplexity: {read}{calibration.source}")
            larger = calibrate(lm, own, samples=FINEST.draw[0], seq_len=FINEST.draw[1], source=name)
            builtin = BUILTIN_EVALUATION.read_text(encoding="utf-8")
            texts = list(dict.fromkeys((text, builtin)))
            met.append(quality.table(lm, calibration, larger, texts, plainly, "perplexity" not in sections))
        if "buys" in sections:
            drawn = calibration if own else buys.same_text(lm, calibration, text, source)
            _heading(f"What pruning buys: {read}{drawn.source}")
            try:
                met.append(buys.table(lm, drawn, text))
            except RuntimeError as error:
                print(f"FAILED, {error}")
                met.append(False)
    if "memory" in sections:
        met.append(peaks())
    if "low-memory" in sections:
        met.append(growth())
    if "processes" in sections:
        _heading(f"One process and {processes.PROCESSES} on the same {os.cpu_count()} cores")
        try:
            met.append(processes.compare())
        except RuntimeError as error:
            print(f"FAILED, {error}")
            met.append(False)
    sys.exit(0 if all(met) else 1)


def speed(lm: LanguageModel, calibration: Calibration) -> tuple[bool, float]:
    """Time every order, the passes it cannot avoid and the plain loop in turn; whether all ratios are met, and the
    plain loop's median seconds."""
    _heading(f"Speed: Wanda {SPARSITY:.0%}, {SAMPLES} × {SEQ_LEN} tokens of the {calibration.source}")
    warm_up = calibrate(lm, samples=1, seq_len=32)  # first calls pay for what later ones find ready
    taken = profile(lm, calibration)
    for order in MOST_RATIO:
        order_run(lm, warm_up, order, taken)
    plain_run(lm, warm_up)
    seconds: dict[str, list[float]] = {name: [] for name in (*MOST_RATIO, "one pass", "short pass", "plain loop")}
    for number in range(1, ROUNDS + 1):
        for order in MOST_RATIO:
            spent, found = order_run(lm, calibration, order, taken)
            seconds[order].append(spent)
            if order == "faithful":
                faithful = found
        spent, reference = plain_run(lm, calibration)
        seconds["plain loop"].append(spent)
        seconds["one pass"].append(forward_pass(lm, calibration))
        seconds["short pass"].append(forward_pass(lm, calibration, to_the_end=False))
        print(f"round {number}: " + ", ".join(f"{name} {each[-1]:.2f} s" for name, each in seconds.items()), flush=True)
        assert_same_bits(faithful, reference)
        del faithful, found, reference  # a model each
    if any(max(each) > BUSY * min(each) for each in seconds.values()):
        print("The rounds differ much: something else is running here, and the ratios say little.")
    middle = {name: median(each) for name, each in seconds.items()}
    print("faithful gives the plain loop's weights, bit for bit\n")
    print("| order | seconds | of the plain loop | target | floor: forward passes alone |")
    print("|---|---:|---:|---:|---:|")
    met = True
    plainly = middle["plain loop"]
    for order, most in MOST_RATIO.items():
        ratio, floor = middle[order] / plainly, sum(middle[part] for part in PASSES[order]) / plainly
        met &= ratio <= most
        verdict = "met" if ratio <= most else "MISSED"
        print(f"| {order} | {middle[order]:.2f} | {ratio:.2f} | {most:.3g}, {verdict} | {floor:.2f} |")
    print(f"| plain loop | {plainly:.2f} | 1 | | |", flush=True)
    return met, plainly


def order_run(lm: LanguageModel, calibration: Calibration, order: str, taken: Profile) -> tuple[float, nn.Module]:
    """Seconds of the engine's pruning, and the pruned model. One-shot prunes from `taken`."""
    started = time.perf_counter()
    spec = PruneSpec("wanda", SPARSITY, order=order)
    variant = prune(lm, spec, calibration, profile=taken if order == "one-shot" else None)
    return time.perf_counter() - started, variant.lm.model


@torch.no_grad()
def forward_pass(lm: LanguageModel, calibration: Calibration, to_the_end: bool = True) -> float:
    """Seconds of one plain pass of the calibration set through the blocks, in calls as large as pay.

    to_the_end: otherwise each block stops before its last linear, which is enough to see every linear's inputs.
    """
    _, blocks = decoder_blocks(lm.model)
    calls, hidden = block_calls(lm.model, blocks, calibration.ids)
    inputs = list(batched(hidden, max(1, BATCH_TOKENS // calibration.seq_len)))
    handles = [] if to_the_end else [part[-1].module.register_forward_pre_hook(_stop) for part in lm.linears]
    try:
        started = time.perf_counter()
        for block, call in zip(blocks, calls, strict=True):
            inputs = [_run(block, call, x) for x in inputs]
        return time.perf_counter() - started
    finally:
        for handle in handles:
            handle.remove()


def _run(block: nn.Module, call: BlockCall, x: Tensor) -> Tensor:
    try:
        return call.run(block, x)
    except StopForward:
        return x


def _stop(module: nn.Module, args: tuple[Tensor, ...]) -> None:
    raise StopForward


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


def growth() -> bool:
    """Print the peak memory of `--low-memory` by the number of blocks; whether it grows as little as it should."""
    _heading("Peak resident memory of prune --low-memory, random models of one width")
    try:
        found = low_memory.peaks()
    except RuntimeError as error:
        print(f"FAILED, {error}")
        return False
    print("| blocks | weights | peak memory |\n|---:|---:|---:|")
    for blocks, (weights, peak) in found.items():
        print(f"| {blocks} | {weights / memory.GB:.2f} GB | {peak / memory.GB:.2f} GB |")
    what = f"growth from {min(found)} to {max(found)} blocks"
    return _judge(what, 100 * low_memory.growth(found), 100 * low_memory.MOST_GROWTH, "%")


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


def parser() -> argparse.ArgumentParser:
    """What the command takes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench", description=__doc__)
    default = os.environ.get("WANDA_WIKITEXT")
    parser.add_argument(
        "--wikitext", type=Path, default=Path(default) if default else None, help="WikiText-2's wiki.test.raw"
    )
    parser.add_argument("--calibration", type=Path, help="a text to calibrate on in place of the built-in one")
    parser.add_argument(
        "--only",
        action="append",
        choices=SECTIONS,
        help="this section alone; may be repeated; targets: of perplexity, the rows that have a target",
    )
    return parser


def _arguments() -> argparse.Namespace:
    arguments = parser().parse_args()
    if arguments.wikitext is not None and not arguments.wikitext.is_file():
        parser().error(f"{str(arguments.wikitext)!r} is not a file; give the path of wiki.test.raw")
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
