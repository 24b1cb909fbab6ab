"""What reads a channel: the weights of the linears that are given the residual stream itself, taken away together.

The model's parameters are never written to: the linears are given a zero in the channel's place, which is the same.
"""

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from wanda_core.errors import InputError, shortened
from wanda_core.model.language_model import LanguageModel


@contextmanager
def unread(lm: LanguageModel, channel: int, kinds: Collection[str]) -> Iterator[None]:
    """Context manager: run the model as if every weight that reads a channel were zero, W[:, channel] of those linears.

    kinds: of the linears that read the residual stream, as `FeatureCounts` names them. What the blocks hand on to each
    other stays as it is. Raises InputError for a channel that the model does not have, and where no linear reads it.
    """
    if isinstance(channel, bool) or not isinstance(channel, int) or not 0 <= channel < lm.stream_width:
        raise InputError(
            f"channel {shortened(channel)} does not exist; this model has channels 0 to {lm.stream_width - 1}"
        )
    readers = [x for x in lm.all_linears if x.kind in kinds and x.shape[1] == lm.width and not x.routed]
    if not readers or not lm.one_stream:
        raise InputError(f"no linear of {lm.title} reads its residual stream itself; choose another model")
    handles = [linear.module.register_forward_pre_hook(_without(channel)) for linear in readers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _without(channel: int) -> Callable[[nn.Module, Any], Any]:
    def hide(module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        x = args[0].clone()
        x[..., channel] = 0
        return (x, *args[1:])

    return hide
