"""The test at the lesson's end: six items drawn from the model, each with the figures that its answer follows from.

Rows, columns, blocks and channels are drawn anew, so each answer follows from the item's own figures. These are rounded
as they are shown, and an item is asked only where the rounded ones and the exact ones give the same answer, with room
between.
Of each kind the answer is chosen first, evenly, and then an item that has it is looked for: whoever always says the
same is right no more often than chance. Where the model has such items, what the lesson is about decides: the largest
weights alone, equal shares of a budget, or one of two figures that belong together do not lead to the answer.
"""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from wanda_core.model.language_model import LanguageModel
from wanda_core.model.linears import Linear
from wanda_core.outliers.analysis import Analysis
from wanda_core.outliers.features import LAYER_SHARE, POSITION_SHARE, feature_of
from wanda_core.outliers.massive import MASSIVE_MAGNITUDE, MASSIVE_RATIO

DIGITS = 3  # of a figure
ROOM = 1.15  # how far apart two figures are at least that are to be compared
TRIES = 400  # at an item with a certain answer, before any answer will do
MASSIVE_ANSWERS = ("yes", "near", "small", "both")
KIND_ANSWERS = ("neither", "feature", "massive", "both")  # by whether it is massive, then whether it is a feature
PAIRS = ("12", "13", "14", "23", "24", "34")  # of a row of four weights, by their places
MOST_OPTIONS = 4  # of an item
MOST_LOUD = 6  # channels of a block, from the largest on, that are asked about more often than others
ROW_KEEPS = 2  # weights of a row of four, were the budget its own
BEFORE = {"self_attn.q_proj": "input_layernorm", "mlp.up_proj": "post_attention_layernorm"}  # what a linear reads


@dataclass(frozen=True)
class Item:
    """One question. kind: of its words; step: the name of the step that showed how; figures: what is shown, numbers
    and lists of numbers; options: from which one is to be chosen; answer: the right one."""

    kind: str
    step: str
    figures: Mapping[str, Any]
    options: tuple[str, ...]
    answer: str


@dataclass(frozen=True)
class Source:
    """What items are drawn from. linears: of the model that the analysis is of; gains: as of `gains_of`."""

    linears: list[Linear]
    gains: list[tuple[Linear, Tensor]]
    analysis: Analysis
    rng: random.Random
    telling: bool = True  # whether items are looked for in which a wrong way leads elsewhere

    def linear(self, columns: int = 2, rows: int = 1) -> Linear:
        """Draw a linear with at least so many columns and rows; any where none has."""
        large = [linear for linear in self.linears if linear.shape[0] >= rows and linear.shape[1] >= columns]
        return self.rng.choice(large or self.linears)

    def norms(self, linear: Linear) -> Tensor:
        """Input norms of a linear, (C_in,) float64."""
        return self.analysis.profile.norms[linear.name].double()


def draw(lm: LanguageModel, analysis: Analysis, seed: int) -> list[Item]:
    """Draw six items, one of each kind. The same seed draws the same ones."""
    source = Source(lm.all_linears, gains_of(lm), analysis, random.Random(seed))
    wanted = [source.rng.choice(kind.answers) for kind in KINDS]
    return [_with_answer(kind, answer, source) for kind, answer in zip(KINDS, wanted, strict=True)]


def _with_answer(kind: "Kind", wanted: str, source: Source) -> Item:
    """Draw an item with an answer, where the model has such a one."""
    last: Item | None = None
    for attempt in range(10 * TRIES):
        item = kind.make(replace(source, telling=attempt < TRIES))
        if item is None:
            continue
        last = item
        if item.answer == wanted or attempt >= TRIES:
            break
    assert last is not None  # every model has weights with room between them
    return last


def shown(value: float) -> float:
    """Round a figure as it is shown."""
    return float(f"{value:.{DIGITS}g}")


def apart(values: list[float]) -> bool:
    """Tell whether neighbours in size are ROOM times apart, so that nobody has to compare by a hair."""
    ordered = sorted(values)
    return all(small > 0 and large >= ROOM * small for small, large in pairwise(ordered))


def _two(source: Source) -> Item | None:
    """Of y = w₁x₁ + w₂x₂ one weight goes: which one does magnitude remove, and is that the cheaper one?"""
    linear, rng = source.linear(), source.rng
    row, (i, j) = rng.randrange(linear.shape[0]), rng.sample(range(linear.shape[1]), 2)
    w1, w2 = (shown(float(linear.weight[row, column])) for column in (i, j))
    x1, x2 = (shown(float(source.norms(linear)[column])) for column in (i, j))
    sizes, costs = [abs(w1), abs(w2)], [abs(w1 * x1), abs(w2 * x2)]
    if not (apart(sizes) and apart(costs)):
        return None
    removed = int(sizes[1] < sizes[0])
    answer = f"{removed + 1}_{'right' if costs[removed] == min(costs) else 'wrong'}"
    figures = {"w": [w1, w2], "x": [x1, x2]}
    return Item("two_weights", "two", figures, ("1_right", "1_wrong", "2_right", "2_wrong"), answer)


