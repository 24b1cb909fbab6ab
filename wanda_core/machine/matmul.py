"""Matrix products by oneDNN, faster on some CPUs than torch's own, and in a forward pass the same in every bit.

On x86 torch multiplies float32 matrices by Intel's MKL, which leaves half the width of other makers' processors unused;
oneDNN, which torch carries too, does not. Each adds up along the inputs in pieces, MKL often of 192, and rounds where a
piece ends. Handed MKL's pieces one after the other, oneDNN ends with MKL's bits. Nobody promises that, so each shape is
tried on random numbers first: oneDNN is used where its bits are equal, torch's own product elsewhere. Whether oneDNN
takes less time at all is measured once; it decides nothing but the time. WANDA_ONEDNN=0 in the environment leaves
everything to torch.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

LEAST_ROWS = 64  # of x; with fewer there is nothing to gain
MOST_OUTPUTS = 32_768  # of W; a vocabulary has more, and trying it out would take hundreds of megabytes
MOST_NUMBERS = 2**26  # of x, of W and of their product; 256 MB each, of which a trial takes several
MOST_SHAPES = 256  # that are remembered, the latest
PAYS_BELOW = 0.85  # share of torch's own time; oneDNN must take less to be used
TIMED_RUNS = 10  # of each product; the fastest counts
LENGTHS = (192, 256, 384, 128)  # of a piece, in the order they are tried
LINE = 64  # bytes of a cache line; MKL may go another way for what begins inside one

# All that a product's bits depend on, except the numbers: sizes, strides, places in a cache line, bias, threads.
Shape = tuple[Any, ...]
_ends: dict[Shape, list[int] | None] = {}  # -> where pieces end; [] until it is tried; None for torch's own product


def linear(x: Tensor, W: Tensor, bias: Tensor | None = None) -> Tensor:
    """Compute x Wᵀ + bias, bit for bit as `torch.nn.functional.linear` does.

    x (…, C_in), W (C_out, C_in), bias (C_out,) -> (…, C_out). A shape is tried when it comes for the second time.
    """
    if not _fit(x, W, bias):
        return nn.functional.linear(x, W, bias)
    flat = x.reshape(-1, x.shape[-1])
    shape = (*_layout(flat), *_layout(W), bias is not None, torch.get_num_threads())
    ends = _ends.get(shape)
    if shape not in _ends:
        _remember(shape, [])
    elif ends == []:
        ends = _find_ends(flat, W, bias)
        _remember(shape, ends)
    if not ends:
        return nn.functional.linear(x, W, bias)
    return _in_pieces(flat, W, bias, ends).view(*x.shape[:-1], len(W))


def _remember(shape: Shape, ends: list[int] | None) -> None:
    while shape not in _ends and len(_ends) >= MOST_SHAPES:
        _ends.pop(next(iter(_ends)), None)  # the oldest, unless another thread was first
    _ends[shape] = ends


def matmul(A: Tensor, B: Tensor) -> Tensor:
    """Compute A B where nobody's bits must be met: by oneDNN in one piece where it can, the same every time.

    A (M, K), B (K, N) -> (M, N).
    """
    W = B.t()
    return _in_pieces(A, W, None, [A.shape[1]]) if _fit(A, W, None) else A @ B


def times_symmetric(A: Tensor, H: Tensor) -> Tensor:
    """Compute A H for H = Hᵀ, which oneDNN reads by rows, a fifth faster. A (M, K), H (K, K) -> (M, K)."""
    return matmul(A, H.t())


def accumulator_dtype(device: torch.device) -> torch.dtype:
    """Choose the type for sums over sequences: float64, so that their order leaves no trace once the sum is float32.

    MPS has no float64, so there it is float32.
    """
    return torch.float32 if device.type == "mps" else torch.float64


def _layout(x: Tensor) -> Shape:
    """Describe how a matrix lies in memory."""
    return x.shape, x.stride(), x.data_ptr() % LINE


def _fit(x: Tensor, W: Tensor, bias: Tensor | None) -> bool:
    """Tell whether oneDNN could take this product: float32 on a CPU, nothing to differentiate, and enough of it."""
    tensors = (x, W) if bias is None else (x, W, bias)
    return (
        _onednn is not None
        and all(type(tensor) in (Tensor, nn.Parameter) and tensor.dtype == torch.float32 for tensor in tensors)
        and all(tensor.device.type == "cpu" and tensor.layout == torch.strided for tensor in tensors)
        and W.dim() == 2
        and (x.is_contiguous() if x.dim() > 2 else x.dim() == 2)
        and 0 not in (*x.stride(), *W.stride())  # rows that lie in one place, as after `expand`
        and x.numel() >= LEAST_ROWS * x.shape[-1] > 0
        and 1 < len(W) <= MOST_OUTPUTS
        and max(x.numel(), W.numel(), x.numel() // x.shape[-1] * len(W)) <= MOST_NUMBERS
        and (bias is None or bias.shape == W.shape[:1])
        and not (torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors))
    )


def _onednn_linear() -> Callable[..., Tensor] | None:
    """Get torch's way to oneDNN's product, None where there is none, it does not work or must not be used."""
    if os.environ.get("WANDA_ONEDNN") == "0" or not torch.backends.mkldnn.is_available():
        return None
    try:
        product = torch.ops.mkldnn._linear_pointwise.default  # what torch's own compiler calls; it has no public name
        x = torch.arange(4.0, dtype=torch.float32, device="cpu").view(2, 2)
        works = torch.equal(product(x, x, None, "none", [], ""), x @ x.t())
    except (AttributeError, RuntimeError, TypeError):  # another torch, without it or with other arguments
        return None
    return product if works else None


_onednn = _onednn_linear()


def _in_pieces(x: Tensor, W: Tensor, bias: Tensor | None, ends: list[int]) -> Tensor:
    """Compute x Wᵀ + bias by oneDNN, piece by piece along the inputs. ends: where each piece ends.

    x (T, C_in), W (C_out, C_in) -> (T, C_out).
    """
    assert _onednn is not None
    y: Tensor | None = None
    for start, end in zip([0, *ends], ends, strict=False):
        piece = _onednn(_dense(x[:, start:end]), _dense(W[:, start:end]), bias if y is None else None, "none", [], "")
        y = piece if y is None else y.add_(piece)
    assert y is not None
    return y


def _dense(x: Tensor) -> Tensor:
    """Close gaps between rows, or between columns where x is stored by columns: oneDNN is slow with gaps."""
    return x if x.t().is_contiguous() else x.contiguous()


def _find_ends(x: Tensor, W: Tensor, bias: Tensor | None) -> list[int] | None:
    """Try where pieces must end to give torch's own bits for products of this shape. -> ends, None when none do."""
    if not _pays(torch.get_num_threads()):
        return None
    generator = torch.Generator("cpu").manual_seed(0)
    x, W = _random_like(x, generator), _random_like(W, generator)
    bias = None if bias is None else torch.empty_like(bias).normal_(generator=generator)
    expected = nn.functional.linear(x, W, bias)
    try:
        candidates = _candidate_ends(x.shape[1])
        return next((ends for ends in candidates if torch.equal(_in_pieces(x, W, bias, ends), expected)), None)
    except RuntimeError:  # nothing that oneDNN takes
        return None


