"""Matrix products of a forward pass, sooner on some CPUs and the same in every bit.

On x86 torch multiplies float32 matrices by Intel's MKL, which leaves half the width of other makers' processors unused;
oneDNN, which torch carries too, does not. Each adds up along the inputs in pieces, MKL often of 192, and rounds where a
piece ends. Handed MKL's pieces one after the other, oneDNN ends with MKL's bits. Nobody promises that, so each shape is
tried on random numbers first, and only equal bits are used, else torch's own product. Whether oneDNN takes less time at
all is measured once; it decides nothing but the time. WANDA_ONEDNN=0 in the environment leaves everything to torch.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

LEAST_ROWS = 64  # of x; fewer are over before anything is gained
MOST_OUTPUTS = 32_768  # of W; a vocabulary has more, and trying it out would take hundreds of megabytes
MOST_NUMBERS = 2**26  # of x, of W and of their product; 256 MB each, of which a trial takes several
MOST_SHAPES = 256  # that are remembered, the latest
SOONER, TIMES = 0.85, 10  # of torch's own time, the least of so many
LENGTHS = (192, 256, 384, 128)  # of a piece, in the order they are tried

# What a product's bits depend on, but for the numbers: sizes, strides and places in a cache line, bias, threads.
Shape = tuple[Any, ...]
_ends: dict[Shape, list[int] | None] = {}  # -> where pieces end, [] before it is tried, None for torch's own product


def linear(x: Tensor, W: Tensor, bias: Tensor | None = None) -> Tensor:
    """x Wᵀ + bias, bit for bit as `torch.nn.functional.linear` has it.

    x (…, C_in), W (C_out, C_in), bias (C_out,) -> (…, C_out). A shape is tried when it comes for the second time.
    """
    if not _fit(x, W, bias):
        return nn.functional.linear(x, W, bias)
    flat = x.reshape(-1, x.shape[-1])
    shape = (*_lie(flat), *_lie(W), bias is not None, torch.get_num_threads())
    ends = _ends.get(shape)
    if shape not in _ends:
        _remember(shape, [])
    elif ends == []:
        ends = _tried(flat, W, bias)
        _remember(shape, ends)
    if not ends:
        return nn.functional.linear(x, W, bias)
    return _in_pieces(flat, W, bias, ends).view(*x.shape[:-1], len(W))


def _remember(shape: Shape, ends: list[int] | None) -> None:
    while shape not in _ends and len(_ends) >= MOST_SHAPES:
        _ends.pop(next(iter(_ends)), None)  # the oldest, unless another thread was first
    _ends[shape] = ends


def matmul(A: Tensor, B: Tensor) -> Tensor:
    """A B for what is solved and compared with nobody's bits: by oneDNN in one piece where it can, the same every time.

    A (M, K), B (K, N) -> (M, N).
    """
    W = B.t()
    return _in_pieces(A, W, None, [A.shape[1]]) if _fit(A, W, None) else A @ B


def times_symmetric(A: Tensor, H: Tensor) -> Tensor:
    """A H likewise, for H = Hᵀ, which oneDNN then reads by rows, a fifth sooner. A (M, K), H (K, K) -> (M, K)."""
    return matmul(A, H.t())


def _lie(x: Tensor) -> Shape:
    """How a matrix lies in memory."""
    return x.shape, x.stride(), x.data_ptr() % LINE


LINE = 64  # bytes of a cache line; MKL may go another way for what begins inside one


def _fit(x: Tensor, W: Tensor, bias: Tensor | None) -> bool:
    """Whether oneDNN could take this product: float32 on a CPU, nothing to differentiate, and enough of it."""
    given = (x, W) if bias is None else (x, W, bias)
    return (
        _onednn is not None
        and all(type(one) in (Tensor, nn.Parameter) and one.dtype == torch.float32 for one in given)
        and all(one.device.type == "cpu" and one.layout == torch.strided for one in given)
        and W.dim() == 2
        and (x.is_contiguous() if x.dim() > 2 else x.dim() == 2)
        and 0 not in (*x.stride(), *W.stride())  # rows that lie in one place, as after `expand`
        and x.numel() >= LEAST_ROWS * x.shape[-1] > 0
        and 1 < len(W) <= MOST_OUTPUTS
        and max(x.numel(), W.numel(), x.numel() // x.shape[-1] * len(W)) <= MOST_NUMBERS
        and (bias is None or bias.shape == W.shape[:1])
        and not (torch.is_grad_enabled() and any(one.requires_grad for one in given))
    )


def _found_onednn() -> Callable[..., Tensor] | None:
    if os.environ.get("WANDA_ONEDNN") == "0" or not torch.backends.mkldnn.is_available():
        return None
    try:
        found = torch.ops.mkldnn._linear_pointwise.default  # what torch's own compiler calls; it has no public name
        x = torch.arange(4.0, dtype=torch.float32, device="cpu").view(2, 2)
        works = torch.equal(found(x, x, None, "none", [], ""), x @ x.t())
    except (AttributeError, RuntimeError, TypeError):  # another torch, which has none or one that takes other things
        return None
    return found if works else None


_onednn = _found_onednn()


def _in_pieces(x: Tensor, W: Tensor, bias: Tensor | None, ends: list[int]) -> Tensor:
    """x Wᵀ + bias by oneDNN, added up piece by piece. x (T, C_in), W (C_out, C_in) -> (T, C_out)."""
    assert _onednn is not None
    y: Tensor | None = None
    for start, end in zip([0, *ends], ends, strict=False):
        part = _onednn(_dense(x[:, start:end]), _dense(W[:, start:end]), bias if y is None else None, "none", [], "")
        y = part if y is None else y.add_(part)
    assert y is not None
    return y


def _dense(x: Tensor) -> Tensor:
    """Without gaps between rows, or between columns where it is stored by columns: oneDNN crawls over gaps."""
    return x if x.t().is_contiguous() else x.contiguous()


def _tried(x: Tensor, W: Tensor, bias: Tensor | None) -> list[int] | None:
    """Where pieces must end to give torch's own bits for products of this shape, None when none do."""
    if not _pays(torch.get_num_threads()):
        return None
    generator = torch.Generator("cpu").manual_seed(0)
    x, W = _drawn_like(x, generator), _drawn_like(W, generator)
    bias = None if bias is None else torch.empty_like(bias).normal_(generator=generator)
    own = nn.functional.linear(x, W, bias)
    try:
        return next((ends for ends in _ways(x.shape[1]) if torch.equal(_in_pieces(x, W, bias, ends), own)), None)
    except RuntimeError:  # nothing that oneDNN takes
        return None


