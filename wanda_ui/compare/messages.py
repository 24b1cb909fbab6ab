"""What the view is told: of a look at one column, of progress, of a model. Plain values that become JSON."""

import math
from collections.abc import Sequence
from typing import Any

from wanda_core.evaluation.perplexity import Perplexity
from wanda_core.progress import Progress
from wanda_ui import markup
from wanda_ui.engine import work
from wanda_ui.engine.buying import Bought
from wanda_ui.engine.loaded import About, Measured
from wanda_ui.engine.look import Point, Seen
from wanda_ui.engine.looked import Look
from wanda_ui.engine.tokens import Told
from wanda_ui.language import Say

LARGEST = 1e300  # what is told of an infinite perplexity: JSON has no word for it
FIRST_WINDOWS = 2  # of perplexity after which a point is drawn

Message = dict[str, Any]


def progress(step: Progress, say: Say, part: int = 0, parts: int = 1, name: str = "") -> Message:
    """Tell how far a job is. part, parts: which of how many pieces of it; name: what that piece is called."""
    words = markup.progress_words(step, say)
    waits = step.stage == "waiting"
    stage = say(f"status.stage.{step.stage}")
    said = [name, f"{stage}: {words}"] if waits else [name, stage, words]
    done = 0.0 if waits else step.fraction
    return {"words": " · ".join(filter(None, said)), "percent": round(100 * (part + done) / parts)}


def at_work(seen: Seen) -> Progress:
    """Tell what a look that has seen so much is at: its answer, and between its words the windows of a perplexity."""
    windows = seen.perplexity.windows if seen.perplexity is not None else 0
    if 0 < windows < work.EVAL_WINDOWS:
        return Progress("perplexity", windows, work.EVAL_WINDOWS, "windows")
    return Progress("answering", 0, 1, "parts")


def column(look: Look, kept: bool, ended: bool, say: Say) -> Message:
    """Tell what was seen of a column so far. kept: whether it was measured before; ended: whether it has answered."""
    told: Message = {"ended": ended}
    if look.seen.answer is not None:
        answer = look.seen.answer
        told["answer"] = {
            "pieces": list(answer.pieces),
            "tokens": list(answer.tokens),
            "probabilities": [round(p, 4) for p in answer.probabilities],
        }
        told["answered"] = ended
    perplexity = look.seen.perplexity
    if look.result is not None and perplexity is not None and perplexity.windows >= FIRST_WINDOWS:
        report = look.result.variant.report
        told["point"] = point(Measured(report.sparsity, report.seconds, perplexity, look.seen.agreement))
    if look.seen.dense is not None:
        told["dense"] = finite(look.seen.dense.perplexity)
    if ended and look.measured is not None:
        told["measured"] = measured(look.measured, kept, say)
    return told


def point(of: Measured | Point) -> Message:
    """Tell the numbers of one point of a curve."""
    told: Message = {
        "perplexity": finite(of.perplexity.perplexity),
        "windows": of.perplexity.windows,
        "zeros": round(of.sparsity, 6),
        "seconds": round(of.seconds, 3),
    }
    if isinstance(of, Measured) and of.agreement is not None:
        told |= {"top1": round(of.agreement.top1, 4), "kl": round(of.agreement.kl, 4)}
    return told


def measured(of: Measured, kept: bool, say: Say) -> str:
    """Say what pruning did, and whether it was done now or before."""
    zeros, seconds, left = f"{of.sparsity:.1%}", f"{of.seconds:.1f}", of.smaller
    before = "_before" if kept else ""
    if left is None:
        said = say(f"view.measured{before}", zeros=zeros, seconds=seconds)
    else:
        gone = say(f"view.gone.{left.part}", gone=f"{left.gone:,}", of=f"{left.of:,}")
        kind = "smaller_zeros" if zeros != f"{0:.1%}" else "smaller"  # a few stand in any model
        said = say(f"view.{kind}{before}", gone=gone, left=f"{left.share:.1%}", zeros=zeros, seconds=seconds)
    if of.agreement is not None:
        said += " · " + say("view.agreement", top1=f"{of.agreement.top1:.0%}", kl=f"{of.agreement.kl:.2f}")
    return said


def bought(of: Bought) -> Message:
    """Tell what a variant buys: of the dense model and of the variant, in this order."""
    told: Message = {
        name: [getattr(each, name) for each in of.footprints] for name in ("parameters", "nonzero", "nbytes")
    }
    for name in ("prefill", "decode"):
        told[name] = None if of.speeds is None else [round(getattr(each, name), 2) for each in of.speeds]
    return told


def told(of: Told, ids: Sequence[int]) -> Message:
    """Tell what the dense model and the columns' variants say at a place. ids: of the columns."""
    lists = [[[token, round(p, 5)] for token, p in likeliest] for likeliest in of.likeliest]
    along = [[round(value, 4) for value in values] for values in of.divergence]
    return {
        "dense": lists[0],
        "columns": [[column, tokens, apart] for column, tokens, apart in zip(ids, lists[1:], along, strict=True)],
        "pieces": list(of.pieces),
        "prompt": of.prompt,
        "at": of.at,
    }


def chip(about: About | None, say: Say) -> str:
    """Write which model runs where."""
    if about is None:
        return say("status.loading")
    device = {"cpu": "CPU", "cuda": "GPU", "mps": say("status.apple")}.get(about.device, about.device)
    return f"{about.title} · {device} {about.dtype}"


def time_of(seconds: float, say: Say) -> str:
    """Say a time that one waits: `45 s`, `7 min`."""
    if seconds < 100:
        return say("view.time_s", value=max(1, round(seconds)))
    return say("view.time_min", value=round(seconds / 60))


def dense(of: Perplexity | None) -> float | None:
    """Tell the dense model's perplexity."""
    return None if of is None else finite(of.perplexity)


def finite(value: float) -> float:
    """Return a perplexity that JSON can hold."""
    return value if math.isfinite(value) else LARGEST
