"""Removing whole blocks: those that change the hidden state least, measured anew after every removal."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from wanda_core.errors import ModelError, out_of_memory
from wanda_core.model.block_calls import BlockCall, forwards, hidden_states
from wanda_core.model.blocks import HALF_TOLERANCE, TOLERANCE
from wanda_core.model.language_model import LanguageModel
from wanda_core.model.linears import decoder_blocks
from wanda_core.progress import Progress, Steps
from wanda_core.shrinking.smaller_model import empty_model, renumbered, share_parameters

DEPTH = "num_hidden_layers"
DEPTHS = ("num_blocks", "num_layers", "n_layer", "n_layers")  # which some say beside it
OWN = "per_layer_config"  # what blocks have of their own, by their number
# Settings that say something of every block: lists with an entry for each, which have names like these; lists of the
# numbers of some; how many of the first ones are of another kind.
ENTRY_EACH = re.compile(r"layer|block|pattern|_types$|intermediate_size")
NUMBERS = re.compile(r"only_layers$|layer_indices$|layer_ids$|attention_layers$|moe_layers$")
FIRST = ("first_k_dense_replace", "num_dense_layers")
PROBE_TOKENS = 32


def influence(before: Tensor, after: Tensor) -> Tensor:
    """Return how much a block changes the hidden state of each token, 1 - the cosine of what enters and what leaves
    (block influence, Men et al. 2024). before, after (…, D) -> (…,) float64, from 0, no change, to 2."""
    return 1 - torch.nn.functional.cosine_similarity(before.double(), after.double(), dim=-1)


@dataclass(frozen=True)
class Left:
    """A model of fewer blocks, which shares all its weights. settings: of its configuration; kept: the blocks that
    stay; influences: of those that went, in the order they went."""

    model: nn.Module
    settings: Mapping[str, Any]
    kept: list[int]
    influences: list[float]


def without_blocks(lm: LanguageModel, count: int, ids: Tensor) -> Steps[Left]:
    """Remove blocks one after the other, each time the one that changes the hidden state least of all that are left.

    What is left changes with every removal, so it is measured again, and what was removed by an earlier run is not.
    ids: int64 (N, L), on the model's device. Raises ModelError where the configuration cannot say it of any block.
    """
    walk = lm.walk("read")
    left = Left(lm.model, {}, walk.order, [])
    if "kept" in walk.noted:
        found = _model_of(lm, walk.noted["kept"], ids)
        assert found is not None  # as it was for the earlier run
        left = Left(*found, walk.noted["kept"], walk.noted["influences"])
    for number in range(len(left.influences), count):
        measured = yield from _measured(lm, left.kept, ids, Progress("shrinking", number, count, "blocks"))
        for index in sorted(measured, key=lambda index: measured[index]):
            kept = [block for block in left.kept if block != index]
            found = _model_of(lm, kept, ids)
            if found is not None:
                left = Left(*found, kept, [*left.influences, measured[index]])
                walk.noted |= {"kept": left.kept, "influences": left.influences}
                walk.keep(f"the choice of {number + 1} of {count} blocks")
                break
        else:
            raise ModelError(
                f"{lm.title} ({type(lm.model).__name__}): whichever block is removed, its configuration cannot say "
                "what the blocks after it are; remove neurons or choose another model"
            )
    yield Progress("shrinking", count, count, "blocks")
    if not walk.whole:  # what is not in memory goes into its files now
        for place, _ in enumerate(lm.walk("prune", left.kept, left.model)):
            yield Progress("saving", place, len(left.kept), "blocks")
    return left


def _measured(lm: LanguageModel, kept: Sequence[int], ids: Tensor, step: Progress) -> Steps[dict[int, float]]:
    """Measure the influence of every block that is left, in the stream that goes through these alone."""
    walk = lm.walk("read", kept)
    calls, hidden = walk.start(ids)
    measured: dict[int, float] = {}
    for place, (index, block, _) in enumerate(walk):
        yield replace(step, inner=Progress("analysis", place, len(kept), "blocks"))
        changes: list[Tensor] = []
        hidden = walk.carry(_changing(block, calls[index], hidden, changes))
        measured[index] = float(torch.cat(changes).mean())
    return measured


def _changing(block: nn.Module, call: BlockCall, hidden: Sequence[Tensor], changes: list[Tensor]) -> Iterator[Tensor]:
    """Run a block over all sequences, and add to the list how much it changed each token of one. hidden: N tensors
    (1, L, D) -> N likewise."""
    for sequence, x in enumerate(hidden):
        changed = call.run(block, x, sequence)
        changes.append(influence(x, changed).flatten())
        yield changed


def depth_settings(text: Any, kept: Sequence[int], depth: int, first: int = 0) -> dict[str, Any]:
    """Return the settings of a model of which some blocks stay. text: the configuration of the part that reads text;
    kept: their numbers, ascending; depth: how many there were; first: from what number lists of some count."""
    settings: dict[str, Any] = {}
    for name, value in text.to_dict().items():
        if name in FIRST and isinstance(value, int):
            settings[name] = sum(index < value for index in kept)
        elif name in DEPTHS and value == depth:
            settings[name] = len(kept)
        elif name == OWN and isinstance(value, dict):
            settings[name] = {str(kept.index(int(at))): own for at, own in value.items() if int(at) in kept}
        elif not isinstance(value, (list, tuple)) or not value:
            continue
        elif len(value) == depth and ENTRY_EACH.search(name):
            settings[name] = [value[index] for index in kept]
        elif NUMBERS.search(name) and all(isinstance(index, int) for index in value):
            settings[name] = [kept.index(index - first) + first for index in value if index - first in kept]
    changed = {name: value for name, value in settings.items() if value != getattr(text, name, None)}
    return {text.attribute_map.get(DEPTH, DEPTH): len(kept), **changed}


def _model_of(lm: LanguageModel, kept: Sequence[int], ids: Tensor) -> tuple[nn.Module, dict[str, Any]] | None:
    """Build the model of some blocks, None where the configuration makes others of them. ids: int64 (N, L)."""
    _, blocks = decoder_blocks(lm.model)
    config: Any = lm.model.config
    counted: list[dict[str, Any]] = []
    for first in (0, 1):  # nothing says from where a configuration counts
        settings = depth_settings(config.get_text_config(), kept, len(blocks), first)
        if settings in counted:
            continue
        counted.append(settings)
        smaller = _built(lm, kept, settings)
        if smaller is not None and _same_states(lm, smaller, kept, ids[:1, :PROBE_TOKENS]):
            return smaller, settings
    return None


def _built(lm: LanguageModel, kept: Sequence[int], settings: Mapping[str, Any]) -> nn.Module | None:
    """Build a model that shares all its weights, None where the settings make blocks of other sizes."""
    prefix, _ = decoder_blocks(lm.model)
    try:
        smaller = empty_model(lm, settings)
        share_parameters(lm, smaller, renumbered(prefix, kept))
    except ModelError:
        return None
    shared = set(map(id, lm.model.parameters()))
    if any(id(parameter) not in shared for parameter in smaller.parameters()):
        return None
    return smaller


def _same_states(lm: LanguageModel, smaller: nn.Module, kept: Sequence[int], ids: Tensor) -> bool:
    """Tell whether the smaller model's last hidden state is that of the dense blocks, run without the others."""
    _, dense_blocks = decoder_blocks(lm.model)
    _, blocks = decoder_blocks(smaller)
    calls, (hidden, *_) = lm.walk("read").start(ids)

    def beside(place: int, forward: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            nonlocal hidden  # while the weights of both are at hand, which are the same ones
            hidden = calls[kept[place]].run(dense_blocks[kept[place]], hidden)
            return forward(*args, **kwargs)

        return run

    seen: list[Tensor] = []
    handle = blocks[-1].register_forward_hook(lambda module, args, out: seen.append(hidden_states(out)))
    try:
        with forwards(blocks, beside), lm.lending(smaller, kept):
            smaller(ids)  # with its cache, as a user calls it
    except (RuntimeError, ValueError, IndexError, KeyError, TypeError, AttributeError) as error:
        if out_of_memory(error):
            raise
        return False
    finally:
        handle.remove()
    limit = TOLERANCE.get(hidden.dtype, HALF_TOLERANCE) * max(float(hidden.abs().max()), 1e-6)
    return len(seen) == 1 and float((seen[0] - hidden).abs().max()) <= limit
