"""The command that makes a model smaller."""

from pathlib import Path
from typing import Annotated, Any

from wanda_core.assets import BUILTIN_CALIBRATION
from wanda_core.checkpoint.manifest import told
from wanda_core.checkpoint.save import check_room, check_saveable, check_target, save
from wanda_core.checks import DEFAULT_SAMPLES, DEFAULT_SEQ_LEN, MAX_SAMPLES, MAX_SEED, check_whole
from wanda_core.cli import tables
from wanda_core.cli.console import Stopwatch, bar, check_alone, print_json, quiet, say, together
from wanda_core.cli.options import (
    Bos,
    CalibrationText,
    Column,
    Device,
    HeldIn,
    Json,
    Model,
    OutputFolder,
    Pack,
    Samples,
    SavedIn,
    SeqLen,
    drawn_from,
    folder_of,
    load,
    number_in,
    option,
    text_of,
    torch_dtype,
)
from wanda_core.errors import InputError
from wanda_core.machine.process import give_back_freed_memory
from wanda_core.recipe import PruneSpec
from wanda_core.shrinking.spec import SCORES, UPDATES, ShrinkSpec


def shrink(
    output: OutputFolder,
    model: Model = "builtin",
    neurons: Annotated[
        str | None, option("Share of every MLP's neurons to remove, above 0 and up to 0.9.", metavar="SHARE")
    ] = None,
    heads: Annotated[
        str | None,
        option("Share of the attention heads to remove, in groups that share keys and values.", metavar="SHARE"),
    ] = None,
    blocks: Annotated[
        str | None,
        option(
            "How many whole blocks to remove, those that change the hidden state least; below 1 the share of them.",
            metavar="N|SHARE",
        ),
    ] = None,
    score: Annotated[
        str, option(f"Which neurons or heads go, by their score: {', '.join(SCORES)}. Default: wanda.", metavar="NAME")
    ] = "wanda",
    update: Annotated[
        str,
        option(
            f"What becomes of the weights that read the rest: {', '.join(reversed(UPDATES))}. Default: least-squares, "
            "which solves them anew.",
            metavar="NAME",
        ),
    ] = "least-squares",
    multiple: Annotated[int, option("The number of neurons that stay is a multiple of it.")] = 8,
    sparsity: Annotated[
        str | None,
        option(
            "Share of the smaller model's weights that become zero afterwards, by Wanda. Default: none.",
            metavar="SHARE",
        ),
    ] = None,
    pattern: Annotated[
        str | None, option("N:M such as 2:4, by which weights become zero afterwards. Default: none.", metavar="N:M")
    ] = None,
    calibration: CalibrationText = None,
    column: Column = None,
    pack: Pack = None,
    bos: Bos = False,
    samples: Samples = DEFAULT_SAMPLES,
    seq_len: SeqLen = DEFAULT_SEQ_LEN,
    seed: Annotated[int, option("Seed of the draw of windows, and of the score random.")] = 0,
    low_memory: Annotated[
        bool,
        option(
            "For models larger than memory: one block at a time from the disk to the disk. After a kill the same "
            "command goes on.",
            "--low-memory",
        ),
    ] = False,
    device: Device = None,
    dtype: HeldIn = None,
    save_dtype: SavedIn = None,
    as_json: Json = False,
) -> None:
    """Remove parts of a model for good and save it as a Hugging Face folder that is smaller and faster anywhere."""
    if low_memory and (sparsity is not None or pattern is not None):
        raise InputError(
            "--sparsity and --pattern do not go with shrink --low-memory, which writes a whole model before zeros "
            "could follow; leave them out and give the folder that it writes to prune --low-memory"
        )
    given: dict[str, Any] = {"neurons": number_in(neurons), "heads": number_in(heads), "blocks": number_in(blocks)}
    spec = ShrinkSpec(**given, score=score, update=update, multiple=multiple, seed=seed)
    zeros = None
    if sparsity is not None or pattern is not None:
        asked: dict[str, Any] = {"sparsity": number_in(sparsity), "pattern": pattern}
        zeros = PruneSpec("wanda", **{name: value for name, value in asked.items() if value is not None})
    check_alone("shrink")
    check_whole("samples", samples, 1, MAX_SAMPLES)
    check_whole("seed", seed, 0, MAX_SEED)
    target = check_target(output, folder_of(model))  # before torch is imported
    watch = Stopwatch()
    if low_memory:
        give_back_freed_memory()
    with quiet(), together(device) as device:
        from wanda_core.pruning.prune import prune
        from wanda_core.shrinking.shrink import shrink as shrink_in_memory

        text, source = text_of(calibration, BUILTIN_CALIBRATION, seq_len, column=column)
        lm, seconds = load(model, device, dtype, watch, low_memory)
        saved_in = torch_dtype(save_dtype)
        check_saveable(lm)
        if not low_memory:
            check_room(lm, target, saved_in)
        drawn = None
        if spec.needs_inputs or zeros is not None:
            drawn = drawn_from(lm, text, source, pack=pack, bos=bos, samples=samples, seq_len=seq_len, seed=seed)
        if low_memory:
            report, folder = _from_disk_to_disk(lm, spec, target, drawn, saved_in), target
            seconds["shrink"] = watch.lap()
            say(f"shrunk {_in_words(report)} and saved to {folder} in {seconds['shrink']:.1f} s")
        else:
            with bar() as on_progress:
                shrunk = shrink_in_memory(lm, spec, drawn, on_progress)
            made: Any = shrunk
            report = shrunk.report
            seconds["shrink"] = watch.lap()
            say(f"shrunk {_in_words(report)} in {seconds['shrink']:.1f} s")
            if zeros is not None:
                with bar() as on_progress:
                    made = prune(shrunk.lm, zeros, drawn, on_progress)
                seconds["prune"] = watch.lap()
                say(f"pruned to {made.report.sparsity:.2%} zeros in {seconds['prune']:.1f} s")
            folder = save(made, target, dtype=saved_in)
            seconds["save"] = watch.lap()
            say(f"saved to {folder} in {seconds['save']:.1f} s")
    if as_json:
        fields = told(folder)
        fields.pop("linears", None)
        print_json({"output": str(folder), **fields, "seconds": seconds})
    else:
        tables.shrunk(report)


def _in_words(report: Any) -> str:
    before, after = report.parameters
    return f"from {before:,} to {after:,} parameters ({after / before:.1%})"


def _from_disk_to_disk(lm: Any, spec: ShrinkSpec, target: Path, drawn: Any, dtype: Any) -> Any:
    """Shrink a model that is larger than memory; return the report."""
    from wanda_core.low_memory.shrink import shrink_to_folder

    with bar() as on_progress:
        return shrink_to_folder(lm, spec, target, drawn, on_progress, say, dtype)
