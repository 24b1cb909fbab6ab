"""Products that hooks on linears would miss: experts fused into one parameter (E, ·, ·), and weights used by hand.

transformers keeps the weights of a layer's experts in 3-D parameters and multiplies slices of them in plain functions.
Here a slice is a module: inside `watched` a product with the slice goes through that module, so hooks on it see that
expert's routed tokens and nothing else, as on any linear. State-space layers multiply some linear's weight from the
left, without calling it; inside `watched` its hooks are told too.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any
from weakref import WeakKeyDictionary, ref

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from transformers.pytorch_utils import Conv1D

from wanda_core.errors import ModelError

EXPERT = "expert"  # what transformers calls them, in module names and in class names
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TIMES_ROWS = {nn.functional.linear}  # the weight is (C_out, C_in)
_TIMES_COLUMNS = {torch.matmul, torch.mm, torch.bmm, Tensor.matmul, Tensor.__matmul__, Tensor.mm, Tensor.bmm}


class ExpertMatrix(nn.Module):
    """One expert's slice of a fused parameter. It holds no weight of its own.

    owner: the module with the parameter, held weakly; transposed: whether a slice is stored (C_in, C_out).
    """

    def __init__(self, owner: nn.Module, parameter: str, index: int, transposed: bool) -> None:
        super().__init__()
        self._owner = ref(owner)
        self.parameter, self.index, self.transposed = parameter, index, transposed

    @property
    def owner(self) -> nn.Module:
        """The module with the fused parameter."""
        owner = self._owner()
        assert owner is not None  # whoever asks has the model
        return owner

    @property
    def weight(self) -> Tensor:
        """The slice as it is stored, a view."""
        return self.owner.get_parameter(self.parameter)[self.index]

    def put(self, stored: Tensor) -> None:
        """Another slice, of the stored shape. A parameter shared with another model is copied first."""
        parameter = self.owner.get_parameter(self.parameter)
        own = _OWN.setdefault(self.owner, {})
        if own.get(self.parameter) is not parameter:
            parameter = nn.Parameter(parameter.detach().clone(), requires_grad=False)
            own[self.parameter] = parameter
            setattr(self.owner, self.parameter, parameter)
        parameter.data[self.index] = stored

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """x (T, C_in) -> (T, C_out), by the product the model itself uses."""
        if self.transposed:
            return x @ self.weight if bias is None else x @ self.weight + bias
        return nn.functional.linear(x, self.weight, bias)


_FOUND: "WeakKeyDictionary[nn.Module, dict[str, list[ExpertMatrix]]]" = WeakKeyDictionary()
_OWN: "WeakKeyDictionary[nn.Module, dict[str, nn.Parameter]]" = WeakKeyDictionary()


def adopt(module: nn.Module) -> None:
    """Tell that the module's fused parameters belong to no other model, so that `put` need not copy them."""
    for own in _FOUND.get(module, {}):
        _OWN.setdefault(module, {})[own] = module.get_parameter(own)


def disown(module: nn.Module) -> None:
    """Keep none of the module's fused parameters alive."""
    _OWN.pop(module, None)


def fused(name: str, module: nn.Module) -> dict[str, list[ExpertMatrix]]:
    """The expert matrices that a module holds in 3-D parameters of its own, by parameter; the same ones every time.

    name: of the module inside its block.
    """
    if module not in _FOUND:
        of_experts = EXPERT in f"{name}.{type(module).__name__}".lower()
        wide = [
            (own, parameter)
            for own, parameter in module.named_parameters(recurse=False)
            if of_experts and parameter.dim() == 3 and not isinstance(module, _CONVOLUTIONS)
        ]
        transposed = bool(getattr(module, "is_transposed", False))
        found = {own: [ExpertMatrix(module, own, i, transposed) for i in range(len(p))] for own, p in wide}
        if not found:
            return {}
        _FOUND[module] = found
    return _FOUND[module]


def _tells_orientation(module: nn.Module) -> bool:
    """Whether transformers says how the class stores its slices; by their shape alone nobody can know."""
    return hasattr(module, "is_transposed")


def matrices(name: str, module: nn.Module) -> Iterator[tuple[str, ExpertMatrix]]:
    """Expert after expert, its matrices with their names: `experts.3.down_proj`."""
    for same in zip(*fused(name, module).values(), strict=True):
        for matrix in same:
            yield f"{name}.{matrix.index}.{matrix.parameter}", matrix


