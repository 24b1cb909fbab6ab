"""Peak memory of `prune --low-memory` as a model grows: random Llamas of one width, written block by block."""

import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from accelerate import init_empty_weights
from safetensors.torch import save_file
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from benchmarks import memory
from wanda_core.model import builtin

BLOCKS = (12, 24, 48)
WIDTH = 1024  # channels: a block takes 50 MB in float32, 48 of them 2.4 GB
MOST_GROWTH = 0.10  # of the peak, from the fewest blocks to the most


def peaks(
    blocks: Sequence[int] = BLOCKS, width: int = WIDTH, tokenizer: Path | None = None, seq_len: int = 256
) -> dict[int, tuple[int, float]]:
    """Bytes of the weights of models of so many blocks, and peak resident memory, in bytes, of a fresh process that
    prunes one; by blocks."""
    return {count: _peak(count, width, tokenizer or builtin.ensure(), seq_len) for count in blocks}


def growth(peaks_by_blocks: dict[int, tuple[int, float]]) -> float:
    """How much more the largest model took than the smallest, as a share."""
    fewest, most = min(peaks_by_blocks), max(peaks_by_blocks)
    return peaks_by_blocks[most][1] / peaks_by_blocks[fewest][1] - 1


def _peak(blocks: int, width: int, tokenizer: Path, seq_len: int) -> tuple[int, float]:
    with tempfile.TemporaryDirectory(prefix="wanda-bench-") as folder:
        model = Path(folder) / "model"
        weights = write(model, blocks, width, tokenizer)
        return weights, memory.command_peak(command(model, Path(folder) / "pruned", seq_len))


def command(model: Path, output: Path, seq_len: int) -> list[str]:
    """Prune a folder with `--low-memory` on the CPU in float32, faithful."""
    where = ["--model", str(model), "--output", str(output), "--device", "cpu", "--dtype", "float32"]
    return [
        sys.executable,
        "-m",
        "wanda_core",
        "prune",
        "--low-memory",
        *where,
        "--samples",
        "4",
        "--seq-len",
        str(seq_len),
    ]


def write(folder: Path, blocks: int, width: int, tokenizer: Path) -> int:
    """A random model as a checkpoint of one shard a block, none of which is in memory with another. -> its bytes."""
    folder.mkdir(parents=True)
    words = AutoTokenizer.from_pretrained(tokenizer)
    words.save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=len(words),
        hidden_size=width,
        intermediate_size=width * 8 // 3 // 64 * 64,
        num_hidden_layers=blocks,
        num_attention_heads=width // 64,
        tie_word_embeddings=True,
        architectures=["LlamaForCausalLM"],
    )
    config.save_pretrained(folder)
    with init_empty_weights():
        shapes = {name: value.shape for name, value in LlamaForCausalLM(config).named_parameters()}
    generator = torch.Generator().manual_seed(0)
    places, total = {}, 0
    for part in range(-1, blocks):
        own = [
            x for x in shapes if (f".layers.{part}." in x if part >= 0 else ".layers." not in x and "lm_head" not in x)
        ]
        scale = width**-0.5
        tensors = {x: torch.randn(shapes[x], generator=generator) * scale + (len(shapes[x]) == 1) for x in own}
        file = f"model-{part + 2:05d}-of-{blocks + 1:05d}.safetensors"
        save_file(tensors, folder / file, metadata={"format": "pt"})
        places |= dict.fromkeys(own, file)
        total += sum(tensor.nbytes for tensor in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return total
