"""Looking at a model while it runs, and leaving it as it was."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from wanda_core.model.block_calls import hidden_states
from wanda_core.model.language_model import LanguageModel
from wanda_core.model.linears import decoder_blocks
from wanda_core.model.streams import as_given


@contextmanager
def block_outputs(lm: LanguageModel, look: Callable[[int, Tensor], Tensor | None]) -> Iterator[None]:
    """Context manager: call `look(index, stream (1, L, S))` on each block's output; what it returns takes its place.

    The model is refused by a ModelError in the pass where its blocks give another shape.
    """
    _, blocks = decoder_blocks(lm.model)

    def hook(index: int) -> Callable[[nn.Module, Any, Any], Any]:
        def after(module: nn.Module, args: Any, output: Any) -> Any:
            hidden = hidden_states(output)
            changed = look(index, lm.stream_of(hidden))
            if changed is None:
                return None
            given = as_given(changed, hidden)
            return (given, *output[1:]) if isinstance(output, (tuple, list)) else given

        return after

    handles = [block.register_forward_hook(hook(index)) for index, block in enumerate(blocks)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def passes_begin(model: nn.Module, report: Callable[[tuple[bool, int]], object]) -> Iterator[None]:
    """Context manager: call `report((first, tokens))` before every pass of the model, with whether it begins at the
    text's first token and how many it reads; one that goes on from a cache of earlier tokens does not begin there."""

    def before(module: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        ids = args[0] if args else kwargs["input_ids"]
        first = not any(_holds_tokens(kwargs.get(name)) for name in ("past_key_values", "cache_params"))
        report((first, ids.shape[1]))

    handle = model.register_forward_pre_hook(before, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


def _holds_tokens(cache: Any) -> bool:
    """Whether any layer of a cache has keys, or the state of a state-space or linear-attention layer."""
    for layer in getattr(cache, "layers", ()):
        if hasattr(layer, "get_seq_length") and layer.get_seq_length() > 0:
            return True
        states = getattr(layer, "has_previous_state", False)  # of one layer, or of each of its states
        if any(states.values()) if isinstance(states, dict) else states:
            return True
    return False


@contextmanager
def eager_attention(model: nn.Module) -> Iterator[None]:
    """Context manager: compute attention step by step, so that its weights exist; fused kernels never hold them.

    Every configuration in the model gets its own implementation back, whatever happens.
    """
    configs = {}
    for module in model.modules():
        config = getattr(module, "config", None)
        if config is not None and hasattr(config, "_attn_implementation_internal"):
            configs[id(config)] = config
    before = {key: config._attn_implementation_internal for key, config in configs.items()}
    try:
        for config in configs.values():
            config._attn_implementation_internal = "eager"
        yield
    finally:
        for key, config in configs.items():
            config._attn_implementation_internal = before[key]


@contextmanager
def attention_weights(block: nn.Module, look: Callable[[Tensor], object]) -> Iterator[None]:
    """Context manager: call `look(weights (1, H, L, L))` on what each attention layer gives beside its output.

    Found by shape: (queries, keys) last and both as long as the text. Layers hand them on under `eager_attention`.
    """

    def after(module: nn.Module, args: Any, output: Any) -> None:
        for part in output if isinstance(output, (tuple, list)) else ():
            if isinstance(part, Tensor) and part.dim() == 4 and part.shape[0] == 1 and part.shape[2] == part.shape[3]:
                look(part)

    handles = [child.register_forward_hook(after) for child in block.modules() if child is not block]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
