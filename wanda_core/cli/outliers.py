"""The commands of the outlier lab: `outliers` shows what stands out in a model, `ablate` takes channels away."""

import re
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

from wanda_core.assets import BUILTIN_CALIBRATION, BUILTIN_EVALUATION
from wanda_core.checks import DEFAULT_SAMPLES, DEFAULT_SEQ_LEN, MAX_SEED, check_whole
from wanda_core.cli import tables
from wanda_core.cli.console import Stopwatch, bar, check_alone, print_json, quiet, say
from wanda_core.cli.options import (
    CalibrationText,
    Column,
    Device,
    HeldIn,
    Json,
    MeasuredText,
    Model,
    Samples,
    SeqLen,
    drawn_from,
    load,
    option,
    text_of,
)
from wanda_core.errors import InputError, shortened

if TYPE_CHECKING:
    from wanda_core.outliers.sentence import Sentence

SENTENCE = "The sky is blue because sunlight is scattered by the air."


def outliers(
    model: Model = "builtin",
    sentence: Annotated[
        str, option("A short text in which massive activations and attention sinks are looked for.", metavar="TEXT")
    ] = SENTENCE,
    calibration: CalibrationText = None,
    column: Column = None,
    samples: Samples = DEFAULT_SAMPLES,
    seq_len: SeqLen = DEFAULT_SEQ_LEN,
    seed: Annotated[int, option("Seed of the draw of windows.")] = 0,
    keep: Annotated[
        bool, option("Add the model's row to the file of runs (WANDA_RUNS names another).", "--keep")
    ] = False,
    device: Device = None,
    dtype: HeldIn = None,
    as_json: Json = False,
) -> None:
    """Show what stands out: massive activations, LLM.int8() outlier features and input norms, each by itself."""
    check_alone("outliers")
    watch = Stopwatch()
    with quiet():
        from wanda_core.outliers.analysis import analyse
        from wanda_core.outliers.features import find_outlier_features
        from wanda_core.outliers.massive import massive
        from wanda_core.outliers.norms import largest_norms
        from wanda_core.outliers.run_log import add_run, run_of
        from wanda_core.outliers.sentence import read_sentence
        from wanda_core.outliers.super_weight import super_weights

        text, source = text_of(calibration, BUILTIN_CALIBRATION, seq_len, column=column)
        lm, seconds = load(model, device, dtype, watch)
        read = read_sentence(lm, sentence)
        activations, sinks = massive(read.hidden), _sinks(read)
        candidate = next(iter(super_weights(lm, sentence)), None)
        seconds["sentence"] = watch.lap()
        drawn = drawn_from(lm, text, source, pack=None, bos=False, samples=samples, seq_len=seq_len, seed=seed)
        with bar() as on_progress:
            analysis = analyse(lm, drawn, on_progress)
        with bar() as on_progress:
            features = find_outlier_features(lm, drawn, on_progress=on_progress)
        norms = largest_norms(lm, analysis.profile)
        run = run_of(lm, analysis, features)
        if keep:
            say(f"kept in {add_run(run)}")
        seconds["calibration text"] = watch.lap()
    if as_json:
        print_json(
            {
                "model": model,
                "blocks": len(lm.linears),
                "width": lm.stream_width,
                "sentence": {"text": sentence, "tokens": read.tokens},
                "massive_activations": [asdict(activation) for activation in activations],
                "attention_sinks": sinks,
                "super_weight": asdict(candidate) if candidate else None,
                "outlier_features": asdict(features),
                "input_norms": [asdict(norm) for norm in norms],
                "run": asdict(run),
                "seconds": seconds,
            }
        )
    else:
        tables.massive(activations, read.tokens)
        tables.sinks(sinks)
        tables.super_weight(candidate)
        tables.features(features, f"{source}, {drawn.samples} × {drawn.seq_len} tokens")
        tables.input_norms(norms)


def ablate(
    channels: Annotated[
        str, option("Channels of the residual stream, with commas between: 507,12. Counted from 0.", metavar="NUMBERS")
    ],
    model: Model = "builtin",
    value: Annotated[
        str,
        option("Value they get: zero, or mean, each channel's over the calibration text.", metavar="NAME"),
    ] = "zero",
    tokens: Annotated[str, option("At which tokens: all, first or others.", metavar="NAME")] = "all",
    from_block: Annotated[int, option("The first block after which they are changed.")] = 0,
    draws: Annotated[int, option("Random sets of as many channels to compare with, at least 5.")] = 5,
    text: MeasuredText = None,
    column: Column = None,
    seq_len: Annotated[int, option("Tokens in a window of that text.")] = 512,
    windows: Annotated[int, option("Windows from its start.")] = 8,
    prompt: Annotated[str | None, option("Let the model continue this in every setting too.", metavar="TEXT")] = None,
    calibration: CalibrationText = None,
    seed: Annotated[int, option("Seed of the draws.")] = 0,
    device: Device = None,
    dtype: HeldIn = None,
    as_json: Json = False,
) -> None:
    """Take channels of the residual stream away and measure, beside as many channels drawn at random."""
    check_alone("ablate")
    watch = Stopwatch()
    with quiet():
        from wanda_core.evaluation.perplexity import MAX_WINDOWS
        from wanda_core.outliers import ablation, interventions

        plan = ablation.Ablation(_channels(channels), value, tokens, from_block)
        check_whole("draws", draws, interventions.LEAST_DRAWS, interventions.MOST_DRAWS)
        check_whole("windows", windows, 1, MAX_WINDOWS)
        check_whole("seed", seed, 0, MAX_SEED)
        measured_on, source = text_of(text, BUILTIN_EVALUATION, seq_len, to_measure=True, column=column)
        lm, seconds = load(model, device, dtype, watch)
        plan.check_fits(lm.stream_width, len(lm.linears))
        means = None
        if value == "mean":
            of_means, name = text_of(calibration, BUILTIN_CALIBRATION, DEFAULT_SEQ_LEN, column=column)
            drawn = drawn_from(lm, of_means, name, pack=None, bos=False)
            with bar() as on_progress:
                means = ablation.channel_means(lm, drawn, on_progress)
            seconds["means"] = watch.lap()
        elif calibration is not None:
            say("note: the value zero needs no means, so --calibration is not used")
        settings: dict[str, Any] = {"draws": draws, "seed": seed, "seq_len": seq_len, "windows": windows}
        with bar() as on_progress:
            report = ablation.ablate(
                lm, plan, measured_on, means=means, prompt=prompt, on_progress=on_progress, **settings
            )
        seconds["ablation"] = watch.lap()
    if as_json:
        print_json({"model": model, "text": source, **asdict(report), "seconds": seconds})
    else:
        tables.ablation(report, f"{source}: {report.windows} windows of {report.seq_len} tokens")


def _sinks(read: "Sentence") -> dict[str, Any]:
    """Return the attention to the first token per block, or why there is none to read."""
    from wanda_core.outliers.sinks import sink_report

    if read.to_first is None:
        return {"to_first": None, "correlation": None, "why": read.why_no_attention}
    report = sink_report(read)
    return {"to_first": report.per_block.tolist(), "correlation": report.correlation, "why": ""}


def _channels(given: str) -> tuple[int, ...]:
    """Return the numbers of a list with commas. Raises InputError for anything else."""
    parts = [part.strip() for part in given.split(",")]
    if not all(re.fullmatch(r"\d{1,9}", part) for part in parts):
        raise InputError(
            f"channels {shortened(given)} are no whole numbers with commas between; write them as 507 or 507,12"
        )
    return tuple(int(part) for part in parts)
