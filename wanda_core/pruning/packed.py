"""A variant as what sets it apart from its dense model: a bit a weight, or new weights where a method changed them.

`pack` makes it, `laid_over` runs it. So a variant whose kept weights are unchanged takes a thirty-second of the
matrices it prunes in float32, can be sent to another process, and outlives the dense model it was made from.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from wanda_core.calibration.profile import Profile
from wanda_core.errors import ModelError
from wanda_core.maths import masks
from wanda_core.model import experts
from wanda_core.model.blocks import BlockWalk, Role
from wanda_core.model.devices import MEMORY_SHARE, free_memory
from wanda_core.model.language_model import LanguageModel
from wanda_core.model.linears import Linear, decoder_blocks
from wanda_core.progress import Progress, Steps, finish
from wanda_core.pruning.variant import PruneReport, Variant, twin
from wanda_core.recipe import PruneSpec


@dataclass(frozen=True)
class PackedParameter:
    """One pruned parameter, on the CPU.

    shape, dtype: of the parameter; kept: a bit a weight, uint8 (⌈n / 8⌉,), 1 where it stays as it is in the dense
    model; changed: the parameter itself, where weights that stay were changed. One of the two is None.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    kept: Tensor | None
    changed: Tensor | None

    @property
    def nbytes(self) -> int:
        """Bytes it takes."""
        held = self.changed if self.kept is None else self.kept
        assert held is not None  # one of them is there
        return held.numel() * held.element_size()

    def is_same(self, other: "PackedParameter | None") -> bool:
        """Whether the same became of another parameter, over the same dense one."""
        if other is None:
            return False
        if self.kept is not None and other.kept is not None:
            return torch.equal(self.kept, other.kept)
        return self.changed is not None and other.changed is not None and torch.equal(self.changed, other.changed)

    def over(self, dense: Tensor) -> Tensor:
        """Return the pruned parameter, a new tensor on the dense one's device. dense: the dense parameter."""
        if self.changed is not None:
            return self.changed.to(dense.device)
        assert self.kept is not None  # one of them is there
        return masks.without(dense.detach(), ~unpacked_bits(self.kept.to(dense.device), self.shape))

    def kept_at(self, place: Tensor) -> Tensor:
        """Return which weights of a part stay, bool of its shape on the CPU; no others are unpacked.

        place: the part as a view of a contiguous tensor of the parameter's shape, on the meta device. It may be only of
        a parameter that is packed as bits.
        """
        assert self.kept is not None
        start, count = int(place.storage_offset()), place.numel()
        if place.is_contiguous():
            held = self.kept[start // 8 : -(-(start + count) // 8)]
            return unpacked_bits(held, (start % 8 + count,))[start % 8 :].reshape(place.shape)
        positions = torch.tensor(start, dtype=torch.int64)
        for size, step in zip(place.shape, place.stride(), strict=True):
            positions = positions[..., None] + torch.arange(size, dtype=torch.int64) * step
        bits = self.kept[positions >> 3] >> (7 - (positions & 7)).to(torch.uint8)
        return (bits & 1).bool()


@dataclass(frozen=True)
class PackedVariant:
    """A variant without its model. parameters: those that differ from the dense model's, by name.

    revision: of the dense model, which alone it fits; spec, report, profile: as of `Variant`.
    """

    revision: str
    spec: PruneSpec
    report: PruneReport
    profile: Profile | None
    parameters: Mapping[str, PackedParameter]

    @property
    def nbytes(self) -> int:
        """Bytes that its parameters take."""
        return sum(parameter.nbytes for parameter in self.parameters.values())

    @property
    def changes_weights(self) -> bool:
        """Whether any weight that stays was changed."""
        return any(parameter.changed is not None for parameter in self.parameters.values())

    def pruned_weight(self, lm: LanguageModel, name: str) -> Tensor:
        """Return the weight of a linear after pruning, (C_out, C_in). lm: the dense model; name: the linear's."""
        linear = lm.linear(name)
        assert linear is not None  # the caller has the name from the model
        own, index = linear.parameter
        parameter = self.parameters.get(own)
        if parameter is None:
            return linear.weight
        stored = parameter.over(lm.model.get_parameter(own))
        matrix = stored if index is None else stored[index]
        return matrix.t() if linear.transposed else matrix


def packed_bits(bits: Tensor) -> Tensor:
    """Pack bool of any shape, n in all, into uint8 (⌈n / 8⌉,) on the CPU, the first in the highest place."""
    return torch.from_numpy(np.packbits(bits.cpu().numpy()))


def unpacked_bits(packed: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Undo `packed_bits`, on the device of what is packed. -> bool of the shape."""
    count = int(np.prod(shape))
    if packed.device.type == "cpu":
        return torch.from_numpy(np.unpackbits(packed.numpy(), count=count)).view(torch.bool).reshape(shape)
    places = torch.arange(7, -1, -1, device=packed.device, dtype=torch.uint8)
    return ((packed[:, None] >> places) & 1).bool().reshape(-1)[:count].reshape(shape)


def pack_parameter(dense: Tensor, pruned: Tensor) -> PackedParameter:
    """Pack a pruned parameter as bits where zeros are all that sets it apart, else as it is; both of one shape."""
    dense, pruned = dense.detach(), pruned.detach()
    kept = pruned != 0
    if torch.equal(masks.without(dense, ~kept), pruned):
        return PackedParameter(tuple(pruned.shape), pruned.dtype, packed_bits(kept), None)
    return PackedParameter(tuple(pruned.shape), pruned.dtype, None, pruned.cpu())


def pack(dense: LanguageModel, variant: Variant) -> PackedVariant:
    """Pack a variant. dense: the model it was made from."""
    return finish(pack_steps(dense, variant))


def pack_steps(dense: LanguageModel, variant: Variant) -> Steps[PackedVariant]:
    """`pack` as a generator that yields progress, of the pruning that it ends, per parameter."""
    own = dict(dense.model.named_parameters(remove_duplicate=False))
    blocks = len(dense.linears)
    parameters = {}
    for name, parameter in variant.lm.model.named_parameters(remove_duplicate=False):
        if parameter is not own[name]:
            parameters[name] = pack_parameter(own[name], parameter)
            yield Progress("pruning", blocks, blocks, "blocks")
    if isinstance(variant.lm, PackingModel):
        parameters |= variant.lm.packed
    return PackedVariant(dense.revision, variant.spec, variant.report, variant.profile, parameters)


def needed_bytes(lm: LanguageModel, spec: PruneSpec) -> int:
    """Bytes that a packed variant of a model will take: a bit a weight, or all of it where the recipe changes them."""
    weights = sum(rows * columns for rows, columns in (linear.shape for linear in lm.all_linears))
    return weights * lm.dtype.itemsize if spec.needs_gram else -(-weights // 8)


@contextmanager
def laid_over(lm: LanguageModel, packed: PackedVariant, copied: bool | None = None) -> Iterator[LanguageModel]:
    """Context manager: the pruned model, over the same dense weights, which are only read and can be used beside it.

    copied: whether the pruned parameters are made once and held till the end, or for every call of a block anew, which
    takes the memory of one block; by default whether they fit. Raises ModelError for a variant of another revision.
    """
    if packed.revision != lm.revision:
        raise ModelError(
            f"the variant was made from another state of {lm.title} ({packed.revision[:12]}, and this one is "
            f"{lm.revision[:12]}); prune it again"
        )
    if copied is None:
        copied = fits_a_copy(lm)
    over = twin(lm)
    dense = dict(lm.model.named_parameters(remove_duplicate=False))
    overlay = Overlay()
    try:
        if copied:
            for name, parameter in packed.parameters.items():
                _set(over.model, name, nn.Parameter(parameter.over(dense[name]), requires_grad=False))
        else:
            prefix, blocks = decoder_blocks(over.model)
            for index, block in enumerate(blocks):
                overlay.add(block, f"{prefix}.{index}", packed.parameters)
        yield over
    finally:
        overlay.remove()
        for name in packed.parameters:  # the copies go at once, whoever still holds the modules
            _set(over.model, name, dense[name])


def fits_a_copy(lm: LanguageModel) -> bool:
    """Tell whether the pruned parameters of a model fit into the free memory of its device beside the dense ones."""
    needed = sum(rows * columns for rows, columns in (linear.shape for linear in lm.all_linears)) * lm.dtype.itemsize
    return needed <= free_memory(lm.device) * MEMORY_SHARE


class Overlay:
    """Hooks that give blocks their pruned parameters for the time of each call."""

    def __init__(self) -> None:
        self._handles: list[Any] = []

    def add(self, block: nn.Module, name: str, parameters: Mapping[str, PackedParameter]) -> None:
        """Lay pruned parameters over a block that holds dense ones. name: of the block, which theirs begin with."""
        own = {path.removeprefix(f"{name}."): p for path, p in parameters.items() if path.startswith(f"{name}.")}
        dense = {path: block.get_parameter(path) for path in own}
        # A hook of a block, not of its linears: some models use a linear's weight without calling the linear.
        for path, parameter in own.items():
            if parameter.kept is not None:  # small beside the model, and wanted on its device at every call
                kept = parameter.kept.to(dense[path].device)
                own[path] = PackedParameter(parameter.shape, parameter.dtype, kept, None)

        def lay(module: nn.Module, args: object) -> None:
            for path, parameter in own.items():
                _set(module, path, nn.Parameter(parameter.over(dense[path]), requires_grad=False))

        def lift(module: nn.Module, args: object, output: object) -> None:
            for path, parameter in dense.items():
                _set(module, path, parameter)

        self._handles.append(block.register_forward_pre_hook(lay))
        self._handles.append(block.register_forward_hook(lift, always_call=True))

    def remove(self) -> None:
        """Take the hooks off."""
        while self._handles:
            self._handles.pop().remove()


@dataclass(frozen=True)
class PackingModel(LanguageModel):
    """A twin to prune where memory has no room for a second copy: each block is packed when the walk leaves it.

    packed: what has been packed so far, by parameter.
    """

    dense: Mapping[str, nn.Parameter] = field(default_factory=dict, kw_only=True)
    packed: dict[str, PackedParameter] = field(default_factory=dict, kw_only=True)
    overlay: Overlay = field(default_factory=Overlay, kw_only=True)

    def walk(self, role: Role, kept: Sequence[int] | None = None, smaller: nn.Module | None = None) -> BlockWalk:
        """Start a walk; one that prunes packs the blocks."""
        if role == "prune" and smaller is None:
            return _PackingWalk(self)
        return super().walk(role, kept, smaller)


def packing_twin(lm: LanguageModel) -> PackingModel:
    """Build a twin that packs its blocks as they are pruned."""
    own = {f.name: getattr(lm, f.name) for f in fields(LanguageModel)}
    dense = dict(lm.model.named_parameters(remove_duplicate=False))
    return PackingModel(**own | {"model": twin(lm).model}, dense=dense)


class _PackingWalk(BlockWalk):
    """A walk that leaves every block with its dense parameters and the pruned ones laid over them."""

    def __init__(self, lm: PackingModel) -> None:
        super().__init__(lm.model)
        self.lm = lm
        self.prefix, _ = decoder_blocks(lm.model)

    def __iter__(self) -> Iterator[tuple[int, nn.Module, list[Linear]]]:
        for index, block, linears in super().__iter__():
            yield index, block, linears
            name = f"{self.prefix}.{index}"
            for path, parameter in list(block.named_parameters(remove_duplicate=False)):
                dense = self.lm.dense[f"{name}.{path}"]
                if parameter is not dense:
                    self.lm.packed[f"{name}.{path}"] = pack_parameter(dense, parameter)
                    _set(block, path, dense)
            for module in block.modules():
                experts.disown(module)
            self.lm.overlay.add(block, name, self.lm.packed)


def _set(module: nn.Module, path: str, parameter: nn.Parameter) -> None:
    """Put a parameter into its place below a module."""
    owner, _, own = path.rpartition(".")
    module.get_submodule(owner).register_parameter(own, parameter)
