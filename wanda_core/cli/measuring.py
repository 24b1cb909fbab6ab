"""The commands that run a model: measure its perplexity, run tasks on it, let it write."""

from typing import Annotated, Any

import typer

from wanda_core.assets import BUILTIN_EVALUATION
from wanda_core.checks import check_whole
from wanda_core.cli import tables
from wanda_core.cli.console import Stopwatch, bar, check_alone, print_json, quiet, say
from wanda_core.cli.options import (
    Bos,
    Column,
    Device,
    HeldIn,
    Json,
    MeasuredText,
    Model,
    load,
    note_begin,
    option,
    text_of,
)


def perplexity(
    model: Model = "builtin",
    text: MeasuredText = None,
    column: Column = None,
    against: Annotated[
        str | None,
        option(
            "Another model with the same tokens, such as the dense one: prints how far the predictions are from its.",
            metavar="NAME",
        ),
    ] = None,
    seq_len: Annotated[int, option("Tokens in a window; compare only perplexities of the same length.")] = 512,
    windows: Annotated[int | None, option("Windows from the start of the text. Default: all.")] = None,
    bos: Bos = False,
    device: Device = None,
    dtype: HeldIn = None,
    as_json: Json = False,
) -> None:
    """Measure a model's perplexity: exp of the mean cross-entropy over windows without overlap."""
    check_alone("perplexity")
    watch = Stopwatch()
    with quiet():
        from wanda_core.evaluation.perplexity import MAX_WINDOWS, agreement
        from wanda_core.evaluation.perplexity import perplexity as measure

        if windows is not None:
            check_whole("windows", windows, 1, MAX_WINDOWS)
        measured_on, source = text_of(text, BUILTIN_EVALUATION, seq_len, to_measure=True, column=column)
        lm, seconds = load(model, device, dtype, watch)
        note_begin(lm, bos)
        settings: dict[str, Any] = {"seq_len": seq_len, "windows": windows, "bos": bos}
        other, more = load(against, device, dtype, watch) if against is not None else (None, {"load": 0.0})
        with bar() as on_progress:
            measured = measure(lm, measured_on, **settings, on_progress=on_progress)
        seconds["perplexity"] = watch.lap()
        compared = None
        if other is not None:
            with bar() as on_progress:
                compared = agreement(other, lm, measured_on, **settings, on_progress=on_progress)
            seconds |= {"load": seconds["load"] + more["load"], "agreement": watch.lap()}
    if as_json:
        beside = {"against": {"model": against, **compared.to_dict()}} if compared else {}
        print_json({"model": model, "text": source, **measured.to_dict(), **beside, "seconds": seconds})
    else:
        typer.echo(
            f"perplexity {measured.perplexity:.4f} ({source}: {measured.windows} windows of {measured.seq_len} tokens, "
            f"{seconds['perplexity']:.1f} s)"
        )
        if compared:
            typer.echo(
                f"against {against}: KL divergence {compared.kl:.4f} nats, the likeliest token is the same at "
                f"{compared.top1:.1%} of positions"
            )


def run_tasks(
    tasks: Annotated[
        str, option("Names of lm-eval's tasks or groups, with commas between: hellaswag,arc_easy.", metavar="NAMES")
    ],
    model: Model = "builtin",
    limit: Annotated[int | None, option("Documents of each task, from the first. Default: all.")] = None,
    include_path: Annotated[
        str | None, option("A folder with tasks of your own, as YAML files.", "--include-path", metavar="DIR")
    ] = None,
    batch_size: Annotated[int, option("Requests in one call of the model.")] = 1,
    device: Device = None,
    dtype: HeldIn = None,
    as_json: Json = False,
) -> None:
    """Run tasks of EleutherAI's lm-eval, which is installed apart: pip install lm_eval."""
    check_alone("evaluate")
    watch = Stopwatch()
    with quiet():
        from wanda_core.evaluation.lm_eval_tasks import Tasks

        wanted = Tasks([name.strip() for name in tasks.split(",")], limit, include_path, batch_size)
        seconds = {"tasks": watch.lap()}
        lm, more = load(model, device, dtype, watch)
        scores = wanted.run(lm)
        seconds |= {**more, "evaluate": watch.lap()}
    if as_json:
        print_json({"model": model, "limit": limit, "scores": [vars(score) for score in scores], "seconds": seconds})
    else:
        tables.scores(scores)


def generate(
    prompt: Annotated[str, option("Text that the model continues, or answers with --chat.", metavar="TEXT")],
    model: Model = "builtin",
    max_new_tokens: Annotated[int, option("Tokens to write at most.")] = 40,
    temperature: Annotated[float, option("0 takes the likeliest token; up to 5 for more variety.")] = 0.0,
    seed: Annotated[int, option("Seed of the noise when the temperature is above 0.")] = 0,
    chat: Annotated[bool, option("Put the prompt into the model's chat template.", "--chat/--no-chat")] = False,
    device: Device = None,
    dtype: HeldIn = None,
    as_json: Json = False,
) -> None:
    """Let a model continue a prompt, token by token."""
    check_alone("generate")
    watch = Stopwatch()
    with quiet():
        from wanda_core.evaluation.generation import check_prompt, check_settings
        from wanda_core.evaluation.generation import generate as continue_prompt

        check_prompt(prompt)
        check_settings(max_new_tokens=max_new_tokens, temperature=temperature, seed=seed)
        lm, seconds = load(model, device, dtype, watch)
        if chat and not lm.tokenizer.chat_template:
            say(f"note: {lm.title} has no chat template, so the prompt is used as it is")
        steps = continue_prompt(
            lm, prompt, max_new_tokens=max_new_tokens, temperature=temperature, seed=seed, chat=chat
        )
    answer, tokens, written = "", 0, 0
    for step in steps:
        answer, tokens = step.text, len(step.tokens)
        if not as_json:
            typer.echo(answer[written:], nl=False)
            written = len(answer)
    seconds["generate"] = watch.lap()
    if as_json:
        print_json({"model": model, "prompt": prompt, "text": answer, "tokens": tokens, "seconds": seconds})
    else:
        typer.echo()
        say(f"{tokens} tokens in {seconds['generate']:.1f} s")
