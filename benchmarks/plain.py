"""The published Wanda loop, plainly: what the engine is timed against and must equal bit for bit.

Written after the published code (locuslab/wanda, `lib/prune.py` and `lib/layerwrapper.py`) and sharing nothing with
`wanda_core`: a hook on every linear, sample by sample, two whole passes per block, a full stable sort of every row.
"""

from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn


class InputStatistic:
    """Running Σ‖x‖²/n of one linear's input columns, n counting sequences. scaler_row: (C_in,) float32."""

    def __init__(self, linear: nn.Linear) -> None:
        self.scaler_row = torch.zeros(linear.in_features, device=linear.weight.device)
        self.n_samples = 0

    def add_batch(self, x: Tensor) -> None:
        """One more call of the linear. x: (B, L, C_in) or (L, C_in)."""
        if x.dim() == 2:
            x = x.unsqueeze(0)
        batch = x.shape[0]
        columns = x.reshape(-1, x.shape[-1]).t().type(torch.float32)  # (C_in, B·L)
        self.scaler_row *= self.n_samples / (self.n_samples + batch)
        self.n_samples += batch
        self.scaler_row += torch.norm(columns, p=2, dim=1) ** 2 / self.n_samples


class _FirstBlockReached(Exception):  # noqa: N818 - it is no error
    pass


@torch.no_grad()
def prune_in_place(model: nn.Module, blocks: nn.ModuleList, ids: Tensor, sparsity: float) -> None:
    """Prune every linear of the blocks by Wanda, unstructured per row. Give it a deep copy: the weights are written to.

    blocks: the decoder blocks inside `model`; ids: int64 (N, L), on the model's device; sparsity: share of zeros.
    """
    inputs, arguments = calibration_inputs(model, blocks, ids)  # (N, L, D)
    outputs = torch.zeros_like(inputs)
    for block in blocks:
        linears = {name: module for name, module in block.named_modules() if isinstance(module, nn.Linear)}
        statistics = {name: InputStatistic(linear) for name, linear in linears.items()}
        handles = [linear.register_forward_hook(_add_to(statistics[name])) for name, linear in linears.items()]
        for j in range(len(inputs)):
            outputs[j] = _run(block, inputs[j], arguments)
        for handle in handles:
            handle.remove()

        for name, linear in linears.items():
            W_metric = torch.abs(linear.weight.data) * torch.sqrt(statistics[name].scaler_row.reshape(1, -1))
            W_mask = torch.zeros_like(W_metric, dtype=torch.bool)
            order = torch.sort(W_metric, dim=-1, stable=True)[1]
            W_mask.scatter_(1, order[:, : int(W_metric.shape[1] * sparsity)], True)
            linear.weight.data[W_mask] = 0

        for j in range(len(inputs)):
            outputs[j] = _run(block, inputs[j], arguments)
        inputs, outputs = outputs, inputs


def calibration_inputs(model: nn.Module, blocks: nn.ModuleList, ids: Tensor) -> tuple[Tensor, dict[str, Any]]:
    """Capture what enters the first block for each sample, and how it is called besides.

    ids int64 (N, L) -> (N, L, D) in the model's dtype, and the keyword arguments every block shares.
    """
    caught: list[Tensor] = []
    arguments: dict[str, Any] = {}

    def catch(module: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Any]) -> None:
        caught.append(args[0] if args else kwargs.pop("hidden_states"))
        arguments.update(kwargs)
        raise _FirstBlockReached

    handle = blocks[0].register_forward_pre_hook(catch, with_kwargs=True)
    for sample in ids:
        with suppress(_FirstBlockReached):
            model(sample.unsqueeze(0), use_cache=False)
    handle.remove()
    return torch.cat(caught), arguments


def _add_to(statistic: InputStatistic) -> Any:
    def hook(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        statistic.add_batch(args[0])

    return hook


def _run(block: nn.Module, hidden: Tensor, arguments: dict[str, Any]) -> Tensor:
    output = block(hidden.unsqueeze(0), **arguments)
    return output[0] if isinstance(output, tuple) else output
