"""What the engine does on a GPU, in one Markdown table: `make device-check`, or `python device-check.pyz` elsewhere.

Random weights, no network. Masks on the device against the CPU's, for every method, order and number format; seconds
and peak memory against the plain loop on the same device; 2:4 by torch against dense. It keeps to a budget of seconds:
what would not fit any more is left out, and the table says so. Exit code 1 where a verdict is bad.
"""

import argparse
import copy
import gc
import platform
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
import transformers
from torch import nn

from benchmarks import plain
from benchmarks.device_models import (
    MASKS,
    SHAPES,
    Peak,
    Shape,
    drawn,
    fits,
    has_two_of_four,
    let_go,
    linears_of,
    name_of,
    random_model,
    wait_for,
)
from wanda_core.calibration.profile import Profile, profile
from wanda_core.evaluation.speed import speed_steps
from wanda_core.methods import METHODS, Method
from wanda_core.model.devices import checked_device, default_device
from wanda_core.model.language_model import LanguageModel
from wanda_core.progress import finish
from wanda_core.pruning.prune import prune
from wanda_core.recipe import ORDERS, PruneSpec
from wanda_core.text.windows import Calibration
from wanda_core.version import __version__

SECONDS = 480.0
DTYPES = (torch.float32, torch.float16, torch.bfloat16)
# The largest share of masks that may differ from the CPU's. Sums are added up in another order there, and scores near
# the cut change places; with the CPU's own norms only what a score itself adds up can differ.
MOST_DIFFERENT = {torch.float32: 1e-3, torch.float16: 2e-2, torch.bfloat16: 5e-2}
MOST_FROM_NORMS = 1e-4
MOST_SWEPT = 5e-2  # of masks that follow on weights updated column after column: an early difference is carried on
SAMPLES, SEQ_LEN = 16, 256  # of calibration against the plain loop
FEW_SAMPLES, FEW_TOKENS = 4, 64  # for masks, and without a GPU
PROMPT, NEW = 512, 32  # tokens of 2:4 against dense
LEAST_SECONDS = 5.0  # that must be left for anything to begin
COLUMNS = ("check", "shape", "numbers", "what", "here", "against", "verdict")


@dataclass(frozen=True)
class Row:
    """A row of the table. here: on the device; against: the CPU's, the plain loop's or the dense model's; bad: whether
    the verdict is one to look at."""

    check: str
    shape: str
    numbers: str
    what: str
    here: str = ""
    against: str = ""
    verdict: str = ""
    bad: bool = False

    def __str__(self) -> str:
        cells = (self.check, self.shape, self.numbers, self.what, self.here, self.against, self.verdict)
        return f"| {' | '.join(cells)} |"


