"""Random models at the shapes of the built-in one, of one of 1B and of one of 8B weights, and what a device tells."""

import sys
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import nn
from transformers import AutoModelForCausalLM, LlamaConfig

from wanda_core.model.devices import MEMORY_SHARE, free_memory
from wanda_core.model.language_model import LanguageModel
from wanda_core.text.windows import Calibration

SMALL_BLOCKS, SMALL_VOCABULARY = 2, 4096  # of shapes that are cut down


@dataclass(frozen=True)
class Shape:
    """Sizes of a Llama. heads: of queries, and of keys and values; tied: whether the output head is the embedding."""

    name: str
    width: int
    inner: int
    blocks: int
    heads: tuple[int, int]
    vocabulary: int
    tied: bool

    @property
    def weights(self) -> int:
        """Number of weights, norms left out."""
        queries, keys = self.heads
        attention = self.width * self.width * (2 + 2 * keys / queries)
        embeddings = self.vocabulary * self.width * (1 if self.tied else 2)
        return int(self.blocks * (attention + 3 * self.width * self.inner) + embeddings)

    def small(self) -> "Shape":
        """The same matrices in fewer blocks, with fewer tokens."""
        blocks, vocabulary = min(self.blocks, SMALL_BLOCKS), min(self.vocabulary, SMALL_VOCABULARY)
        return replace(self, name=f"{self.name}, {blocks} blocks", blocks=blocks, vocabulary=vocabulary)


MASKS = Shape("masks", 256, 704, 2, (4, 2), 4096, True)  # two blocks, as the CPU is what it is compared with
SHAPES = (
    Shape("built-in", 576, 1536, 30, (9, 3), 49_152, True),
    Shape("1B", 2048, 8192, 16, (32, 8), 128_256, True),
    Shape("8B", 4096, 14_336, 32, (32, 8), 128_256, False),
)


def random_model(shape: Shape, device: torch.device, dtype: torch.dtype, seed: int = 0) -> LanguageModel:
    """Build a Llama with random weights on a device. There is no tokenizer: it reads tokens that are drawn."""
    config = LlamaConfig(
        hidden_size=shape.width,
        intermediate_size=shape.inner,
        num_hidden_layers=shape.blocks,
        num_attention_heads=shape.heads[0],
        num_key_value_heads=shape.heads[1],
        vocab_size=shape.vocabulary,
        tie_word_embeddings=shape.tied,
        max_position_embeddings=4096,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
    )
    torch.manual_seed(seed)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    return LanguageModel(model.eval().requires_grad_(False), cast(Any, None), f"./{shape.name}", "random")


def drawn(shape: Shape, samples: int, seq_len: int) -> Calibration:
    """Draw windows of random tokens, the same for every device."""
    ids = torch.randint(0, shape.vocabulary, (samples, seq_len), generator=torch.Generator().manual_seed(1))
    return Calibration(ids, "random tokens", 1, ids.numel())


def fits(weights: int, dtype: torch.dtype, device: torch.device, copies: float) -> bool:
    """Whether so many copies of the weights fit into what is free on the device."""
    return copies * weights * dtype.itemsize <= free_memory(device) * MEMORY_SHARE


def has_two_of_four(device: torch.device) -> bool:
    """Whether torch multiplies by 2:4 matrices there: on CUDA, from compute capability 8.0 on."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)


def name_of(device: torch.device) -> str:
    """What the device calls itself."""
    if device.type == "cuda":
        major, minor = torch.cuda.get_device_capability(device)
        return f"{torch.cuda.get_device_name(device)}, CUDA {torch.version.cuda}, capability {major}.{minor}"
    return {"mps": "Apple GPU (MPS)"}.get(device.type, f"CPU, {torch.get_num_threads()} threads")


class Peak:
    """The most memory that a piece of work takes beside what was there before, in bytes.

    As the device counts it: on CUDA what torch allocates, on a Linux CPU what the process holds. None elsewhere.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._before = self._reset()

    def bytes(self) -> int | None:
        """Return the peak since it was made."""
        now = self._now()
        return None if now is None or self._before is None else max(0, now - self._before)

    def _reset(self) -> int | None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
            torch.cuda.reset_peak_memory_stats(self.device)
            return torch.cuda.memory_allocated(self.device)
        if self.device.type == "cpu" and sys.platform == "linux":
            try:
                with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
                    file.write("5")
            except OSError:
                return None
            return self._now()
        return None

    def _now(self) -> int | None:
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device)
        if self.device.type == "cpu" and sys.platform == "linux":
            with open("/proc/self/status", encoding="ascii") as file:
                return next((int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM:")), None)
        return None


def wait_for(device: torch.device) -> None:
    """Wait until a device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def let_go(device: torch.device) -> None:
    """Give memory back that torch keeps for later."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()


def linears_of(model: nn.Module) -> list[tuple[str, nn.Linear]]:
    """List the linears inside the decoder blocks, by name."""
    return [
        (name, module) for name, module in model.named_modules() if isinstance(module, nn.Linear) and ".layers." in name
    ]
