"""Accuracy, pass@k, steps to the first correct result, and intervals over seeds."""

from itertools import combinations
from math import comb

import numpy as np
import pytest
from contracts.bigram_policy import BigramPolicy

from facetrail.eval.language import (
    Answers,
    answer,
    constant_accuracy,
    difference_over_seeds,
    first_correct_step,
    greedy_and_sampled,
    pass_at_k,
)
from facetrail.models.errors import InvalidInput
from facetrail.models.language.modchain import ModChain
from facetrail.models.language.records import DrawKey, Prompt, Sampling


def answers(rewards: list[list[float]]) -> Answers:
    values = np.array(rewards, dtype=np.float64)
    return Answers(values, np.ones(values.shape, dtype=np.int64), np.zeros(values.shape, dtype=np.bool_))


@pytest.mark.parametrize(("n", "c"), [(5, 0), (5, 2), (5, 5), (8, 1)])
def test_pass_at_k_equals_the_count_of_all_choices(n: int, c: int) -> None:
    for k in range(1, n + 1):
        hits = sum(any(i < c for i in chosen) for chosen in combinations(range(n), k))
        assert pass_at_k(n, c, k) == pytest.approx(hits / comb(n, k), abs=1e-15)


def test_pass_at_k_refuses_more_than_were_sampled() -> None:
    with pytest.raises(InvalidInput, match="sample at least k"):
        pass_at_k(4, 1, 5)


def test_accuracy_is_the_mean_over_items_and_a_missing_verdict_is_not_correct() -> None:
    found = answers([[1.0, 0.0], [1.0, 1.0], [float("nan"), 0.5]])
    assert found.by_item.tolist() == [0.5, 1.0, 0.0]
    assert found.accuracy == 0.5
    assert found.pass_at(1) == 0.5
    assert found.pass_at(2) == pytest.approx(2 / 3)


def test_equal_keys_give_equal_answers() -> None:
    task = ModChain(n=1)
    items = task.prompts(20, seed=0, split="dev")
    policy = BigramPolicy(task.vocabulary)
    sampling = Sampling(max_new_tokens=5)
    first, again = (answer(policy, task, items, n=2, sampling=sampling, key=DrawKey(1)) for _ in range(2))
    other = answer(policy, task, items, n=2, sampling=sampling, key=DrawKey(2))
    assert first.n_tokens.tolist() == again.n_tokens.tolist() != other.n_tokens.tolist()
    assert first.n_tokens.shape == (20, 2)
    measures = greedy_and_sampled(policy, task, items, sampling=sampling, seed=0)
    assert measures.keys() == {"greedy", "sampled", "tokens", "cut"}
    with pytest.raises(InvalidInput, match="no item"):
        answer(policy, task, [], sampling=sampling, key=DrawKey(1))


def test_constant_accuracy() -> None:
    items = [Prompt(str(i), "x", text) for i, text in enumerate("0010230")]
    assert constant_accuracy(items) == pytest.approx(4 / 7)


def test_first_correct_step() -> None:
    assert first_correct_step(["3", "5", "7"], "5") == pytest.approx(2 / 3)
    assert first_correct_step(["5"], "5") == 1.0
    assert np.isnan(first_correct_step(["35"], "5"))


def test_t_interval_by_hand() -> None:
    found = difference_over_seeds(np.array([3.0, 5.0, 4.0]), np.array([1.0, 2.0, 3.0]))
    # differences 2, 3, 1: mean 2, standard error 1 / sqrt 3, t(.975, 2) = 4.302653
    assert (found.mean, found.n) == (2.0, 3)
    assert found.standard_error == pytest.approx(3**-0.5)
    assert found.interval == pytest.approx((2 - 4.302653 / 3**0.5, 2 + 4.302653 / 3**0.5), abs=1e-5)
    assert not found.is_gain
    with pytest.raises(InvalidInput, match="two seeds"):
        difference_over_seeds(np.array([3.0]), np.array([1.0]))
