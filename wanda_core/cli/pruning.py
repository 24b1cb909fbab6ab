"""The commands that prune: `prune` writes a checkpoint, `profile` saves the input norms it can be pruned from."""

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
from wanda_core.errors import InputError, shortened_path
from wanda_core.machine.json_file import read_json
from wanda_core.machine.paths import path_of
from wanda_core.machine.process import give_back_freed_memory, rank_and_size
from wanda_core.methods import METHODS
from wanda_core.presets import PRESETS, preset
from wanda_core.progress import finish
from wanda_core.recipe import ALLOCATIONS, ORDERS, UPDATES, PruneSpec

PAPER_TEXT = "c4"

_GROUPS = "; ".join(f"{', '.join(method.groups)} for {name}" for name, method in METHODS.items())


def prune(
    output: OutputFolder,
    model: Model = "builtin",
    recipe: Annotated[
        str | None,
        option(
            f"A whole recipe, which other options change: {', '.join(PRESETS)}; paper is Wanda as published with 128 "
            "windows of 2048 tokens, best re-solves the kept weights, finest is best on 32 windows of 512 tokens.",
            "--preset",
            metavar="NAME",
        ),
    ] = None,
    method: Annotated[
        str | None, option(f"How weights are scored: {', '.join(METHODS)}. Default: wanda.", metavar="NAME")
    ] = None,
    sparsity: Annotated[
        str | None, option("Share of weights to remove, 0 to 0.95. Default: 0.5.", metavar="SHARE")
    ] = None,
    pattern: Annotated[
        str, option("'unstructured', or N:M such as 2:4, which keeps N of every M weights.", metavar="N:M")
    ] = "unstructured",
    arrange: Annotated[
        bool,
        option(
            "With a pattern: first put the neurons of every MLP, and the values within attention heads where they can "
            "be told apart, into an order in which it costs least. The model computes the same in it.",
            "--arrange",
        ),
    ] = False,
    group: Annotated[
        str | None,
        option(f"What scores are compared within; the first is the default: {_GROUPS}.", metavar="NAME"),
    ] = None,
    order: Annotated[
        str | None,
        option(
            f"When inputs are measured: {', '.join(ORDERS)}. Default: faithful, block by block as published; "
            "in-flight takes one pass, one-shot none when --profile is given.",
            metavar="NAME",
        ),
    ] = None,
    allocation: Annotated[
        str | None,
        option(
            f"Sparsity of the blocks: {', '.join(ALLOCATIONS)}, or a JSON file with one number a block. "
            "Default: uniform.",
            metavar="NAME|FILE",
        ),
    ] = None,
    update: Annotated[
        str | None,
        option(f"What becomes of the kept weights: {', '.join(UPDATES)}. Default: the method's own.", metavar="NAME"),
    ] = None,
    norms: Annotated[
        str | None,
        option(
            "Input norms saved by `profile`; with order one-shot the model is not run.", "--profile", metavar="FILE"
        ),
    ] = None,
    calibration: CalibrationText = None,
    column: Column = None,
    pack: Pack = None,
    bos: Bos = False,
    samples: Annotated[int | None, option(f"Windows of calibration text. Default: {DEFAULT_SAMPLES}.")] = None,
    seq_len: Annotated[int | None, option(f"Tokens in a window. Default: {DEFAULT_SEQ_LEN}.")] = None,
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
    save_dtype: SavedIn = None,
    as_json: Json = False,
) -> None:
    """Prune a model and save it as a Hugging Face folder.

    Zeros do not make the dense file smaller or a dense matrix product faster.
    """
    given: dict[str, Any] = {
        "method": method,
        "sparsity": number_in(sparsity),
        "pattern": pattern,
        "group": group,
        "order": order,
        "allocation": _allocation(allocation),
        "update": update,
        "seed": seed,
        "arrange": arrange or None,
    }
    given = {name: value for name, value in given.items() if value is not None}
    spec = preset(recipe, **given) if recipe is not None else PruneSpec(**given)
    usual = PRESETS[recipe].draw if recipe is not None else (DEFAULT_SAMPLES, DEFAULT_SEQ_LEN)
    samples, seq_len = samples if samples is not None else usual[0], seq_len if seq_len is not None else usual[1]
    if rank_and_size()[1] == 1:
        check_target(output, folder_of(model))  # before torch is imported
    watch = Stopwatch()
    if low_memory:
        check_alone("prune --low-memory")
        give_back_freed_memory()
    with quiet(), together(device) as device:
        from wanda_core.calibration.profile import load_profile
        from wanda_core.machine import distributed
        from wanda_core.pruning.prune import needs_text
        from wanda_core.pruning.prune import prune as prune_in_memory

        target = check_target(output, folder_of(model)) if distributed.first() else path_of(output, "output folder")
        check_whole("samples", samples, 1, MAX_SAMPLES)
        check_whole("seed", seed, 0, MAX_SEED)
        if calibration is None and recipe == "paper" and norms is None:
            calibration = PAPER_TEXT
        text, source = text_of(calibration, BUILTIN_CALIBRATION, seq_len, column=column)
        profile = load_profile(norms) if norms is not None else None
        if calibration is not None and not spec.needs_calibration:
            say(f"note: {spec.method} does not look at activations, so {source} is not used")
        lm, seconds = load(model, device, dtype, watch, low_memory)
        saved_in = torch_dtype(save_dtype)
        if distributed.first():
            check_saveable(lm)
        drawn = None
        if needs_text(spec, profile):
            drawn = drawn_from(lm, text, source, pack=pack, bos=bos, samples=samples, seq_len=seq_len, seed=seed)
            if spec.needs_sensitivities and (profile is None or profile.sensitivities is None):
                _note_cost(lm, drawn)
        if low_memory:
            variant, folder = _from_disk_to_disk(lm, spec, target, drawn, profile, saved_in), target
            seconds["prune"] = watch.lap()
            say(f"pruned to {variant.report.sparsity:.2%} zeros and saved to {folder} in {seconds['prune']:.1f} s")
        else:
            if distributed.first():
                check_room(lm, target, saved_in)
            with bar() as on_progress:
                variant = prune_in_memory(lm, spec, drawn, on_progress, profile)
            seconds["prune"] = watch.lap()
            say(f"pruned to {variant.report.sparsity:.2%} zeros in {seconds['prune']:.1f} s")
            if not distributed.first():
                return
            processes = variant.report.processes
            for rank, (spent, waited) in enumerate(processes):
                say(f"process {rank} of {len(processes)}: {spent:.2f} s, {waited:.2f} s of them waiting and exchanging")
            folder = save(variant, target, dtype=saved_in)
            seconds["save"] = watch.lap()
            say(f"saved to {folder} in {seconds['save']:.1f} s")
    if as_json:
        fields = told(folder)
        linears = fields.pop("linears")
        print_json({"output": str(folder), **fields, "linears": len(linears), "seconds": seconds})
    else:
        tables.pruned(variant.report)


