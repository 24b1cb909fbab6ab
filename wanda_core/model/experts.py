"""Making hooks see products they would miss: with experts fused into one parameter, and with weights used directly.

transformers keeps the weights of a layer's experts in 3-D parameters (E, ·, ·) and multiplies slices of them in plain
functions. Here a slice is a module: within `watched` a product with the slice goes through that module, so hooks on it
see that expert's routed tokens and nothing else, as on any linear. State-space layers multiply some linear's weight
from the left, without calling the linear; within `watched` its hooks run too.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, cast
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
    """One expert's slice of a fused parameter, as a module that holds no weight of its own.

    owner: the module with the parameter, held weakly; parameter: its name there; index: of the expert; transposed:
    whether a slice is stored (C_in, C_out).
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
        """The slice as it is stored, (C_out, C_in) or transposed, a view."""
        return self.owner.get_parameter(self.parameter)[self.index]

    def put(self, stored: Tensor) -> None:
        """Write another slice, of the stored shape. A parameter shared with another model is copied first."""
        parameter = self.owner.get_parameter(self.parameter)
        own = _OWN_PARAMETERS.setdefault(self.owner, {})
        if own.get(self.parameter) is not parameter:
            parameter = nn.Parameter(parameter.detach().clone(), requires_grad=False)
            own[self.parameter] = parameter
            setattr(self.owner, self.parameter, parameter)
        parameter.data[self.index] = stored

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """Multiply x (T, C_in) -> (T, C_out), by the product the model itself uses."""
        if self.transposed:
            return x @ self.weight if bias is None else x @ self.weight + bias
        return nn.functional.linear(x, self.weight, bias)


# By module: its expert matrices, by the name of the parameter they are slices of.
_EXPERT_MATRICES: "WeakKeyDictionary[nn.Module, dict[str, list[ExpertMatrix]]]" = WeakKeyDictionary()
# By module: those of its fused parameters that are shared with no other model, by name.
_OWN_PARAMETERS: "WeakKeyDictionary[nn.Module, dict[str, nn.Parameter]]" = WeakKeyDictionary()


def adopt(module: nn.Module) -> None:
    """Record that no other model shares the module's fused parameters, so that `put` need not copy them."""
    for name in _EXPERT_MATRICES.get(module, {}):
        _OWN_PARAMETERS.setdefault(module, {})[name] = module.get_parameter(name)


def disown(module: nn.Module) -> None:
    """Forget the record of the module's own fused parameters, which would keep them in memory."""
    _OWN_PARAMETERS.pop(module, None)


