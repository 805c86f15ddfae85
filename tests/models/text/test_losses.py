"""Each loss on a case solved by hand, its gradient by finite differences, and what its masks promise."""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import normalize

from facetrail.models.text.losses import (
    alignment,
    contrastive,
    distillation,
    diversity,
    false_negatives,
    role_divergence,
    split_distance,
)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def nothing_unknown(scores: Tensor) -> Tensor:
    return torch.zeros(scores.shape, dtype=torch.bool)


def value_and_gradient(loss: Callable[[Tensor], Tensor], at: Tensor) -> tuple[Tensor, Tensor]:
    at = at.clone().requires_grad_()
    value = loss(at)
    return value.detach(), torch.autograd.grad(value, at)[0]


def two_way(scores: Tensor, unknown: Tensor | None = None, **options: object) -> Tensor:
    unknown = nothing_unknown(scores) if unknown is None else unknown
    return contrastive(scores, scores[:, : len(scores)].T, unknown, **options)


def test_contrastive_solved_by_hand() -> None:
    scores = torch.tensor([[math.log(3), 0.0, 0.0], [0.0, 0.0, math.log(2)]])
    # Left to right: 3/5 and 1/4; right to left, without the hard negative: 3/4 and 1/2.
    by_row = torch.tensor([math.log(5 / 3) + math.log(4 / 3), math.log(4) + math.log(2)]) / 2
    assert torch.allclose(two_way(scores, temperature=1.0), by_row.mean())
    assert torch.allclose(two_way(scores / 10, temperature=0.1), by_row.mean())
    weights = torch.tensor([1.0, 0.5])
    assert torch.allclose(two_way(scores, weights=weights, temperature=1.0), (by_row[0] + 0.5 * by_row[1]) / 1.5)


def test_the_backward_direction_has_its_own_scores() -> None:
    scores, other = torch.eye(2), torch.tensor([[0.0, math.log(3)], [0.0, 0.0]])
    forward = math.log(1 + math.exp(-1))
    expected = (forward + (math.log(4) + math.log(2)) / 2) / 2
    assert contrastive(scores, other, nothing_unknown(scores), temperature=1.0).item() == pytest.approx(expected)


def test_an_unknown_pair_leaves_both_denominators() -> None:
    scores, unknown = drawn(3, 4), torch.zeros(3, 4, dtype=torch.bool)
    unknown[0, 2] = True
    gradient = value_and_gradient(lambda s: two_way(s, unknown, temperature=1.0), scores)[1]
    assert ((gradient == 0) == unknown).all()


def test_the_positive_cannot_be_unknown() -> None:
    scores, unknown = drawn(3, 3), torch.eye(3, dtype=torch.bool)
    assert torch.equal(two_way(scores, unknown), two_way(scores))
    assert unknown.all(0).sum() == 0
    assert torch.equal(unknown, torch.eye(3, dtype=torch.bool)), "the caller's mask is left as it was"


def test_a_batch_where_nothing_is_known_costs_nothing() -> None:
    scores = drawn(3, 5)
    value, gradient = value_and_gradient(lambda s: two_way(s, torch.ones(3, 5, dtype=torch.bool)), scores)
    assert value == 0
    assert torch.equal(gradient, torch.zeros_like(scores))


def test_one_pair_costs_nothing_and_its_gradient_is_zero() -> None:
    value, gradient = value_and_gradient(two_way, drawn(1, 1))
    assert value == 0
    assert gradient.tolist() == [[0.0]]


def test_one_pair_learns_from_its_hard_negative() -> None:
    value, gradient = value_and_gradient(two_way, torch.tensor([[0.5, 0.5]]))
    assert value.item() == pytest.approx(math.log(2) / 2)
    assert gradient[0, 0] < 0 < gradient[0, 1]


