"""Finding what may be pruned: every linear inside the decoder blocks, whatever class holds it."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from wanda_core.errors import ModelError, shortened_path
from wanda_core.model import experts
from wanda_core.model.experts import ExpertMatrix
from wanda_core.model.routers import router_linears


@dataclass(frozen=True)
class Linear:
    """One prunable matrix.

    name: full module name, `model.layers.3.self_attn.q_proj`; kind: the name inside the block, `self_attn.q_proj`;
    block: index from 0; module: what holds the weight.
    """

    name: str
    kind: str
    block: int
    module: nn.Module

    @property
    def transposed(self) -> bool:
        """Whether the module stores (C_in, C_out), as GPT-2's Conv1D does."""
        return isinstance(self.module, Conv1D) or (isinstance(self.module, ExpertMatrix) and self.module.transposed)

    @property
    def parameter(self) -> tuple[str, int | None]:
        """Full name of the parameter that holds it, and its place there, None where it is the whole parameter."""
        if not isinstance(self.module, ExpertMatrix):
            return f"{self.name}.weight", None
        own, index = self.module.parameter, self.module.index
        return f"{self.name.removesuffix(f'.{index}.{own}')}.{own}", index

    @property
    def routed(self) -> bool:
        """Whether it belongs to one of several experts, and reads only the tokens that are sent there."""
        return isinstance(self.module, ExpertMatrix) or re.search(r"experts\.\d+\.", self.kind) is not None

    @property
    def weight(self) -> Tensor:
        """The matrix as (C_out, C_in), a view of what the module holds."""
        stored: Tensor = self.module.weight.detach()  # type: ignore[operator, union-attr, assignment]
        return stored.t() if self.transposed else stored

    @property
    def shape(self) -> tuple[int, int]:
        """(C_out, C_in)."""
        rows, columns = self.weight.shape
        return rows, columns

    def replace(self, weight: Tensor) -> None:
        """Give the module another matrix (C_out, C_in); a parameter shared with another model is not written to."""
        stored = weight.t().contiguous() if self.transposed else weight.contiguous()
        if isinstance(self.module, ExpertMatrix):
            self.module.put(stored)
            return
        self.module.weight = nn.Parameter(stored, requires_grad=False)


def joint_kind(kind: str) -> str:
    """Name the kind that the experts of one layer have in common: `experts.3.down_proj` -> `experts.*.down_proj`."""
    return re.sub(r"(expert.*)\.\d+\.", r"\1.*.", kind)


def decoder_blocks(model: nn.Module) -> tuple[str, nn.ModuleList]:
    """Find the decoder blocks by structure, not by class names. -> name of the module list, and the list.

    It is, within the language model, the outermost module list whose members hold the most weights in linears.
    Raises ModelError if there is none.
    """
    best: tuple[int, str, nn.ModuleList] | None = None
    embeddings = _embeddings_name(model)
    within = _language_model(model, embeddings)
    taken: list[str] = []
    for name, module in model.named_modules():
        if not name.startswith(within) or any(name.startswith(f"{outer}.") for outer in taken):
            continue
        if _is_tower(module) and not embeddings.startswith(f"{name}."):
            taken.append(name)
        if not isinstance(module, nn.ModuleList):
            continue
        taken.append(name)
        weights = sum(m.weight.numel() for _, m in _linears_in(module))  # type: ignore[operator, union-attr, misc]
        if weights and (best is None or weights > best[0]):
            best = (weights, name, module)
    if best is None:
        raise ModelError(
            f"{type(model).__name__} has no decoder blocks with linear layers, and only those are pruned; "
            "choose a causal language model built from transformer blocks"
        )
    return best[1], best[2]


def blocks_config(model: nn.Module) -> PreTrainedConfig | None:
    """Return the configuration of the innermost part that holds the decoder blocks, None where no part has any.

    Of several parts that read text, as BLT's of bytes and of patches, each has sizes of its own.
    """
    inside = decoder_blocks(model)[0].split(".")[:-1]
    holders = [model.get_submodule(".".join(inside[:depth])) for depth in range(len(inside), -1, -1)]
    configs = [getattr(holder, "config", None) for holder in holders]
    return next((config for config in configs if isinstance(config, PreTrainedConfig)), None)


def _embeddings_name(model: Any) -> str:
    """Return the full name of a model's input embeddings, "" where it tells none."""
    if not hasattr(model, "get_input_embeddings"):
        return ""
    embeddings = model.get_input_embeddings()
    return next((name for name, module in model.named_modules() if module is embeddings), "")


def _language_model(model: Any, embeddings: str) -> str:
    """Find the part of a wrapper of several models that reads text. -> what the names in it begin with.

    It is the outermost module above the input embeddings that has the text's configuration, and the whole model where
    text has none of its own. embeddings: their full name.
    """
    config: Any = getattr(model, "config", None)
    if config is None or config.get_text_config() is config:
        return ""
    text, parts = config.get_text_config(), embeddings.split(".")
    above = [".".join(parts[:depth]) for depth in range(1, len(parts))]
    return next((f"{name}." for name in above if getattr(model.get_submodule(name), "config", None) is text), "")


def _is_tower(module: nn.Module) -> bool:
    """Tell whether it is a model within another that reads something else than text, such as pictures or sound."""
    return isinstance(module, PreTrainedModel) and (
        module.main_input_name != "input_ids" or "text" not in module.input_modalities
    )


def check_not_empty(name: str, model: nn.Module) -> None:
    """Raise ModelError for a model with a matrix in its blocks, or a linear anywhere, that has no rows or no columns.
    name: of the model, for the message."""
    prefix, blocks = decoder_blocks(model)
    matrices: list[tuple[str, Tensor]] = [
        (f"{prefix}.{own}", value) for own, value in blocks.named_parameters() if value.dim() > 1
    ]
    linears = [(own, module) for own, module in model.named_modules() if isinstance(module, (nn.Linear, Conv1D))]
    matrices += [(f"{own}.weight", module.weight) for own, module in linears]
    empty = next(((own, value) for own, value in matrices if 0 in value.shape), None)
    if empty is not None:
        raise ModelError(
            f"{shortened_path(name)} has a config.json that makes {empty[0]} in the shape {tuple(empty[1].shape)}, "
            "and a matrix has a row and a column; repair it, such as its intermediate_size, or choose another model"
        )


def prunable_linears(model: nn.Module) -> list[list[Linear]]:
    """List the linears of each decoder block, in the order in which the model registers them; routers are left out.

    Embeddings, lm_head, norms and biases are outside by construction.
    """
    prefix, blocks = decoder_blocks(model)
    routers = [router_linears(block) for block in blocks]
    return [
        [
            Linear(f"{prefix}.{index}.{kind}", kind, index, module)
            for kind, module in _linears_in(block)
            if kind not in routers[index]
        ]
        for index, block in enumerate(blocks)
    ]


def _linears_in(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """List a module's linears and experts' matrices, each with its name inside the module."""
    for name, child in module.named_modules():
        if isinstance(child, (nn.Linear, Conv1D)):
            yield name, child
        yield from experts.matrices(name, child)
