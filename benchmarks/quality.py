"""Perplexity of every recipe in one table, and what the updated ones must reach against SparseGPT in the same run.

`finest` reads more than the others, so SparseGPT has a row on its text too.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import memory
from wanda_core.assets import BUILTIN_EVALUATION
from wanda_core.calibration.profile import profile
from wanda_core.evaluation.perplexity import perplexity
from wanda_core.model.language_model import LanguageModel
from wanda_core.presets import FINEST, PRESETS, preset
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


SPARSEGPT, AS_MUCH_READ = "SparseGPT", "SparseGPT on finest's text"
TARGETS = (
    Target("Wanda + least squares, in-flight", {"50%": 0.95, "60%": 0.85, "2:4": 0.9}, 1.0),
    Target("best", {"50%": 0.76, "60%": 0.54, "70%": 0.38, "2:4": 0.62}, 1.5),
    Target("finest", {"60%": 0.5}, 4.0),
)
READS_MORE = ("finest", AS_MUCH_READ)
MOST_BY_SENSITIVITY = 0.8  # perplexity of plain Wanda at 60% with measured sensitivities, of that with blocks alike


@dataclass(frozen=True)
class Row:
    """Measured of a recipe: perplexity, seconds of pruning, and perplexity on a second text, where there is one."""

    perplexity: float
    seconds: float
    second: float | None = None


def updated(amount: Mapping[str, Any]) -> dict[str, PruneSpec]:
    """The recipes that the targets are about, at one amount."""
    return {
        SPARSEGPT: PruneSpec("sparsegpt", **amount),
        TARGETS[0].name: PruneSpec("wanda", order="in-flight", update="least-squares", **amount),
        **{name: preset(name, **amount, arrange="pattern" in amount) for name in ("best", "finest")},
        AS_MUCH_READ: PruneSpec("sparsegpt", **amount),
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


def table(
    lm: LanguageModel,
    calibration: Calibration,
    larger: Calibration,
    texts: Sequence[str],
    plainly: float | None,
    targets_only: bool,
) -> bool:
    """Print one Markdown table, every recipe's perplexity, seconds, their ratio to the plain loop's and peak memory,
    and a second one of the targets; whether all of them are met.

    larger: the calibration of `finest`; texts: to measure on, of a second one only what has a target; plainly: the
    plain loop's seconds; targets_only: leave out the recipes that no target is about.
    """
    print("| recipe | order | zeros | perplexity | on a second text | seconds | of the plain loop | peak memory |")
    print("|---|---|---:|---:|---:|---:|---:|---:|")
    dense = [perplexity(lm, text, seq_len=WINDOW_TOKENS, windows=WINDOWS) for text in texts]
    few = "" if dense[0].windows == WINDOWS else f" ({dense[0].windows} windows)"
    said = [f"{each.perplexity:,.2f}" for each in dense]
    print(f"| Dense |  | 0% | {said[0]}{few} | {' '.join(said[1:])} |  |  |  |", flush=True)
    started = time.perf_counter()
    taken = finish(sensitivity_steps(lm, calibration, profile(lm, calibration)))
    seconds = time.perf_counter() - started
    share = f"{seconds / plainly:.2f}" if plainly else ""
    print(
        f"| Norms and sensitivities, kept for the rows that go by them |  |  |  |  | {seconds:.1f} | {share} |  |",
        flush=True,
    )

    known: dict[tuple[PruneSpec, str], Row] = {}

    def measured(spec: PruneSpec, name: str, read: Calibration = calibration, on: Sequence[str] = texts[:1]) -> Row:
        key = (spec, read.fingerprint)
        if key in known:
            return known[key]
        memory.reset_peak()
        given = taken if spec.needs_profile else None
        variant = prune(lm, spec, read if spec.needs_calibration else None, profile=given)
        peak, report = memory.peak(), variant.report
        found = [perplexity(variant.lm, text, seq_len=WINDOW_TOKENS, windows=WINDOWS).perplexity for text in on]
        row = Row(found[0], report.seconds, found[1] if len(found) > 1 else None)
        cells = [name, spec.order if spec.needs_calibration else "", f"{report.sparsity:.1%}"]
        cells += [f"{row.perplexity:,.2f}{few}", "" if row.second is None else f"{row.second:,.2f}"]
        cells += [f"{row.seconds:.1f}", f"{row.seconds / plainly:.2f}" if plainly else ""]
        cells += [f"{peak / memory.GB:.2f} GB" if peak else ""]
        print(f"| {' | '.join(cells)} |", flush=True)
        known[key] = row
        return row

    for spec in [] if targets_only else others():
        measured(spec, recipe_name(spec))
    rows = {
        amount: {
            name: measured(spec, recipe_name(spec, name), larger if name in READS_MORE else calibration, texts)
            for name, spec in updated(given).items()
        }
        for amount, given in AMOUNTS.items()
    }
    plain = {name: measured(spec, recipe_name(spec)).perplexity for name, spec in by_sensitivity().items()}
    met = judged(rows)
    same_order(rows)
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


def same_order(rows: Mapping[str, Mapping[str, Row]]) -> None:
    """Print at which amounts the recipes are in the same order, by perplexity, on the second text."""
    for amount, each in rows.items():
        second = {name: row.second for name, row in each.items() if row.second is not None}
        if second:
            there = sorted(second, key=second.__getitem__)
            here = sorted(second, key=lambda name: each[name].perplexity)
            print(f"{amount}, order on the second text: {'the same' if here == there else ' < '.join(there)}")


def recipe_name(spec: PruneSpec, known_as: str = "") -> str:
    """The recipe's label, with what tells it from its neighbours in the table."""
    group = f" per {spec.group}" if spec.group != spec.definition.groups[0] and not spec.n_of_m else ""
    draw = f", {FINEST.draw[0]} × {FINEST.draw[1]} tokens" if known_as in READS_MORE else ""
    return spec.label + (f" ({known_as})" if known_as in PRESETS else "") + group + draw


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