def _random_like(x: Tensor, generator: torch.Generator) -> Tensor:
    """Draw random numbers that lie in memory as x does. (M, N) -> (M, N) float32."""
    size = 1 + sum((length - 1) * stride for length, stride in zip(x.shape, x.stride(), strict=True))
    memory = torch.empty(size + LINE // 4, dtype=torch.float32, device="cpu").normal_(generator=generator)
    start = (x.data_ptr() - memory.data_ptr()) % LINE // 4
    return memory.as_strided(x.shape, x.stride(), start)


@cache
def _pays(threads: int) -> bool:
    """Measure whether oneDNN, in pieces, takes clearly less time here than torch's own product on so many threads."""
    if _onednn is None:
        return False
    generator = torch.Generator("cpu").manual_seed(0)
    x, W = (
        _random_like(torch.empty(rows, 3 * LENGTHS[0], dtype=torch.float32, device="cpu"), generator)
        for rows in (2048, 512)
    )
    ends = next(_candidate_ends(x.shape[1]))
    own, pieces = (_seconds(product) for product in (lambda: x @ W.t(), lambda: _in_pieces(x, W, None, ends)))
    return pieces < PAYS_BELOW * own


def _seconds(product: Callable[[], Tensor]) -> float:
    """Time a product as the fastest of several runs, since the first ones also prepare what later ones find ready."""
    times = []
    for _ in range(TIMED_RUNS):
        started = time.perf_counter()
        product()
        times.append(time.perf_counter() - started)
    return min(times)


def _candidate_ends(columns: int) -> Iterator[list[int]]:
    """List where the pieces of a row may end: pieces of one length and a rest, two halves, or the whole row."""
    for length in LENGTHS:
        if length < columns:
            yield [*range(length, columns, length), columns]
    if columns % 2 == 0:
        yield [columns // 2, columns]
    yield [columns]


class FasterLinear(TorchFunctionMode):
    """Context manager: in this thread, `linear` of this file runs in place of `torch.nn.functional.linear`."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is nn.functional.linear and not (kwargs or {}).keys() - {"bias"}:
            return linear(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def faster_linear(device: torch.device) -> AbstractContextManager[Any]:
    """Context manager: `FasterLinear` where it can help, nothing on a GPU, where every operation would pay for it."""
    return FasterLinear() if device.type == "cpu" else nullcontext()


def unwatched() -> AbstractContextManager[Any]:
    """Context manager: switch `FasterLinear` off, for a hook's many small operations, each of which it would slow."""
    return torch._C.DisableTorchFunction()
