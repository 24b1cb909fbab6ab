"""Training a pruned model's kept weights towards the dense model's predictions (Hinton et al. 2015). Zeros stay zero.

This is training, with a loss, gradients and Adam: no result of it belongs among those of methods without.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wanda_core.errors import InputError, ModelError
from wanda_core.evaluation.perplexity import Agreement, Text, agreement_steps, token_windows
from wanda_core.machine.trained_matmul import FasterTraining
from wanda_core.maths.distillation import divergence
from wanda_core.model.devices import check_memory, free_memory
from wanda_core.model.language_model import LanguageModel
from wanda_core.model.linears import decoder_blocks
from wanda_core.progress import Progress, Steps, finish
from wanda_core.pruning.prune import calibration_source
from wanda_core.pruning.variant import TrainingReport, Variant, twin
from wanda_core.text.windows import Calibration, calibrate, fingerprint
from wanda_core.training.kept_weights import KeptWeights, digest
from wanda_core.training.memory import TrainingMemory, checkpoint_blocks, training_memory
from wanda_core.training.settings import DEFAULT_WINDOWS, Training
from wanda_core.training.state import read_state, save_state

SAVE_EVERY = 60.0  # seconds at least between two states on the disk
SAVE_SHARE = 0.02  # of the time, at most, that goes into writing them
HELD_OUT_WINDOWS, BUILTIN = 8, "built-in evaluation text"
PLAIN_SHARE = 0.9  # of the free memory: training that takes more computes each block twice

Say = Callable[[str], object]


def distil(
    dense: LanguageModel,
    variant: Variant,
    calibration: Calibration | None = None,
    training: Training | None = None,
    *,
    held_out: Text = None,
    held_out_name: str = BUILTIN,
    state: Path | None = None,
    say: Say | None = None,
    on_progress: Callable[[Progress], object] | None = None,
) -> Variant:
    """Train the kept weights of a variant by KL(dense ‖ pruned); neither `dense` nor `variant` is changed.

    calibration: the windows that are read, 64 of 256 tokens of the built-in text by default; held_out: a text that
    measures, before and after, how far the predictions are from the dense model's; the built-in evaluation text by
    default; held_out_name: what to call it. state: a file that keeps where the training is, so that the same call goes
    on after a kill or a cancel; it stays after the end, until whoever gave it has the result in safety. say: gets
    sentences: the memory and the time it will take, before it takes them.
    -> the trained variant, its zeros those of `variant`. Raises InputError for two models that do not belong together,
    weights other than float32, and the state of another training; ModelError where memory does not suffice, and for a
    loss that is not finite.
    """
    steps = distil_steps(
        dense, variant, calibration, training, held_out=held_out, held_out_name=held_out_name, state=state, say=say
    )
    return finish(steps, on_progress)


def distil_steps(
    dense: LanguageModel,
    variant: Variant,
    calibration: Calibration | None = None,
    training: Training | None = None,
    *,
    held_out: Text = None,
    held_out_name: str = BUILTIN,
    state: Path | None = None,
    say: Say | None = None,
) -> Steps[Variant]:
    """`distil` as a generator that yields progress, the loss as its detail. Closing it cancels: `state`, if given, is
    left as of the last whole step."""
    say = say or (lambda sentence: None)
    training = training or Training()
    _check_models(dense, variant)
    calibration = calibration or calibrate(dense, samples=DEFAULT_WINDOWS)
    ids = calibration.ids
    dense.check_windows(ids)
    seq_len = min(calibration.seq_len, token_windows(dense, held_out, 2, None).numel())
    measure: dict[str, Any] = {"seq_len": seq_len, "windows": HELD_OUT_WINDOWS}
    about = {
        "settings": training.to_dict(),
        "calibration": calibration.fingerprint,
        "held-out text": fingerprint(token_windows(dense, held_out, seq_len, HELD_OUT_WINDOWS)),
        "dense model": digest(dense),
        "pruned model": digest(variant.lm),
    }
    earlier = read_state(state, about) if state is not None else None
    memory = training_memory(variant.lm, ids[:1].to(dense.device))
    checkpointed = _fits(memory, dense, say)
    run = _Run(**earlier[0]) if earlier is not None else _Run()
    if earlier is None:
        before: Agreement = yield from agreement_steps(dense, variant.lm, held_out, **measure)
        run.before = (before.kl, before.top1)
    else:
        say(f"going on after step {run.done} of {training.steps}, the last that an earlier run finished")
    lm = twin(variant.lm)
    kept = KeptWeights(lm)
    if earlier is not None:
        kept.restore(earlier[1])
    del earlier
    trainer = _Trainer(dense, lm, kept, training, ids, checkpointed)
    try:
        yield from _train(trainer, run, about, state, say)
    finally:
        kept.release()
    after: Agreement = yield from agreement_steps(dense, lm, held_out, **measure)
    report = TrainingReport(
        training.to_dict(),
        calibration_source(calibration) or {},
        training.steps * training.batch * calibration.seq_len,
        run.seconds,
        held_out_name,
        after.windows,
        after.seq_len,
        (run.before[0], after.kl),
        (run.before[1], after.top1),
    )
    return replace(variant, lm=lm, report=replace(variant.report, training=report))


@dataclass
class _Run:
    """Where a training is. done: whole steps; seconds: they took, in earlier runs too; before: KL and top1 at first."""

    done: int = 0
    seconds: float = 0.0
    before: tuple[float, float] = (math.nan, math.nan)
    saved: int = field(default=0, repr=False)

    def to_dict(self) -> dict[str, Any]:
        return {"done": self.done, "seconds": self.seconds, "before": list(self.before), "saved": self.done}


@dataclass(frozen=True)
class _Trainer:
    """A training at work. lm: the model that is trained; kept: its weights; ids: int64 (N, L)."""

    dense: LanguageModel
    lm: LanguageModel
    kept: KeptWeights
    training: Training
    ids: Tensor
    checkpointed: bool

    def windows_of(self, step: int) -> Iterator[Tensor]:
        """Yield the windows of a step, int64 (1, L): all come once, in a new order, before any comes again."""
        for number in range(step * self.training.batch, (step + 1) * self.training.batch):
            turn, place = divmod(number, len(self.ids))
            generator = torch.Generator().manual_seed((self.training.seed + turn) % 2**63)
            order = torch.randperm(len(self.ids), generator=generator)
            yield self.ids[order[place]][None].to(self.lm.device)

    def learn(self, x: Tensor) -> float:
        """Collect the gradient of one window. x: int64 (1, L). -> its KL in nats, mean over positions."""
        _, blocks = decoder_blocks(self.lm.model)
        twice = checkpoint_blocks(blocks) if self.checkpointed else nullcontext()
        with FasterTraining(), twice:
            with torch.no_grad():
                target = self.dense.model(x, use_cache=False).logits[0]
            with torch.enable_grad():
                logits = self.lm.model(x, use_cache=False).logits[0]
            with torch.no_grad():
                total, gradient = divergence(logits.detach(), target)
                del target
                if not math.isfinite(total):
                    raise ModelError(
                        f"the predictions are not finite any more at learning rate {self.training.learning_rate:g}; "
                        "choose a smaller one"
                    )
                gradient /= len(logits) * self.training.batch
            logits.backward(gradient)
        return total / len(logits)


def _train(trainer: _Trainer, run: _Run, about: dict[str, Any], state: Path | None, say: Say) -> Steps[None]:
    """Take all steps that are left, and keep the state."""
    training, whole = trainer.training, True
    steps, batch = training.steps, training.batch
    written = time.perf_counter()
    took = 0.0  # seconds that the last state took to write
    first, loss = run.done, ""

    def save() -> None:
        nonlocal written, took
        if state is None or run.saved == run.done:
            return
        started = time.perf_counter()
        save_state(state, about, run.to_dict(), trainer.kept.tensors())
        written = time.perf_counter()
        run.saved, took = run.done, written - started

    try:
        while run.done < steps:
            started, losses = time.perf_counter(), []
            remaining = (steps - run.done) * run.seconds / run.done if run.done else None
            for number, x in enumerate(trainer.windows_of(run.done)):
                yield Progress("training", run.done * batch + number, steps * batch, "windows", loss, seconds=remaining)
                losses.append(trainer.learn(x))
            whole = False  # until the step is taken in all parameters, they are of no step
            trainer.kept.step(run.done + 1, training.rate(run.done))
            run.done += 1
            run.seconds += time.perf_counter() - started
            whole = True
            loss = f"KL {sum(losses) / len(losses):.4f}"
            if run.done == first + 1 and run.done < steps:
                a_step, left = time.perf_counter() - started, steps - run.done
                say(f"a step takes {a_step:.1f} s, so the other {left} take {_span(left * a_step)}")
            if time.perf_counter() - written > max(SAVE_EVERY, took / SAVE_SHARE):
                save()
        yield Progress("training", steps * batch, steps * batch, "windows", loss)
        save()
    except BaseException:
        if whole:
            save()
        raise


def _span(seconds: float) -> str:
    """Word a span of time: `about 40 seconds`, `about 12 minutes`, `about 3.5 hours`."""
    if seconds < 90:
        return f"about {seconds:.0f} seconds"
    return f"about {seconds / 60:.0f} minutes" if seconds < 5400 else f"about {seconds / 3600:.1f} hours"


def _fits(memory: TrainingMemory, dense: LanguageModel, say: Say) -> bool:
    """Say what training takes; choose whether each block is computed twice. Raises ModelError where it cannot fit."""
    free = free_memory(dense.device)
    checkpointed = memory.weights + memory.plain > free * PLAIN_SHARE
    needed = memory.weights + (memory.checkpointed if checkpointed else memory.plain)
    remedy = "choose shorter windows or a smaller model"
    check_memory(needed, dense.title, [dense.device], "training beside both models", remedy)
    twice = ", with each block computed twice to take less" if checkpointed else ""
    say(f"training takes {needed / 1e9:.2f} GB beside both models, of {free / 1e9:.2f} GB that are free{twice}")
    return checkpointed


def _check_models(dense: LanguageModel, variant: Variant) -> None:
    """Raise InputError for two models that do not belong together or cannot be trained."""
    pruned = variant.lm
    ours, theirs = ({each.name: each.shape for each in lm.all_linears} for lm in (dense, pruned))
    if variant.report.training is not None:
        raise InputError(
            f"{pruned.title} was trained already, {variant.report.training.settings['steps']} steps long; train the "
            "variant that was pruned alone, with more steps"
        )
    if ours != theirs or len(_embedding(dense)) != len(_embedding(pruned)):
        raise InputError(
            f"{pruned.title} has other linears or tokens than {dense.title}, so it was not pruned from it; give the "
            "model that it was pruned from"
        )
    for lm in (dense, pruned):
        if {parameter.dtype for parameter in lm.model.parameters()} != {torch.float32}:
            raise InputError(
                f"{lm.title} is held in {str(lm.dtype).removeprefix('torch.')}, in which the steps of training "
                "round to nothing; load it in float32"
            )
        places = {parameter.device for parameter in lm.model.parameters()}
        if places != {dense.device}:
            raise InputError(f"{lm.title} lies on several devices, and training takes one; load both models on one")


def _embedding(lm: LanguageModel) -> Tensor:
    model: Any = lm.model
    weight: Tensor = model.get_input_embeddings().weight
    return weight
