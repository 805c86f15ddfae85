"""The statistics: exact small cases, error rate under the null hypothesis, invariances by name."""

from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facetrail.eval.significance import (
    bootstrap_interval,
    compare_paired,
    holm,
    paired_differences,
    randomisation_test,
    smallest_visible_difference,
    win_tie_loss,
)
from facetrail.models.errors import InvalidInput


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_under_the_null_hypothesis_one_in_twenty_is_significant() -> None:
    draws = rng(1)
    p_values = np.array(
        [randomisation_test(draws.standard_normal(50), rng=draws, n_randomisations=1_999) for _ in range(1_000)]
    )
    assert 0.035 <= np.mean(p_values < 0.05) <= 0.065
    assert 0.4 < np.median(p_values) < 0.6


def test_identical_systems_give_p_of_one() -> None:
    values = rng().random(200)
    compared = compare_paired(values, values.copy(), rng=rng())
    assert compared.p == 1.0
    assert compared.difference == 0.0
    assert compared.interval == (0.0, 0.0)
    assert (compared.n_wins, compared.n_ties, compared.n_losses) == (0, 200, 0)


@pytest.mark.parametrize("differences", [[0.5, 0.2, -0.1, 0.4, 0.3], [1.0, 1.0, 1.0, 0.0, 1.0, 1.0, -1.0], [0.1] * 8])
def test_p_nears_the_exact_share_of_sign_patterns(differences: list[float]) -> None:
    d = np.array(differences)
    means = np.array([np.mean(d * signs) for signs in product((1, -1), repeat=len(d))])
    exact = np.mean(np.abs(means) >= abs(d.mean()) - 1e-12)
    assert randomisation_test(d, rng=rng()) == pytest.approx(exact, abs=0.005)


def test_a_clear_difference_has_the_smallest_p_there_is() -> None:
    assert randomisation_test(np.full(60, 0.1), rng=rng(), n_randomisations=999) == 1 / 1_000


def test_p_does_not_depend_on_which_system_comes_first_or_on_ties() -> None:
    d = rng(5).normal(0.02, 0.1, 40)
    forward, backward = (randomisation_test(x, rng=rng(9), n_randomisations=20_000) for x in (d, -d))
    assert forward == pytest.approx(backward, abs=0.01)
    padded = randomisation_test(np.concatenate([d, np.zeros(500)]), rng=rng(9), n_randomisations=20_000)
    assert padded == pytest.approx(forward, abs=1e-9)


def test_blocks_do_not_change_the_number_of_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    from facetrail.eval import significance

    d = rng(2).normal(0.05, 0.2, 64)
    whole = randomisation_test(d, rng=rng(4), n_randomisations=5_000)
    monkeypatch.setattr(significance, "_BLOCK_CELLS", 64 * 7)
    assert randomisation_test(d, rng=rng(4), n_randomisations=5_000) == whole


def test_the_bootstrap_covers_the_mean_as_often_as_it_says() -> None:
    draws = rng(8)
    covered = 0
    for _ in range(300):
        low, high = bootstrap_interval(draws.normal(1.0, 1.0, 60), rng=draws, n_resamples=500)
        covered += low <= 1.0 <= high
    assert 0.90 <= covered / 300 <= 0.98


def test_the_bootstrap_has_the_width_of_the_normal_interval() -> None:
    values = rng(3).normal(0.0, 0.2, 400)
    low, high = bootstrap_interval(values, rng=rng())
    assert high - low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.05)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5]) == [0.5]
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


@settings(max_examples=200, deadline=None)
@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_is_monotone_and_never_below_p(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    assert all(p <= a <= 1 for p, a in zip(p_values, adjusted, strict=True))
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    assert all(adjusted[i] <= adjusted[j] for i, j in pairwise(order))


def test_wins_ties_and_losses() -> None:
    assert win_tie_loss(np.array([0.1, 1e-9, -1e-9, 0.0, -0.2, 2e-9])) == (2, 3, 1)


def test_the_smallest_visible_difference() -> None:
    d = np.array([0.0, 1.0] * 50)
    assert smallest_visible_difference(d) == pytest.approx(2.8 * d.std(ddof=1) / 10)
    assert smallest_visible_difference(np.array([0.3])) == 0.0


@pytest.mark.parametrize(("a", "b"), [(np.zeros(3), np.zeros(4)), (np.zeros((2, 2)), np.zeros((2, 2)))])
def test_unpaired_values_are_refused(a: np.ndarray, b: np.ndarray) -> None:
    with pytest.raises(InvalidInput, match="paired"):
        paired_differences(a, b)


def test_no_queries_are_refused() -> None:
    with pytest.raises(InvalidInput, match="no query"):
        compare_paired(np.zeros(0), np.zeros(0), rng=rng())