def _fused_parameters(name: str, module: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """List the 3-D parameters of a module, each of which holds a matrix of all experts."""
    if EXPERT in f"{name}.{type(module).__name__}".lower() and not isinstance(module, _CONVOLUTIONS):
        for own_name, parameter in module.named_parameters(recurse=False):
            if parameter.dim() == 3:
                yield own_name, parameter


def count(model: nn.Module) -> int:
    """Count a model's expert matrices, without making one."""
    return sum(len(value) for name, module in model.named_modules() for _, value in _fused_parameters(name, module))


def fused(name: str, module: nn.Module) -> dict[str, list[ExpertMatrix]]:
    """Return the expert matrices that a module holds in 3-D parameters, by parameter; the same ones every time.

    name: of the module inside its block.
    """
    if module not in _EXPERT_MATRICES:
        transposed = bool(getattr(module, "is_transposed", False))
        by_parameter = {
            own_name: [ExpertMatrix(module, own_name, index, transposed) for index in range(len(parameter))]
            for own_name, parameter in _fused_parameters(name, module)
        }
        if not by_parameter:
            return {}
        _EXPERT_MATRICES[module] = by_parameter
    return _EXPERT_MATRICES[module]


def _tells_orientation(module: nn.Module) -> bool:
    """Tell whether transformers says how the class stores its slices; their shape alone does not show it."""
    return hasattr(module, "is_transposed")


def matrices(name: str, module: nn.Module) -> Iterator[tuple[str, ExpertMatrix]]:
    """List a module's expert matrices with their names, `experts.3.down_proj`, expert after expert."""
    counts = {parameter: len(slices) for parameter, slices in fused(name, module).items()}
    if len(set(counts.values())) > 1:
        raise ModelError(
            f"{type(module).__name__} ({name}) holds "
            f"{' and '.join(f'{count} slices in {parameter}' for parameter, count in counts.items())}, so its experts "
            "cannot be told apart; choose another model"
        )
    for of_one_expert in zip(*fused(name, module).values(), strict=True):
        for matrix in of_one_expert:
            yield f"{name}.{matrix.index}.{matrix.parameter}", matrix


def unknown(blocks: nn.Module) -> str | None:
    """Return the name of an expert's weight that is held in a form not known here, None when there is none."""
    for name, module in blocks.named_modules():
        if isinstance(module, (nn.Linear, Conv1D, nn.Embedding, *_CONVOLUTIONS)):
            continue
        known = fused(name, module) if _tells_orientation(module) else {}
        for own_name, parameter in module.named_parameters(recurse=False):
            held_by_experts = EXPERT in name.lower() or EXPERT in type(module).__name__.lower()
            if held_by_experts and parameter.dim() > 1 and own_name not in known and not own_name.endswith("bias"):
                return f"{name}.{own_name}"
    return None


@contextmanager
def apart(model: nn.Module) -> Iterator[None]:
    """Context manager: compute experts one after the other, each by products of its own, which `watched` can see.

    Raises ModelError for a model with fused experts that cannot do so.
    """
    if not _any_fused(model):
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


def run_alike(model: nn.Module, other: nn.Module) -> None:
    """Have a model compute its experts as another does, which may have run them `apart` when it was built."""
    if _any_fused(other):
        model.set_experts_implementation(other.get_experts_implementation())  # type: ignore[operator]


def _any_fused(model: nn.Module) -> bool:
    return any(fused(name, module) for name, module in model.named_modules())


def watched(block: nn.Module) -> AbstractContextManager[Any]:
    """Context manager: in this thread, send every product with an expert's slice through its `ExpertMatrix`, and run
    the hooks of a linear whose weight is multiplied without calling it."""
    fused_parameters = [slices for name, module in block.named_modules() for slices in fused(name, module).values()]
    return _Watch(fused_parameters, [module for module in block.modules() if isinstance(module, nn.Linear)])


class _Watch(TorchFunctionMode):
    """The context manager of `watched`. It finds weights by the memory they lie in, again at every product, because
    pruning may have replaced them.

    fused_parameters: of each, the slices; linears: whose weights may be multiplied without calling them.
    """

    def __init__(self, fused_parameters: list[list[ExpertMatrix]], linears: list[nn.Linear]) -> None:
        super().__init__()
        self._fused_parameters, self._linears = fused_parameters, linears

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        columns = func in _TIMES_COLUMNS
        if (columns or func in _TIMES_ROWS) and len(args) > 1 and not kwargs.keys() - {"bias"}:
            address = args[1].untyped_storage().data_ptr() if self._fused_parameters else None
            for slices in self._fused_parameters:
                if _parameter(slices).untyped_storage().data_ptr() == address:
                    return _multiply(slices, columns, *args, **kwargs)
            if columns and isinstance(args[0], nn.Parameter):
                for linear in self._linears:
                    if linear.weight is args[0]:
                        _run_hooks(linear, args[1].transpose(-1, -2))
                        return func(linear.weight, *args[1:], **kwargs)  # a hook may have replaced it
        return func(*args, **kwargs)


def _run_hooks(linear: nn.Linear, x: Tensor) -> None:
    """Run the hooks that calling the linear on x (…, C_in) would run before its product."""
    for hook in list(linear._forward_pre_hooks.values()):
        hook(linear, (x.contiguous(),))


def _parameter(slices: list[ExpertMatrix]) -> Tensor:
    """Return the whole fused parameter of these slices, (E, ·, ·)."""
    return slices[0].owner.get_parameter(slices[0].parameter)


def _multiply(slices: list[ExpertMatrix], columns: bool, x: Tensor, W: Tensor, bias: Tensor | None = None) -> Tensor:
    """Multiply x with one slice, or with all of them at once, by calling the slices' own modules.

    columns: whether W is (C_in, C_out) in this product. Raises ModelError for a product that is neither.
    """
    first, whole = slices[0], _parameter(slices)
    offset = W.storage_offset() - whole.storage_offset()
    as_stored = W.stride()[-2:] == whole.stride()[1:] and W.shape[-2:] == whole.shape[1:]
    turned = W.stride()[:-3:-1] == whole.stride()[1:] and W.shape[:-3:-1] == whole.shape[1:]
    if (as_stored and columns == first.transposed) or (turned and not as_stored and columns != first.transposed):
        if W.dim() == 2 and not offset % whole.stride(0):
            return cast(Tensor, slices[offset // whole.stride(0)](x, bias=bias))
        if W.dim() == 3 and len(W) == len(slices) and bias is None:
            return torch.stack([matrix(part) for matrix, part in zip(slices, x, strict=True)])
    raise ModelError(
        f"{type(first.owner).__name__} multiplies its experts' {first.parameter} in a way that is not supported; "
        "choose another model"
    )
