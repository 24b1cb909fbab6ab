"""Matrix products of training, there and back, by oneDNN where it is faster; see `matmul.py`."""

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from wanda_core.machine.matmul import LEAST_ROWS, matmul


class _Product(torch.autograd.Function):
    """x Wᵀ and its way back: two more products."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, W: Tensor) -> Tensor:
        ctx.save_for_backward(x, W)
        return matmul(x.reshape(-1, x.shape[-1]), W.t()).view(*x.shape[:-1], len(W))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, W = ctx.saved_tensors
        flat, rows = gradient.reshape(-1, len(W)), x.reshape(-1, x.shape[-1])
        of_x = matmul(flat, W).view(x.shape) if ctx.needs_input_grad[0] else None
        of_W = matmul(flat.t(), rows) if ctx.needs_input_grad[1] else None
        return of_x, of_W


class FasterTraining(TorchFunctionMode):
    """Context manager: in this thread, linears on a CPU are multiplied as above. Their bits may differ from torch's."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is nn.functional.linear and not kwargs and len(args) in (2, 3) and _pays(*args):
            product = cast(Tensor, _Product.apply(args[0], args[1]))  # type: ignore[no-untyped-call]
            return product if len(args) == 2 or args[2] is None else product + args[2]
        return func(*args, **(kwargs or {}))


def _pays(x: Tensor, W: Tensor, bias: Tensor | None = None) -> bool:
    """Tell whether oneDNN may be faster: float32 on a CPU, rows enough, something to differentiate."""
    on_cpu = all(tensor.device.type == "cpu" and tensor.dtype == torch.float32 for tensor in (x, W))
    return on_cpu and x.numel() >= LEAST_ROWS * x.shape[-1] > 0
