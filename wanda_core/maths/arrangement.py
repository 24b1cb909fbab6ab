"""An order of input columns in which an N:M pattern costs least: a pure function of the scores.

N:M keeps N of every M neighbours, so who is whose neighbour decides what is lost. Where columns stand for the neurons
of an MLP, their order is free. Pool & Yu (2021) exchange columns of pairs of groups one after the other; here all pairs
that gain do it at once.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

MOST_SUMS = 2**31  # of a round; of a matrix with more, some rows speak for all
ROUNDS = 8  # of exchanges; three times as many keep 2% more of what else is lost


def arranged(scores: Tensor, n: int, m: int, rounds: int = ROUNDS) -> Tensor:
    """Find an order of the columns in which N:M keeps more of the sum of the scores.

    scores: (R, C) >= 0, float32, C a multiple of M -> (C,) int64, which column comes to each place. What N:M keeps is
    never less than in the order as it is.

    At first every group has columns of every loudness. In each round every group offers one column, and pairs of groups
    exchange theirs where both together then keep more, the largest gains first.
    """
    scores = scores.cpu()
    columns = scores.shape[1]
    groups = columns // m
    every_so_many = max(1, len(scores) * groups**2 // MOST_SUMS)
    some = scores[::every_so_many]
    as_it_is = torch.arange(columns, dtype=torch.int64)
    if groups < 2:
        return as_it_is
    order = scores.sum(dim=0).argsort(descending=True, stable=True).reshape(m, groups).t().contiguous()  # (G, M)
    every = torch.arange(groups, dtype=torch.int64)
    drawn = torch.Generator().manual_seed(0)
    for _ in range(rounds):
        place = torch.randint(m, (groups,), generator=drawn)
        offered = order[every, place]
        others = order[torch.arange(m, dtype=torch.int64) != place[:, None]].reshape(groups, m - 1)
        for first, second in _exchanges(_keeping(some, others, offered, n)):
            order[first, place[first]], order[second, place[second]] = offered[second], offered[first]
    found = order.flatten()
    return found if kept(scores, found, n, m) > kept(scores, as_it_is, n, m) else as_it_is


def kept(scores: Tensor, order: Tensor, n: int, m: int) -> float:
    """Add up the scores that N:M keeps, the N largest of every M neighbours. scores (R, C), order (C,)."""
    grouped = scores[:, order].reshape(len(scores), -1, m)
    return float(grouped.topk(n, dim=2).values.sum(dtype=torch.float64))


def _keeping(scores: Tensor, others: Tensor, offered: Tensor, n: int) -> Tensor:
    """Add up what every group keeps with every column that is offered, up to a sum of its own.

    A group keeps its N - 1 largest anyway, and then the larger of its N-th and the column that comes.
    scores (R, C); others (G, M - 1), offered (G,): columns -> (G, G), groups by columns.
    """
    at_stake = scores[:, others].topk(n, dim=2).values[:, :, -1].t()  # (G, R)
    coming = scores[:, offered].t()  # (G, R)
    apart = torch.cdist(at_stake, coming, p=1)  # the larger of two is half of their sum and of how far they are apart
    return (at_stake.sum(dim=1)[:, None] + coming.sum(dim=1) + apart) / 2


def _exchanges(keeping: Tensor) -> Iterator[tuple[int, int]]:
    """Choose pairs that keep more after an exchange, the largest gain first, nobody twice. keeping (G, G)."""
    own = keeping.diagonal()
    gain = (keeping + keeping.t() - own[:, None] - own[None, :]).triu(1)
    first, second = (gain > 0).nonzero(as_tuple=True)
    free = [True] * len(gain)
    best = gain[first, second].argsort(descending=True, stable=True)
    for i, j in zip(first[best].tolist(), second[best].tolist(), strict=True):
        if free[i] and free[j]:
            free[i] = free[j] = False
            yield i, j