def measure_norms(
    output: Annotated[str, option("File to write, such as norms.safetensors.", metavar="FILE")],
    model: Model = "builtin",
    calibration: CalibrationText = None,
    column: Column = None,
    pack: Pack = None,
    bos: Bos = False,
    samples: Samples = DEFAULT_SAMPLES,
    seq_len: SeqLen = DEFAULT_SEQ_LEN,
    seed: Annotated[int, option("Seed of the draw of windows.")] = 0,
    sensitivities: Annotated[
        bool,
        option(
            "Measure also how much each block's pruning alone harms the output, for `prune --allocation measured`.",
            "--sensitivities",
        ),
    ] = False,
    device: Device = None,
    dtype: HeldIn = None,
    as_json: Json = False,
) -> None:
    """Measure the dense model's input norms once and save them, for `prune --order one-shot --profile`."""
    watch = Stopwatch()
    with quiet(), together(device) as device:
        from wanda_core.calibration.profile import check_profile_target, save_profile
        from wanda_core.calibration.profile import profile as measure
        from wanda_core.machine import distributed
        from wanda_core.pruning.sensitivity import sensitivity_steps

        check_profile_target(output)
        text, source = text_of(calibration, BUILTIN_CALIBRATION, seq_len, column=column)
        lm, seconds = load(model, device, dtype, watch)
        drawn = drawn_from(lm, text, source, pack=pack, bos=bos, samples=samples, seq_len=seq_len, seed=seed)
        if sensitivities:
            _note_cost(lm, drawn)
        with bar() as on_progress:
            profile = measure(lm, drawn, on_progress)
            if sensitivities:
                profile = finish(sensitivity_steps(lm, drawn, profile), on_progress)
        if not distributed.first():
            return
        path = save_profile(profile, output)
        seconds["profile"] = watch.lap()
    size = path.stat().st_size
    if as_json:
        print_json(
            {"output": str(path), "bytes": size, "linears": len(profile.norms), **profile.source}
            | ({"sensitivities": profile.sensitivities.losses} if profile.sensitivities is not None else {})
            | {"seconds": seconds}
        )
    else:
        also = f" and the sensitivities of {len(lm.linears)} blocks" if sensitivities else ""
        say(f"saved the norms of {len(profile.norms)} linears{also} to {path} ({size / 1e6:.1f} MB)")


def _note_cost(lm: Any, drawn: Any) -> None:
    """Say what measuring the blocks' sensitivities will cost, before it starts."""
    from wanda_core.pruning.sensitivity import sensitivity_passes

    passes = sensitivity_passes(len(lm.linears), drawn.samples, drawn.seq_len)
    say(
        f"note: each of {len(lm.linears)} blocks is pruned alone to measure its sensitivity, in about the time of "
        f"{passes:.2g} passes over the calibration text; `profile --sensitivities` keeps it for other sparsities"
    )


def _allocation(given: str | None) -> Any:
    """Return the name of an allocation, or the list in a JSON file. Raises InputError for anything else."""
    if given is None or given in ALLOCATIONS:
        return given
    try:
        shares = read_json(path_of(given, "allocation"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"allocation {shortened_path(given)} is neither {' nor '.join(ALLOCATIONS)} nor a JSON file that can be "
            "read; give one of them"
        ) from error
    if not isinstance(shares, list):
        raise InputError(
            f"allocation file {shortened_path(given)} holds no list; write one number a block, such as [0.4, 0.6]"
        )
    return shares


def _from_disk_to_disk(lm: Any, spec: PruneSpec, target: Path, drawn: Any, profile: Any, dtype: Any) -> Any:
    """Prune a model that is larger than memory; return the variant, without its weights."""
    from wanda_core.low_memory.prune import prune_to_folder

    with bar() as on_progress:
        return prune_to_folder(lm, spec, target, drawn, on_progress, profile, say, dtype)
