"""How a model calls its decoder blocks, so that each can be run by itself and is then the block as it runs.

Most models give every block the same masks and rotary embeddings whatever the text is; some hand it things of the
sequence itself: embeddings of its tokens for every block, the first hidden states, keys and values that later blocks
take from earlier ones. What a block is given is learned from passes in which no block computes.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn

from wanda_core.errors import ModelError
from wanda_core.machine.matmul import faster_linear
from wanda_core.model import experts


class StopForward(Exception):  # noqa: N818 - a signal, not an error
    """Ends a forward pass whose remaining work nobody needs."""


@dataclass(frozen=True)
class BlockCall:
    """The arguments of a block besides hidden states: masks and rotary embeddings, per block because they may differ by
    layer type.

    own: the same for every sequence by itself, where it depends on the sequence; stateful: whether blocks leave
    something there for later ones, such as keys and values.
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    own: tuple["BlockCall", ...] = ()
    stateful: bool = False

    def run(self, block: nn.Module, hidden: Tensor, sequence: int = 0) -> Tensor:
        """Run one block. hidden (B, L, D) -> (B, L, D); arguments of one sequence serve B only where they broadcast.

        sequence: which one `hidden` is, from 0, where each has arguments of its own.
        """
        call = self.own[sequence] if self.own else self
        with faster_linear(hidden.device), experts.watched(block):  # the watch sees every product first
            return hidden_states(block(hidden, *call.args, **call.kwargs))

    @property
    def shape(self) -> tuple[Any, ...]:
        """Shapes and types of the tensors among the arguments: kernels are chosen by them."""
        return tuple(_shape(value) for value in (*self.args, *self.kwargs.values()))


def _shape(value: Any) -> Any:
    if isinstance(value, Tensor):
        return tuple(value.shape), value.dtype
    return tuple(map(_shape, value)) if isinstance(value, (tuple, list)) else type(value)


def hidden_states(output: Any) -> Tensor:
    """A block's output: a tensor in transformers 5, the first of a tuple elsewhere. -> (B, L, D)."""
    return cast(Tensor, output[0] if isinstance(output, (tuple, list)) else output)


def sequences_in(hidden: Tensor) -> int:
    """Count the sequences in a call's hidden states: B of (B, L, D), one where a model has further dimensions."""
    return len(hidden) if hidden.dim() == 3 else 1


def block_calls(model: nn.Module, blocks: nn.ModuleList, ids: Tensor) -> tuple[list[BlockCall], list[Tensor]]:
    """Capture how the model calls each block, and what enters the first, sequence by sequence.

    ids int64 (N, L), on the model's device -> a call per block, N tensors (1, L, D).
    No cache is kept: replaying a captured live cache would corrupt every later sample. Raises ModelError for a model
    whose blocks cannot be run one by one: something is computed between them, or from what earlier ones gave.
    """
    output = output_of_first(model, blocks, ids[:1])
    passes = [_pass(model, blocks, ids[:1], output)]
    other = _pass(model, blocks, other_tokens(ids[:1], model), output)
    moved = _pass(model, blocks, ids[:1], output, by=1.0)
    for look in (passes[0], other, moved):
        look.check_chain(model)
    first = passes[0].entering[0]
    if first.dim() == 3 and len(first) != 1:
        raise ModelError(
            f"{type(model).__name__} lays the hidden states of one sequence out as {tuple(first.shape)}, and (1, "
            "length, width) is expected; choose another model"
        )
    for index, (usual, changed) in enumerate(zip(passes[0].calls, moved.calls, strict=True)):
        if not _same(usual, changed):
            raise ModelError(
                f"{type(model).__name__} gives its block {index} something computed from what earlier blocks gave, so "
                "its blocks cannot be run one by one; choose another model"
            )
    stateful = any(_holds_state(call) for call in passes[0].calls)
    if not stateful and all(map(_same, passes[0].calls, other.calls)):
        entering = [passes[0].entering[0], *_first_inputs(model, blocks, ids[1:])]
        if all(x.shape == entering[0].shape for x in entering):  # BLT cuts some texts into as many patches, not all
            return passes[0].calls, entering
    passes += [_pass(model, blocks, sample[None], output) for sample in ids[1:]]
    calls = [
        BlockCall(first.args, first.kwargs, tuple(one.calls[index] for one in passes), stateful)
        for index, first in enumerate(passes[0].calls)
    ]
    return calls, [one.entering[0] for one in passes]


def other_tokens(ids: Tensor, model: Any) -> Tensor:
    """Make a sequence of the same length with another token at every place. ids int64 (1, L) -> (1, L)."""
    return (ids + 1) % len(model.get_input_embeddings().weight)


@dataclass
class _Pass:
    """Record of a pass in which no block computes: per block what entered it, what it was said to give, its call."""

    entering: list[Tensor] = field(default_factory=list)
    leaving: list[Tensor] = field(default_factory=list)
    calls: list[BlockCall] = field(default_factory=list)

    def check_chain(self, model: nn.Module) -> None:
        """Raise ModelError unless every block gets just what the one before it gave."""
        for index, (given, got) in enumerate(zip(self.leaving, self.entering[1:], strict=False)):
            if given is not got and not torch.equal(given, got):
                raise ModelError(
                    f"{type(model).__name__} changes the hidden states between its blocks {index} and {index + 1}, so "
                    "its blocks cannot be run one by one; choose another model"
                )