def _pair(source: Source) -> Item | None:
    """Of four weights of a row two stay: which two does Wanda keep?"""
    linear, rng = source.linear(columns=4), source.rng
    row, columns = rng.randrange(linear.shape[0]), rng.sample(range(linear.shape[1]), 4)
    w = [shown(float(linear.weight[row, column])) for column in columns]
    x = [shown(float(source.norms(linear)[column])) for column in columns]
    sizes, products = [abs(value) for value in w], [abs(a * b) for a, b in zip(w, x, strict=True)]
    if not (apart(sizes) and apart(products)):
        return None
    answer, by_size = _two_largest(products), _two_largest(sizes)
    if source.telling and answer == by_size:
        return None
    others = [pair for pair in PAIRS if pair not in (answer, by_size)]
    few = [answer, *([by_size] if by_size != answer else [])]
    options = sorted([*few, *rng.sample(others, MOST_OPTIONS - len(few))])
    return Item("kept_pair", "two", {"w": w, "x": x}, tuple(options), answer)


def _two_largest(values: list[float]) -> str:
    best = sorted(range(len(values)), key=lambda place: -values[place])[:2]
    return "".join(str(place + 1) for place in sorted(best))


def _budget(source: Source) -> Item | None:
    """Three rows share one budget, half of their twelve weights: how many does the second row keep?"""
    linear, rng = source.linear(columns=4, rows=3), source.rng
    if linear.shape[0] < 3 or linear.shape[1] < 4:
        return None
    rows, columns = rng.sample(range(linear.shape[0]), 3), rng.sample(range(linear.shape[1]), 4)
    norms = source.norms(linear)
    scores = [[shown(abs(float(linear.weight[r, c])) * float(norms[c])) for c in columns] for r in rows]
    ordered = sorted(value for row in scores for value in row)
    if not (ordered[5] > 0 and ordered[6] >= ROOM * ordered[5]):
        return None
    kept = sum(value > ordered[5] for value in scores[1])
    if source.telling and kept == ROW_KEEPS:
        return None
    return Item("shared_budget", "matrix", {"scores": scores}, ("0", "1", "2", "3", "4"), str(kept))


@dataclass(frozen=True)
class Reach:
    """How far a channel reaches in the output of a block. value: its largest |x|; median: of the block; times: of it.
    As they are shown, and told apart from both bounds of a massive activation."""

    block: int
    channel: int
    value: float
    median: float

    @property
    def times(self) -> float:
        """How many times the median the value is."""
        return self.value / self.median

    @property
    def figures(self) -> dict[str, Any]:
        """What of it is shown."""
        return {"block": self.block, "channel": self.channel, "value": self.value, "median": self.median}


def _reach(source: Source, loud: float) -> Reach | None:
    """Draw a channel; most are small, so with probability `loud` one of the block's largest."""
    analysis, rng = source.analysis, source.rng
    block = rng.randrange(len(analysis.median))
    reached = analysis.channel_max[block]
    few = reached.topk(min(MOST_LOUD, len(reached))).indices.tolist()
    channel = rng.choice(few) if rng.random() < loud else rng.randrange(len(reached))
    value, median = shown(float(reached[channel])), shown(float(analysis.median[block]))
    if not (median and apart([value, MASSIVE_MAGNITUDE]) and apart([value / median, MASSIVE_RATIO])):
        return None
    return Reach(block, channel, value, median)


def _massive(source: Source) -> Item | None:
    """A channel and the median of its block: is that a massive activation?"""
    reach = _reach(source, 0.5)
    if reach is None:
        return None
    large, far = reach.value > MASSIVE_MAGNITUDE, reach.times >= MASSIVE_RATIO
    answer = "yes" if large and far else "near" if large else "small" if far else "both"
    return Item("massive", "meet", reach.figures, MASSIVE_ANSWERS, answer)


