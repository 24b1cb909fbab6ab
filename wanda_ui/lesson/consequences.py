"""Steps 6 to 8: what an outlier channel carries, where two masks part, and what that costs."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import pandas as pd

from wanda_core.assets import BUILTIN_EVALUATION
from wanda_core.errors import InputError
from wanda_core.evaluation.generation import MAX_PROMPT_CHARACTERS, Generated, generate
from wanda_core.evaluation.perplexity import perplexity_steps
from wanda_core.explain.mask_comparison import protection
from wanda_core.model.language_model import LanguageModel
from wanda_core.outliers.ablation import Ablation, AblationReport, ablate_steps
from wanda_core.outliers.analysis import standing_out
from wanda_core.progress import Progress, Steps, inside
from wanda_core.pruning.prune import prune_steps
from wanda_core.recipe import PruneSpec
from wanda_core.text.files import read_text
from wanda_ui.engine.loaded import Loaded
from wanda_ui.inputs import typed_number
from wanda_ui.lesson import figures
from wanda_ui.lesson.answers import Answer, Asked
from wanda_ui.lesson.sentences import written
from wanda_ui.markup import number

SEQ_LEN = 256  # tokens of a window of every perplexity here
ABLATION_WINDOWS, COST_WINDOWS = 2, 1  # what two cores measure seven times in ten seconds, pruning and writing between
HURTS = 2.0  # times the untouched perplexity
SPARSITY = 0.5  # of step 7, and the one that step 8 asks about
SPARSITIES = (0.3, SPARSITY, 0.6)
METHODS = ("magnitude", "wanda")
LINE_TOKENS = 10  # of a generated line
PARTS = 1.5  # how many times as often masks differ in loud columns before "more often" is said
MOST_ECHOED = 40  # characters of what somebody typed, in the answer to it
RATIOS = ((0.8, "worse"), (1.5, "same"), (4.0, "few"))  # magnitude's perplexity as a multiple of Wanda's


def ablate(asked: Asked, channel: object) -> Steps[Answer]:
    """Step 6: one channel set to zero after every block, against one random channel, five times."""
    say = asked.say
    loaded = yield from asked.state.open_steps(asked.model)
    chosen = _chosen(asked, channel, "channel", loaded.lm.width, strongest(loaded))
    report = yield from asked.state.alone_steps(loaded, "lesson: ablate", partial(_ablated, channel=chosen))
    low, high = report.random_range
    times = report.chosen.perplexity / report.untouched
    hurts, others = times >= HURTS, high / report.untouched >= HURTS
    right = "one" if hurts and not others else "all" if hurts else "none" if not others else None
    values = {
        "channel": chosen,
        "untouched": number(report.untouched),
        "chosen": number(report.chosen.perplexity),
        "low": number(low),
        "high": number(high),
        "times": number(times),
    }
    rows = [[say("lesson.ablate.untouched"), "", number(report.untouched)]]
    rows += [[say("lesson.ablate.random"), str(run.channels[0]), number(run.perplexity)] for run in report.random]
    rows += [[say("lesson.ablate.chosen"), str(chosen), number(report.chosen.perplexity)]]
    columns = [say(f"lesson.column.{name}") for name in ("what", "channel", "perplexity")]
    measured = {"channel": chosen, "untouched": report.untouched, "chosen": report.chosen.perplexity}
    return Answer(
        right,
        say("lesson.ablate.finding" if hurts else "lesson.ablate.finding_none", **values),
        say("lesson.ablate.why" if right == "one" else "lesson.ablate.why_none", **values, strongest=strongest(loaded)),
        figures.ablation_bars(report, say),
        measured | {f"random_{run.channels[0]}": run.perplexity for run in report.random},
        pd.DataFrame(rows, columns=columns),
    )


def masks(asked: Asked, block: object) -> Steps[Answer]:
    """Step 7: where magnitude's and Wanda's masks of one linear differ, from its quietest to its loudest input."""
    say = asked.say
    loaded = yield from asked.state.open_steps(asked.model)
    assert loaded.analysis is not None  # made by open_steps
    blocks = loaded.lm.linears
    chosen = _chosen(asked, block, "block", len(blocks), len(blocks) // 2)
    if not blocks[chosen]:
        raise InputError(say("lesson.problem.no_linear", block=chosen))
    linear = blocks[chosen][0]
    protected = protection(linear.weight, loaded.analysis.profile.norms[linear.name], SPARSITY)
    parting, bins = protected.parting, protected.bins
    overall, top = parting.overall, parting.top
    right = "large" if top > PARTS * overall else "small" if top * PARTS < overall else "even"
    values = {"kind": linear.kind, "block": chosen, "overall": overall, "top": top, "columns": parting.columns}
    loudest = {"magnitude": float(bins.magnitude[-1]), "wanda": float(bins.wanda[-1])}
    table = pd.DataFrame(
        [
            [column.index, f"{column.norm:.2f}", f"{column.magnitude:.0%}", f"{column.wanda:.0%}"]
            for column in protected.top[:8]
        ],
        columns=[say(f"lesson.column.{name}") for name in ("column", "norm", "cut_magnitude", "cut_wanda")],
    )
    return Answer(
        right,
        say("lesson.masks.finding", **values),
        say(f"lesson.masks.why_{right}", **values, **loudest),
        figures.protection_lines(protected, say),
        {"linear": linear.name, "differ_overall": overall, "differ_loudest_columns": top, **loudest},
        table,
    )


def cost(asked: Asked, prompt: object) -> Steps[Answer]:
    """Step 8: perplexity and a line of text at rising sparsity, by magnitude and by Wanda. Nothing of it is kept."""
    say = asked.say
    words = written(asked, prompt, MAX_PROMPT_CHARACTERS)
    loaded = yield from asked.state.open_steps(asked.model)
    settings = yield from asked.state.alone_steps(loaded, "lesson: cost", partial(_measured, prompt=words))
    dense = settings["dense", 0.0]
    pair = {method: settings[method, SPARSITY][0] for method in METHODS}
    ratio = pair["magnitude"] / pair["wanda"]
    values = {
        "sparsity": SPARSITY,
        "dense": number(dense[0]),
        "ratio": number(ratio),
        **{m: number(p) for m, p in pair.items()},
    }
    right = next((name for most, name in RATIOS if ratio < most), "many")
    rows = [
        ["—" if method == "dense" else f"{share:.0%}", say(f"lesson.cost.{method}"), number(perplexity), line]
        for (method, share), (perplexity, line) in settings.items()
    ]
    columns = [say(f"lesson.column.{name}") for name in ("sparsity", "method", "perplexity", "line")]
    return Answer(
        right,
        say("lesson.cost.finding", **values),
        say("lesson.cost.why" if ratio > RATIOS[1][0] else "lesson.cost.why_none", **values),
        figures.cost_lines({key: perplexity for key, (perplexity, _) in settings.items()}, say),
        {f"perplexity_{method}_{share:.0%}": perplexity for (method, share), (perplexity, _) in settings.items()},
        pd.DataFrame(rows, columns=columns),
    )


def strongest(loaded: Loaded) -> int:
    """Return the channel of the residual stream that rises highest above the median."""
    assert loaded.analysis is not None  # the caller opened the model
    return standing_out(loaded.analysis)[0].channel


def _ablated(loaded: Loaded, channel: int) -> Steps[AblationReport]:
    """Measure what a channel at zero does."""
    text = read_text(BUILTIN_EVALUATION)
    return ablate_steps(loaded.lm, Ablation((channel,)), text, seq_len=SEQ_LEN, windows=ABLATION_WINDOWS)


def _measured(loaded: Loaded, prompt: str) -> Steps[dict[tuple[str, float], tuple[float, str]]]:
    """Measure every setting: {(method, sparsity): (perplexity, generated line)}, the dense model first."""
    assert loaded.analysis is not None  # the caller opened the model
    plans: list[tuple[str, float]] = [("dense", 0.0), *((m, s) for s in SPARSITIES for m in METHODS)]
    settings: dict[tuple[str, float], tuple[float, str]] = {}
    for place, (method, share) in enumerate(plans):
        lm = loaded.lm
        recipe = Progress("recipes", place, len(plans), "settings")
        first, second, third = (replace(recipe, inner=Progress("recipes", part, 3, "parts")) for part in range(3))
        if method != "dense":
            spec = PruneSpec(method=method, sparsity=share, order="one-shot")
            pruning = prune_steps(loaded.lm, spec, None, loaded.analysis.profile)
            lm = (yield from inside(pruning, first)).lm
        text = read_text(BUILTIN_EVALUATION)
        measuring = perplexity_steps(lm, text, seq_len=SEQ_LEN, windows=COST_WINDOWS)
        perplexity = yield from inside(measuring, second)
        settings[method, share] = perplexity.perplexity, (yield from inside(_line(lm, prompt), third))
    return settings


def _line(lm: LanguageModel, prompt: str) -> Steps[str]:
    """Continue a prompt by a line."""
    stream: Iterator[Generated] = generate(lm, prompt, max_new_tokens=LINE_TOKENS)
    text = ""
    try:
        for count, answer in enumerate(stream, 1):
            text = answer.text
            yield Progress("line", count, LINE_TOKENS, "tokens")
    finally:
        stream.close()  # type: ignore[attr-defined]
    return " ".join(text.split())


def _chosen(asked: Asked, given: object, what: str, count: int, otherwise: int) -> int:
    """Read a channel or block that exists; `otherwise` where none is typed. Raises InputError for any other.

    what: `channel` or `block`; count: how many the model has.
    """
    text = str(given if given is not None else "").strip()
    if not text:
        return otherwise
    place = typed_number(text)
    if place is None or place >= count:
        raise InputError(asked.say(f"lesson.problem.{what}", given=text[:MOST_ECHOED], last=count - 1))
    return place
