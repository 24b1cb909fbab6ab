"""The command line: prune a model into a folder, measure its perplexity, run tasks on it, let it write."""

import contextlib
import json
import sys
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer

from wanda_core.assets import BUILTIN_CALIBRATION, BUILTIN_EVALUATION
from wanda_core.checkpoint import save
from wanda_core.checks import DEFAULT_SAMPLES, DEFAULT_SEQ_LEN, MAX_SAMPLES, MAX_SEED, check_whole
from wanda_core.cli import outliers, tables
from wanda_core.cli.console import OneLineErrors, Stopwatch, bar, check_alone, print_json, quiet, say, together
from wanda_core.cli.options import CalibrationText, Device, HeldIn, Json, Model, load, option, text_of
from wanda_core.errors import InputError
from wanda_core.machine.process import give_back_freed_memory, keep_freed_memory, leave, rank_and_size
from wanda_core.methods import METHODS
from wanda_core.recipe import ALLOCATIONS, ORDERS, PRESETS, UPDATES, PruneSpec, preset
from wanda_core.version import __version__

PAPER_TEXT, PAPER_DRAW = "c4", (128, 2048)  # windows and tokens each, as published

app = typer.Typer(
    cls=OneLineErrors,
    name="wanda-lab",
    help="Prune language models with Wanda: no retraining, the weights with the smallest |W|·‖X‖₂ become zero.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
_GROUPS = "; ".join(f"{', '.join(method.groups)} for {name}" for name, method in METHODS.items())


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"wanda-lab {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None: ...


@app.command()
def prune(
    output: Annotated[
        str, option("Folder to write; a new or empty one, or an earlier checkpoint, which is replaced.", metavar="DIR")
    ],
    model: Model = "builtin",
    recipe: Annotated[
        str | None,
        option(
            f"A whole recipe, which other options change: {', '.join(PRESETS)}; paper is Wanda as published with 128 "
            "windows of 2048 tokens, best re-solves the kept weights.",
            "--preset",
            metavar="NAME",
        ),
    ] = None,
    method: Annotated[
        str | None, option(f"How weights are scored: {', '.join(METHODS)}. Left out: wanda.", metavar="NAME")
    ] = None,
    sparsity: Annotated[
        str | None, option("Share of weights to remove, 0 to 0.95. Left out: 0.5.", metavar="SHARE")
    ] = None,
    pattern: Annotated[
        str, option("'unstructured', or N:M such as 2:4, which keeps N of every M weights.", metavar="N:M")
    ] = "unstructured",
    group: Annotated[
        str | None,
        option(
            f"What scores are compared within, the first if left out: {_GROUPS}.",
            metavar="NAME",
        ),
    ] = None,
    order: Annotated[
        str | None,
        option(
            f"When inputs are measured: {', '.join(ORDERS)}. Left out: faithful, block by block as published; "
            "in-flight takes one pass, one-shot none when --profile is given.",
            metavar="NAME",
        ),
    ] = None,
    allocation: Annotated[
        str | None,
        option(
            f"Sparsity of the blocks: {', '.join(ALLOCATIONS)}, or a JSON file with one number a block. "
            "Left out: uniform.",
            metavar="NAME|FILE",
        ),
    ] = None,
    update: Annotated[
        str | None,
        option(f"What becomes of the kept weights: {', '.join(UPDATES)}. Left out: the method's own.", metavar="NAME"),
    ] = None,
    norms: Annotated[
        str | None,
        option("Input norms saved by `profile`; with order one-shot nothing is run.", "--profile", metavar="FILE"),
    ] = None,
    calibration: CalibrationText = None,
    samples: Annotated[int | None, option(f"Windows of calibration text. Left out: {DEFAULT_SAMPLES}.")] = None,
    seq_len: Annotated[int | None, option(f"Tokens in a window. Left out: {DEFAULT_SEQ_LEN}.")] = None,
    seed: Annotated[int, option("Seed of the draw of windows, and of the method random.")] = 0,
    low_memory: Annotated[
        bool,
        option(
            "For models larger than memory: one block at a time from the disk to the disk. After a kill the same "
            "command goes on from the last finished block.",
            "--low-memory",
        ),
    ] = False,
    device: Device = None,
    dtype: HeldIn = None,
    as_json: Json = False,
) -> None:
    """Prune a model and save it as a Hugging Face folder.

    Zeros do not make the dense file smaller or a dense matrix product faster.
    """
    given: dict[str, Any] = {
        "method": method,
        "sparsity": _number(sparsity),
        "pattern": pattern,
        "group": group,
        "order": order,
        "allocation": _allocation(allocation),
        "update": update,
        "seed": seed,
    }
    given = {name: value for name, value in given.items() if value is not None}
    spec = preset(recipe, **given) if recipe is not None else PruneSpec(**given)
    usual = PAPER_DRAW if recipe == "paper" else (DEFAULT_SAMPLES, DEFAULT_SEQ_LEN)
    samples, seq_len = samples if samples is not None else usual[0], seq_len if seq_len is not None else usual[1]
    if rank_and_size()[1] == 1:
        save.check_target(output, _folder_of(model))  # before torch is imported
    watch = Stopwatch()
    if low_memory:
        check_alone("prune --low-memory")
        give_back_freed_memory()
    with quiet(), together(device) as device:
        from wanda_core.calibration.profile import load_profile
        from wanda_core.machine import distributed
        from wanda_core.pruning.prune import needs_text
        from wanda_core.pruning.prune import prune as run
        from wanda_core.text.windows import calibrate

        target = save.check_target(output, _folder_of(model)) if distributed.first() else Path(output)
        check_whole("samples", samples, 1, MAX_SAMPLES)
        check_whole("seed", seed, 0, MAX_SEED)
        if calibration is None and recipe == "paper" and norms is None:
            calibration = PAPER_TEXT
        text, source = text_of(calibration, BUILTIN_CALIBRATION, seq_len)
        profile = load_profile(norms) if norms is not None else None
        if calibration is not None and not spec.needs_calibration:
            say(f"note: {spec.method} does not look at activations, so {source} is not used")
        lm, seconds = load(model, device, dtype, watch, low_memory)
        drawn = None
        if needs_text(spec, profile):
            drawn = calibrate(lm, text, samples=samples, seq_len=seq_len, seed=seed, source=source)
        if low_memory:
            variant, folder = _from_disk_to_disk(lm, spec, target, drawn, profile), target
            seconds["prune"] = watch.lap()
            say(f"pruned to {variant.report.sparsity:.2%} zeros and saved to {folder} in {seconds['prune']:.1f} s")
        else:
            if distributed.first():
                save.check_room(lm, target)
            with bar() as on_progress:
                variant = run(lm, spec, drawn, on_progress, profile)
            seconds["prune"] = watch.lap()
            say(f"pruned to {variant.report.sparsity:.2%} zeros in {seconds['prune']:.1f} s")
            if not distributed.first():
                return
            processes = variant.report.processes
            for rank, (spent, waited) in enumerate(processes):
                say(f"process {rank} of {len(processes)}: {spent:.2f} s, {waited:.2f} s of them waiting and exchanging")
            folder = save.save(variant, target)
            seconds["save"] = watch.lap()
            say(f"saved to {folder} in {seconds['save']:.1f} s")
    if as_json:
        record = save.record(variant)
        linears = record.pop("linears")
        print_json({"output": str(folder), **record, "linears": len(linears), "seconds": seconds})
    else:
        tables.pruned(variant.report)


@app.command("profile")
def take_profile(
    output: Annotated[str, option("File to write, such as norms.safetensors.", metavar="FILE")],
    model: Model = "builtin",
    calibration: CalibrationText = None,
    samples: Annotated[int, option("Windows of calibration text.")] = DEFAULT_SAMPLES,
    seq_len: Annotated[int, option("Tokens in a window.")] = DEFAULT_SEQ_LEN,
    seed: Annotated[int, option("Seed of the draw of windows.")] = 0,
    device: Device = None,
    dtype: HeldIn = None,
    as_json: Json = False,
) -> None:
    """Measure the dense model's input norms once and save them, for `prune --order one-shot --profile`."""
    watch = Stopwatch()
    with quiet(), together(device) as device:
        from wanda_core.calibration.profile import check_profile_target, save_profile
        from wanda_core.calibration.profile import profile as run
        from wanda_core.machine import distributed
        from wanda_core.text.windows import calibrate

        check_profile_target(output)
        text, source = text_of(calibration, BUILTIN_CALIBRATION, seq_len)
        lm, seconds = load(model, device, dtype, watch)
        drawn = calibrate(lm, text, samples=samples, seq_len=seq_len, seed=seed, source=source)
        with bar() as on_progress:
            found = run(lm, drawn, on_progress)
        if not distributed.first():
            return
        path = save_profile(found, output)
        seconds["profile"] = watch.lap()
    size = path.stat().st_size
    if as_json:
        print_json(
            {"output": str(path), "bytes": size, "linears": len(found.norms), **found.source, "seconds": seconds}
        )
    else:
        say(f"saved the norms of {len(found.norms)} linears to {path} ({size / 1e6:.1f} MB)")


@app.command()
def perplexity(
    model: Model = "builtin",
    text: Annotated[
        str | None,
        option(
            "What to measure on: a UTF-8 text file, wikitext2, c4, or a Hugging Face data set. "
            "Left out: built-in evaluation text.",
            metavar="FILE|NAME",
        ),
    ] = None,
    against: Annotated[
        str | None,
        option(
            "Another model with the same tokens, such as the dense one: prints how far the predictions are from its.",
            metavar="NAME",
        ),
    ] = None,
    seq_len: Annotated[int, option("Tokens in a window; compare only perplexities of the same length.")] = 512,
    windows: Annotated[int | None, option("Windows from the start of the text. Left out: all.")] = None,
    device: Device = None,
    dtype: HeldIn = None,
    as_json: Json = False,
) -> None:
    """Measure a model's perplexity: exp of the mean cross-entropy over windows without overlap."""
    check_alone("perplexity")
    watch = Stopwatch()
    with quiet():
        from wanda_core.evaluation.perplexity import MAX_WINDOWS, agreement
        from wanda_core.evaluation.perplexity import perplexity as run

        if windows is not None:
            check_whole("windows", windows, 1, MAX_WINDOWS)
        found_text, source = text_of(text, BUILTIN_EVALUATION, seq_len, to_measure=True)
        lm, seconds = load(model, device, dtype, watch)
        with bar() as on_progress:
            result = run(lm, found_text, seq_len=seq_len, windows=windows, on_progress=on_progress)
        seconds["perplexity"] = watch.lap()
        compared = None
        if against is not None:
            other, more = load(against, device, dtype, watch)
            with bar() as on_progress:
                compared = agreement(other, lm, found_text, seq_len=seq_len, windows=windows, on_progress=on_progress)
            seconds |= {"load": seconds["load"] + more["load"], "agreement": watch.lap()}
    if as_json:
        beside = {"against": {"model": against, **compared.to_dict()}} if compared else {}
        print_json({"model": model, "text": source, **result.to_dict(), **beside, "seconds": seconds})
    else:
        typer.echo(
            f"perplexity {result.perplexity:.4f} ({source}: {result.windows} windows of {result.seq_len} tokens, "
            f"{seconds['perplexity']:.1f} s)"
        )
        if compared:
            typer.echo(
                f"against {against}: KL divergence {compared.kl:.4f} nats, the likeliest token is the same at "
                f"{compared.top1:.1%} of positions"
            )


@app.command("evaluate")
def run_tasks(
    tasks: Annotated[
        str, option("Names of lm-eval's tasks or groups, with commas between: hellaswag,arc_easy.", metavar="NAMES")
    ],
    model: Model = "builtin",
    limit: Annotated[int | None, option("Documents of each task, from the first. Left out: all.")] = None,
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
        found = wanted.run(lm)
        seconds |= {**more, "evaluate": watch.lap()}
    if as_json:
        print_json({"model": model, "limit": limit, "scores": [vars(score) for score in found], "seconds": seconds})
    else:
        tables.scores(found)


@app.command()
def generate(
    prompt: Annotated[str, option("What the model continues, or answers with --chat.", metavar="TEXT")],
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
        from wanda_core.evaluation.generation import generate as run

        _check_encodable(prompt)
        lm, seconds = load(model, device, dtype, watch)
        if chat and not lm.tokenizer.chat_template:
            say(f"note: {lm.title} has no chat template, so the prompt is used as it is")
        steps = run(lm, prompt, max_new_tokens=max_new_tokens, temperature=temperature, seed=seed, chat=chat)
    answer, tokens, written = "", 0, 0
    for step in steps:
        answer, tokens = step.text, len(step.tokens)
        whole = answer.rstrip("\ufffd")  # half of a character may still be to come
        if not as_json and len(whole) > written:
            typer.echo(whole[written:], nl=False)
            written = len(whole)
    seconds["generate"] = watch.lap()
    if as_json:
        print_json({"model": model, "prompt": prompt, "text": answer, "tokens": tokens, "seconds": seconds})
    else:
        typer.echo(answer[written:])
        say(f"{tokens} tokens in {seconds['generate']:.1f} s")


app.command("outliers")(outliers.outliers)
app.command("ablate")(outliers.ablate)


def main() -> None:
    """Run the command line; ends the process."""
    keep_freed_memory()
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal that lacks a character shows another
    if rank_and_size()[1] == 1:
        app()
    leave(app(standalone_mode=False) or 0)


def _folder_of(model: str) -> Path | None:
    """The folder that a model is read from, where it is named by one."""
    with contextlib.suppress(OSError, RuntimeError, ValueError):  # no path, or one too long
        folder = Path(model).expanduser()
        return folder if folder.is_dir() else None
    return None


def _number(given: str | None) -> Any:
    """A number if it is one; the recipe refuses anything else by name."""
    try:
        return None if given is None else float(given)
    except ValueError:
        return given


def _allocation(given: str | None) -> Any:
    """A name, or the list in a JSON file; the recipe refuses anything else."""
    if given is None or given in ALLOCATIONS:
        return given
    try:
        found = json.loads(Path(given).expanduser().read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"allocation {given!r} is neither {' nor '.join(ALLOCATIONS)} nor a JSON file that can be read; "
            "give one of them"
        ) from error
    if not isinstance(found, list):
        raise InputError(f"allocation file {given!r} holds no list; write one number a block, such as [0.4, 0.6]")
    return found


def _check_encodable(prompt: str) -> None:
    try:
        prompt.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"the prompt is not UTF-8 text (character {error.start}); write it in UTF-8") from error


def _from_disk_to_disk(lm: Any, spec: PruneSpec, target: Path, drawn: Any, profile: Any) -> Any:
    from wanda_core.low_memory.prune import prune_to_folder

    with bar() as on_progress:
        return prune_to_folder(lm, spec, target, drawn, on_progress, profile, say)
