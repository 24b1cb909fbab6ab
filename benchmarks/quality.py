"""Perplexity of every recipe in one table, and what the updated ones must reach against SparseGPT in the same run."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import memory
from wanda_core.assets import BUILTIN_EVALUATION
from wanda_core.calibration.profile import profile
from wanda_core.evaluation.perplexity import perplexity
from wanda_core.model.language_model import LanguageModel
from wanda_core.presets import preset
from wanda_core.progress import finish
from wanda_core.pruning.prune import prune
from wanda_core.pruning.sensitivity import sensitivity_steps
from wanda_core.recipe import ORDERS, PruneSpec
from wanda_core.text.windows import Calibration

WINDOWS, WINDOW_TOKENS = 16, 512  # of evaluation
AMOUNTS: dict[str, dict[str, Any]] = {
    "50%": {"sparsity": 0.5},
    "60%": {"sparsity": 0.6},
    "70%": {"sparsity": 0.7},
    "2:4": {"pattern": "2:4"},
}


@dataclass(frozen=True)
class Target:
    """Upper limits of a recipe, as shares of SparseGPT's. perplexities: by amount; seconds: at every amount."""

    name: str
    perplexities: Mapping[str, float]
    seconds: float


SPARSEGPT = "SparseGPT"
TARGETS = (
    Target("Wanda + least squares, in-flight", {"50%": 0.95, "60%": 0.85, "2:4": 0.9}, 1.0),
    Target("best", {"50%": 0.76, "60%": 0.54, "70%": 0.38, "2:4": 0.62}, 1.5),
)
MOST_BY_SENSITIVITY = 0.8  # perplexity of plain Wanda at 60% with measured sensitivities, of that with blocks alike


@dataclass(frozen=True)
class Row:
    """Measured of a recipe: perplexity and seconds of pruning."""

    perplexity: float
    seconds: float


def updated(amount: Mapping[str, Any]) -> dict[str, PruneSpec]:
    """The recipes that the targets are about, at one amount."""
    return {
        SPARSEGPT: PruneSpec("sparsegpt", **amount),
        TARGETS[0].name: PruneSpec("wanda", order="in-flight", update="least-squares", **amount),
        TARGETS[1].name: preset("best", **amount),
    }


def others() -> list[PruneSpec]:
    """The other rows: Wanda in every order from 30 to 70%, the other methods beside it, patterns last."""
    rows = [PruneSpec("wanda", share, order=order) for share in (0.3, 0.4, 0.5, 0.6, 0.7) for order in ORDERS]
    rows += [PruneSpec("magnitude", 0.5), PruneSpec("magnitude", 0.5, group="model"), PruneSpec("wanda-variant", 0.5)]
    rows += [PruneSpec("ria", 0.5, order="in-flight"), PruneSpec("wanda", 0.6, order="one-shot", allocation="owl")]
    return rows + [PruneSpec("wanda", pattern=pattern) for pattern in ("4:8", "2:4")]


def by_sensitivity() -> dict[str, PruneSpec]:
    """Plain Wanda with every block alike and with measured sensitivities, which have a target of their own."""
    return {name: PruneSpec("wanda", 0.6, order="one-shot", allocation=name) for name in ("uniform", "measured")}


def table(lm: LanguageModel, calibration: Calibration, text: str, plainly: float | None, targets_only: bool) -> bool:
    """Print one Markdown table, every recipe's perplexity, seconds, their ratio to the plain loop's and peak memory,
    and a second one of the targets; whether all of them are met.

    plainly: the plain loop's seconds; targets_only: leave out the recipes that no target is about.
    """
    print("| recipe | order | zeros | perplexity | seconds | of the plain loop | peak memory |")
    print("|---|---|---:|---:|---:|---:|---:|")
    dense = perplexity(lm, text, seq_len=WINDOW_TOKENS, windows=WINDOWS)
    few = "" if dense.windows == WINDOWS else f" ({dense.windows} windows)"
    print(f"| Dense |  | 0% | {dense.perplexity:,.2f}{few} |  |  |  |", flush=True)
    started = time.perf_counter()
    taken = finish(sensitivity_steps(lm, calibration, profile(lm, calibration)))
    seconds = time.perf_counter() - started
    share = f"{seconds / plainly:.2f}" if plainly else ""
    print(
        f"| Norms and sensitivities, kept for the rows that go by them |  |  |  | {seconds:.1f} | {share} |  |",
        flush=True,
    )

    known: dict[PruneSpec, Row] = {}

    def measured(spec: PruneSpec, name: str) -> Row:
        if spec in known:
            return known[spec]
        memory.reset_peak()
        given = taken if spec.needs_profile else None
        variant = prune(lm, spec, calibration if spec.needs_calibration else None, profile=given)
        peak, report = memory.peak(), variant.report
        row = Row(perplexity(variant.lm, text, seq_len=WINDOW_TOKENS, windows=WINDOWS).perplexity, report.seconds)
        cells = [name, spec.order if spec.needs_calibration else "", f"{report.sparsity:.1%}"]
        cells += [f"{row.perplexity:,.2f}{few}", f"{row.seconds:.1f}"]
        cells += [f"{row.seconds / plainly:.2f}" if plainly else "", f"{peak / memory.GB:.2f} GB" if peak else ""]
        print(f"| {' | '.join(cells)} |", flush=True)
        known[spec] = row
        return row

    for spec in [] if targets_only else others():
        measured(spec, recipe_name(spec))
    rows = {
        amount: {name: measured(spec, recipe_name(spec, name)) for name, spec in updated(given).items()}
        for amount, given in AMOUNTS.items()
    }
    plain = {name: measured(spec, recipe_name(spec)).perplexity for name, spec in by_sensitivity().items()}
    met = judged(rows)
    ratio = plain["measured"] / plain["uniform"]
    verdict = "met" if ratio <= MOST_BY_SENSITIVITY else "MISSED"
    print(
        f"\nWanda 60% measured, of uniform: {ratio:.3f} (target at most {MOST_BY_SENSITIVITY:g}): {verdict}", flush=True
    )
    return met and ratio <= MOST_BY_SENSITIVITY


def judged(rows: Mapping[str, Mapping[str, Row]]) -> bool:
    """Print every target beside what was measured, as shares of SparseGPT's at the same amount; whether all are met."""
    print("\n| recipe | zeros | perplexity, of SparseGPT's | target | seconds, of SparseGPT's | target |")
    print("|---|---|---:|---:|---:|---:|")
    all_met = True
    for target in TARGETS:
        for amount, most in target.perplexities.items():
            ours, theirs = rows[amount][target.name], rows[amount][SPARSEGPT]
            cells = [target.name, amount]
            for ratio, limit in (
                (ours.perplexity / theirs.perplexity, most),
                (ours.seconds / theirs.seconds, target.seconds),
            ):
                all_met &= ratio <= limit
                cells += [f"{ratio:.3f}", f"{limit:g}, {'met' if ratio <= limit else 'MISSED'}"]
            print(f"| {' | '.join(cells)} |", flush=True)
    return all_met


def recipe_name(spec: PruneSpec, known_as: str = "") -> str:
    """The recipe's label, with what tells it from its neighbours in the table."""
    group = f" per {spec.group}" if spec.group != spec.definition.groups[0] and not spec.n_of_m else ""
    return spec.label + (" (best)" if known_as == "best" else "") + group


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
