"""The command `distil`, which trains the kept weights of a pruned folder."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from wanda_core.assets import BUILTIN_CALIBRATION, BUILTIN_EVALUATION
from wanda_core.checkpoint.manifest import told
from wanda_core.checkpoint.read import dense_name, read_record, variant_of
from wanda_core.checkpoint.save import check_room, check_saveable, check_target, save
from wanda_core.checks import MAX_SAMPLES, check_whole
from wanda_core.cli.console import Stopwatch, bar, check_alone, print_json, quiet, say
from wanda_core.cli.options import (
    Bos,
    CalibrationText,
    Column,
    Device,
    Dtype,
    Json,
    OutputFolder,
    Pack,
    Samples,
    SavedIn,
    SeqLen,
    drawn_from,
    load,
    option,
    text_of,
    torch_dtype,
)
from wanda_core.errors import InputError, ModelError, shortened_path
from wanda_core.machine.paths import path_of
from wanda_core.training.settings import DEFAULT_WINDOWS, SEQ_LEN, Training


def distil(
    model: Annotated[str, option("A folder that `prune` wrote; it stays as it is.", metavar="DIR")],
    output: OutputFolder,
    dense: Annotated[
        str | None,
        option(
            "The model that it was pruned from. Default: as the folder tells, unless that was a folder.", metavar="NAME"
        ),
    ] = None,
    steps: Annotated[int, option("Steps of Adam.")] = Training.steps,
    batch: Annotated[int, option("Windows in a step.")] = Training.batch,
    learning_rate: Annotated[
        float, option("Learning rate at its height: it rises for a twentieth of the steps, then falls to 0.")
    ] = Training.learning_rate,
    calibration: CalibrationText = None,
    column: Column = None,
    pack: Pack = None,
    bos: Bos = False,
    samples: Samples = DEFAULT_WINDOWS,
    seq_len: SeqLen = SEQ_LEN,
    seed: Annotated[int, option("Seed of the draw of windows, and of their order.")] = 0,
    held_out: Annotated[
        str | None,
        option(
            "Text that training does not read, on which it is measured before and after; as --calibration. Default: "
            "built-in evaluation text.",
            metavar="PATH|NAME",
        ),
    ] = None,
    device: Device = None,
    save_dtype: SavedIn = None,
    as_json: Json = False,
) -> None:
    """Train the kept weights of a pruned folder towards the dense model's predictions; zeros stay zero.

    This is training and takes minutes to hours: how long is said after its first step. Ctrl-C stops it; the same
    command then goes on after the last whole step, as it does after a kill.
    """
    check_alone("distil")
    training = Training(steps, batch, learning_rate, seed)
    check_whole("samples", samples, 1, MAX_SAMPLES)
    folder = path_of(model, "model").resolve()
    record = read_record(folder)
    name = dense if dense is not None else dense_name(record)
    if name is None:
        raise InputError(
            f"{shortened_path(folder)} was pruned from a folder, {record['base']['name']}, whose place it does not "
            "tell; give it as --dense"
        )
    target = check_target(output, folder)
    state = state_of(target)
    watch = Stopwatch()
    with quiet():
        from wanda_core.model.language_model import LanguageModel
        from wanda_core.training.distil import distil as train
        from wanda_core.training.state import discard_state

        text, source = text_of(calibration, BUILTIN_CALIBRATION, seq_len, column=column)
        measured_on, held_out_name = text_of(held_out, BUILTIN_EVALUATION, 2, to_measure=True)
        pruned, seconds = load(str(folder), device, Dtype.float32, watch)
        if read_record(folder) != record:
            raise ModelError(
                f"the files of {shortened_path(folder)} changed while they were read; open it again once nothing "
                "writes them"
            )
        parent, more = load(name, device, Dtype.float32, watch)
        seconds["load"] += more["load"]
        # The folder's files, and the base model that it tells of.
        lm: LanguageModel = replace(pruned, name=parent.name, revision=parent.revision)
        check_saveable(lm)
        saved_in = torch_dtype(save_dtype)
        check_room(lm, target, saved_in)
        drawn = drawn_from(parent, text, source, pack=pack, bos=bos, samples=samples, seq_len=seq_len, seed=seed)
        with bar() as on_progress:
            variant = train(
                parent,
                variant_of(lm, record),
                drawn,
                training,
                held_out=measured_on,
                held_out_name=held_out_name,
                state=state,
                say=say,
                on_progress=on_progress,
            )
        seconds["train"] = watch.lap()
        saved = save(variant, target, dtype=saved_in)
        discard_state(state)
        seconds["save"] = watch.lap()
        say(f"saved to {saved} in {seconds['save']:.1f} s")
    if as_json:
        fields = told(saved)
        linears = fields.pop("linears")
        print_json({"output": str(saved), **fields, "linears": len(linears), "seconds": seconds})
        return
    report = variant.report.training
    assert report is not None  # it was trained
    typer.echo(
        f"trained for {training.steps} steps in {report.seconds:.1f} s: on {held_out_name} the KL divergence from "
        f"{parent.title} went from {report.kl[0]:.4f} to {report.kl[1]:.4f} nats, the share of positions with the same "
        f"likeliest token from {report.top1[0]:.1%} to {report.top1[1]:.1%}"
    )


def state_of(target: Path) -> Path:
    """Return the hidden file beside a target that keeps the state of its training."""
    return target.with_name(f".{target.name}.training")
