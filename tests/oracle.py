"""Slow, plain pruning, written from the published rules alone: what the engine is compared with.

Nothing of the engine is imported. A model is pruned in place, so hand in a copy.
"""

import torch
from torch import nn


class CaughtError(Exception):
    """The first block has been reached."""


def stored_rows_first(module: nn.Module) -> bool:
    """nn.Linear stores (C_out, C_in); GPT-2's Conv1D the other way round."""
    return type(module).__name__ != "Conv1D"


def matrices_of(block: nn.Module) -> list[tuple[str, nn.Module]]:
    """The linears of one block, by name."""
    return [(n, m) for n, m in block.named_modules() if isinstance(m, nn.Linear) or type(m).__name__ == "Conv1D"]


def weight_of(module: nn.Module) -> torch.Tensor:
    """A copy as (C_out, C_in)."""
    stored = module.weight.data
    return stored.clone() if stored_rows_first(module) else stored.T.contiguous()


def put_back(module: nn.Module, W: torch.Tensor) -> None:
    module.weight = nn.Parameter(W if stored_rows_first(module) else W.T.contiguous(), requires_grad=False)


def catch_first_block(model: nn.Module, first: nn.Module, ids: torch.Tensor) -> list[tuple[torch.Tensor, tuple, dict]]:
    """Per sample what the first block is called with: (hidden states, further positional, keyword arguments)."""
    caught = []

    def instead(*args, **kwargs):
        rest = dict(kwargs)
        hidden = args[0] if args else rest.pop("hidden_states")
        caught.append((hidden, args[1:], rest))
        raise CaughtError

    first.forward = instead
    try:
        for row in range(ids.shape[0]):
            try:
                model(ids[row : row + 1], use_cache=False)
            except CaughtError:
                continue
    finally:
        del first.forward  # the class's own is found again
    return caught


def own_arguments(model: nn.Module, blocks: nn.ModuleList, ids: torch.Tensor) -> list[list[tuple[tuple, dict]]]:
    """Per block and sample what it is called with besides hidden states: masks may differ from block to block."""
    heard: list[list[tuple[tuple, dict]]] = [[] for _ in blocks]

    def listen(place):
        def hook(module, args, kwargs):
            heard[place].append((args[1:], {k: v for k, v in kwargs.items() if k != "hidden_states"}))

        return hook

    handles = [b.register_forward_pre_hook(listen(place), with_kwargs=True) for place, b in enumerate(blocks)]
    for row in range(ids.shape[0]):
        model(ids[row : row + 1], use_cache=False)
    for handle in handles:
        handle.remove()
    return heard


def scaler_rows(block: nn.Module, samples: list[tuple[torch.Tensor, tuple, dict]]) -> dict[str, torch.Tensor]:
    """The running mean of squared column norms, one call per sample."""
    s: dict[str, torch.Tensor] = {}
    n: dict[str, int] = {}

    def watch(name):
        def hook(module, args, output):
            x = args[0]
            x = x.reshape(-1, x.shape[-1]).float()
            if name not in s:
                s[name], n[name] = torch.zeros(x.shape[1], device=x.device), 0
            s[name] *= n[name] / (n[name] + 1)
            n[name] += 1
            s[name] += torch.norm(x.t(), p=2, dim=1) ** 2 / n[name]

        return hook

    handles = [module.register_forward_hook(watch(name)) for name, module in matrices_of(block)]
    for hidden, args, kwargs in samples:
        block(hidden, *args, **kwargs)
    for handle in handles:
        handle.remove()
    return s


def ascending(metric: torch.Tensor, W: torch.Tensor | None = None, dead: torch.Tensor | None = None) -> torch.Tensor:
    """Columns of each row from the lowest up, ties from the left.

    dead (R, C): inputs that were always zero. They come before all others, ordered by |W|: two sorts, the
    second of which only moves them to the front.
    """
    if dead is None or not dead.any():
        return torch.sort(metric, dim=1, stable=True)[1]
    order = torch.sort(torch.where(dead, W.abs().to(metric.dtype), metric), dim=1, stable=True)[1]
    to_front = torch.sort((~dead).gather(1, order).to(torch.uint8), dim=1, stable=True)[1]
    return order.gather(1, to_front)


def mask_rows(metric: torch.Tensor, sparsity: float, W=None, dead=None) -> torch.Tensor:
    """The first int(C_in * sparsity) of a stable ascending sort of each row."""
    order = ascending(metric, W, dead)
    mask = torch.zeros_like(metric, dtype=torch.bool)
    mask.scatter_(1, order[:, : int(metric.shape[1] * sparsity)], True)
    return mask


def mask_groups(metric: torch.Tensor, n: int, m: int, W=None, dead=None) -> torch.Tensor:
    """Group by group along the row, the m - n lowest of every m."""
    mask = torch.zeros_like(metric, dtype=torch.bool)
    for start in range(0, metric.shape[1], m):
        here = slice(start, start + m)
        order = ascending(metric[:, here]) if dead is None else ascending(metric[:, here], W[:, here], dead[:, here])
        mask.scatter_(1, start + order[:, : m - n], True)
    return mask


def mask_matrix(metric: torch.Tensor, sparsity: float) -> torch.Tensor:
    """Magnitude, layer-wise: everything up to the value at place int(numel * sparsity), with it."""
    threshold = torch.sort(metric.flatten())[0][int(metric.numel() * sparsity)]
    return metric <= threshold


@torch.no_grad()
def prune_wanda(
    model: nn.Module,
    blocks: nn.ModuleList,
    ids: torch.Tensor,
    *,
    sparsity: float | None = None,
    n_of_m: tuple[int, int] | None = None,
    first: int | None = None,
) -> None:
    """The reference protocol on the first `first` blocks. ids (N, L)."""
    own = own_arguments(model, blocks, ids)
    samples = catch_first_block(model, blocks[0], ids)
    for place, block in enumerate(blocks[:first]):
        samples = [(hidden, *own[place][i]) for i, (hidden, *_) in enumerate(samples)]
        s = scaler_rows(block, samples)
        for name, module in matrices_of(block):
            W = weight_of(module)
            metric = torch.abs(W) * torch.sqrt(s[name].reshape(1, -1))
            dead = (s[name] == 0).expand_as(W)
            mask = mask_groups(metric, *n_of_m, W, dead) if n_of_m else mask_rows(metric, sparsity, W, dead)
            W[mask] = 0
            put_back(module, W)
        moved = []
        for hidden, args, kwargs in samples:
            out = block(hidden, *args, **kwargs)
            moved.append((out[0] if isinstance(out, tuple) else out, args, kwargs))
        samples = moved


@torch.no_grad()
def prune_magnitude(blocks: nn.ModuleList, *, group: str, sparsity: float) -> None:
    """|W| within a `row`, a `matrix` or the whole `model`."""
    modules = [module for block in blocks for _, module in matrices_of(block)]
    every = torch.cat([weight_of(module).abs().flatten() for module in modules])
    over_all = torch.sort(every)[0][int(every.numel() * sparsity)]
    for module in modules:
        W = weight_of(module)
        metric = W.abs()
        if group == "row":
            W[mask_rows(metric, sparsity)] = 0
        elif group == "matrix":
            W[mask_matrix(metric, sparsity)] = 0
        else:
            W[metric <= over_all] = 0
        put_back(module, W)
