"""Slow, plain pruning, written from the published rules alone: what the engine is compared with.

Nothing of the engine is imported. A model is pruned in place, so hand in a copy.
"""

import torch
from torch import nn

TOO_FEW = 16  # tokens of an expert; fewer, and magnitude decides


class CaughtError(Exception):
    """The first block has been reached."""


def stored_rows_first(module: nn.Module) -> bool:
    """nn.Linear stores (C_out, C_in); GPT-2's Conv1D and gpt-oss's experts the other way round."""
    return type(module).__name__ not in ("Conv1D", "StoredInputsFirst")


def matrices_of(block: nn.Module) -> list[tuple[str, nn.Module]]:
    """The linears of one block, by name, without the gate of a shared expert, which decides and does not compute."""
    linears = [(n, m) for n, m in block.named_modules() if isinstance(m, nn.Linear) or not stored_rows_first(m)]
    return [(n, m) for n, m in linears if not n.endswith("shared_expert_gate")]


def weight_of(module: nn.Module) -> torch.Tensor:
    """A copy as (C_out, C_in)."""
    stored = module.weight.data
    return stored.clone() if stored_rows_first(module) else stored.T.contiguous()


def put_back(module: nn.Module, W: torch.Tensor) -> None:
    module.weight = nn.Parameter(W if stored_rows_first(module) else W.T.contiguous(), requires_grad=False)


class StoredInputsFirst(nn.Module):
    """A matrix (C_in, C_out) with a bias, as gpt-oss stores an expert's."""

    def __init__(self, weight, bias):
        super().__init__()
        self.weight, self.bias = nn.Parameter(weight.clone(), requires_grad=False), bias

    def forward(self, x):
        return x @ self.weight + self.bias


class HeldFromTheLeft(nn.Module):
    """A linear that a state-space layer reads as `weight @ x`: every such product is a call here."""

    def __init__(self, linear):
        super().__init__()
        self.linear, self.bias = Unbiased(linear.weight), linear.bias

    @property
    def weight(self):
        return self

    def __matmul__(self, x):
        self.linear(x.transpose(1, 2))
        return self.linear.weight @ x


class Unbiased(nn.Linear):
    def __init__(self, weight):
        super().__init__(weight.shape[1], weight.shape[0], bias=False)
        self.weight = nn.Parameter(weight.clone(), requires_grad=False)


class Expert(nn.Module):
    """One expert as two ordinary matrices."""

    def __init__(self, fused, index):
        super().__init__()
        for name in ("gate_up_proj", "down_proj"):
            weight = getattr(fused, name)[index]
            bias = getattr(fused, f"{name}_bias", None)
            setattr(self, name, Unbiased(weight) if bias is None else StoredInputsFirst(weight, bias[index]))


class Experts(nn.Module):
    """A layer's experts one by one, in the order and with the products of the fused module."""

    def __init__(self, fused):
        super().__init__()
        self.each = nn.ModuleList(Expert(fused, index) for index in range(fused.num_experts))
        self.gate = fused._apply_gate

    def forward(self, hidden, chosen, shares):
        out = torch.zeros_like(hidden)
        for index, expert in enumerate(self.each):
            token, place = torch.where(chosen == index)
            order = torch.argsort(place, stable=True)  # the fused module goes by place first
            token, place = token[order], place[order]
            if len(token):
                y = expert.down_proj(self.gate(expert.gate_up_proj(hidden[token])))
                out.index_add_(0, token, y * shares[token, place, None])
        return out


def taken_apart(model: nn.Module) -> nn.Module:
    """The model with every matrix of a decoder block in a module that is called; change a copy."""
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if any(p.dim() == 3 for p in child.parameters(recurse=False)) and hasattr(child, "num_experts"):
                setattr(parent, name, Experts(child))
            elif name == "dt_proj" and parent.__class__.__name__.startswith("Jamba"):
                del parent.dt_proj
                parent.dt_proj = HeldFromTheLeft(child)
    return model


def own_name(name: str) -> str:
    """How a matrix of a model taken apart is called in the fused one."""
    return name.replace(".each.", ".").removesuffix(".linear")


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


def scaler_rows(
    block: nn.Module, samples: list[tuple[torch.Tensor, tuple, dict]]
) -> tuple[dict[str, torch.Tensor], dict[str, int]]:
    """The running mean of squared column norms, one call per sample, and how many tokens were seen."""
    s: dict[str, torch.Tensor] = {}
    n: dict[str, int] = {}
    tokens: dict[str, int] = {}

    def watch(name):
        def hook(module, args, output):
            x = args[0]
            x = x.reshape(-1, x.shape[-1]).float()
            tokens[name] = tokens.get(name, 0) + len(x)
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
    return s, tokens


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
        s, tokens = scaler_rows(block, samples)
        for name, module in matrices_of(block):
            W = weight_of(module)
            if tokens.get(name, 0) < TOO_FEW:
                metric, dead = torch.abs(W), None
            else:
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