def test_weights_of_zero_cost_nothing() -> None:
    value, gradient = value_and_gradient(lambda s: two_way(s, weights=torch.zeros(3)), drawn(3, 3))
    assert value == 0
    assert not gradient.any()


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 6), st.integers(0, 3), st.integers(0, 2**20), st.data())
def test_a_copy_of_a_positive_is_no_negative(n: int, n_hard: int, seed: int, data: st.DataObject) -> None:
    """Appended as a negative, it changes neither the loss nor the gradient of any vector.

    Its own row knows it by the base's cosine; to the others it would be a negative counted twice, so they are told.
    """
    i = data.draw(st.integers(0, n - 1))
    left, right, hard = (drawn(m, 5, seed=seed + j) for j, m in enumerate((n, n, n_hard)))

    def loss(rows: Tensor, *, copied: bool) -> Tensor:
        rows = normalize(rows, dim=1)
        lefts, texts = rows[:n], torch.cat([rows[n:], rows[n + i : n + i + copied]])
        scores = lefts @ texts.T
        related = nothing_unknown(scores)
        if copied:
            related[:, -1] = torch.arange(n) != i
        return contrastive(scores, scores[:, :n].T, false_negatives(scores.detach(), related))

    rows = torch.cat([left, right, hard])
    before, gradient = value_and_gradient(lambda x: loss(x, copied=False), rows)
    after, with_copy = value_and_gradient(lambda x: loss(x, copied=True), rows)
    assert torch.allclose(before, after, rtol=1e-12)
    assert torch.allclose(gradient, with_copy, atol=1e-12)


def test_false_negatives_are_near_the_positive_or_related() -> None:
    base = torch.tensor([[0.60, 0.56, 0.54, 0.10], [0.9, 0.2, 0.15, 0.10]])
    related = torch.zeros(2, 4, dtype=torch.bool)
    related[0, 3] = True
    assert false_negatives(base, related).tolist() == [[True, True, False, True], [True, True, False, False]]


def test_left_texts_that_occur_twice_are_no_negatives_of_each_others_positives() -> None:
    """Two rows of one left id: with the relation given, each row costs what it costs alone with the third."""
    scores = drawn(3, 3)
    left_ids = torch.tensor([7, 7, 8])
    same = left_ids.unsqueeze(1) == left_ids
    gradient = value_and_gradient(lambda s: two_way(s, same, temperature=1.0), scores)[1]
    assert gradient[0, 1] == gradient[1, 0] == 0
    forward = -scores[0, [0, 2]].log_softmax(0)[0] - scores[1, [1, 2]].log_softmax(0)[0] - scores[2].log_softmax(0)[2]
    back = -scores[[0, 2], 0].log_softmax(0)[0] - scores[[1, 2], 1].log_softmax(0)[0] - scores[:, 2].log_softmax(0)[2]
    assert torch.allclose(two_way(scores, same, temperature=1.0), (forward + back) / 6)


def test_role_divergence_solved_by_hand() -> None:
    roles = torch.tensor([[[0.5, 0.25, 0.25], [1 / 3] * 3, [0.8, 0.1, 0.1]]])
    target = torch.tensor([[[1.0, 0, 0], [0, 0.5, 0.5], [0, 0, 0]]])
    mask = torch.tensor([[True, True, False]])
    expected = (math.log(2) + math.log(1.5)) / 2
    assert role_divergence(target, roles.log(), mask).item() == pytest.approx(expected)
    assert role_divergence(roles, roles.log(), mask).item() == pytest.approx(0, abs=1e-7)


def test_no_labelled_unit_costs_nothing() -> None:
    value, gradient = value_and_gradient(
        lambda x: role_divergence(torch.zeros(2, 3, 4), x.log_softmax(2), torch.zeros(2, 3, dtype=torch.bool)),
        drawn(2, 3, 4),
    )
    assert value == 0
    assert not gradient.any()


def test_alignment_solved_by_hand() -> None:
    query = torch.tensor([[[1.0, 0.0], [1.0, 0.0]]])
    positive = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
    wanted = torch.tensor([1.0, 0.0]).softmax(0)
    expected = (wanted * (wanted / torch.tensor([0.25, 0.75])).log()).sum()
    prior = torch.tensor([[0.25, 0.75]], requires_grad=True)
    query.requires_grad_()
    loss = alignment(query, positive, prior, temperature=1.0)
    assert torch.allclose(loss, expected)
    given_away, taught = torch.autograd.grad(loss, [query, prior], allow_unused=True)
    assert given_away is None
    assert taught.isfinite().all()