def _drawn_like(x: Tensor, generator: torch.Generator) -> Tensor:
    """Random numbers that lie in memory as x does. (M, N) -> (M, N) float32."""
    size = 1 + sum((length - 1) * stride for length, stride in zip(x.shape, x.stride(), strict=True))
    room = torch.empty(size + LINE // 4, dtype=torch.float32, device="cpu").normal_(generator=generator)
    start = (x.data_ptr() - room.data_ptr()) % LINE // 4
    return room.as_strided(x.shape, x.stride(), start)


@cache
def _pays(threads: int) -> bool:
    """Whether oneDNN takes clearly less time here, on so many threads, pieces and all."""
    if _onednn is None:
        return False
    generator = torch.Generator("cpu").manual_seed(0)
    x, W = (
        _drawn_like(torch.empty(rows, 3 * LENGTHS[0], dtype=torch.float32, device="cpu"), generator)
        for rows in (2048, 512)
    )
    ends = next(_ways(x.shape[1]))
    own, pieces = (_seconds(product) for product in (lambda: x @ W.t(), lambda: _in_pieces(x, W, None, ends)))
    return pieces < SOONER * own


def _seconds(product: Callable[[], Tensor]) -> float:
    """The least of several times: the first ones also prepare what later ones find ready."""
    spent = []
    for _ in range(TIMES):
        started = time.perf_counter()
        product()
        spent.append(time.perf_counter() - started)
    return min(spent)


def _ways(columns: int) -> Iterator[list[int]]:
    """Where the pieces of a row may end: pieces of one length and a rest, two halves, or the whole row."""
    for length in LENGTHS:
        if length < columns:
            yield [*range(length, columns, length), columns]
    if columns % 2 == 0:
        yield [columns // 2, columns]
    yield [columns]


class FasterLinear(TorchFunctionMode):
    """Inside, in this thread, every `torch.nn.functional.linear` is `products.linear`."""

    def __torch_function__(
        self, func: Callable, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is nn.functional.linear and not (kwargs or {}).keys() - {"bias"}:
            return linear(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def unwatched() -> AbstractContextManager[Any]:
    """Inside, `FasterLinear` does not look: for the many small operations of a hook, each of which would pay for it."""
    return torch._C.DisableTorchFunction()


def wide(device: torch.device) -> torch.dtype:
    """What sums over sequences are kept in, so that their order leaves no trace in float32. MPS has no float64."""
    return torch.float32 if device.type == "mps" else torch.float64
