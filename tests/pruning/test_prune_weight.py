"""The pure function that prunes one matrix: numbers worked by hand, then an independent formula for every update."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from wanda_core.calibration.input_norms import InputNorms, Moments
from wanda_core.errors import InputError, ModelError
from wanda_core.methods import METHODS
from wanda_core.pruning.linear_pruner import prune_weight
from wanda_core.recipe import UPDATES, PruneSpec, Solver

EXACT = {"steps": 200, "damping": 1e-6}  # of a solver: to the end, and hardly damped


def moments_of(X_norm: list[float], gram: torch.Tensor | None = None) -> Moments:
    return Moments(InputNorms(torch.tensor(X_norm) ** 2, 1, 100), gram)


def inputs(tokens: int, columns: int, seed: int = 0) -> torch.Tensor:
    """Correlated inputs of different loudness, (tokens, columns)."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.eye(columns) + 0.3 * torch.randn(columns, columns, generator=generator)
    return torch.randn(tokens, columns, generator=generator) @ mixing * torch.linspace(0.5, 2, columns)


def matrix(rows: int, columns: int, seed: int = 7) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


def measured(X: torch.Tensor, spec: PruneSpec, dense: torch.Tensor | None = None) -> Moments | None:
    """The moments that an order would hand out for inputs X (tokens, C_in), all of one sequence."""
    if not spec.needs_norms and not spec.needs_gram:
        return None
    norms = InputNorms((X**2).sum(dim=0), 1, len(X))
    return Moments(norms, X.T @ X if spec.needs_gram else None, None if dense is None else dense.T @ X)


def every_recipe() -> list[PruneSpec]:
    """Every method with every update that it takes."""
    recipes = []
    for method in METHODS:
        for update in UPDATES:
            try:
                recipes.append(PruneSpec(method, 0.5, update=update))
            except InputError:  # a sweep without an update
                continue
    return recipes


def label(spec: PruneSpec) -> str:
    return f"{spec.label}, {spec.group}"


# By hand


def test_wanda_by_row():
    W = torch.tensor([[1.0, -2.0, 3.0, -4.0], [1.0, 30.0, -20.0, 10.0]])
    # |W| · ‖X‖: 8, 4, 3, 2 and 8, 60, 20, 5. By size alone the first row would lose its first two.
    weight, mask = prune_weight(W, moments_of([8.0, 2.0, 1.0, 0.5]), PruneSpec("wanda", 0.5), 0.5)
    assert mask.tolist() == [[False, False, True, True], [True, False, False, True]]
    assert weight.tolist() == [[1.0, -2.0, 0.0, 0.0], [0.0, 30.0, -20.0, 0.0]]


def test_the_share_is_the_one_that_is_given_and_not_the_recipes():
    W = torch.tensor([[1.0, 2.0, 3.0, 4.0]])
    _, mask = prune_weight(W, moments_of([1.0] * 4), PruneSpec("wanda", 0.5), 0.25)  # as `owl` allots it
    assert mask.tolist() == [[True, False, False, False]]


def test_magnitude_per_matrix_removes_a_tie_whole():
    W = torch.tensor([[1.0, -2.0], [2.0, 3.0]])
    # place int(4 · 0.25) = 1 of 1, 2, 2, 3 holds 2, and everything up to it goes
    weight, mask = prune_weight(W, None, PruneSpec("magnitude", 0.25), 0.25)
    assert mask.tolist() == [[True, True], [True, False]]
    assert weight.tolist() == [[0.0, 0.0], [0.0, 3.0]]


def test_two_of_four_keeps_two_in_every_four_and_the_left_goes_first_in_a_tie():
    W = torch.tensor([[4.0, 3.0, 2.0, 1.0, 1.0, 5.0, -1.0, 1.0]])
    # |W| · ‖X‖: 4, 3, 20, 1 and 1, 5, 1, 1
    moments = moments_of([1.0, 1.0, 10.0, 1.0, 1.0, 1.0, 1.0, 1.0])
    weight, mask = prune_weight(W, moments, PruneSpec(pattern="2:4"), 0.5)
    assert mask.tolist() == [[False, True, False, True, True, False, True, False]]
    assert weight.tolist() == [[4.0, 0.0, 2.0, 0.0, 0.0, 5.0, 0.0, 1.0]]


@pytest.mark.parametrize(("share", "kept"), [(0.25, [9.0, 0.0, 1.0, 2.0]), (0.5, [0, 0, 1, 2]), (0.75, [0, 0, 0, 2])])
def test_dead_columns_go_before_all_others_the_smaller_weight_first(share, kept):
    W = torch.tensor([[9.0, -5.0, 1.0, 2.0]])
    weight, _ = prune_weight(W, moments_of([0.0, 0.0, 1.0, 1.0]), PruneSpec("wanda", share), share)
    assert weight.tolist() == [kept]