def _channel(source: Source) -> Item | None:
    """A channel by both definitions: is it massive after this block, is it an outlier feature, both or neither? Every
    second time, by the former alone, and so where features were not measured or are none of the stream's channels."""
    counts, rng = source.analysis.features, source.rng
    if counts is None or not counts.one_stream or rng.random() < 0.5:
        return _massive(source)
    reach = _reach(source, 0.75)
    feature = None if reach is None else feature_of(counts, rng.choice(counts.kinds), reach.channel)
    if reach is None or feature is None:
        return None
    layers, positions = (shown(100 * share) for share in (feature.layer_share, feature.position_share))
    shares = [(layers, 100 * LAYER_SHARE), (positions, 100 * POSITION_SHARE)]
    if any(ROOM * least > share > least / ROOM for share, least in shares):
        return None
    massive = reach.value > MASSIVE_MAGNITUDE and reach.times >= MASSIVE_RATIO
    often = all(share >= least for share, least in shares)
    figures = reach.figures | {"layers": layers, "positions": positions}
    return Item("massive_or_feature", "masks", figures, KIND_ANSWERS, KIND_ANSWERS[2 * massive + often])


def _loud(source: Source) -> Item | None:
    """Two columns behind a normalisation, by the size that arrives there and the gain: which one is louder?

    A model without such a normalisation is asked for another weight's fate.
    """
    if not source.gains:
        return _fate(source)
    linear, gain = source.rng.choice(source.gains)
    i, j = source.rng.sample(range(linear.shape[1]), 2)
    norms = source.norms(linear)
    if not all(abs(float(gain[column])) > 0 for column in (i, j)):
        return None
    factor = [shown(abs(float(gain[column]))) for column in (i, j)]
    size = [shown(float(norms[column]) / abs(float(gain[column]))) for column in (i, j)]
    products = [a * b for a, b in zip(size, factor, strict=True)]
    if source.telling and (size[0] > size[1]) == (factor[0] > factor[1]):
        return None
    if not (apart(products) and apart(size)) or int(norms[j] > norms[i]) != int(products[1] > products[0]):
        return None
    louder = str(1 + int(products[1] > products[0]))
    return Item("louder_column", "masks", {"size": size, "gain": factor}, ("1", "2"), louder)


@torch.no_grad()
def gains_of(lm: LanguageModel) -> list[tuple[Linear, Tensor]]:
    """List linears that read what an RMSNorm gives them, each with its gain (C_in,) float64.

    Found by name, as decoders of Llama's kind have them, and asked for the gain: what it makes of equal numbers.
    """
    found = []
    modules = dict(lm.model.named_modules())
    for linear in lm.all_linears:
        block = linear.name.removesuffix(f".{linear.kind}")
        norm = modules.get(f"{block}.{BEFORE.get(linear.kind)}")
        weight = getattr(norm, "weight", None)
        if norm is not None and isinstance(weight, Tensor) and weight.shape == (linear.shape[1],):
            gain = norm(torch.ones(1, 1, len(weight), dtype=weight.dtype, device=weight.device))[0, 0].double().cpu()
            if bool((gain != 0).all()):  # LayerNorm makes nothing of equal numbers
                found.append((linear, gain))
    return found


def _fate(source: Source) -> Item | None:
    """One weight beside both cuts of its row: who keeps it?"""
    linear, rng = source.linear(columns=8), source.rng
    row, column = rng.randrange(linear.shape[0]), rng.randrange(linear.shape[1])
    sizes = linear.weight[row].double().abs().cpu()
    norms = source.norms(linear)
    half = len(sizes) // 2
    cut_size, cut_score = (float(values.sort().values[half - 1]) for values in (sizes, sizes * norms))
    figures = {
        "w": shown(float(linear.weight[row, column])),
        "x": shown(float(norms[column])),
        "cut_size": shown(cut_size),
        "cut_score": shown(cut_score),
    }
    pairs = [(abs(figures["w"]), figures["cut_size"]), (abs(figures["w"]) * figures["x"], figures["cut_score"])]
    if not all(apart(list(pair)) for pair in pairs):
        return None
    by_size, by_score = (value > cut for value, cut in pairs)
    answer = "both" if by_size and by_score else "magnitude" if by_size else "wanda" if by_score else "none"
    return Item("who_keeps", "masks", figures, ("both", "wanda", "magnitude", "none"), answer)


@dataclass(frozen=True)
class Kind:
    """How a kind of item is made, None for a draw that does not do; answers: from which one is chosen first."""

    make: Callable[[Source], Item | None]
    answers: tuple[str, ...]


KINDS = (
    Kind(_two, ("1_right", "1_wrong", "2_right", "2_wrong")),
    Kind(_pair, PAIRS),
    Kind(_channel, (*MASSIVE_ANSWERS, *KIND_ANSWERS)),
    Kind(_budget, ("0", "1", "3", "4")),
    Kind(_loud, ("1", "2")),
    Kind(_fate, ("both", "wanda", "wanda", "magnitude", "magnitude", "none")),  # mostly where the two part
)
