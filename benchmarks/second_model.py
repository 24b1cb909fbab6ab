"""Whether the recipes keep their order on a model that none of them was tuned on: `python -m benchmarks.second_model`.

The model is a small Llama, trained here for some minutes on the second half of a text, and measured on the first.
It is too small, and has read too little, for its perplexities to mean anything: only their order counts.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.utils import logging

from benchmarks.quality import AMOUNTS, READS_MORE, evaluation_text, updated
from wanda_core.calibration.profile import profile
from wanda_core.evaluation.perplexity import perplexity
from wanda_core.model.language_model import LanguageModel
from wanda_core.model.loading import load_model
from wanda_core.presets import FINEST
from wanda_core.progress import finish
from wanda_core.pruning.prune import prune
from wanda_core.pruning.sensitivity import sensitivity_steps
from wanda_core.text.windows import calibrate

VOCABULARY, WIDTH, BLOCKS = 1024, 128, 4
SEQ_LEN, BATCH, STEPS, WARM_UP = 256, 8, 2000, 100
RATE, DECAY = 3e-3, 0.1  # of AdamW
WINDOWS, WINDOW_TOKENS = 16, 512  # of evaluation


def tokenizer(text: str) -> PreTrainedTokenizerFast:
    """Train byte-level BPE on a text."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator([text], trainers.BpeTrainer(vocab_size=VOCABULARY, initial_alphabet=alphabet))
    return PreTrainedTokenizerFast(tokenizer_object=made)


def trained(text: str, steps: int, folder: Path) -> LanguageModel:
    """Train a model on a text and read it from the folder into which it was written."""
    torch.manual_seed(0)
    reader = tokenizer(text)
    ids = torch.tensor(reader(text)["input_ids"])
    config = LlamaConfig(
        vocab_size=len(reader),
        hidden_size=WIDTH,
        intermediate_size=3 * WIDTH,
        num_hidden_layers=BLOCKS,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=4 * SEQ_LEN,
        tie_word_embeddings=True,
    )
    model = LlamaForCausalLM(config).train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=DECAY, betas=(0.9, 0.95))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: min((step + 1) / WARM_UP, max(0.05, (steps - step) / steps))
    )
    for step in range(steps):
        starts = torch.randint(len(ids) - SEQ_LEN, (BATCH,)).tolist()
        batch = torch.stack([ids[start : start + SEQ_LEN] for start in starts])
        loss = model(input_ids=batch, labels=batch).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        if (step + 1) % 100 == 0:
            print(f"step {step + 1} of {steps}: loss {loss.item():.2f}", file=sys.stderr, flush=True)
    model.save_pretrained(folder)
    reader.save_pretrained(folder)
    return load_model(str(folder), device="cpu", dtype=torch.float32)


def compare(lm: LanguageModel, read: str, measured: str) -> None:
    """Print perplexities by recipe and amount, and the order of the recipes. read, measured: texts."""
    calibration = calibrate(lm, read)
    larger = calibrate(lm, read, samples=FINEST.draw[0], seq_len=FINEST.draw[1])
    taken = finish(sensitivity_steps(lm, calibration, profile(lm, calibration)))
    found: dict[str, dict[str, float]] = {}
    for amount, given in AMOUNTS.items():
        found[amount] = {}
        for name, spec in updated(given).items():
            variant = prune(
                lm, spec, larger if name in READS_MORE else calibration, profile=taken if spec.needs_profile else None
            )
            found[amount][name] = perplexity(variant.lm, measured, seq_len=WINDOW_TOKENS, windows=WINDOWS).perplexity
    dense = perplexity(lm, measured, seq_len=WINDOW_TOKENS, windows=WINDOWS).perplexity
    print(f"dense: {dense:,.2f}\n")
    print(f"| recipe | {' | '.join(found)} |")
    print(f"|---|{'---:|' * len(found)}")
    for name in updated(AMOUNTS["50%"]):
        print(f"| {name} | {' | '.join(f'{each[name]:,.2f}' for each in found.values())} |")
    print()
    for amount, each in found.items():
        print(f"{amount}: {' < '.join(sorted(each, key=each.__getitem__))}")


def main() -> None:
    """Train, prune and compare."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.second_model", description=__doc__)
    default = os.environ.get("WANDA_WIKITEXT")
    parser.add_argument(
        "--wikitext", type=Path, default=Path(default) if default else None, help="WikiText-2's wiki.test.raw"
    )
    parser.add_argument("--steps", type=int, default=STEPS, help=f"of training; default: {STEPS}")
    arguments = parser.parse_args()
    logging.disable_progress_bar()
    text, source = evaluation_text(arguments.wikitext)
    half = len(text) // 2
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        lm = trained(text[half:], arguments.steps, Path(folder))
        print(f"{BLOCKS} blocks of {WIDTH}, {arguments.steps} steps on the second half of {source}: ", end="")
        print(f"{time.perf_counter() - started:.0f} s")
        compare(lm, text[half:], text[:half])


if __name__ == "__main__":
    main()