class Budget:
    """Seconds that may be spent."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds, self._clock, self._began = seconds, clock, clock()

    @property
    def spent(self) -> float:
        """Seconds since it was made."""
        return self._clock() - self._began

    def has(self, seconds: float = LEAST_SECONDS) -> bool:
        """Whether so many seconds are left."""
        return self.seconds - self.spent >= seconds


def main() -> None:
    """Run the checks and print the table."""
    arguments = _arguments()
    transformers.utils.logging.set_verbosity_error()
    device = checked_device(arguments.device) if arguments.device else default_device()
    budget = Budget(arguments.seconds)
    lines = [heading(device), "", f"| {' | '.join(COLUMNS)} |", "|---|---|---|---|---:|---:|---|"]
    print("\n".join(lines), flush=True)
    bad = False
    for row in rows(device, budget, shapes_for(device)):
        lines.append(str(row))
        print(row, flush=True)
        bad |= row.bad
    lines += ["", ending(device, budget)]
    print(f"\n{lines[-1]}")
    if arguments.output:
        arguments.output.write_text("\n".join(lines) + "\n", encoding="utf-8")
    sys.exit(1 if bad else 0)


def heading(device: torch.device) -> str:
    """Say what is checked where."""
    return (
        f"Wanda Lab {__version__}, device check: {name_of(device)}; torch {torch.__version__}, transformers "
        f"{transformers.__version__}, Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    )


def ending(device: torch.device, budget: Budget) -> str:
    """Say how long it took, and what it cannot tell without a GPU."""
    words = f"{budget.spent:.0f} s of {budget.seconds:.0f} s."
    if device.type == "cpu":
        words += (
            " There is no GPU here: the CPU was compared with itself on shapes that are cut down, so this shows that "
            "the check runs, and nothing of a GPU."
        )
    return words


def shapes_for(device: torch.device) -> tuple[Shape, ...]:
    """The shapes that are run: without a GPU the two smaller ones, cut down."""
    return SHAPES if device.type != "cpu" else tuple(shape.small() for shape in SHAPES[:2])


def rows(device: torch.device, budget: Budget, shapes: Sequence[Shape]) -> Iterator[Row]:
    """Run all checks, one after the other."""
    yield from mask_rows(device, budget, MASKS)
    yield from each_shape("plain loop", shapes, budget, partial(loop_rows, device), lambda shape: shape.weights)
    if not has_two_of_four(device):
        yield Row("2:4 by torch", "", "", "needs CUDA, capability 8.0", verdict="left out")
        return
    for dtype in DTYPES[1:]:
        # A token waits for a product after another to be started, so its seconds go by their number.
        yield from each_shape(
            "2:4 by torch", shapes, budget, partial(sparse_rows, device, dtype), lambda shape: shape.blocks
        )


def each_shape(
    check: str,
    shapes: Sequence[Shape],
    budget: Budget,
    run: Callable[[Shape], Iterable[Row]],
    size: Callable[[Shape], int],
) -> Iterator[Row]:
    """Run a check on every shape, as long as there is time: how long the next takes follows from the last, by size."""
    expected = LEAST_SECONDS
    last = 0
    for shape in shapes:
        if last:
            expected *= size(shape) / last
        if not budget.has(expected):
            yield Row(check, shape.name, "", f"would take about {expected:.0f} s", verdict="left out")
            continue
        began = budget.spent
        yield from caught(check, shape.name, "", "", partial(run, shape))
        gc.collect()
        expected, last = max(budget.spent - began, 1.0), size(shape)


def caught(check: str, shape: str, numbers: str, what: str, run: Callable[[], Iterable[Row]]) -> Iterator[Row]:
    """Run a piece of a check; what it raises becomes a row."""
    try:
        yield from run()
    except Exception as error:  # a device may lack anything
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:160].replace("|", "/")
        yield Row(check, shape, numbers, what, verdict=f"FAILED: {reason}", bad=True)


def mask_rows(device: torch.device, budget: Budget, shape: Shape) -> Iterator[Row]:
    """Compare masks with the CPU's: a row a method and number format, with all its orders."""
    calibration = drawn(shape, FEW_SAMPLES, FEW_TOKENS)
    for dtype in DTYPES:
        cpu = random_model(shape, torch.device("cpu"), dtype)
        there = replace(cpu, model=copy.deepcopy(cpu.model).to(device))
        norms = profile(cpu, calibration)
        for method in METHODS.values():
            named = ("masks", shape.name, _short(dtype), method.name)
            if budget.has():
                yield from caught(*named, partial(compared, there, cpu, method, calibration, norms))
            else:
                yield Row(*named, "no time is left", verdict="left out")


def compared(
    there: LanguageModel, cpu: LanguageModel, method: Method, calibration: Calibration, norms: Profile
) -> Iterator[Row]:
    """Prune by a method in all its orders, on the device and on the CPU. norms: the CPU's, which decide one-shot."""
    told, bad = [], False
    for order in orders_of(method):
        spec = PruneSpec(method.name, 0.5, order=order)
        given = calibration if spec.needs_calibration else None
        taken = norms if order == "one-shot" and spec.needs_calibration else None
        ours, theirs = (prune(lm, spec, given, profile=taken).lm for lm in (there, cpu))
        share = differing(ours.model, theirs.model)
        own_inputs = taken is None and spec.needs_calibration
        most = MOST_SWEPT if method.sweeps else MOST_DIFFERENT[cpu.dtype]
        bad |= share > (most if own_inputs else MOST_FROM_NORMS)
        told.append(f"{order} {share:.2g}" if spec.needs_calibration else f"{share:.2g}")
    yield Row("masks", cpu.title, _short(cpu.dtype), method.name, "; ".join(told), "CPU", _verdict(bad), bad)


def orders_of(method: Method) -> tuple[str, ...]:
    """The orders that mean anything for a method: none where it looks at no inputs, no one-shot where it updates."""
    if not method.needs_norms:
        return ("one-shot",)
    return tuple(order for order in ORDERS if order != "one-shot" or method.default_update == "none")


def differing(first: nn.Module, second: nn.Module) -> float:
    """Share of the linears' weights that are zero in one of two models alone, 0 to 1."""
    others = dict(linears_of(second))
    apart = total = 0
    for name, linear in linears_of(first):
        zero, other = linear.weight.cpu() == 0, others[name].weight.cpu() == 0
        apart += int((zero != other).sum())
        total += zero.numel()
    return apart / total


