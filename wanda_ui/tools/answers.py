"""What the tools do: each goes through the engine's one queue, step by step, and ends with plain values for JSON."""

import re
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from wanda_core.assets import BUILTIN_EVALUATION
from wanda_core.checks import EVAL_SEQ_LEN, EVAL_WINDOWS
from wanda_core.errors import InputError, shortened
from wanda_core.evaluation.generation import Generated
from wanda_core.evaluation.perplexity import Perplexity, perplexity_steps
from wanda_core.explain import asking
from wanda_core.explain.why import why
from wanda_core.progress import Steps
from wanda_core.pruning.packed import PackedVariant, laid_over
from wanda_core.report.linear import told
from wanda_core.report.repeat import Repeat, command
from wanda_core.text.files import read_text
from wanda_ui.app_state import AppState
from wanda_ui.compare.asked import prompt_of, reading_of, spec_of
from wanda_ui.compare.messages import finite
from wanda_ui.engine.loaded import Loaded
from wanda_ui.engine.look import Wanted
from wanda_ui.engine.looked import Look, only_progress
from wanda_ui.engine.recipe import Asked, Recipe
from wanda_ui.inputs import some_text
from wanda_ui.scores.linears import Linears, NotMadeError, Place
from wanda_ui.settings import Settings

Json = dict[str, Any]
CHOSEN = ("method", "pattern", "order", "group", "allocation", "update")
NOTHING_MEASURED = Wanted(perplexity=False, agreement=False)


def recipe_of(given: Mapping[str, Any], settings: Settings) -> Recipe:
    """Make a recipe of a tool's fields. Raises InputError for a combination that means nothing, or is too much."""
    spec = spec_of(50, **{name: given[name] for name in CHOSEN})
    if spec.n_of_m is None:
        spec = replace(spec, sparsity=given["sparsity"])
    return Recipe(spec, reading_of(given, settings))


def prune(state: AppState, given: Mapping[str, Any]) -> Steps[Json]:
    """Prune by one recipe and measure what that costs."""
    recipe = recipe_of(given, state.settings)
    loaded = yield from state.model_steps(given["model"])
    look = yield from only_progress(state.look_steps(loaded.name, recipe))
    assert look.result is not None  # there was a recipe
    assert look.measured is not None  # and it was measured
    assert look.seen.dense is not None
    report, measured = look.result.variant.report, look.measured
    return {
        "model": loaded.lm.title,
        "recipe": recipe.spec.label,
        "removed": {
            "share": round(report.sparsity, 6),
            "weights": sum(linear.zeros for linear in report.linears),
            "of": report.n_prunable,
        },
        "seconds": round(report.seconds, 2),
        "made_before": look.kept,
        "perplexity": {
            "dense": finite(look.seen.dense.perplexity),
            "pruned": finite(measured.perplexity.perplexity),
            **_windows(measured.perplexity),
            "text": "built-in",
        },
        "agreement": None
        if measured.agreement is None
        else {"same_likeliest_token": round(measured.agreement.top1, 4), "kl_nats": round(measured.agreement.kl, 4)},
        "command": _command(loaded, recipe),
    }


def compare(state: AppState, given: Mapping[str, Any]) -> Steps[Json]:
    """Answer a prompt by the dense model and by variants, and tell where they part."""
    recipes = [recipe_of(fields, state.settings) for fields in given["recipes"]]
    prompt = prompt_of(given["prompt"], state.settings)
    asked = Asked(prompt, given["max_new_tokens"], given["temperature"], given["seed"], given["chat"])
    loaded = yield from state.model_steps(given["model"])
    dense = yield from only_progress(state.look_steps(loaded.name, None, asked, Wanted(agreement=False)))
    assert dense.seen.answer is not None  # it was asked for
    variants = []
    for recipe in recipes:
        look = yield from only_progress(state.look_steps(loaded.name, recipe, asked, Wanted(agreement=False)))
        assert look.seen.answer is not None
        assert look.result is not None
        variants.append(
            {
                "recipe": recipe.spec.label,
                "answer": look.seen.answer.text,
                "removed_share": round(look.result.variant.report.sparsity, 6),
                "perplexity": _perplexity_of(look),
                "parts": parting(dense.seen.answer, look.seen.answer),
            }
        )
    loaded.check_unchanged()
    told_of_dense = {"answer": dense.seen.answer.text, "perplexity": _perplexity_of(dense)}
    return {"model": loaded.lm.title, "prompt": prompt, "dense": told_of_dense, "variants": variants}