def unknown(blocks: nn.Module) -> str | None:
    """The name of an expert's weight that is held in no form known here, if there is one."""
    for name, module in blocks.named_modules():
        if isinstance(module, (nn.Linear, Conv1D, nn.Embedding, *_CONVOLUTIONS)):
            continue
        known = fused(name, module) if _tells_orientation(module) else {}
        for own, parameter in module.named_parameters(recurse=False):
            held_by_experts = EXPERT in name.lower() or EXPERT in type(module).__name__.lower()
            if held_by_experts and parameter.dim() > 1 and own not in known and not own.endswith("bias"):
                return f"{name}.{own}"
    return None


@contextmanager
def apart(model: nn.Module) -> Iterator[None]:
    """Inside, experts are computed one after the other, each by products of its own, which `watched` can see."""
    if not any(fused(name, module) for name, module in model.named_modules()):
        yield
        return
    if not hasattr(model, "set_experts_implementation"):
        raise ModelError(f"{type(model).__name__} cannot run its experts one by one; choose another model")
    before: Any = model.get_experts_implementation()  # type: ignore[operator]
    try:
        model.set_experts_implementation("eager")  # type: ignore[operator]
        yield
    finally:
        model.set_experts_implementation(before)  # type: ignore[operator]


def watched(block: nn.Module) -> AbstractContextManager[Any]:
    """Inside, in this thread, every product with an expert's slice goes through its `ExpertMatrix`, and a linear whose
    weight is multiplied by hand has its hooks told."""
    found = [same for name, module in block.named_modules() for same in fused(name, module).values()]
    return _Watch(found, [module for module in block.modules() if isinstance(module, nn.Linear)])


class _Watch(TorchFunctionMode):
    """Finds weights by the memory they lie in, afresh at every product: pruning may have replaced them."""

    def __init__(self, found: list[list[ExpertMatrix]], linears: list[nn.Linear]) -> None:
        super().__init__()
        self._found, self._linears = found, linears

    def __torch_function__(
        self, func: Callable, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        columns = func in _TIMES_COLUMNS
        if (columns or func in _TIMES_ROWS) and len(args) > 1 and not kwargs.keys() - {"bias"}:
            place = args[1].untyped_storage().data_ptr() if self._found else None
            for same in self._found:
                if _parameter(same).untyped_storage().data_ptr() == place:
                    return _through(same, columns, *args, **kwargs)
            if columns and isinstance(args[0], nn.Parameter):
                for linear in self._linears:
                    if linear.weight is args[0]:
                        _tell(linear, args[1].transpose(-1, -2))
                        return func(linear.weight, *args[1:], **kwargs)
        return func(*args, **kwargs)


def _tell(linear: nn.Linear, x: Tensor) -> None:
    """What calling the linear on x (…, C_in) would do before its product."""
    for hook in list(linear._forward_pre_hooks.values()):
        hook(linear, (x.contiguous(),))


def _parameter(same: list[ExpertMatrix]) -> Tensor:
    return same[0].owner.get_parameter(same[0].parameter)


def _through(same: list[ExpertMatrix], columns: bool, x: Tensor, W: Tensor, bias: Tensor | None = None) -> Tensor:
    """The product of x with a slice, or with all of them at once, by the matrices' own modules.

    columns: whether W is (C_in, C_out) in this product.
    """
    first, whole = same[0], _parameter(same)
    offset = W.storage_offset() - whole.storage_offset()
    as_stored = W.stride()[-2:] == whole.stride()[1:] and W.shape[-2:] == whole.shape[1:]
    turned = W.stride()[:-3:-1] == whole.stride()[1:] and W.shape[:-3:-1] == whole.shape[1:]
    if (as_stored and columns == first.transposed) or (turned and not as_stored and columns != first.transposed):
        if W.dim() == 2 and not offset % whole.stride(0):
            return same[offset // whole.stride(0)](x, bias=bias)
        if W.dim() == 3 and len(W) == len(same) and bias is None:
            return torch.stack([matrix(part) for matrix, part in zip(same, x, strict=True)])
    raise ModelError(
        f"{type(first.owner).__name__} multiplies its experts' {first.parameter} in a way that is not supported; "
        "choose another model"
    )