def loop_rows(device: torch.device, shape: Shape) -> Iterator[Row]:
    """Time every order and the plain loop, with the memory that each takes beside the model."""
    dtype = torch.float32 if device.type == "cpu" else torch.float16
    numbers = _short(dtype)
    if not fits(shape.weights, dtype, device, 2.5):
        yield Row("plain loop", shape.name, numbers, "needs 2.5 times its weights in free memory", verdict="left out")
        return
    lm = random_model(shape, device, dtype)
    few = device.type == "cpu"
    calibration = drawn(shape, FEW_SAMPLES, FEW_TOKENS) if few else drawn(shape, SAMPLES, SEQ_LEN)
    for order in ORDERS:  # first calls pay for what later ones find ready
        prune(lm, PruneSpec("wanda", 0.5, order=order), drawn(shape, 1, 32))
    norms = profile(lm, calibration)
    measured: list[tuple[str, float, int | None]] = []
    for order in ORDERS[::-1]:  # the last one's weights are compared
        given = norms if order == "one-shot" else None
        spec = PruneSpec("wanda", 0.5, order=order)
        variant = None
        peak, began = Peak(device), time.perf_counter()
        variant = prune(lm, spec, calibration, profile=given)
        wait_for(device)
        measured.append((order, time.perf_counter() - began, peak.bytes()))
    assert variant is not None  # of the order faithful
    peak, began = Peak(device), time.perf_counter()
    plainly(lm, calibration)
    wait_for(device)
    seconds, most = time.perf_counter() - began, peak.bytes()
    same = all(
        torch.equal(ours.weight, theirs.weight)
        for (_, ours), (_, theirs) in zip(linears_of(variant.lm.model), linears_of(lm.model), strict=True)
    )
    for order, spent, taken in reversed(measured):
        verdict = f"{spent / seconds:.2f} of the plain loop"
        if order == "faithful":
            verdict += ", bit for bit the same" if same else ", OTHER WEIGHTS"
        bad = order == "faithful" and not same
        yield Row("plain loop", shape.name, numbers, order, _told(spent, taken), _told(seconds, most), verdict, bad)
    del lm, variant
    let_go(device)


def plainly(lm: LanguageModel, calibration: Calibration) -> None:
    """Prune the model itself by the published procedure, written plainly."""
    plain.prune_in_place(lm.model, lm.model.model.layers, calibration.ids.to(lm.device), 0.5)  # type: ignore[union-attr, arg-type]


def sparse_rows(device: torch.device, dtype: torch.dtype, shape: Shape) -> Iterator[Row]:
    """Prune 2:4, hand the matrices to torch, and time prompt and answer against the dense model's."""
    numbers = _short(dtype)
    if not fits(shape.weights, dtype, device, 2.5):
        yield Row("2:4 by torch", shape.name, numbers, "needs 2.5 times its weights in free memory", verdict="left out")
        return
    lm = random_model(shape, device, dtype)
    variant = prune(lm, PruneSpec("magnitude", pattern="2:4")).lm
    linears = linears_of(variant.model)
    dense = sum(linear.weight.numel() for _, linear in linears) * dtype.itemsize
    held = torch.cuda.memory_allocated(device)
    for _, linear in linears:
        packed = torch.sparse.to_sparse_semi_structured(linear.weight.data)
        linear.weight = nn.Parameter(packed, requires_grad=False)
    taken = dense - (held - torch.cuda.memory_allocated(device))
    first, second = finish(speed_steps([lm, variant], drawn(shape, 1, PROMPT).ids, new=NEW))
    gb = 1e9
    cells = [("weights of the linears", taken / gb, dense / gb, "GB", taken / dense)]
    cells += [("prompt", second.prefill, first.prefill, "tokens/s", second.prefill / first.prefill)]
    cells += [("answer", second.decode, first.decode, "tokens/s", second.decode / first.decode)]
    for what, ours, theirs, unit, ratio in cells:
        verdict = f"{ratio:.2f} of dense"
        yield Row("2:4 by torch", shape.name, numbers, what, f"{ours:,.2f} {unit}", f"{theirs:,.2f} {unit}", verdict)
    del lm, variant
    let_go(device)


def _told(seconds: float, taken: int | None) -> str:
    return f"{seconds:.2f} s" + ("" if taken is None else f", {taken / 1e9:.2f} GB")


def _verdict(bad: bool) -> str:
    return "MORE THAN EXPECTED" if bad else "as expected"


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="device-check", description=__doc__.partition("\n")[0])
    parser.add_argument("--device", help="cuda, cuda:N, mps or cpu; default: a GPU if there is one")
    parser.add_argument("--seconds", type=float, default=SECONDS, help=f"that it may take; default: {SECONDS:.0f}")
    parser.add_argument("--output", type=Path, help="a file for the table, beside what is printed")
    return parser.parse_args()


if __name__ == "__main__":
    main()