def parting(dense: Generated, other: Generated) -> Json | None:
    """Tell where two answers part: the place of the first token that differs, counted from 0, the text before it, and
    what each says there, empty where its answer has ended; None where they are the same."""
    if dense.tokens == other.tokens:
        return None
    pairs = zip(dense.tokens, other.tokens, strict=False)
    length = min(len(dense.tokens), len(other.tokens))
    at = next((place for place, (ours, theirs) in enumerate(pairs) if ours != theirs), length)
    dense_says, variant_says = ("".join(answer.pieces[at : at + 1]) for answer in (dense, other))
    return {"token": at, "after": "".join(dense.pieces[:at]), "dense": dense_says, "variant": variant_says}


def why_kept(state: AppState, given: Mapping[str, Any]) -> Steps[Json]:
    """Explain what becomes of one weight; recipes whose masks nobody knows are pruned first."""
    recipes = [recipe_of(fields, state.settings) for fields in given["recipes"]]
    loaded = yield from state.open_steps(given["model"])
    linear = loaded.lm.linear(given["linear"])
    if linear is None:
        names = [linear.name for linear in loaded.lm.all_linears]
        raise InputError(
            f"{loaded.lm.title} has no linear {shortened(given['linear'])}; its {len(names)} are {names[0]} to "
            f"{names[-1]}"
        )
    place, linears = Place(linear.kind, linear.block), Linears(state)
    try:
        masked = linears.get(loaded, recipes, place)
    except NotMadeError as missing:
        for number in missing.places:
            yield from only_progress(state.look_steps(loaded.name, recipes[number], None, NOTHING_MEASURED))
        masked = linears.get(loaded, recipes, place)
    with torch.no_grad():
        weight = asking.ask_weight(masked, given["row"], given["column"])
    titles = [recipe.spec.label for recipe in recipes]
    numbers = told(weight)
    fates = [{"recipe": title, **fate} for title, fate in zip(titles, numbers.pop("fates"), strict=True)]
    return {
        "model": loaded.lm.title,
        "linear": linear.name,
        "sentence": why(weight, titles, [choice.metric for choice in masked.choices]),
        "weight": numbers,
        "fates": fates,
    }


def perplexity(state: AppState, given: Mapping[str, Any]) -> Steps[Json]:
    """Measure a perplexity; that of the page's own windows is taken from there."""
    recipe = None if given["recipe"] is None else recipe_of(given["recipe"], state.settings)
    text = some_text(given["text"], "text") if given["text"] else None
    loaded = yield from state.model_steps(given["model"])
    loaded.lm.check_length(given["seq_len"])
    usual = text is None and (given["seq_len"], given["windows"]) == (EVAL_SEQ_LEN, EVAL_WINDOWS)
    wanted = Wanted(agreement=False) if usual else NOTHING_MEASURED
    variant = None
    if recipe is not None or usual:
        look = yield from only_progress(state.look_steps(loaded.name, recipe, None, wanted))
        variant = look.result.variant if look.result is not None else None
        found = look.seen.perplexity
    if not usual:
        make = partial(measured_on, variant=variant, text=text, seq_len=given["seq_len"], windows=given["windows"])
        found = yield from state.alone_steps(loaded, "perplexity", make)
    loaded.check_unchanged()
    assert found is not None  # it was measured one way or the other
    return {
        "model": loaded.lm.title,
        "recipe": "dense" if recipe is None else recipe.spec.label,
        "perplexity": finite(found.perplexity),
        **_windows(found),
        "text": "built-in" if text is None else "given",
    }


def measured_on(
    loaded: Loaded, variant: PackedVariant | None, text: str | None, seq_len: int, windows: int
) -> Steps[Perplexity]:
    """Measure the dense model or a variant on a text, the built-in one where there is none; a job of the engine."""
    with laid_over(loaded.lm, variant) if variant is not None else nullcontext(loaded.lm) as model:
        words = read_text(BUILTIN_EVALUATION) if text is None else text
        return (yield from perplexity_steps(model, words, seq_len=seq_len, windows=windows))


def _perplexity_of(look: Look) -> float | None:
    return None if look.seen.perplexity is None else finite(look.seen.perplexity.perplexity)


def _windows(of: Perplexity) -> Json:
    return {"windows": of.windows, "seq_len": of.seq_len}


def _command(loaded: Loaded, recipe: Recipe) -> str:
    """Write the command that makes the same variant and saves it."""
    reading = recipe.reading
    repeat = Repeat(loaded.lm.name, recipe.spec, reading.samples, reading.seq_len, reading.seed, None)
    return command(repeat, "out/" + "-".join(re.findall(r"[a-z0-9]+", recipe.spec.label.lower())))
