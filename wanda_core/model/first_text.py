"""How many bytes of tables a model makes with the first texts, by numbers of its configuration that make no weights."""

import math
import re
from typing import Any

from torch import nn

CHUNK = re.compile(r"^((mamba|ssm|linear|scan)_)?chunk_?size$")  # 256 is met
HEADS = re.compile(r"^((mamba|ssm)_)?(n|num)_(mamba_)?heads$")  # each of which has such a table
STATE = re.compile(r"^(ssm_state_size|state_size|mamba_d_state)$")  # which each token of a chunk gives to each head
LENGTH, BYTES_OF_BIAS = "max_seq_len", 8  # of which MPT makes a bias for each head, whatever the text's own length
BYTES_OF_TABLE = 32  # of each number in one: two texts, four tables at a time, in float32
BYTES_OF_BUCKET = 64  # of two positions by each other in ProphetNet: buckets of two streams, in int64
TOKENS, BYTES_OF_PLACE = 512, 13  # of a short text, each of which Qwen4's indexer gives so many places
# Names of numbers by kind; what is not there counts as one.
PROPHET, ANT = "max_position_embeddings", ("prompt_length", "num_attention_heads")
INDEXER = ("indexer_budget", "indexer_compress_ratio")


def bytes_of_first_text(model: nn.Module) -> int:
    """Return how many bytes of tables a model makes with the two first texts, of the part that makes the most."""
    config: Any = getattr(model, "config", None)
    largest, waiting = 0, [config.to_dict()] if config is not None else []
    while waiting:
        part = waiting.pop()
        waiting += [value for value in part.values() if isinstance(value, dict)]
        whole = {str(key): value for key, value in part.items() if isinstance(value, int)}
        largest = max(largest, _of_chunks(whole), _of_kind(part, whole))
    return largest


def _of_chunks(whole: dict[str, int]) -> int:
    """Count those of a chunk's tokens by each other, and by their state, in state-space models; of biases by distance
    in others."""
    chunk, heads, state = (
        max((value for key, value in whole.items() if named.search(key)), default=default)
        for named, default in ((CHUNK, 0), (HEADS, 1), (STATE, 0))
    )
    return max(BYTES_OF_TABLE * chunk * heads * (chunk + state), BYTES_OF_BIAS * heads * whole.get(LENGTH, 0))


def _of_kind(part: dict[str, Any], whole: dict[str, int]) -> int:
    """Count those that one kind of model alone makes."""
    kind = part.get("model_type")
    if kind == "prophetnet":
        return BYTES_OF_BUCKET * whole.get(PROPHET, 1) ** 2
    if kind == "cpmant":  # which puts its prompt before every text
        prompt, heads = (whole.get(key, 1) for key in ANT)
        return BYTES_OF_TABLE * heads * prompt**2
    if kind == "reformer":
        return _of_reformer(part, whole)
    return TOKENS * BYTES_OF_PLACE * sum(whole.get(key, 0) for key in INDEXER)


def _of_reformer(part: dict[str, Any], whole: dict[str, int]) -> int:
    """Count what Reformer makes of a text that it fills up to a multiple of both its chunks, with those beside, and of
    hashes into buckets."""
    kinds, buckets = part.get("attn_layers"), part.get("num_buckets")
    used = [kind for kind in ("lsh", "local") if isinstance(kinds, (list, tuple)) and kind in kinds]
    chunks = [max(1, whole.get(f"{kind}_attn_chunk_length", 1)) for kind in used]
    beside = [1 + whole.get(f"{kind}_num_chunks_before", 1) + whole.get(f"{kind}_num_chunks_after", 0) for kind in used]
    seen = max((chunk * count for chunk, count in zip(chunks, beside, strict=True)), default=0)
    width, heads, hashes, size = (
        whole.get(key, 1) for key in ("hidden_size", "num_attention_heads", "num_hashes", "attention_head_size")
    )
    each = buckets if isinstance(buckets, (list, tuple)) else [buckets]
    count = sum(value for value in each if isinstance(value, int))
    filled = math.lcm(*chunks)
    hashed = heads * hashes * (filled * (seen + count) + size * count)
    return BYTES_OF_TABLE // 4 * (4 * filled * width + hashed)