def test_a_prior_of_zero_keeps_alignment_finite() -> None:
    rows = normalize(drawn(1, 2, 3), dim=2)
    value, gradient = value_and_gradient(lambda p: alignment(rows, rows, p), torch.tensor([[1.0, 0.0]]).double())
    assert value.isfinite()
    assert gradient.isfinite().all()


def test_split_distance_solved_by_hand() -> None:
    facets = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[0.6, 0.8], [1.0, 0.0]]])
    targets = torch.tensor([[[1.0, 0.0], [1.0, 0.0]], [[1.0, 0.0], [-1.0, 0.0]]])
    present = torch.tensor([[True, True], [True, False]])
    assert split_distance(facets, targets, present).item() == pytest.approx((0 + 1 + 0.4) / 3)
    value, gradient = value_and_gradient(lambda f: split_distance(f, targets, torch.zeros_like(present)), facets)
    assert value == 0
    assert not gradient.any()


def test_diversity_solved_by_hand() -> None:
    anchors = torch.tensor([[2.0, 0.0, 0.0], [1.8, 2.4, 0.0], [0.0, 0.0, 1.0]])  # cosines .6, 0, 0
    uniform = torch.full((3,), 1 / 3)
    assert diversity(anchors, uniform, uniform).item() == pytest.approx(2 * 0.3**2 / 6)
    mean_prior = torch.tensor([0.5, 0.25, 0.25])
    drift = sum(p * math.log(3 * p) for p in mean_prior.tolist())
    assert diversity(torch.eye(3), mean_prior, uniform).item() == pytest.approx(0.01 * drift)
    assert diversity(torch.ones(1, 3), torch.ones(1), torch.ones(1)) == 0


def test_distillation_solved_by_hand() -> None:
    base, scores = torch.tensor([[0.75, 0.25], [0.5, 0.5]]).log(), torch.tensor([[0.5, 0.5], [0.5, 0.5]]).log()
    expected = (0.75 * math.log(1.5) + 0.25 * math.log(0.5)) / 2
    assert distillation(base, scores, temperature=1.0).item() == pytest.approx(expected)
    assert distillation(base, base + 3.0).item() == pytest.approx(0, abs=1e-6)


UNIT = normalize(drawn(4, 3, 5, seed=9), dim=2)
GRADCHECKS: dict[str, tuple[Callable[[Tensor], Tensor], Tensor]] = {
    "contrastive": (lambda s: two_way(s, false_negatives(drawn(3, 5), drawn(3, 5) > 1), temperature=0.5), drawn(3, 5)),
    "role_divergence": (
        lambda x: role_divergence(drawn(2, 3, 4, seed=1).softmax(2), x.log_softmax(2), torch.ones(2, 3)),
        drawn(2, 3, 4),
    ),
    "alignment": (lambda x: alignment(UNIT, UNIT.flip(0), x.softmax(1), temperature=0.5), drawn(4, 3)),
    "split_distance": (lambda x: split_distance(normalize(x, dim=2), UNIT, UNIT[..., 0] > 0), drawn(4, 3, 5)),
    "diversity": (
        lambda x: diversity(x[:, :3], x[:, 3].softmax(0), torch.full((4,), 0.25), above=-0.5),
        drawn(4, 4),
    ),
    "distillation": (lambda s: distillation(drawn(3, 5, seed=1), s, temperature=0.5), drawn(3, 5)),
}


@pytest.mark.parametrize("name", GRADCHECKS)
def test_gradients_are_those_of_finite_differences(name: str) -> None:
    loss, at = GRADCHECKS[name]
    assert torch.autograd.gradcheck(loss, at.clone().requires_grad_())
    assert torch.autograd.grad(loss(leaf := at.clone().requires_grad_()), leaf)[0].any()