def test_obs_hands_what_a_removed_weight_did_to_the_columns_right_of_it():
    W = torch.tensor([[1.0, 4.0], [4.0, 1.0]])
    gram = torch.tensor([[2.0, 1.0], [1.0, 2.0]])
    # H = XᵀX + 0.01 · 2 on the diagonal. Without w₁ the error w₁² H₁₁ - 2 w₁ δ H₁₂ + δ² H₂₂ is least at
    # δ = w₁ H₁₂ / H₂₂ = 1 / 2.02 more of w₂. The last column has nobody right of it.
    weight, mask = prune_weight(W, moments_of([2**0.5] * 2, gram), PruneSpec("wanda", 0.5, update="obs"), 0.5)
    assert mask.tolist() == [[True, False], [False, True]]
    torch.testing.assert_close(weight, torch.tensor([[0.0, 4 + 1 / 2.02], [4.0, 0.0]]))


# Against a formula of its own


def test_obs_is_the_best_of_the_rest_when_the_first_column_goes():
    """Then every column that stays may still be changed: a dense solution exists for each row."""
    X, W = inputs(50, 6), matrix(4, 6)
    X[:, 0] *= 1e-3  # a quiet input: all rows remove it first
    spec = PruneSpec("wanda", 1 / 6, update="obs")
    weight, mask = prune_weight(W, measured(X, spec), spec, 1 / 6)
    assert mask.tolist() == [[True, False, False, False, False, False]] * 4
    H = (X.T @ X).double()
    H += 0.01 * H.diagonal().mean() * torch.eye(6, dtype=torch.float64)
    best = torch.linalg.solve(H[1:, 1:], H[1:] @ W.double().T).T  # (C_out, 5)
    torch.testing.assert_close(weight[:, 1:].double(), best, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("rounds", [0, 2])
@pytest.mark.parametrize("method", ["wanda", "magnitude"])
def test_least_squares_is_lstsq_on_the_columns_that_are_kept(method, rounds):
    X, W = inputs(60, 8), matrix(5, 8)
    solver = Solver(**EXACT, rounds=rounds)
    spec = PruneSpec(method, 0.5, group="row", update="least-squares", solver=solver)
    weight, mask = prune_weight(W, measured(X, spec), spec, 0.5)
    assert mask.sum(dim=1).tolist() == [4] * 5
    for row, dense, removed in zip(weight, W, mask, strict=True):
        best = torch.linalg.lstsq(X[:, ~removed], (X @ dense)[:, None]).solution[:, 0]
        torch.testing.assert_close(row[~removed], best, atol=1e-3, rtol=1e-3)
        assert not row[removed].any()


@pytest.mark.parametrize("dense_share", [1.0, 0.5])
def test_least_squares_aims_at_what_the_dense_models_own_inputs_give(dense_share):
    X, W = inputs(60, 8), matrix(5, 8)
    X_dense = X + 0.3 * inputs(60, 8, seed=5)
    solver = Solver(**EXACT, dense_share=dense_share)
    spec = PruneSpec("wanda", 0.5, order="in-flight", update="least-squares", solver=solver)
    weight, mask = prune_weight(W, measured(X, spec, X_dense), spec, 0.5)
    for row, dense, removed in zip(weight, W, mask, strict=True):
        target = dense_share * X_dense @ dense + (1 - dense_share) * X @ dense
        best = torch.linalg.lstsq(X[:, ~removed], target[:, None]).solution[:, 0]
        torch.testing.assert_close(row[~removed], best, atol=2e-3, rtol=1e-3)


@pytest.mark.parametrize("stream_share", [1.0, 0.25])
def test_least_squares_makes_up_for_what_the_stream_lacks(stream_share):
    X, W, E = inputs(60, 8), matrix(5, 8), 0.5 * inputs(60, 5, seed=6)
    solver = Solver(**EXACT, stream_share=stream_share)
    spec = PruneSpec("wanda", 0.5, order="in-flight", update="least-squares", solver=solver)
    moments = measured(X, spec, X)
    moments.drift = E.T @ X
    weight, mask = prune_weight(W, moments, spec, 0.5)
    for row, dense, lack, removed in zip(weight, W, E.T, mask, strict=True):
        target = X @ dense + stream_share * lack
        best = torch.linalg.lstsq(X[:, ~removed], target[:, None]).solution[:, 0]
        torch.testing.assert_close(row[~removed], best, atol=2e-3, rtol=1e-3)


# Whatever the recipe


@pytest.mark.parametrize("spec", every_recipe(), ids=label)
def test_share_zero_changes_nothing(spec):
    X, W = inputs(60, 8), matrix(6, 8)
    weight, mask = prune_weight(W, measured(X, spec), spec, 0.0)
    assert not mask.any()
    assert torch.equal(weight, W)


@pytest.mark.parametrize("spec", every_recipe(), ids=label)
def test_the_mask_is_where_the_zeros_are_and_nothing_that_is_given_is_written_to(spec):
    X, W = inputs(60, 8), matrix(6, 8)
    moments = measured(X, spec, X + 1 if spec.needs_gram else None)
    tensors = [W, *([moments.norms.squares, moments.gram, moments.cross] if moments else [])]
    before = [None if tensor is None else tensor.clone() for tensor in tensors]
    weight, mask = prune_weight(W, moments, spec, 0.5)
    assert (weight.shape, mask.shape, mask.dtype) == (W.shape, W.shape, torch.bool)
    assert torch.equal(weight == 0, mask)
    assert 0.3 < float(mask.float().mean()) < 0.7
    for tensor, as_it_was in zip(tensors, before, strict=True):
        assert tensor is as_it_was is None or torch.equal(tensor, as_it_was)


@pytest.mark.parametrize(("update", "dtype"), [("none", torch.bfloat16), ("obs", torch.float32)])
def test_a_weight_keeps_its_type_unless_it_is_updated(update, dtype):
    spec = PruneSpec("wanda", 0.5, update=update)
    weight, _ = prune_weight(matrix(3, 8).bfloat16(), measured(inputs(40, 8), spec), spec, 0.5)
    assert weight.dtype == dtype


LOOKING = [spec for spec in every_recipe() if (spec.method, spec.update) != ("random", "none")]  # at the weights


@pytest.mark.parametrize("spec", LOOKING, ids=label)
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_weight_that_is_not_finite_is_an_error_that_names_the_matrix(spec, bad):
    W = matrix(6, 8)
    W[2, 3] = bad
    with pytest.raises(ModelError, match=r"^layers\.3\.q_proj has weights .* not finite"):
        prune_weight(W, measured(inputs(60, 8), spec), spec, 0.5, name="layers.3.q_proj")


def test_random_follows_from_the_name_and_the_seed_alone():
    def mask_of(W: torch.Tensor, seed: int, name: str) -> torch.Tensor:
        return prune_weight(W, None, PruneSpec("random", 0.5, seed=seed), 0.5, name=name)[1]

    here = mask_of(matrix(6, 8), 3, "layers.0.q")
    assert torch.equal(mask_of(matrix(6, 8, seed=1) * 100, 3, "layers.0.q"), here)
    assert not torch.equal(mask_of(matrix(6, 8), 3, "layers.1.q"), here)
    assert not torch.equal(mask_of(matrix(6, 8), 4, "layers.0.q"), here)


# Two processes


class Meeting:
    """Where two threads, in the place of two processes, exchange their rows of a matrix (height, C)."""

    def __init__(self, height: int) -> None:
        self.slices = (slice(0, height // 2), slice(height // 2, height))
        self.barrier = threading.Barrier(2, timeout=60)
        self.rows: list[torch.Tensor] = [torch.empty(0)] * 2


class Half:
    """What one of them is given for `gather`, like `RowShare`."""

    def __init__(self, meeting: Meeting, rank: int) -> None:
        self.meeting, self.rank = meeting, rank

    def own(self, whole: torch.Tensor) -> torch.Tensor:
        return whole[self.meeting.slices[self.rank]]

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        self.meeting.rows[self.rank] = rows
        self.meeting.barrier.wait()  # both have come
        whole = torch.cat(self.meeting.rows)
        self.meeting.barrier.wait()  # both have read
        return whole


@torch.no_grad()
def pruned_by_two(W: torch.Tensor, moments: Moments | None, spec: PruneSpec) -> tuple[torch.Tensor, torch.Tensor]:
    meeting = Meeting(len(W))

    def prune_half(rank: int) -> tuple[torch.Tensor, torch.Tensor]:
        half = Half(meeting, rank)
        return prune_weight(half.own(W), moments, spec, 0.5, half, "q_proj")

    with ThreadPoolExecutor(2) as threads:
        halves = list(threads.map(prune_half, (0, 1)))
    return torch.cat([weight for weight, _ in halves]), torch.cat([mask for _, mask in halves])


SHARED = [
    *every_recipe(),
    PruneSpec("wanda", 0.5, group="matrix"),
    PruneSpec("wanda", 0.5, group="row:128"),
    PruneSpec("ria", 0.5, group="column:128"),
    PruneSpec("magnitude", 0.5, group="row"),
    PruneSpec("random", 0.5, group="column"),
    PruneSpec("wanda", pattern="2:4"),
    PruneSpec("sparsegpt", pattern="2:4"),
    PruneSpec("wanda", 0.5, group="matrix", update="least-squares", solver=Solver(rounds=2)),
]


@pytest.mark.parametrize("height", [7, 1], ids=["three rows and four", "none and one"])
@pytest.mark.parametrize("spec", SHARED, ids=label)
def test_two_processes_make_the_whole_that_one_makes(spec, height):
    X, W = inputs(60, 8), matrix(height, 8)
    moments = measured(X, spec)
    alone, mask_alone = prune_weight(W, moments, spec, 0.5, name="q_proj")
    together, mask_together = pruned_by_two(W, moments, spec)
    assert torch.equal(mask_together, mask_alone)
    if spec.needs_gram:  # products of fewer rows may round otherwise
        torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)
    else:
        assert torch.equal(together, alone)