def _pass(model: nn.Module, blocks: nn.ModuleList, ids: Tensor, output: Any, by: float = 0.0) -> _Pass:
    """Run the model on one sequence with blocks that hand on what they are given, plus `by`.

    output: what the first block really returns, a tensor or a tuple that begins with one.
    """
    seen = _Pass()

    def instead(index: int, forward: Any) -> Any:
        def note(*args: Any, **kwargs: Any) -> Any:
            if index != len(seen.calls):
                raise ModelError(
                    f"{type(model).__name__} calls its block {index} out of turn or twice in a pass, so its blocks "
                    "cannot be run one by one; choose another model"
                )
            hidden, call = _split(args, kwargs)
            seen.entering.append(hidden)
            seen.calls.append(call)
            if index == len(blocks) - 1:
                raise StopForward
            seen.leaving.append(hidden + by if by else hidden)
            return (
                (seen.leaving[-1], *_moved(output[1:], by)) if isinstance(output, (tuple, list)) else seen.leaving[-1]
            )

        return note

    with forwards(blocks, instead):
        _run_until_stopped(model, ids)
    if len(seen.calls) < len(blocks):
        raise ModelError(
            f"block {len(seen.calls)} was never called in a forward pass, so its inputs are unknown; choose another "
            "model"
        )
    return seen


def _moved(values: Sequence[Any], by: float) -> Iterator[Any]:
    for value in values:
        yield value + by if by and isinstance(value, Tensor) and value.is_floating_point() else value


def output_of_first(model: nn.Module, blocks: nn.ModuleList, ids: Tensor) -> Any:
    """Run the first block; return what it returns, as it is."""
    outputs: list[Any] = []

    def instead(index: int, forward: Any) -> Any:
        def compute(*args: Any, **kwargs: Any) -> None:
            outputs.append(forward(*args, **kwargs))
            raise StopForward

        return compute

    with forwards(blocks[:1], instead):
        _run_until_stopped(model, ids)
    if not outputs:
        raise ModelError("block 0 was never called in a forward pass, so its inputs are unknown; choose another model")
    return outputs[0]


def predictions(model: Any, blocks: nn.ModuleList, ids: Tensor, hidden: Tensor, output: Any, every: int = 1) -> Tensor:
    """Run what a model does after its blocks, from the hidden states that leave the last.

    ids int64 (1, L), hidden (1, L, D); output: what a block returns, a tensor or a tuple that begins with one; every:
    predict after each so many-th token alone, where the model has an output head that can be told so.
    -> logits (L / every rounded up, V), or (L, V).
    """
    returned = (hidden, *output[1:]) if isinstance(output, (tuple, list)) else hidden

    def keep(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        return (args[0][:, ::every], *args[1:]) if args and isinstance(args[0], Tensor) else args

    head = model.get_output_embeddings() if every > 1 else None
    hook = head.register_forward_pre_hook(keep) if isinstance(head, nn.Module) else None
    try:
        with torch.no_grad(), forwards(blocks, lambda index, forward: lambda *args, **kwargs: returned):
            return cast(Tensor, model(ids, use_cache=False).logits[0])
    finally:
        if hook is not None:
            hook.remove()


def _first_inputs(model: nn.Module, blocks: nn.ModuleList, ids: Tensor) -> list[Tensor]:
    """Capture what enters the first block, sequence by sequence. ids int64 (N, L) -> N tensors (1, L, D)."""
    inputs: list[Tensor] = []

    def instead(index: int, forward: Any) -> Any:
        def note(*args: Any, **kwargs: Any) -> None:
            inputs.append(_split(args, kwargs)[0])
            raise StopForward

        return note

    with forwards(blocks[:1], instead):
        for sample in ids:
            _run_until_stopped(model, sample[None])
    return inputs


def _split(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Tensor, BlockCall]:
    if args:
        return args[0], BlockCall(args[1:], dict(kwargs))
    rest = dict(kwargs)
    return rest.pop("hidden_states"), BlockCall((), rest)


def _same(first: Any, second: Any) -> bool:
    """Tell whether two blocks' arguments are the same; things that hold state are told by `_holds_state`."""
    if isinstance(first, BlockCall) and isinstance(second, BlockCall):
        return _same((first.args, first.kwargs), (second.args, second.kwargs))
    if isinstance(first, Tensor) and isinstance(second, Tensor):
        return first.shape == second.shape and first.dtype == second.dtype and torch.equal(first, second)
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        return first.keys() == second.keys() and all(_same(value, second[key]) for key, value in first.items())
    if isinstance(first, (tuple, list)) and isinstance(second, (tuple, list)):
        return len(first) == len(second) and all(map(_same, first, second))
    if isinstance(first, PLAIN) or isinstance(second, PLAIN):
        return bool(first == second)
    return type(first) is type(second)


PLAIN = (bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device, slice)


def _holds_state(value: Any) -> bool:
    """Tell whether one block may write to something among the arguments and another read it.

    So may an empty mapping, one of a class of its own, or any object that is no plain value.
    """
    if isinstance(value, BlockCall):
        return _holds_state(value.args) or _holds_state(tuple(value.kwargs.values()))
    if isinstance(value, Mapping):
        return type(value) is not dict or not value or _holds_state(tuple(value.values()))
    if isinstance(value, (tuple, list)):
        return any(map(_holds_state, value))
    return not isinstance(value, (Tensor, *PLAIN)) and not callable(value)


@contextmanager
def forwards(blocks: Any, make: Any) -> Iterator[None]:
    """Context manager: `make(index, forward)` runs in place of each block's forward."""
    before = [block.__dict__.get("forward") for block in blocks]  # accelerate puts its own there
    try:
        for index, block in enumerate(blocks):
            block.forward = make(index, block.forward)
        yield
    finally:
        for block, forward in zip(blocks, before, strict=True):
            block.__dict__.pop("forward", None)
            if forward is not None:
                block.forward = forward


def _run_until_stopped(model: nn.Module, ids: Tensor) -> None:
    try:
        with torch.no_grad():
            model(ids, use_cache=False)
    except StopForward:
        pass
