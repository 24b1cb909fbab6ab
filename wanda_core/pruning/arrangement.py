"""Parts of a model in an order in which an N:M pattern costs least: another order, the same function.

A neuron of an MLP is a column of the matrix that reads it and a row, or several, of what makes it; all of them move
together. So do the values of attention heads, within a head and alike in heads that share them. What belongs together
is told as for shrinking, and that nothing else changed by running both models.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor

from wanda_core.calibration.profile import Profile
from wanda_core.errors import InputError, ModelError
from wanda_core.machine import distributed
from wanda_core.maths.arrangement import arranged
from wanda_core.model.language_model import LanguageModel
from wanda_core.model.linears import Linear
from wanda_core.progress import Progress, Steps
from wanda_core.pruning.variant import twin
from wanda_core.recipe import PruneSpec
from wanda_core.shrinking.groups import LAYOUTS, Cut, Group, cut_parameter, groups_under
from wanda_core.shrinking.heads import head_settings
from wanda_core.shrinking.smaller_model import put
from wanda_core.shrinking.spec import ShrinkSpec
from wanda_core.shrinking.widths import neuron_settings

PROBE = 32  # tokens that both models read
TOLERANCE, HALF_TOLERANCE = 1e-3, 5e-2  # of the largest logit, for sums in another order
ALIKE = 0.9  # of the tokens: after sums in another order a router may make another choice
NEURONS, HEADS = ShrinkSpec(neurons=0.5, multiple=1), ShrinkSpec(heads=0.5)  # any share tells what belongs together

Places = Mapping[Cut, Tensor]  # of each row or column of a cut, where it comes from


def arranged_steps(
    lm: LanguageModel, spec: PruneSpec, profile: Profile | None
) -> Steps[tuple[LanguageModel, Profile | None]]:
    """Put neurons, and the values of heads, into an order in which the recipe's pattern keeps more of the squared
    scores of what reads them, |W|² · ‖X‖², or |W|² where there are no norms.

    -> the model, which shares all else with `lm`, and the profile in that order. The values stay where it cannot be
    told what makes them. Raises ModelError for a model of which it cannot be told what makes and reads its neurons.
    """
    assert spec.n_of_m is not None  # checked when the recipe was made
    if distributed.size() > 1:
        raise InputError(
            f"{distributed.size()} processes would each look for an order, and these need not agree; leave arrange "
            "out, or prune in one process"
        )
    try:
        neurons = groups_under(lm, neuron_settings(lm, NEURONS))
    except ModelError as error:
        raise ModelError(
            f"{lm.title} ({type(lm.model).__name__}) does not tell which rows make which neurons of its MLPs, so they "
            "cannot be arranged; leave arrange out"
        ) from error
    names = {cut.parameter for group in neurons for cut in (group.own, *group.others)}
    if len({id(lm.model.get_parameter(name)) for name in names}) < len(names):
        raise ModelError(
            f"{lm.title} ({type(lm.model).__name__}) has MLPs that share their weights and need orders of their own; "
            "leave arrange out"
        )
    heads, made_by = _values(lm, spec.n_of_m)
    in_all = len(neurons) + len(heads)
    orders: dict[str, Tensor] = {}  # of columns, by linear
    for done, group in enumerate(neurons):
        yield Progress("arranging", done, in_all, "parts")
        orders[group.reader.name] = arranged(_squared_scores(group.reader, profile), *spec.n_of_m)
    found = _with_neurons_in_order(lm, neurons, orders)
    in_heads: dict[str, Places] = {}
    for done, group in enumerate(heads, len(neurons)):
        yield Progress("arranging", done, in_all, "parts")
        each_head = _of_each_head(_squared_scores(group.reader, profile), group.units, _value_size(group, made_by))
        within = [arranged(scores, *spec.n_of_m) for scores in each_head]
        in_heads[group.reader.name] = _places_in_heads(group, within, made_by)
    with_values = _moved(found, list(in_heads.values()))
    if _same(lm, with_values):
        found = with_values
        orders |= {group.reader.name: in_heads[group.reader.name][group.own] for group in heads}
    if profile is not None:
        norms = {name: norm[orders[name]] if name in orders else norm for name, norm in profile.norms.items()}
        profile = replace(profile, norms=norms)
    return found, profile


def _squared_scores(reader: Linear, profile: Profile | None) -> Tensor:
    """Return |W|² · ‖X‖² of one matrix, |W|² without a profile. -> (C_out, C_in) float32"""
    scores = reader.weight.float()
    if profile is not None:
        scores = scores * profile.norms[reader.name].to(scores.device)
    return scores.square()


def _with_neurons_in_order(lm: LanguageModel, groups: Sequence[Group], orders: Mapping[str, Tensor]) -> LanguageModel:
    """Return the model with its neurons in an order, which is tried for each way in which rows may lie."""
    for layout in LAYOUTS["neurons"]:
        places = []
        for group in groups:
            order = orders[group.reader.name]
            rows = {cut: layout(order, group.units, cut.size, group.own.size) for cut in group.others}
            places.append({group.own: group.columns(order), **rows})
        found = _moved(lm, places)
        if _same(lm, found):
            return found
    raise ModelError(
        f"{lm.title} ({type(lm.model).__name__}) says something else with its neurons in another order, so they cannot "
        "be arranged; leave arrange out"
    )


def _values(lm: LanguageModel, n_of_m: tuple[int, int]) -> tuple[list[Group], str]:
    """Find the matrices that read the values of heads, and what makes these: where in its block that lies.

    The pattern has to fit into a head, and the model has to say the same when every head of every block has its values
    in an order of its own. -> no groups where it cannot be told.
    """
    try:
        settings, units = head_settings(lm, HEADS)
        groups = groups_under(lm, settings, units)
    except (ModelError, InputError):  # it names no heads, or has one group of them alone
        return [], ""
    drawn = torch.Generator().manual_seed(0)
    for made_by in {_place(cut, group): None for group in groups[:1] for cut in group.others}:
        sizes = [_value_size(group, made_by) for group in groups]
        if not all(size and size % n_of_m[1] == 0 for size in sizes):  # 0: a block that reads another's values
            continue
        tried = [
            _places_in_heads(group, [torch.randperm(size, generator=drawn) for _ in range(group.units)], made_by)
            for group, size in zip(groups, sizes, strict=True)
        ]
        if _same(lm, _moved(lm, tried)):
            return groups, made_by
    return [], ""


def _place(cut: Cut, group: Group) -> str:
    """Tell where in its block a module lies that a cut is of, as far as it differs from where the reader lies."""
    shared = next((i for i, (a, b) in enumerate(zip(cut.place, group.own.place, strict=False)) if a != b), 0)
    return ".".join(cut.place[shared:])


def _value_size(group: Group, made_by: str) -> int:
    """How many values a head has, 0 where what makes them makes other things too, or the reader reads others."""
    sizes = {cut.size for cut in group.others if _place(cut, group) == made_by}
    size, left = divmod(min(sizes, default=0), group.units)
    return size if len(sizes) == 1 and size and not left and group.own.size % (group.units * size) == 0 else 0


def _of_each_head(scores: Tensor, units: int, size: int) -> Iterator[Tensor]:
    """Gather what reads the values of each group of heads that shares them. scores (R, C) -> units times (R', size)."""
    yield from scores.reshape(len(scores), units, -1, size).permute(1, 0, 2, 3).reshape(units, -1, size)


def _places_in_heads(group: Group, within: Sequence[Tensor], made_by: str) -> Places:
    """Tell from where every column and row of values comes. within: of each group of heads, the order of a head."""
    size = len(within[0])
    heads = group.own.size // (group.units * size)  # that share their values
    orders = torch.stack(list(within))
    starts = torch.arange(0, group.own.size, size, dtype=torch.int64).reshape(group.units, heads, 1)
    rows = (torch.arange(group.units, dtype=torch.int64)[:, None] * size + orders).flatten()
    makers = {cut: rows for cut in group.others if _place(cut, group) == made_by}
    return {group.own: (starts + orders[:, None, :]).flatten(), **makers}


def _moved(lm: LanguageModel, places: Sequence[Places]) -> LanguageModel:
    """Return a twin of a model with rows and columns in another order."""
    found = twin(lm)
    by_parameter: dict[str, dict[Cut, Tensor]] = {}
    for each in places:
        for cut, where in each.items():
            by_parameter.setdefault(cut.parameter, {})[cut] = where
    for name, chosen in by_parameter.items():
        put(found.model, name, cut_parameter(lm.model.get_parameter(name), chosen))
    return found


def _same(lm: LanguageModel, found: LanguageModel) -> bool:
    """Whether two models predict the same of a few tokens, up to the order of sums."""
    rows = len(cast(Any, lm.model).get_input_embeddings().weight)
    ids = torch.arange(min(PROBE, lm.longest or PROBE), dtype=torch.int64)[None].to(lm.device) % rows
    tolerance = TOLERANCE if lm.dtype in (torch.float32, torch.float64) else HALF_TOLERANCE
    logits, other = (each.model(input_ids=ids, use_cache=False).logits.float() for each in (lm, found))
    alike = (logits - other).abs().amax(dim=-1) <= tolerance * logits.abs().max()
    return float(alike.float().mean()) >= ALIKE
