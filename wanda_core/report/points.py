"""What a recipe costs and what the model then says: one point of a curve, and its answers."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from wanda_core.calibration.profile import Profile
from wanda_core.evaluation.generation import Generated, generate
from wanda_core.evaluation.perplexity import agreement_steps, perplexity_steps
from wanda_core.model.language_model import LanguageModel
from wanda_core.progress import Progress, Steps
from wanda_core.pruning.prune import prune_steps
from wanda_core.recipe import PruneSpec
from wanda_core.report.form import LARGEST
from wanda_core.report.numbers import rounded, significant
from wanda_core.report.plan import Plan
from wanda_core.text.chats import Document
from wanda_core.text.windows import Calibration

Point = dict[str, float | None]
Answer = dict[str, list[Any]]


@dataclass(frozen=True)
class Dense:
    """The dense model with what recipes are made and measured on.

    text: of the evaluation, the built-in one where it is None; bos: whether the begin token is put before every window
    of it; profile: its norms over the calibration, which decide where the order is one-shot; None until they are read.
    """

    lm: LanguageModel
    calibration: Calibration
    text: str | Sequence[Document] | None = None
    bos: bool = False
    profile: Profile | None = None


def dense_steps(dense: Dense, plan: Plan) -> Steps[float]:
    """Measure the dense model's perplexity."""
    return (yield from _perplexity_steps(dense.lm, dense, plan))


def point_steps(dense: Dense, spec: PruneSpec, plan: Plan) -> Steps[tuple[Point, list[Answer]]]:
    """Prune by a recipe, measure the variant and let it answer the plan's prompts; nothing of the variant is kept.

    -> the perplexity, the share of positions `top1` where it finds the same token likeliest as the dense model, the
    divergence `kl` in nats, the seconds of pruning alone; and one answer a prompt.
    """
    variant = yield from prune_steps(dense.lm, spec, dense.calibration, dense.profile)
    perplexity = yield from _perplexity_steps(variant.lm, dense, plan)
    agreed = yield from agreement_steps(
        dense.lm, variant.lm, dense.text, seq_len=plan.seq_len, windows=plan.agreement_windows, bos=dense.bos
    )
    point = {
        "perplexity": perplexity,
        "top1": rounded(agreed.top1),
        "kl": rounded(agreed.kl) if math.isfinite(agreed.kl) else None,
        "seconds": rounded(variant.report.seconds, 2),
    }
    return point, (yield from answers_steps(variant.lm, plan))


def _perplexity_steps(lm: LanguageModel, dense: Dense, plan: Plan) -> Steps[float]:
    measured = yield from perplexity_steps(lm, dense.text, seq_len=plan.seq_len, windows=plan.windows, bos=dense.bos)
    return significant(min(measured.perplexity, LARGEST))


def answers_steps(lm: LanguageModel, plan: Plan) -> Steps[list[Answer]]:
    """Let a model answer the plan's prompts greedily, in its chat template where it has one."""
    answers = []
    for number, prompt in enumerate(plan.prompts):
        yield Progress("answering", number, len(plan.prompts), "parts")
        answer = Generated("", ())
        for grown in generate(lm, prompt.text, max_new_tokens=plan.answer_tokens, chat=True):
            answer = grown
            yield Progress("answering", number, len(plan.prompts), "parts")
        answers.append(stored(answer))
    return answers


def stored(answer: Generated) -> Answer:
    """Put an answer down. -> t: what each token added to the text; p: the percent that the model gave each, whole."""
    return {"t": list(answer.pieces), "p": [round(100 * share) for share in answer.probabilities]}
